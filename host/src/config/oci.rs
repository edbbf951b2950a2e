//! Policies that the configuration names in OCI registries.

use serde::{Deserialize, Serialize};

use crate::policies::oci::OciReference;

/// A policy in an OCI registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OciPolicy {
    /// What Services call it.
    pub name: String,
    /// `oci://HOST/REPOSITORY@sha256:DIGEST`, with the digest of the manifest.
    pub reference: String,
    /// Settings (JSON) for Services that give none; empty for none.
    #[serde(default)]
    pub settings: String,
    /// The built-in policy that decides where this one fails; empty for the usual ones.
    #[serde(default)]
    pub fail_strategy: String,
    /// Without TLS; only for registries on this machine.
    #[serde(default)]
    pub plain_http: bool,
}

impl OciPolicy {
    /// Checks what the types leave open; the error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { name, reference, plain_http, .. } = self;
        if name.is_empty() {
            return Err(format!("{reference} needs a name"));
        }
        let parsed: OciReference = reference.parse().map_err(|error| format!("{name}: {error}"))?;
        if parsed.digest().is_none() {
            return Err(format!(
                "{name}: {reference} needs a digest, as in {reference}@sha256:…: a tag may change any time"
            ));
        }
        if *plain_http && !parsed.is_loopback() {
            return Err(format!("{name}: plainHttp is for registries on this machine only"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_needed_and_plain_http_stays_here() {
        let policy = |reference: &str, plain_http| OciPolicy {
            name: "mine".to_owned(),
            reference: reference.to_owned(),
            settings: String::new(),
            fail_strategy: String::new(),
            plain_http,
        };
        let digest = format!("@sha256:{}", "0".repeat(64));
        let checked = |reference: &str, plain_http| policy(reference, plain_http).check();
        assert_eq!(checked(&format!("oci://registry.example.com/policy{digest}"), false), Ok(()));
        assert_eq!(checked(&format!("oci://127.0.0.1:5000/policy{digest}"), true), Ok(()));
        for (reference, plain_http, why) in [
            ("oci://registry.example.com/policy:1".to_owned(), false, "needs a digest"),
            (format!("oci://registry.example.com/policy{digest}"), true, "this machine only"),
            (format!("policy{digest}"), false, "oci://"),
        ] {
            let told = checked(&reference, plain_http).expect_err("refused");
            assert!(told.starts_with("mine: ") && told.contains(why), "{told}");
        }
    }
}
