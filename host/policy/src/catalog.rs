//! Policies by name.

mod built_in;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use tracing::error;
use weir_model::{ServiceId, Store, ipvs};

pub use self::built_in::BUILT_IN;
pub(crate) use self::built_in::is_built_in;
use self::built_in::{Entry, role_of};
use crate::about::Inputs;
use crate::compiled::{Digest, LoadError, Policy, Role};
use crate::engine::Engine;

/// Who decides where nobody else does: together they are what kube-proxy does.
const FALLBACK_TRAFFIC: &str = "kubernetes";
const FALLBACK_BALANCER: &str = "random";

/// A Service names a policy that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no policy {name:?}{why}; there are {known}")]
pub struct UnknownPolicy {
    /// The name.
    pub name: String,
    /// Why not, after a colon, for the schedulers of IPVS that nothing stands in for; else empty.
    pub why: String,
    /// The names there are.
    pub known: String,
}

/// The built-in policies and the node's defaults do not make a catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A built-in policy does not load: a broken build.
    #[error("built-in policy {name}: {why}")]
    BuiltIn {
        /// The policy.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A default policy is not there.
    #[error("there is no policy {name:?} to be the default {role}")]
    NoDefault {
        /// Its name.
        name: String,
        /// What it was meant for.
        role: Role,
    },
    /// A default policy cannot do what it is meant for.
    #[error("policy {name:?} is no {role}, so it cannot be the default one")]
    WrongRole {
        /// Its name.
        name: String,
        /// What it was meant for.
        role: Role,
    },
}

/// The two policies that decide a port, and whether each of them sees the settings of the Service.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) traffic: Arc<Policy>,
    pub(crate) balancer: Arc<Policy>,
    pub(crate) traffic_has_settings: bool,
    pub(crate) balancer_has_settings: bool,
}

impl Pair {
    /// What either wants to see.
    pub(crate) fn inputs(&self) -> Inputs {
        self.traffic.inputs().or(self.balancer.inputs())
    }
}

/// All loaded policies, and which ones serve where a Service asks for none.
#[derive(Clone, Debug)]
pub struct Catalog {
    engine: Engine,
    policies: BTreeMap<String, Entry>,
    /// Names that are switched off: the node's defaults decide in their place.
    off: BTreeSet<String>,
    /// Names of the node's defaults: traffic policy, balancer.
    wanted: [String; 2],
    /// The node's defaults, once somebody needed them: compiling takes longer than all the rest of a start.
    default: Arc<OnceLock<Pair>>,
    /// Who decides where others fail, once somebody needed them.
    fallback: Arc<OnceLock<Pair>>,
}

