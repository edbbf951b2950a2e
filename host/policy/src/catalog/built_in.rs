//! The policies in the binary. Each is compiled when it is first needed: most nodes need two of them, and a start
//! should not wait for the others.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use weir_model::ipvs;

use crate::compiled::{LoadError, Policy, Role};
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
    "zone-aware-by-load" = "zone-aware-by-load",
];

/// Whether a built-in policy has that name.
pub(crate) fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|(built_in, _)| *built_in == name) || ipvs::policy(name).is_some()
}

/// What the built-in policy of that name is asked, known before it is compiled.
pub(super) fn role_of(name: &str) -> Role {
    if name == "kubernetes" { Role::TrafficPolicy } else { Role::Balancer }
}

/// A policy of the binary, or one that came from outside. A clone shares what is compiled.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    BuiltIn {
        name: &'static str,
        bytes: &'static [u8],
        /// Settings for Services that give none.
        settings: &'static str,
        compiled: Arc<OnceLock<Result<Arc<Policy>, LoadError>>>,
    },
    Loaded(Arc<Policy>),
}

impl Entry {
    /// All of the binary by name, none compiled yet, and those that IPVS' names lead to.
    pub(super) fn built_in() -> BTreeMap<String, Self> {
        let entry = |(name, bytes): &(&'static str, &'static [u8])| {
            let entry = Self::BuiltIn { name, bytes, settings: "", compiled: Arc::default() };
            ((*name).to_owned(), entry)
        };
        let mut entries: BTreeMap<String, Self> = BUILT_IN.iter().map(entry).collect();
        for (scheduler, policy, settings) in ipvs::SCHEDULERS {
            let Some(Self::BuiltIn { name, bytes, compiled, .. }) = entries.get(policy).cloned() else { continue };
            let compiled = if settings.is_empty() { compiled } else { Arc::default() };
            entries.insert(scheduler.to_owned(), Self::BuiltIn { name, bytes, settings, compiled });
        }
        entries
    }

    /// The policy, compiled if it is not yet.
    ///
    /// # Errors
    /// When a built-in one does not load: a broken build.
    pub(super) fn policy(&self, engine: &Engine) -> Result<&Arc<Policy>, &LoadError> {
        match self {
            Self::Loaded(policy) => Ok(policy),
            Self::BuiltIn { name, bytes, settings, compiled } => {
                let load = || Ok(Arc::new(Policy::load(engine, name, bytes)?.with_settings(settings)));
                compiled.get_or_init(load).as_ref()
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
    fn the_names_of_ipvs_lead_to_policies() {
        let (engine, entries) = (Engine::new(Limits::default()).expect("an engine"), Entry::built_in());
        for (name, policy, settings) in ipvs::SCHEDULERS {
            let found = entries[name].policy(&engine).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!((found.name(), found.settings()), (policy, settings), "{name}");
            assert_eq!(found.check(settings).expect("it can be asked"), [], "{name}");
        }
    }

    #[test]
    fn every_one_loads_and_says_what_it_is() {
        let engine = Engine::new(Limits::default()).expect("an engine");
        for (name, _) in BUILT_IN {
            let entry = &Entry::built_in()[*name];
            let policy = entry.policy(&engine).unwrap_or_else(|why| panic!("{name}: {why}"));
            let about = policy.about().unwrap_or_else(|| panic!("{name} says nothing of itself"));
            // What IPVS calls persistence has two names here.
            let own = if *name == "sticky" { "client-ip" } else { name };
            assert_eq!((&*about.name, &*about.licence), (own, "Apache-2.0"));
            let roles = [Role::TrafficPolicy, Role::Balancer];
            assert!(roles.into_iter().all(|role| policy.plays(role) == (role == role_of(name))), "{name}");
            assert!(!about.version.is_empty() && about.summary.ends_with('.'), "{about:?}");
            assert_eq!(policy.check("").expect("it can be asked"), [], "{name} works without settings");
        }
    }
}
