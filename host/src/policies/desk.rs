//! Decides which version of each policy runs on this node, on the daemon's loop.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tracing::{info, warn};
use weir_nft::Dataplane;
use weir_policy::{Digest, Failure, Policy};

use super::compiler::Bad;
use super::status::{Board, Track};
use super::versions::Versions;
use super::{Loaded, Ready};
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::pipeline::Pipeline;

/// Syncs in which a canary may fail before this node goes back to the stable version.
pub const CANARY_PATIENCE: u32 = 3;

/// What was delivered, and what became of it.
#[derive(Debug)]
struct Held {
    ready: Ready,
    /// The canary that decides, and the syncs in which it failed.
    canary: Option<(Digest, u32)>,
    /// The canary that failed too often here. It is not tried again; another one is.
    halted: Option<Digest>,
}

/// Every policy from outside.
#[derive(Debug, Default)]
pub(super) struct Desk {
    held: BTreeMap<String, Held>,
    /// Whether somebody wants all of them to rest.
    off: bool,
}

/// Whoever learns of what happens to policies.
pub(crate) struct Told<'a> {
    pub(crate) notices: &'a Notices,
    pub(crate) metrics: &'a Metrics,
    pub(crate) board: &'a Board,
    pub(crate) versions: &'a Versions,
}

impl Desk {
    /// Lets a policy in, rest or go. What is no good changes nothing, and is told.
    pub(super) fn take<D: Dataplane>(&mut self, loaded: Loaded, pipeline: &mut Pipeline<D>, told: &Told<'_>) {
        match loaded {
            Loaded::Ready(ready) => {
                let name = ready.name.clone();
                let halted = self.held.remove(&name).and_then(|held| held.halted);
                let mut held = Held { ready: *ready, canary: None, halted };
                choose(&mut held, self.off, pipeline, told);
                self.held.insert(name, held);
            }
            Loaded::Refused { name, bad } => told.refused(&name, None, &bad),
            Loaded::Ignored(name) => told.off(&name, pipeline),
            Loaded::Gone(name) => {
                self.held.remove(&name);
                let services = pipeline.withdraw_policy(&name);
                info!(policy = name, services, "policy withdrawn");
                told.versions.forget(&name);
                told.metrics.policy_decides(&name, None);
                told.board.gone(&name);
            }
            Loaded::Switch(off) if off != self.off => {
                self.off = off;
                told.notices.policies_switched(off);
                told.metrics.policies_switched(off);
                if off {
                    warn!("every policy from outside is switched off; the built-in ones decide");
                } else {
                    info!("policies from outside are switched on again");
                }
                for held in self.held.values_mut() {
                    choose(held, off, pipeline, told);
                }
            }
            Loaded::Switch(_) | Loaded::Listed => {}
        }
    }

    /// Counts the failures of canaries. A canary that failed in too many syncs goes, and the stable version decides
    /// again from the next sync on. Returns whether there is something for that sync to do.
    pub(super) fn synced<D: Dataplane>(
        &mut self,
        failures: &[Failure],
        pipeline: &mut Pipeline<D>,
        told: &Told<'_>,
    ) -> bool {
        let mut changed = false;
        for (name, held) in &mut self.held {
            let Some((digest, failed)) = &mut held.canary else { continue };
            let Some(failure) = failures.iter().find(|failure| *failure.policy == **name) else { continue };
            *failed += 1;
            if *failed < CANARY_PATIENCE {
                continue;
            }
            let digest = *digest;
            held.halted = Some(digest);
            let Failure { service, port, reason, message, .. } = failure;
            let why = format!(
                "canary {digest} failed in {CANARY_PATIENCE} syncs, last for {service}:{port} ({reason}): {message}"
            );
            warn!(policy = name, %digest, "canary halted: {why}");
            told.notices.canary_halted(name, &why);
            told.metrics.canary_halted(name);
            told.board.canary(name, Some(why));
            choose(held, self.off, pipeline, told);
            changed = true;
        }
        changed
    }
}