impl Catalog {
    /// The built-in policies, with `traffic` and `balancer` as the node's defaults.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub fn new(engine: &Engine, traffic: &str, balancer: &str) -> Result<Self, CatalogError> {
        let catalog = Self::awaiting(engine, traffic, balancer)?;
        catalog.find(traffic, Role::TrafficPolicy)?;
        catalog.find(balancer, Role::Balancer)?;
        catalog.compile_defaults()?;
        Ok(catalog)
    }

    /// The same, where the defaults may be policies that are still to come. Until then `kubernetes` and `random` are
    /// the defaults. Nothing is compiled before it is needed, or [`Catalog::compile_defaults`] is called.
    ///
    /// # Errors
    /// For a built-in policy that cannot do what it is meant for, [`CatalogError::WrongRole`].
    pub fn awaiting(engine: &Engine, traffic: &str, balancer: &str) -> Result<Self, CatalogError> {
        let policies = Entry::built_in();
        for (name, role) in [(traffic, Role::TrafficPolicy), (balancer, Role::Balancer)] {
            if policies.contains_key(name) && role_of(name) != role {
                return Err(CatalogError::WrongRole { name: name.to_owned(), role });
            }
        }
        let wanted = [traffic.to_owned(), balancer.to_owned()];
        let (default, fallback) = Default::default();
        Ok(Self { engine: engine.clone(), policies, off: BTreeSet::new(), wanted, default, fallback })
    }

    /// Compiles whom the first decision needs. A clone compiles for the catalog it comes from, too, so a thread of its own
    /// can do this while other things start; whoever decides meanwhile waits for it.
    ///
    /// # Errors
    /// [`CatalogError::BuiltIn`].
    pub fn compile_defaults(&self) -> Result<(), CatalogError> {
        self.find(FALLBACK_TRAFFIC, Role::TrafficPolicy)?;
        self.find(FALLBACK_BALANCER, Role::Balancer)?;
        self.defaults();
        Ok(())
    }

    /// Compiles a component under `name`, in place of any other of that name. Nothing changes if it is refused; a
    /// component that is there already is not compiled again.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<Digest, LoadError> {
        let digest = Digest::of(bytes);
        let mut compiled = self.policies.values().filter_map(Entry::compiled);
        let policy = match compiled.find(|policy| policy.digest() == digest) {
            Some(known) => known.renamed(name),
            None => Policy::load(&self.engine, name, bytes)?,
        };
        self.set(policy);
        Ok(digest)
    }

    /// Takes a loaded policy in, in place of any other of its name.
    pub fn set(&mut self, policy: Policy) {
        self.off.remove(policy.name());
        self.policies.insert(policy.name().to_owned(), Entry::Loaded(Arc::new(policy)));
        self.settle();
    }

    /// Lets a policy go. Built-in ones stay.
    pub fn remove(&mut self, name: &str) {
        if !is_built_in(name) {
            self.off.remove(name);
            self.policies.remove(name);
            self.settle();
        }
    }

    /// The same, but whoever asks for it is not told that there is none: it is meant to rest.
    pub fn switch_off(&mut self, name: &str) {
        self.remove(name);
        if !self.policies.contains_key(name) {
            self.off.insert(name.to_owned());
        }
    }

    /// Has the node's defaults found anew among the policies there are.
    fn settle(&mut self) {
        self.default = Arc::default();
    }

    /// The node's defaults among the policies there are.
    fn defaults(&self) -> &Pair {
        self.default.get_or_init(|| {
            let [traffic, balancer] = &self.wanted;
            let fallbacks = self.fallbacks();
            Pair {
                traffic: self.find(traffic, Role::TrafficPolicy).unwrap_or_else(|_| fallbacks.traffic.clone()),
                balancer: self.find(balancer, Role::Balancer).unwrap_or_else(|_| fallbacks.balancer.clone()),
                traffic_has_settings: true,
                balancer_has_settings: true,
            }
        })
    }

    /// Who decides where others fail.
    fn fallbacks(&self) -> &Pair {
        self.fallback.get_or_init(|| {
            let built_in = |name, role| self.find(name, role).expect("the policies in the binary load");
            Pair {
                traffic: built_in(FALLBACK_TRAFFIC, Role::TrafficPolicy),
                balancer: built_in(FALLBACK_BALANCER, Role::Balancer),
                traffic_has_settings: false,
                balancer_has_settings: false,
            }
        })
    }

    /// The Services a policy of that name decides, or would decide if it were there.
    pub(crate) fn users(&self, store: &Store, name: &str) -> Vec<ServiceId> {
        let by_default = self.wanted.iter().any(|wanted| wanted == name);
        let asks = |id: &ServiceId| {
            store.service(*id).is_some_and(|service| store.names().get(service.policy) == name || by_default)
        };
        store.service_ids().filter(asks).collect()
    }

    /// The engine policies are compiled by.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn find(&self, name: &str, role: Role) -> Result<Arc<Policy>, CatalogError> {
        find(&self.engine, &self.policies, name, role)
    }

    /// The policy of that name, compiled if it is not yet; `None` when there is none. The names of IPVS' schedulers lead
    /// to the built-in policies that stand in for them.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&Arc<Policy>> {
        let found = self.policies.get(name)?.policy(&self.engine);
        found.inspect_err(|why| error!(policy = name, "built-in policy does not load: {why}")).ok()
    }

    /// Who decides where a Service asks for `name`, which may be empty. Where that policy plays one role, the node's
    /// default plays the other, without the settings: they are not meant for it.
    pub(crate) fn pair(&self, name: &str) -> Result<Pair, UnknownPolicy> {
        if name.is_empty() {
            return Ok(self.defaults().clone());
        }
        if self.off.contains(name) {
            return Ok(self.without_settings());
        }
        let Some(policy) = self.policy(name) else {
            let why = ipvs::refusal(name).map(|why| format!(": {why}")).unwrap_or_default();
            let own = |name: &&String| ipvs::policy(name).is_none_or(|(policy, _)| policy == **name);
            let known = self.policies.keys().filter(own).cloned().collect::<Vec<_>>().join(", ");
            return Err(UnknownPolicy { name: name.to_owned(), why, known });
        };
        let mut pair = self.without_settings();
        if policy.plays(Role::TrafficPolicy) {
            (pair.traffic, pair.traffic_has_settings) = (policy.clone(), true);
        }
        if policy.plays(Role::Balancer) {
            (pair.balancer, pair.balancer_has_settings) = (policy.clone(), true);
        }
        Ok(pair)
    }

    /// The node's defaults where settings are meant for somebody else.
    pub(crate) fn without_settings(&self) -> Pair {
        Pair { traffic_has_settings: false, balancer_has_settings: false, ..self.defaults().clone() }
    }

    /// Whether that version of a policy may be asked where `pair` decides: as one of them, or in the place of one that
    /// fails.
    pub(crate) fn asks(&self, pair: &Pair, version: u64) -> bool {
        let Pair { traffic, balancer, .. } = pair;
        let fallbacks = [self.fallback(traffic, Role::TrafficPolicy), self.fallback(balancer, Role::Balancer)];
        [traffic, balancer].into_iter().chain(fallbacks).any(|policy| policy.version() == version)
    }

    /// Who decides in the place of `policy`, where it fails.
    pub(crate) fn fallback(&self, policy: &Policy, role: Role) -> &Arc<Policy> {
        let named = self.policy(&policy.fail_strategy).filter(|named| named.plays(role));
        named.unwrap_or(match role {
            Role::TrafficPolicy => &self.fallbacks().traffic,
            Role::Balancer => &self.fallbacks().balancer,
        })
    }
}

