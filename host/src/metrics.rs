//! What Prometheus can learn of the daemon. The loop tells after each sync; nothing here is asked of it for a scrape.
//!
//! Names begin with `weir_`, units are base units, and no label grows with Services or endpoints.

mod conntrack;
mod data_age;
mod guard;
mod inventory;
mod kube_proxy;
mod rollout;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use weir_model::Event;
use weir_nft::{CommitError, Dataplane};
use weir_policy::Attempt;
use weir_source::kubernetes::SourceHealth;

use self::conntrack::{ConntrackCollector, SharedCounter};
use self::data_age::DataAge;
use self::guard::Guard;
pub use self::inventory::Inventory;
use self::inventory::InventoryGauges;
use self::kube_proxy::KubeProxyMetrics;
use self::rollout::Rollouts;
use crate::follow::conntrack::Counters;
use crate::pipeline::{Outcome, Pipeline, SyncError};

/// A counter for each value of one label.
type Counters1 = Family<Vec<(&'static str, String)>, Counter>;

/// Seconds as fractions, summed up.
type Seconds = Counter<f64, AtomicU64>;

/// A gauge that holds a time in seconds since 1970.
type Moment = Gauge<f64, AtomicU64>;

/// The IP family of something, with kube-proxy's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFamily {
    ip_family: &'static str,
}

impl OfFamily {
    fn of(family: weir_model::Family) -> Self {
        Self { ip_family: ip_family(family) }
    }
}

/// A family in Kubernetes' words (`spec.ipFamilies`).
pub(crate) fn ip_family(family: weir_model::Family) -> &'static str {
    match family {
        weir_model::Family::V4 => "IPv4",
        weir_model::Family::V6 => "IPv6",
    }
}

