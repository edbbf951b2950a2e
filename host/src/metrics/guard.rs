//! What is kept from policies that do harm, and whether nodes agree.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use weir_nft::Dataplane;

use super::{count, label, register};
use crate::pipeline::Pipeline;

/// The gauges.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    quarantined: Family<Vec<(&'static str, String)>, Gauge>,
    digest: Gauge,
}

/// Bits of a whole number that Prometheus, which has only floating point, keeps exactly.
const EXACT_BITS: u32 = 53;

impl Guard {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            quarantined: register(
                registry,
                "policy_quarantined",
                "Ports a policy is not asked about for a while, because it failed",
                Family::default(),
            ),
            digest: register(
                registry,
                "decisions_digest",
                "Digest of the decisions of all ports: equal on nodes that agree",
                Gauge::default(),
            ),
        }
    }

    /// After a sync that reached the kernel.
    pub(super) fn synced<D: Dataplane>(&self, pipeline: &Pipeline<D>) {
        // A policy that does well again, or is gone, has no line.
        self.quarantined.clear();
        for (policy, ports) in pipeline.decider().resting_ports() {
            let ports = usize::try_from(ports).map_or(i64::MAX, count);
            self.quarantined.get_or_create(&label("policy", &*policy)).set(ports);
        }
        let exact = pipeline.decisions_digest() >> (u64::BITS - EXACT_BITS);
        self.digest.set(i64::try_from(exact).unwrap_or_default());
    }
}