/// Lets the version that should run here decide.
fn choose<D: Dataplane>(held: &mut Held, off: bool, pipeline: &mut Pipeline<D>, told: &Told<'_>) {
    held.canary = None;
    let Ready { name, stable, canary, rollout } = &held.ready;
    if off || rollout.off {
        return told.off(name, pipeline);
    }
    if let Some(pin) = &rollout.pin {
        let mut offered =
            [Some(stable), canary.as_ref()].into_iter().flatten().filter_map(|version| version.as_ref().ok());
        let offered = offered.find(|policy| pin.is_of(policy.digest()));
        let found = offered.cloned().map_or_else(|| told.versions.find(name, pin).map(|kept| (*kept).clone()), Ok);
        told.board.canary(name, None);
        match found {
            Ok(policy) => drop(told.set(&policy, Track::Pinned, pipeline)),
            Err(why) => {
                let bad = Bad { reason: "unknown-version", why: format!("data.use-digest: {why}") };
                told.refused(name, None, &bad);
            }
        }
        return;
    }
    // A canary is a step away from a version that is good.
    let stable = match stable {
        Ok(stable) => stable,
        Err((digest, bad)) => return told.refused(name, *digest, bad),
    };
    // A canary that halted here has told why, and that stays.
    let problem = match canary {
        Some(Ok(canary)) if held.halted == Some(canary.digest()) => None,
        Some(Ok(canary)) => {
            if told.set(canary, Track::Canary, pipeline) {
                told.board.canary(name, None);
                held.canary = Some((canary.digest(), 0));
                return;
            }
            Some(Some(format!("canary {} was refused", canary.digest())))
        }
        Some(Err((digest, bad))) => {
            told.refused(name, *digest, bad);
            Some(Some(bad.why.clone()))
        }
        None => Some(None),
    };
    told.set(stable, Track::Stable, pipeline);
    if let Some(problem) = problem {
        told.board.canary(name, problem);
    }
}

impl Told<'_> {
    /// Lets `policy` decide, if it does well. Returns whether it does.
    fn set<D: Dataplane>(&self, policy: &Policy, track: Track, pipeline: &mut Pipeline<D>) -> bool {
        let (name, digest) = (policy.name().to_owned(), policy.digest());
        match pipeline.set_policy(policy.clone()) {
            Ok(services) => {
                let versions = self.versions.took(policy, SystemTime::now());
                let before = versions.get(1).map(|version| version.policy.digest().to_string());
                info!(policy = name, %digest, services, track = track.as_str(), before, "policy loaded");
                self.notices.policy_loaded(&name, &digest.to_string(), track.as_str(), before.as_deref());
                self.metrics.policy_version(&name, None);
                if let Some(first) = versions.first() {
                    self.metrics.policy_decides(&name, Some((digest, track, first.since)));
                }
                self.board.accepted(&name, &versions, track);
                true
            }
            Err(refused) => {
                self.refused(&name, Some(digest), &Bad { reason: refused.reason, why: refused.to_string() });
                false
            }
        }
    }

    fn refused(&self, name: &str, digest: Option<Digest>, bad: &Bad) {
        let Bad { reason, why } = bad;
        let digest = digest.map(|digest| digest.to_string());
        warn!(policy = name, digest, reason, "policy refused: {why}");
        self.notices.policy_refused(name, why);
        self.metrics.policy_version(name, Some(reason));
        self.board.refused(name, digest, reason, why);
    }

    fn off<D: Dataplane>(&self, name: &str, pipeline: &mut Pipeline<D>) {
        let services = pipeline.switch_policy_off(name);
        info!(policy = name, services, "policy switched off; the node's defaults decide");
        self.notices.policy_off(name);
        self.metrics.policy_decides(name, None);
        self.board.off(name);
    }
}