/// Every metric, and the registry they are read from.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Milliseconds since 1970. What was triggered before is no measure of this process.
    started: i64,
    syncs: Counters1,
    failures: Counters1,
    duration: Histogram,
    stages: Family<Vec<(&'static str, String)>, Histogram>,
    last_sync: Moment,
    last_queued: Moment,
    programming: Family<OfFamily, Histogram>,
    events: Counters1,
    pending: Gauge,
    policy_calls: Counters1,
    policy_asked: Counters1,
    policy_fuel: Counters1,
    policy_seconds: Family<Vec<(&'static str, String)>, Seconds>,
    policy_failures: Counters1,
    policy_fallbacks: Counters1,
    policy_versions: Counters1,
    guard: Guard,
    rollouts: Rollouts,
    rejections: Counter,
    quarantined: Gauge<i64, AtomicI64>,
    operations: Counter,
    elements: Family<Vec<(&'static str, String)>, Gauge>,
    answers: Counters1,
    inventory: InventoryGauges,
    kube_proxy: Option<KubeProxyMetrics>,
}

/// What others count, to be read at each scrape.
#[derive(Debug, Default)]
pub struct Sources {
    /// The reconciler of flows, where the kernel has one to offer.
    pub conntrack: Option<Arc<Counters>>,
    /// Health check ports that could not be listened on.
    pub health_ports: Arc<AtomicU64>,
    /// When the API server was last heard of; nothing is known of it without a cluster.
    pub cluster: SourceHealth,
}

/// 100 µs to 26 s, each twice the one before.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 19))
}

/// kube-proxy's buckets for `network_programming_duration_seconds`: 0.25 s, 0.5 s, seconds to a minute, to 5 minutes.
fn programming_buckets() -> Histogram {
    let seconds = [0.25, 0.5].into_iter().chain((1..60).map(f64::from));
    Histogram::new(seconds.chain((60..=300).step_by(30).map(f64::from)))
}

/// One label with its value.
fn label(name: &'static str, value: impl Into<String>) -> Vec<(&'static str, String)> {
    vec![(name, value.into())]
}

/// Puts a metric into the registry and hands it back.
fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn counters(registry: &mut Registry, name: &str, help: &str) -> Counters1 {
    register(registry, name, help, Counters1::default())
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Metrics {
    /// All of them at zero; with `kube_proxy` also under kube-proxy's names.
    #[must_use]
    pub fn new(sources: Sources, kube_proxy: bool) -> Self {
        let mut all = Registry::default();
        let kube_proxy = kube_proxy.then(|| KubeProxyMetrics::new(&mut all, &sources));
        let r = all.sub_registry_with_prefix("weir");
        r.register("build", "Version of the program", Info::new(label("version", env!("CARGO_PKG_VERSION"))));
        r.register_collector(Box::new(SharedCounter {
            name: "health_port_listen_failures",
            help: "Health check ports that could not be listened on when a Service wanted them",
            value: sources.health_ports,
        }));
        r.register_collector(Box::new(DataAge(sources.cluster)));
        if let Some(counters) = sources.conntrack {
            let help = "Time of each comparison of all tracked flows with the Services";
            r.register("conntrack_pass_duration_seconds", help, counters.durations.clone());
            r.register_collector(Box::new(ConntrackCollector(counters)));
        }
        Self {
            started: (now() * 1000.0) as i64,
            syncs: counters(r, "syncs", "Syncs that reached the kernel, by whether something had to be sent"),
            failures: counters(r, "sync_failures", "Syncs that did not reach the kernel, by the phase that failed"),
            duration: register(r, "sync_duration_seconds", "Time of a sync that reached the kernel", durations()),
            stages: register(
                r,
                "sync_stage_duration_seconds",
                "Time of each stage of a sync that reached the kernel",
                Family::new_with_constructor(durations),
            ),
            last_sync: register(
                r,
                "last_sync_timestamp_seconds",
                "When a sync last reached the kernel",
                Moment::default(),
            ),
            last_queued: register(r, "last_queued_timestamp_seconds", "When a change last came in", Moment::default()),
            programming: register(
                r,
                "network_programming_duration_seconds",
                "Time from a change of endpoints in the cluster to its rules in the kernel",
                Family::new_with_constructor(programming_buckets),
            ),
            events: counters(r, "events", "Events from the source, by kind of object"),
            pending: register(
                r,
                "pending_services",
                "Services with changes the kernel does not have",
                Gauge::default(),
            ),
            policy_calls: counters(r, "policy_calls", "Calls of a policy, the failed ones included"),
            policy_asked: counters(r, "policy_asked", "Ports and lists a policy was asked about"),
            policy_fuel: counters(r, "policy_fuel", "Fuel a policy used; about one unit an instruction"),
            policy_seconds: register(r, "policy_seconds", "Time a policy took", Family::default()),
            policy_failures: counters(r, "policy_failures", "Ports a policy gave no answer for, by reason"),
            policy_fallbacks: counters(r, "policy_fallbacks", "Ports decided by something else, by what stood in"),
            policy_versions: counters(r, "policy_versions", "Versions of policies that were taken or refused"),
            guard: Guard::register(r),
            rollouts: Rollouts::register(r),
            rejections: register(
                r,
                "address_rejections",
                "Addresses and ports that Services wanted and did not get, each time they were planned",
                Counter::default(),
            ),
            quarantined: register(
                r,
                "quarantined_ports",
                "Ports left out because the kernel refuses them",
                Gauge::default(),
            ),
            operations: register(r, "operations", "Operations sent to the kernel", Counter::default()),
            elements: register(r, "set_elements", "Elements the Services have in each set", Family::default()),
            answers: counters(r, "health_answers", "Answers given on the health port, by path and code"),
            inventory: InventoryGauges::register(r),
            kube_proxy,
            registry: all,
        }
    }

    /// An event came in.
    pub fn event(&self, event: &Event) {
        let (kind, count) = match event {
            Event::Service(_) | Event::ServiceGone(_) => ("service", 1),
            Event::Slice(_) | Event::SliceGone(_) => ("slice", 1),
            Event::Node(_) => ("node", 1),
            Event::ServiceCidrs(_) => ("service-cidrs", 1),
            Event::Replace { .. } | Event::Listed => ("list", 1),
        };
        self.events.get_or_create(&label("kind", kind)).inc_by(count);
        self.last_queued.set(now());
        if let Some(compatible) = &self.kube_proxy {
            compatible.event(event);
        }
    }

    /// A sync reached the kernel within `elapsed`.
    pub fn synced<D: Dataplane>(&self, pipeline: &Pipeline<D>, outcome: &Outcome, elapsed: Duration) {
        let result = if outcome.transaction.is_empty() { "unchanged" } else { "changed" };
        self.syncs.get_or_create(&label("result", result)).inc();
        self.duration.observe(elapsed.as_secs_f64());
        let timings = &outcome.timings;
        for (stage, time) in [("decide", timings.decide), ("plan", timings.plan), ("commit", timings.commit)] {
            self.stages.get_or_create(&label("stage", stage)).observe(time.as_secs_f64());
        }
        let now = now();
        self.last_sync.set(now);
        let delays: Vec<_> = outcome
            .news
            .triggers
            .iter()
            .filter(|trigger| trigger.at >= self.started)
            .map(|trigger| (OfFamily::of(trigger.family), (now - trigger.at as f64 / 1000.0).max(0.0)))
            .collect();
        for (family, delay) in &delays {
            self.programming.get_or_create(family).observe(*delay);
        }
        self.policies(outcome);
        self.guard.synced(pipeline);
        self.rejections.inc_by(outcome.rejections.len() as u64);
        self.quarantined.set(count(pipeline.quarantined().len()));
        self.operations.inc_by(outcome.transaction.ops.len() as u64);
        for (family, set, elements) in pipeline.installed().element_counts() {
            let labels = vec![("ip_family", ip_family(family).to_owned()), ("set", set.name().to_owned())];
            self.elements.get_or_create(&labels).set(elements.into());
        }
        self.pending.set(count(pipeline.pending()));
        if let Some(compatible) = &self.kube_proxy {
            compatible.synced(elapsed, now, &delays);
        }
    }

    fn policies(&self, outcome: &Outcome) {
        for (policy, stats) in &outcome.news.policies {
            let labels = label("policy", &**policy);
            self.policy_calls.get_or_create(&labels).inc_by(stats.calls);
            self.policy_asked.get_or_create(&labels).inc_by(stats.asked);
            self.policy_fuel.get_or_create(&labels).inc_by(stats.fuel);
            self.policy_seconds.get_or_create(&labels).inc_by(stats.time.as_secs_f64());
        }
        for failure in outcome.failures.iter().filter(|failure| failure.attempt != Attempt::None) {
            let labels = vec![("policy", failure.policy.to_string()), ("reason", failure.reason.to_string())];
            self.policy_failures.get_or_create(&labels).inc();
        }
        for (stand_in, ports) in &outcome.news.fallbacks {
            self.policy_fallbacks.get_or_create(&label("stand_in", *stand_in)).inc_by(*ports);
        }
    }

    /// A sync did not reach the kernel; so many Services wait for the next.
    pub fn failed(&self, error: &SyncError, pending: usize) {
        let phase = match error {
            SyncError::Dump(_) => "dump",
            SyncError::Commit(CommitError::Encode { .. }) => "encode",
            SyncError::Commit(CommitError::Send(_)) => "send",
            SyncError::Commit(CommitError::Rejected { .. } | CommitError::Refused(_)) => "commit",
            SyncError::Commit(CommitError::Unknown(_)) => "outcome",
        };
        self.failures.get_or_create(&label("phase", phase)).inc();
        self.pending.set(count(pending));
        if let Some(compatible) = &self.kube_proxy {
            compatible.failed();
        }
    }

    /// A version of a policy decides from now on (`None`), or was refused for that reason.
    pub fn policy_version(&self, policy: &str, refused: Option<&str>) {
        let result = if refused.is_some() { "refused" } else { "accepted" };
        let labels = [("policy", policy), ("result", result), ("reason", refused.unwrap_or_default())];
        self.policy_versions.get_or_create(&labels.map(|(name, value)| (name, value.to_owned())).to_vec()).inc();
    }

    /// Somebody asked for `path` on the health port, and was answered with `code`.
    pub(crate) fn answered(&self, path: &'static str, code: u16) {
        self.answers.get_or_create(&vec![("path", path.to_owned()), ("code", code.to_string())]).inc();
        if let Some(compatible) = &self.kube_proxy {
            compatible.answered(path, code);
        }
    }

    /// What counts Services, ports and endpoints: a follower of the syncs.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let compatible = self.kube_proxy.as_ref().map(|compatible| compatible.no_local_endpoints.clone());
        Inventory::new(self.inventory.clone(), compatible)
    }

    /// All of them in OpenMetrics' text form.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut answer = String::new();
        text::encode(&mut answer, &self.registry).expect("writing to a string never fails");
        answer
    }
}

/// A number of things as a gauge takes it.
fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
