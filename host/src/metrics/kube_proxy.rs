//! The same under kube-proxy's names, so that dashboards and alerts made for it keep working.
//!
//! kube-proxy runs one proxier a family, Weir syncs both at once: where kube-proxy has the label `ip_family`, the one
//! sync shows under both of its values.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use weir_model::Event;

use super::conntrack::DeletedEntries;
use super::inventory::NoLocalEndpoints;
use super::{Counters1, Moment, OfFamily, Sources, label, now, programming_buckets, register};

/// Metrics with the prefix `kubeproxy_`.
#[derive(Debug)]
pub(super) struct KubeProxyMetrics {
    duration: Family<OfFamily, Histogram>,
    full: Family<OfFamily, Histogram>,
    partial: Family<OfFamily, Histogram>,
    last: Family<OfFamily, Moment>,
    last_queued: Family<OfFamily, Moment>,
    programming: Family<OfFamily, Histogram>,
    endpoint_changes: Changes,
    service_changes: Changes,
    failures: Family<OfFamily, Counter>,
    healthz: Counters1,
    livez: Counters1,
    pub(super) no_local_endpoints: NoLocalEndpoints,
}

/// Changes of one kind of object.
#[derive(Debug)]
struct Changes {
    pending: Gauge,
    total: Counter,
}

impl Changes {
    fn register(registry: &mut Registry, kind: &str) -> Self {
        let name = |what: &str| format!("sync_proxy_rules_{kind}_changes{what}");
        Self {
            pending: register(registry, &name("_pending"), "Changes that wait for a sync", Gauge::default()),
            total: register(registry, &name(""), "Changes so far", Counter::default()),
        }
    }

    fn add(&self, count: usize) {
        self.pending.inc_by(super::count(count));
        self.total.inc_by(count as u64);
    }
}

/// kube-proxy's buckets for syncs: 1 ms to 16 s.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

fn families() -> impl Iterator<Item = OfFamily> {
    weir_model::Family::ALL.into_iter().map(OfFamily::of)
}

impl KubeProxyMetrics {
    pub(super) fn new(registry: &mut Registry, sources: &Sources) -> Self {
        if let Some(counters) = &sources.conntrack {
            registry.register_collector(Box::new(DeletedEntries(counters.clone())));
            let help = "Time of each comparison of all tracked flows with the Services, of both families";
            let name = "kubeproxy_conntrack_reconciler_sync_duration_seconds";
            registry.register(name, help, counters.durations.clone());
        }
        let r = registry.sub_registry_with_prefix("kubeproxy");
        let histogram = |r: &mut Registry, name, help| {
            register(r, name, help, Family::new_with_constructor(durations as fn() -> Histogram))
        };
        let cleanup: Family<OfFamily, Counter> = register(
            r,
            "sync_proxy_rules_nftables_cleanup_failures",
            "Always 0: clean-up is part of a sync",
            Family::default(),
        );
        let metrics = Self {
            duration: histogram(r, "sync_proxy_rules_duration_seconds", "Time of a sync"),
            full: histogram(r, "sync_full_proxy_rules_duration_seconds", "Time of the first sync"),
            partial: histogram(r, "sync_partial_proxy_rules_duration_seconds", "Time of every later sync"),
            last: register(
                r,
                "sync_proxy_rules_last_timestamp_seconds",
                "When a sync last reached the kernel",
                Family::default(),
            ),
            last_queued: register(
                r,
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "When a change last came in",
                Family::default(),
            ),
            programming: register(
                r,
                "network_programming_duration_seconds",
                "Time from a change of endpoints in the cluster to its rules in the kernel",
                Family::new_with_constructor(programming_buckets),
            ),
            endpoint_changes: Changes::register(r, "endpoint"),
            service_changes: Changes::register(r, "service"),
            failures: register(
                r,
                "sync_proxy_rules_nftables_sync_failures",
                "Syncs that did not reach the kernel",
                Family::default(),
            ),
            healthz: register(r, "proxy_healthz", "Answers of /healthz, by code", Family::default()),
            livez: register(r, "proxy_livez", "Answers of /livez, by code", Family::default()),
            no_local_endpoints: register(
                r,
                "sync_proxy_rules_no_local_endpoints_total",
                "Ports with endpoints, but none on this node, where the traffic policy wants one here",
                Family::default(),
            ),
        };
        for family in families() {
            drop(metrics.failures.get_or_create(&family));
            drop(cleanup.get_or_create(&family));
        }
        metrics
    }

    pub(super) fn event(&self, event: &Event) {
        match event {
            Event::Service(_) | Event::ServiceGone(_) => self.service_changes.add(1),
            Event::Slice(_) | Event::SliceGone(_) => self.endpoint_changes.add(1),
            Event::Replace { services, slices } => {
                self.service_changes.add(services.len());
                self.endpoint_changes.add(slices.len());
            }
            Event::Node(_) | Event::ServiceCidrs(_) | Event::Listed => {}
        }
        let now = now();
        for family in families() {
            self.last_queued.get_or_create(&family).set(now);
        }
    }

    pub(super) fn synced(&self, elapsed: Duration, now: f64, delays: &[(OfFamily, f64)]) {
        let seconds = elapsed.as_secs_f64();
        for family in families() {
            let first = self.last.get_or_create(&family).set(now) == 0.0;
            self.duration.get_or_create(&family).observe(seconds);
            if first { &self.full } else { &self.partial }.get_or_create(&family).observe(seconds);
        }
        for (family, delay) in delays {
            self.programming.get_or_create(family).observe(*delay);
        }
        self.endpoint_changes.pending.set(0);
        self.service_changes.pending.set(0);
    }

    pub(super) fn failed(&self) {
        for family in families() {
            self.failures.get_or_create(&family).inc();
        }
    }

    pub(super) fn answered(&self, path: &str, code: u16) {
        let counters = match path {
            "/healthz" => &self.healthz,
            "/livez" => &self.livez,
            _ => return,
        };
        counters.get_or_create(&label("code", code.to_string())).inc();
    }
}
