//! Which version of each policy from outside decides, and since when.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use weir_policy::Digest;

use super::{Counters1, Metrics, Moment, counters, label, register};
use crate::policies::Track;

type Labels = Vec<(&'static str, String)>;

/// The metrics.
#[derive(Debug)]
pub(super) struct Rollouts {
    since: Family<Labels, Moment>,
    halts: Counters1,
    off: Gauge,
    /// The labels each policy has in `since`: a digest that decides no more must not stay.
    shown: Mutex<BTreeMap<String, Labels>>,
}

impl Rollouts {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let since = "When the version of a policy from outside that decides here began to";
        let off = "1 while every policy from outside is switched off";
        Self {
            since: register(registry, "policy_decides_since_timestamp_seconds", since, Family::default()),
            halts: counters(registry, "policy_canary_halts", "Canaries that failed too often on this node"),
            off: register(registry, "policies_off", off, Gauge::default()),
            shown: Mutex::default(),
        }
    }
}

impl Metrics {
    /// That version of a policy decides from now on, since then; or none.
    pub fn policy_decides(&self, policy: &str, version: Option<(Digest, Track, SystemTime)>) {
        let Rollouts { since, shown, .. } = &self.rollouts;
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(labels) = shown.remove(policy) {
            since.remove(&labels);
        }
        let Some((digest, track, time)) = version else { return };
        let labels =
            [("policy", policy.to_owned()), ("digest", digest.to_string()), ("track", track.as_str().to_owned())];
        let labels = labels.to_vec();
        since.get_or_create(&labels).set(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        shown.insert(policy.to_owned(), labels);
    }

    /// The canary of a policy failed too often on this node.
    pub fn canary_halted(&self, policy: &str) {
        self.rollouts.halts.get_or_create(&label("policy", policy)).inc();
    }

    /// Every policy from outside was switched off, or on again.
    pub fn policies_switched(&self, off: bool) {
        self.rollouts.off.set(off.into());
    }
}
