//! The policies in the binary. Each is compiled when it is first needed: most nodes need two of them, and a start
//! should not wait for the others.

use std::sync::{Arc, OnceLock};

use crate::compiled::{LoadError, Policy};
use crate::engine::Engine;

macro_rules! built_in {
    ($($name:literal = $component:literal),* $(,)?) => {
        /// The policies in the binary: name and component.
        pub const BUILT_IN: &[(&str, &[u8])] =
            &[$(($name, include_bytes!(concat!(env!("OUT_DIR"), "/", $component, ".wasm")))),*];
    };
}

built_in![
    "canary" = "canary",
    "client-ip" = "client-ip",
    "kubernetes" = "kubernetes",
    "least-connections" = "least-connections",
    "maglev" = "maglev",
    "nq" = "nq",
    "random" = "random",
    "round-robin" = "round-robin",
    "sed" = "sed",
    "source-hash" = "source-hash",
    "sticky" = "client-ip",
    "weighted" = "weighted",
    "weighted-least-connections" = "weighted-least-connections",
    "zone-aware" = "zone-aware",
];

/// Whether a built-in policy has that name.
pub(crate) fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|(built_in, _)| *built_in == name)
}

/// A policy of the binary, or one that came from outside. A clone shares what is compiled.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    BuiltIn { name: &'static str, bytes: &'static [u8], compiled: Arc<OnceLock<Result<Arc<Policy>, LoadError>>> },
    Loaded(Arc<Policy>),
}

impl Entry {
    /// All of the binary, none compiled yet.
    pub(super) fn built_in() -> impl Iterator<Item = (String, Self)> {
        let entry = |(name, bytes): &(&'static str, &'static [u8])| {
            let entry = Self::BuiltIn { name, bytes, compiled: Arc::default() };
            ((*name).to_owned(), entry)
        };
        BUILT_IN.iter().map(entry)
    }

    /// The policy, compiled if it is not yet.
    ///
    /// # Errors
    /// When a built-in one does not load: a broken build.
    pub(super) fn policy(&self, engine: &Engine) -> Result<&Arc<Policy>, &LoadError> {
        match self {
            Self::Loaded(policy) => Ok(policy),
            Self::BuiltIn { name, bytes, compiled } => {
                compiled.get_or_init(|| Policy::load(engine, name, bytes).map(Arc::new)).as_ref()
            }
        }
    }

    /// The policy, if it is compiled.
    pub(super) fn compiled(&self) -> Option<&Arc<Policy>> {
        match self {
            Self::Loaded(policy) => Some(policy),
            Self::BuiltIn { compiled, .. } => compiled.get()?.as_ref().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn every_one_loads_and_says_what_it_is() {
        let engine = Engine::new(Limits::default()).expect("an engine");
        for (name, entry) in Entry::built_in() {
            let policy = entry.policy(&engine).unwrap_or_else(|why| panic!("{name}: {why}"));
            let about = policy.about().unwrap_or_else(|| panic!("{name} says nothing of itself"));
            // What IPVS calls persistence has two names here.
            let own = if name == "sticky" { "client-ip" } else { &name };
            assert_eq!((&*about.name, &*about.licence), (own, "Apache-2.0"));
            assert!(!about.version.is_empty() && about.summary.ends_with('.'), "{about:?}");
            assert_eq!(policy.check("").expect("it can be asked"), [], "{name} works without settings");
        }
    }
}
