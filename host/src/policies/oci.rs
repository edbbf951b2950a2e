//! Policies in OCI registries, as the CNCF's format for Wasm artefacts lays them out: a manifest, a config that tells
//! what the component is, and the component as the only layer. Older layouts are read as well.

mod bounded;
pub mod source;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use serde_json::json;
use weir_policy::{Digest, Inspection};

use self::bounded::Bounded;

/// Media type of a manifest (OCI image specification 1.1).
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Media type of the config (CNCF TAG Runtime, "Wasm OCI Artifact layout").
const CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// Media type of the component.
const LAYER: &str = "application/wasm";

/// Media types components had before there was agreement: wasm-to-oci and early `wkg`, then Envoy's.
const OLD_LAYERS: [&str; 2] =
    ["application/vnd.wasm.content.layer.v1+wasm", "application/vnd.module.wasm.content.layer.v1+wasm"];

/// Largest manifest that is read; registries must take 4 MiB (OCI distribution specification).
const MAX_MANIFEST_BYTES: usize = 4 << 20;

/// How long a registry may take to answer, and how long it may fall silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a policy is: `oci://HOST/REPOSITORY`, then `:TAG`, `@sha256:DIGEST`, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciReference {
    image: Reference,
    /// SHA-256 of the manifest, in hexadecimal.
    digest: Option<String>,
}

/// Why a text is no [`OciReference`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReference {
    /// It begins otherwise.
    #[error("{0:?} does not begin with oci://")]
    Scheme(String),
    /// What follows names no repository.
    #[error("{0:?} is no HOST/REPOSITORY[:TAG][@sha256:DIGEST]: {1}")]
    Shape(String, String),
    /// It names the registry by no host, which other tools take for Docker Hub.
    #[error("{0:?} names no registry: it begins with a host, such as registry.example.com/team/policy")]
    NoHost(String),
    /// The digest is none.
    #[error("{0:?}: a digest is sha256: and 64 hexadecimal digits")]
    Digest(String),
}

/// Why a policy did not come from a registry, or did not get there.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The registry cannot be reached, or refuses.
    #[error("{reference}: {why}")]
    Registry {
        /// What was asked for.
        reference: String,
        /// What the registry or the network said.
        why: String,
    },
    /// What came is not what was asked for.
    #[error("{reference}: {what} has the digest sha256:{got}, not sha256:{wanted}")]
    Digest {
        /// What was asked for.
        reference: String,
        /// Manifest or layer.
        what: &'static str,
        /// What it should be.
        wanted: String,
        /// What it is.
        got: String,
    },
    /// What came holds no policy.
    #[error("{reference}: {why}")]
    Layout {
        /// What was asked for.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
    /// Whoever logs in is told in a file that cannot be read.
    #[error("credentials: {0}")]
    Credentials(String),
}

/// What came from a registry.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The component as it was pushed.
    pub component: Vec<u8>,
    /// SHA-256 of the manifest, in hexadecimal: what a reference with a digest names.
    pub digest: String,
}

/// How to talk to registries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Without TLS. Only to this machine: whoever can read along could take the credentials.
    pub plain_http: bool,
}

impl FromStr for OciReference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        let rest = text.strip_prefix("oci://").ok_or_else(|| BadReference::Scheme(text.to_owned()))?;
        let host = rest.split('/').next().unwrap_or_default();
        if !rest.contains('/') || !(host.contains(['.', ':']) || host == "localhost") {
            return Err(BadReference::NoHost(rest.to_owned()));
        }
        let image: Reference =
            rest.parse().map_err(|error| BadReference::Shape(rest.to_owned(), format!("{error}")))?;
        let digest = image.digest().map(|digest| {
            let hex = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
            let hex = hex.filter(|hex| hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
            hex.map(str::to_owned).ok_or_else(|| BadReference::Digest(digest.to_owned()))
        });
        Ok(Self { image, digest: digest.transpose()? })
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}", self.image.whole())
    }
}

impl OciReference {
    /// SHA-256 of the manifest it is pinned to, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The same place by a digest, which never means anything else.
    #[must_use]
    pub fn pinned(&self, digest: &str) -> String {
        format!("oci://{}/{}@sha256:{digest}", self.image.registry(), self.image.repository())
    }

