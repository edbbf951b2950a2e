//! Counters others keep, read at each scrape.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use crate::follow::conntrack::Counters;

/// One counter.
#[derive(Debug)]
pub(super) struct SharedCounter {
    /// Its name, without `_total`.
    pub(super) name: &'static str,
    /// What it counts.
    pub(super) help: &'static str,
    /// Where it is counted.
    pub(super) value: Arc<AtomicU64>,
}

impl Collector for SharedCounter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        one(&mut encoder, self.name, self.help, &self.value)
    }
}

/// The reconciler of flows.
#[derive(Debug)]
pub(super) struct ConntrackCollector(pub(super) Arc<Counters>);

impl Collector for ConntrackCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Counters { passes, deleted, failed, .. } = &*self.0;
        one(&mut encoder, "conntrack_passes", "Comparisons of all tracked flows with the Services", passes)?;
        one(&mut encoder, "conntrack_deleted_flows", "Flows ended because their endpoint is gone", deleted)?;
        one(&mut encoder, "conntrack_failed_deletions", "Flows that could not be ended; each is tried again", failed)
    }
}

/// Under the name kube-proxy has for it.
#[derive(Debug)]
pub(super) struct DeletedEntries(pub(super) Arc<Counters>);

impl Collector for DeletedEntries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Flows ended because their endpoint is gone, of both families";
        one(&mut encoder, "kubeproxy_conntrack_reconciler_deleted_entries", help, &self.0.deleted)
    }
}

fn one(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: &AtomicU64) -> fmt::Result {
    let counter = ConstCounter::new(value.load(Ordering::Relaxed));
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}
