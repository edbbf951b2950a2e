//! Policies that come, change and go while connections do.

use std::sync::Arc;

use weir_model::{Origin, ServiceId, Store};

use super::Decider;
use crate::compiled::Policy;

/// A new version of a policy was tried on the Services there are, and did not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it fails for {failed} of {asked} ports it was tried on, such as {service}:{port}: {message}")]
pub struct Refused {
    /// Ports it gave no good answer for.
    pub failed: usize,
    /// Ports it was tried on.
    pub asked: usize,
    /// One of them: its Service.
    pub service: String,
    /// Its port.
    pub port: String,
    /// A stable word for metrics and status.
    pub reason: &'static str,
    /// What happened there.
    pub message: String,
}

impl Decider {
    /// Tries `policy` on every Service it would decide, and puts it in the place of the one of that name. Returns
    /// those Services: their decisions may be new.
    ///
    /// # Errors
    /// When it fails where the one before it decides well, or everywhere; nothing has changed then.
    pub fn replace(&mut self, store: &Store, policy: Policy) -> Result<Vec<ServiceId>, Refused> {
        let name: Arc<str> = policy.name.clone();
        let mut catalog = self.catalog.clone();
        catalog.set(policy);
        let users = catalog.users(store, &name);
        let mut trial = Self::new(catalog);
        trial.loads = self.loads.clone();
        trial.max_removed_percent = self.max_removed_percent;
        // What it takes away is seen by what there is.
        trial.memory = self.memory.copy(&users);
        trial.recorder = self.recorder.clone();
        let decisions = trial.decide(store, &users);
        let failures: Vec<_> = decisions.failures.iter().filter(|failure| failure.policy == name).collect();
        let asked = decisions.ports.len();
        let by_it = |origin: &Origin| match origin {
            Origin::Policy { traffic, balancer } => *traffic == name || *balancer == name,
            _ => false,
        };
        let worse = |(port, decision): &(_, Arc<weir_model::Decision>)| {
            !by_it(&decision.origin) && self.decision(port).is_some_and(|before| by_it(&before.origin))
        };
        let lost = decisions.ports.iter().any(worse);
        if let Some(first) = failures.first()
            && (lost || failures.len() >= asked)
        {
            return Err(Refused {
                failed: failures.len(),
                asked,
                service: first.service.to_string(),
                port: first.port.clone(),
                reason: first.reason.as_str(),
                message: first.message.clone(),
            });
        }
        self.catalog = trial.catalog;
        // What the trial found out need not be asked again.
        self.memory.extend(trial.memory);
        Ok(users)
    }

    /// Lets the policy of that name go. Returns the Services it decided: the node's defaults decide them from now on.
    pub fn withdraw(&mut self, store: &Store, name: &str) -> Vec<ServiceId> {
        let users = self.catalog.users(store, name);
        self.catalog.remove(name);
        users
    }

    /// The same for a policy that rests: nobody is told that it is missing.
    pub fn switch_off(&mut self, store: &Store, name: &str) -> Vec<ServiceId> {
        let users = self.catalog.users(store, name);
        self.catalog.switch_off(name);
        users
    }
}