fn find(
    engine: &Engine,
    policies: &BTreeMap<String, Entry>,
    name: &str,
    role: Role,
) -> Result<Arc<Policy>, CatalogError> {
    let entry = policies.get(name).ok_or_else(|| CatalogError::NoDefault { name: name.to_owned(), role })?;
    let broken = |why: &LoadError| CatalogError::BuiltIn { name: name.to_owned(), why: why.to_string() };
    let policy = entry.policy(engine).map_err(broken)?;
    if policy.plays(role) { Ok(policy.clone()) } else { Err(CatalogError::WrongRole { name: name.to_owned(), role }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn the_same_component_is_compiled_once_whatever_it_is_called() {
        let engine = Engine::new(Limits::default()).expect("an engine");
        let mut catalog = Catalog::new(&engine, "kubernetes", "random").expect("the built-in policies");
        let (_, random) = BUILT_IN.iter().find(|(name, _)| *name == "random").expect("random is built in");
        let digest = catalog.add("mine", random).expect("a policy");
        let code = |policy: &Policy| policy.pre.component().image_range();
        let policy = |name| catalog.policy(name).expect("it is there");
        let (first, second) = (policy("random"), policy("mine"));
        assert_eq!((code(first), first.digest()), (code(second), digest));
        assert_eq!((first.name(), second.name()), ("random", "mine"));
        let apart = Policy::load(&engine, "apart", random).expect("a policy");
        assert_ne!(code(&apart), code(first), "compiled again, it would be somewhere else");
    }

    #[test]
    fn defaults_must_be_there_and_play_their_role() {
        let engine = Engine::new(Limits::default()).expect("an engine");
        let error = |traffic, balancer| Catalog::new(&engine, traffic, balancer).expect_err("no catalog");
        let missing = error("kubernetes", "fastest");
        assert!(matches!(&missing, CatalogError::NoDefault { name, role: Role::Balancer } if name == "fastest"));
        let swapped = error("random", "random");
        assert!(matches!(&swapped, CatalogError::WrongRole { name, role: Role::TrafficPolicy } if name == "random"));
    }
}
