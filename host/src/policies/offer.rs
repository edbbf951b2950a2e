//! What somebody offers as a policy: its versions, and which of them should run where.

use std::fmt;

use weir_policy::{Artifact, Digest};

/// A policy as a ConfigMap or a directory holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The version for every node.
    pub artifact: Artifact,
    /// The component, which may be packed, that some nodes try before the others.
    pub canary: Option<Vec<u8>>,
    /// Which version runs, and whether any does.
    pub rollout: Rollout,
}

impl From<Artifact> for Offer {
    fn from(artifact: Artifact) -> Self {
        Self { artifact, ..Self::default() }
    }
}

/// Which version of a policy runs on which node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The policy rests; the node's defaults decide in its place.
    pub off: bool,
    /// The version that runs on every node, whatever else is offered.
    pub pin: Option<DigestPrefix>,
    /// Nodes that run the canary.
    pub canary_nodes: Vec<String>,
    /// Share of the nodes that run the canary, 0 to 100.
    pub canary_percent: u8,
}

impl Rollout {
    /// Whether `node` runs the canary of the policy `name`. By percentage it is a hash of both names that says so: a
    /// node stays in or out as long as the share stays, a larger share keeps the nodes of a smaller one, and another
    /// policy gets other nodes.
    #[must_use]
    pub fn takes_canary(&self, node: &str, name: &str) -> bool {
        let Digest(hash) = Digest::of(format!("{name}/{node}").as_bytes());
        let place = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % 100;
        self.canary_nodes.iter().any(|named| named == node) || place < u32::from(self.canary_percent)
    }
}

/// The beginning of a component's SHA-256 in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestPrefix(String);

impl DigestPrefix {
    /// Reads one, as in `sha256:1f2e3d4c`; the word before the colon may be left out.
    ///
    /// # Errors
    /// What is wrong with `text`.
    pub fn read(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
        if !(8..=64).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(format!("{text:?} is not sha256: and 8 to 64 hexadecimal digits"));
        }
        Ok(Self(digits))
    }

    /// Whether it is the beginning of `digest`.
    #[must_use]
    pub fn is_of(&self, digest: Digest) -> bool {
        digest.to_string().starts_with(&self.0)
    }
}

impl fmt::Display for DigestPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_nodes_takes_the_canary() {
        let nodes: Vec<String> = (0..1000).map(|number| format!("node-{number}")).collect();
        let takers = |canary_percent, policy| -> Vec<&String> {
            let rollout = Rollout { canary_percent, ..Rollout::default() };
            nodes.iter().filter(|node| rollout.takes_canary(node, policy)).collect()
        };
        assert_eq!((takers(0, "mine").len(), takers(100, "mine").len()), (0, 1000));
        let (few, more) = (takers(10, "mine"), takers(30, "mine"));
        assert!((70..130).contains(&few.len()) && (250..350).contains(&more.len()), "{} {}", few.len(), more.len());
        assert!(few.iter().all(|node| more.contains(node)), "a larger share keeps the nodes of a smaller one");
        assert_ne!(few, takers(10, "yours"), "another policy has other nodes");
        let named = Rollout { canary_nodes: vec!["node-7".to_owned()], ..Rollout::default() };
        assert!(named.takes_canary("node-7", "mine") && !named.takes_canary("node-8", "mine"));
    }

    #[test]
    fn digests_are_named_by_their_beginning() {
        let digest = Digest::of(b"component");
        let text = digest.to_string();
        for good in [text.clone(), format!("sha256:{text}"), text[..8].to_ascii_uppercase()] {
            assert!(DigestPrefix::read(&good).expect("a prefix").is_of(digest), "{good}");
        }
        for bad in ["", "sha256:", "1234567", "sha256:xyzxyzxyz", &format!("{text}0")] {
            assert!(DigestPrefix::read(bad).is_err(), "{bad}");
        }
    }
}