    /// Whether the registry is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.image.registry();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    fn registry_error(&self, error: &OciDistributionError) -> OciError {
        OciError::Registry { reference: self.to_string(), why: error.to_string() }
    }

    fn layout_error(&self, why: impl Into<String>) -> OciError {
        OciError::Layout { reference: self.to_string(), why: why.into() }
    }

    fn client(&self, transport: Transport) -> Result<Client, OciError> {
        if transport.plain_http && !self.is_loopback() {
            let why = "plain HTTP is for registries on this machine only".to_owned();
            return Err(OciError::Registry { reference: self.to_string(), why });
        }
        // Nothing of ours and nothing of kube's minds if it is set already.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        Ok(Client::new(ClientConfig {
            protocol: if transport.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            read_timeout: Some(PATIENCE),
            connect_timeout: Some(PATIENCE),
            user_agent: concat!("weir/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        }))
    }

    async fn log_in(&self, client: &Client, operation: RegistryOperation) -> Result<RegistryAuth, OciError> {
        let auth = credentials(self.image.registry())?;
        client.auth(&self.image, &auth, operation).await.map_err(|error| self.registry_error(&error))?;
        Ok(auth)
    }

    /// Fetches what it names, at most `limit` bytes of component, and checks every digest on the way.
    ///
    /// # Errors
    /// See [`OciError`].
    pub async fn pull(&self, transport: Transport, limit: usize) -> Result<Pulled, OciError> {
        let client = self.client(transport)?;
        let auth = self.log_in(&client, RegistryOperation::Pull).await?;
        let fetched = client.pull_manifest_raw(&self.image, &auth, &[MANIFEST]).await;
        let (manifest, _) = fetched.map_err(|error| self.registry_error(&error))?;
        if manifest.len() > MAX_MANIFEST_BYTES {
            return Err(self.layout_error(format!("a manifest of {} bytes", manifest.len())));
        }
        let digest = Digest::of(&manifest).to_string();
        if let Some(wanted) = self.digest.as_ref().filter(|wanted| **wanted != digest) {
            let (reference, wanted) = (self.to_string(), wanted.clone());
            return Err(OciError::Digest { reference, what: "the manifest", wanted, got: digest });
        }
        let layer = self.layer(&manifest, limit)?;
        let mut component = Bounded::new(limit);
        let blob = client.pull_blob(&self.image, &layer, &mut component).await;
        blob.map_err(|error| self.registry_error(&error))?;
        let (wanted, got) = (layer.digest.trim_start_matches("sha256:"), Digest::of(&component.bytes).to_string());
        if wanted != got {
            let (reference, wanted) = (self.to_string(), wanted.to_owned());
            return Err(OciError::Digest { reference, what: "the layer", wanted, got });
        }
        Ok(Pulled { component: component.bytes, digest })
    }

    /// The layer of a manifest that holds the component.
    fn layer(&self, manifest: &[u8], limit: usize) -> Result<OciDescriptor, OciError> {
        let manifest: OciImageManifest = serde_json::from_slice(manifest)
            .map_err(|error| self.layout_error(format!("its manifest makes no sense: {error}")))?;
        let is_component =
            |layer: &&OciDescriptor| layer.media_type == LAYER || OLD_LAYERS.contains(&layer.media_type.as_str());
        let found: Vec<&OciDescriptor> = manifest.layers.iter().filter(is_component).collect();
        let [layer] = found[..] else {
            let types: Vec<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
            let why = format!("one layer of type {LAYER} is needed; its layers are of {}", types.join(", "));
            return Err(self.layout_error(why));
        };
        if usize::try_from(layer.size).map_or(true, |size| size > limit) {
            return Err(self.layout_error(format!("its component has {} bytes; at most {limit} are read", layer.size)));
        }
        if !layer.digest.starts_with("sha256:") {
            return Err(self.layout_error(format!("its component goes by {}, not by SHA-256", layer.digest)));
        }
        Ok(layer.clone())
    }

    /// Puts a component there, as `seen` shows it. Returns the digest of its manifest, in hexadecimal.
    ///
    /// # Errors
    /// See [`OciError`].
    pub async fn push(&self, transport: Transport, component: Vec<u8>, seen: &Inspection) -> Result<String, OciError> {
        let client = self.client(transport)?;
        self.log_in(&client, RegistryOperation::Push).await?;
        let layer = format!("sha256:{}", Digest::of(&component));
        let config = json!({
            "created": null,
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [layer],
            "component": {"exports": seen.exports, "imports": seen.imports, "target": null},
        });
        let config = config.to_string().into_bytes();
        let config_digest = format!("sha256:{}", Digest::of(&config));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": layer, "size": component.len()}],
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = Digest::of(&manifest).to_string();
        let told = |error: OciDistributionError| self.registry_error(&error);
        client.push_blob(&self.image, component, &layer).await.map_err(told)?;
        client.push_blob(&self.image, config, &config_digest).await.map_err(told)?;
        let content_type = hyper::header::HeaderValue::from_static(MANIFEST);
        client.push_manifest_raw(&self.image, manifest, content_type).await.map_err(told)?;
        Ok(digest)
    }
}

/// Who logs in at `registry`, as `docker login` left it in `$DOCKER_CONFIG` or `~/.docker/config.json`.
fn credentials(registry: &str) -> Result<RegistryAuth, OciError> {
    match docker_credential::get_credential(registry) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(RegistryAuth::Basic(user, password)),
        Ok(DockerCredential::IdentityToken(token)) => Ok(RegistryAuth::Bearer(token)),
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::NoCredentialConfigured
            | CredentialRetrievalError::ConfigReadError,
        ) => Ok(RegistryAuth::Anonymous),
        Err(error) => Err(OciError::Credentials(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let read = |text: &str| text.parse::<OciReference>();
        let digest = "a".repeat(64);
        let pinned = read(&format!("oci://registry.example.com/team/policy@sha256:{digest}")).expect("a reference");
        assert_eq!(pinned.digest(), Some(&*digest));
        let tagged = read("oci://127.0.0.1:5000/policy:1.0").expect("a reference");
        assert_eq!((tagged.digest(), tagged.is_loopback()), (None, true));
        assert_eq!(tagged.to_string(), "oci://127.0.0.1:5000/policy:1.0");
        assert!(!pinned.is_loopback() && read("oci://localhost:1/p").expect("a reference").is_loopback());
        assert!(matches!(read("https://a.b/c"), Err(BadReference::Scheme(_))));
        assert!(matches!(read("oci://policy"), Err(BadReference::NoHost(_))));
        assert!(matches!(read("oci://team/policy"), Err(BadReference::NoHost(_))));
        assert!(read("oci://a.b/UPPER").is_err() && read("oci://a.b/c@sha256:abc").is_err());
    }
}
