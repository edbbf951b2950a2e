//! Versions of policies that did well, compiled: what can be gone back to at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use weir_policy::{Digest, Policy};

use super::offer::DigestPrefix;

/// How many versions of a policy are kept besides the one that decides.
pub const KEPT: usize = 3;

/// A version that was taken.
#[derive(Clone, Debug)]
pub struct Version {
    /// It, with the settings and the fail strategy it last decided with.
    pub policy: Arc<Policy>,
    /// When it last began to decide.
    pub since: SystemTime,
}

/// The versions of every policy. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Versions(Arc<Mutex<BTreeMap<String, VecDeque<Version>>>>);

impl Versions {
    /// `policy` decides from now on. Returns the versions of that name, this one first. One that decides already keeps
    /// its time, whatever its settings.
    pub fn took(&self, policy: &Policy, now: SystemTime) -> Vec<Version> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = all.entry(policy.name().to_owned()).or_default();
        let same = |version: &Version| version.policy.digest() == policy.digest();
        let since = versions.front().filter(|first| same(first)).map_or(now, |first| first.since);
        versions.retain(|version| !same(version));
        versions.push_front(Version { policy: Arc::new(policy.clone()), since });
        versions.truncate(1 + KEPT);
        versions.iter().cloned().collect()
    }

    /// The version of `name` whose digest begins so.
    ///
    /// # Errors
    /// A sentence, where there is none or more than one.
    pub fn find(&self, name: &str, digest: &DigestPrefix) -> Result<Arc<Policy>, String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let versions: Vec<Arc<Policy>> =
            all.get(name).into_iter().flatten().map(|version| version.policy.clone()).collect();
        let mut found = versions.iter().filter(|policy| digest.is_of(policy.digest()));
        match (found.next(), found.next()) {
            (Some(policy), None) => Ok(policy.clone()),
            (Some(_), Some(_)) => Err(format!("{digest} is the beginning of more than one version's digest")),
            (None, _) => {
                let known: Vec<String> = versions.iter().map(|policy| policy.digest().to_string()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(format!("{digest} is neither offered nor one of the versions kept since this start: {known}"))
            }
        }
    }

    /// Every version of every policy.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Policy>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().flatten().map(|version| version.policy.clone()).collect()
    }

    /// Forgets the versions of `name`.
    pub fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// What `digest` is, of the versions of `name`.
    #[must_use]
    pub fn get(&self, name: &str, digest: Digest) -> Option<Version> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name)?.iter().find(|version| version.policy.digest() == digest).cloned()
    }
}
