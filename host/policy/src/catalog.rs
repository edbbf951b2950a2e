//! Policies by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compiled::{Digest, LoadError, Policy, Role};
use crate::engine::Engine;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// The policies in the binary: name and component.
        pub const BUILT_IN: &[(&str, &[u8])] = &[$(($name, include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm")))),*];
    };
}

built_in!["client-ip", "kubernetes", "random", "round-robin", "weighted"];

/// A Service names a policy that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no policy {name:?}; there are {known}")]
pub struct UnknownPolicy {
    /// The name.
    pub name: String,
    /// The names there are.
    pub known: String,
}

/// The two policies that decide a port.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) traffic: Arc<Policy>,
    pub(crate) balancer: Arc<Policy>,
}

/// All loaded policies, and which ones serve where a Service asks for none.
#[derive(Clone, Debug)]
pub struct Catalog {
    engine: Engine,
    policies: BTreeMap<String, Arc<Policy>>,
    default: Pair,
    fallback: Pair,
}

impl Catalog {
    /// The built-in policies, with `traffic` and `balancer` as the node's defaults.
    ///
    /// # Errors
    /// When a built-in policy does not load (a broken build), or a default is not among them or plays another role;
    /// the text says which.
    pub fn new(engine: &Engine, traffic: &str, balancer: &str) -> Result<Self, String> {
        let mut policies = BTreeMap::new();
        for (name, bytes) in BUILT_IN {
            let policy = Policy::load(engine, name, bytes).map_err(|why| format!("built-in policy {name}: {why}"))?;
            policies.insert((*name).to_owned(), Arc::new(policy));
        }
        let find = |name: &str, role| find(&policies, name, role);
        let default = Pair { traffic: find(traffic, Role::TrafficPolicy)?, balancer: find(balancer, Role::Balancer)? };
        let fallback =
            Pair { traffic: find("kubernetes", Role::TrafficPolicy)?, balancer: find("random", Role::Balancer)? };
        Ok(Self { engine: engine.clone(), policies, default, fallback })
    }

    /// Loads a component under `name`, in place of any other of that name. Nothing changes if it is refused; a
    /// component that is there already is not compiled again.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<Digest, LoadError> {
        let policy = Policy::load(&self.engine, name, bytes)?;
        let digest = policy.digest();
        self.policies.insert(name.to_owned(), Arc::new(policy));
        Ok(digest)
    }

    /// Every policy, by name.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> + '_ {
        self.policies.values().map(|policy| &**policy)
    }

    /// Who decides where a Service asks for `name`; where that policy plays one role, the node's default plays the
    /// other.
    pub(crate) fn pair(&self, name: &str) -> Result<Pair, UnknownPolicy> {
        if name.is_empty() {
            return Ok(self.default.clone());
        }
        let Some(policy) = self.policies.get(name) else {
            let known = self.policies.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(UnknownPolicy { name: name.to_owned(), known });
        };
        let or = |role, default: &Arc<Policy>| if policy.plays(role) { policy.clone() } else { default.clone() };
        Ok(Pair {
            traffic: or(Role::TrafficPolicy, &self.default.traffic),
            balancer: or(Role::Balancer, &self.default.balancer),
        })
    }

    /// Who decides where a Service names nobody, or a policy that is not there.
    pub(crate) fn default(&self) -> &Pair {
        &self.default
    }

    /// Who decides where a policy fails.
    pub(crate) fn fallback(&self) -> &Pair {
        &self.fallback
    }
}

fn find(policies: &BTreeMap<String, Arc<Policy>>, name: &str, role: Role) -> Result<Arc<Policy>, String> {
    let policy = policies.get(name).ok_or_else(|| format!("there is no policy {name:?} to be the default"))?;
    let word = match role {
        Role::TrafficPolicy => "traffic policy",
        Role::Balancer => "balancer",
    };
    if policy.plays(role) {
        Ok(policy.clone())
    } else {
        Err(format!("policy {name:?} is no {word}, so it cannot be the default one"))
    }
}
