//! The thread that turns what is delivered into policies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tracing::debug;
use weir_policy::{Artifact, Digest, Policy};

use super::compiler::{Bad, Compiler};
use super::offer::Offer;
use super::versions::Versions;
use super::{Compiled, Delivery, Loaded, Ready};

/// How much compiling stands back for everything else on the node, in steps of `nice`.
const NICE: i32 = 10;

/// How often it is looked whether the daemon's loop has compiled a built-in policy, which it does when it first needs
/// one. Whatever is not noted in the directory of compiled policies is compiled again after a restart.
const SEAL: Duration = Duration::from_secs(5);

/// What the thread works with.
pub(super) struct Loader {
    pub(super) compiler: Compiler,
    /// Name of this node: canaries are for some of them.
    pub(super) node: String,
    /// Whether policies from outside are used at all.
    pub(super) enabled: bool,
    /// Versions that did well: need not be compiled again.
    pub(super) good: Versions,
}

impl Loader {
    /// Loads what comes until nobody delivers or waits any more. Of several versions that wait only the last is
    /// compiled.
    pub(super) fn run(&self, waiting: &Receiver<Delivery>, done: &UnboundedSender<Loaded>) {
        // On Linux this is about the calling thread alone. Where the kernel says no, it is done without.
        if let Err(error) = rustix::process::nice(NICE) {
            debug!(%error, "policies are compiled at full priority");
        }
        let mut last: BTreeMap<String, Arc<Policy>> = BTreeMap::new();
        loop {
            let first = match waiting.recv_timeout(SEAL) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.compiler.seal();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut batch = vec![first];
            batch.extend(waiting.try_iter());
            for at in 0..batch.len() {
                let (delivery, later) = (&batch[at], &batch[at + 1..]);
                if delivery.name().is_some() && later.iter().any(|later| later.name() == delivery.name()) {
                    continue;
                }
                if done.send(self.load(delivery, &mut last)).is_err() {
                    return;
                }
            }
        }
    }

    fn load(&self, delivery: &Delivery, last: &mut BTreeMap<String, Arc<Policy>>) -> Loaded {
        match delivery {
            Delivery::Listed => Loaded::Listed,
            Delivery::Switch(off) => Loaded::Switch(*off),
            Delivery::Bad { name, .. } | Delivery::Set(Offer { artifact: Artifact { name, .. }, .. })
                if !self.enabled =>
            {
                Loaded::Ignored(name.clone())
            }
            Delivery::Bad { name, why } => {
                let bad = Bad { reason: "unreadable", why: why.clone() };
                Loaded::Refused { name: name.clone(), bad }
            }
            Delivery::Gone(name) => {
                last.remove(name);
                Loaded::Gone(name.clone())
            }
            Delivery::Set(offer) => self.load_offer(offer, last),
        }
    }

    fn load_offer(&self, offer: &Offer, last: &mut BTreeMap<String, Arc<Policy>>) -> Loaded {
        let Offer { artifact, canary, rollout } = offer;
        let name = &artifact.name;
        let known: Vec<Arc<Policy>> = last.values().cloned().chain(self.good.all()).collect();
        let stable = self.compile(artifact, &known);
        if let Ok(policy) = &stable {
            last.insert(name.clone(), Arc::new(policy.clone()));
        }
        let canary = canary.as_ref().filter(|_| rollout.takes_canary(&self.node, name));
        let canary = canary
            .map(|component| self.compile(&Artifact { component: component.clone(), ..artifact.clone() }, &known));
        Loaded::Ready(Box::new(Ready { name: name.clone(), stable, canary, rollout: rollout.clone() }))
    }

    fn compile(&self, artifact: &Artifact, known: &[Arc<Policy>]) -> Compiled {
        self.compiler.load(artifact.clone(), known).map_err(|bad| (self.digest(artifact), bad))
    }

    /// What a component that was refused is known by, if it can be unpacked.
    fn digest(&self, artifact: &Artifact) -> Option<Digest> {
        let mut artifact = artifact.clone();
        artifact.unpack(self.compiler.limit()).ok()?;
        Some(Digest::of(&artifact.component))
    }
}
