//! Decisions in words: what `run` shows, `test` compares with what was expected, and `diff` with each other.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_model::{Decision, Family, IndexFunction, Origin, PortKey, Ring, Route, Store};
use weir_policy::{Decider, Decisions, Stats};

use super::scene::Scene;

/// What became of one port of a Service in one family.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Decided {
    /// `namespace/name`.
    pub(super) service: String,
    /// Name of the port; its number when it has none.
    pub(super) port: String,
    /// `IPv4` or `IPv6`.
    pub(super) family: &'static str,
    /// `tcp`, `udp` or `sctp`.
    pub(super) protocol: String,
    /// What a client of the ClusterIP gets: `cluster`, `local`, `reject` or `drop`.
    pub(super) internal: &'static str,
    /// What a client from outside gets.
    pub(super) external: &'static str,
    /// Whether pods and the node reach the cluster-wide list through external addresses all the same.
    pub(super) short_cut: bool,
    /// The cluster-wide list.
    pub(super) cluster: Option<Spread>,
    /// The list of endpoints on this node.
    pub(super) local: Option<Spread>,
    /// Who decided.
    pub(super) decided_by: String,
    /// Why, in the policy's words.
    pub(super) reason: String,
    /// Which policies gave no answer, and why.
    pub(super) failures: Vec<Failed>,
}

/// How connections spread over a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spread {
    /// How a slot is picked: `random`, `round-robin`, `source-hash` or `flow-hash`.
    pub(super) index: &'static str,
    /// Seconds a client keeps its endpoint; 0 for no affinity.
    pub(super) affinity_seconds: u32,
    /// How many slots there are.
    pub(super) slots: usize,
    /// Endpoint (`address:port`) → its share of new connections, in per cent.
    pub(super) shares: BTreeMap<String, f64>,
}

/// A policy that gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Failed {
    /// The policy.
    pub(super) policy: String,
    /// Why, in one stable word.
    pub(super) reason: String,
    /// Why, in a sentence.
    pub(super) message: String,
}

/// What a policy decided for a scene, and what that took.
pub(super) struct Verdicts {
    pub(super) ports: Vec<Decided>,
    pub(super) stats: Stats,
}

/// Asks `decider` about all of `scene` in one batch; the costs are those of `policy`.
pub(super) fn decide(decider: &mut Decider, scene: &Scene, policy: &str) -> Verdicts {
    let decisions = decider.decide(&scene.store, &scene.services);
    Verdicts {
        stats: decisions.stats.get(policy).copied().unwrap_or_default(),
        ports: in_words(&scene.store, &decisions),
    }
}

/// Decisions in words, in order of Service, port and family.
pub(super) fn in_words(store: &Store, decisions: &Decisions) -> Vec<Decided> {
    let mut ports: Vec<Decided> = decisions
        .ports
        .iter()
        .filter_map(|(key, decision)| {
            let mut decided = port(store, key, decision)?;
            let own = decisions
                .failures
                .iter()
                .filter(|failure| *failure.port == *decided.port && failure.service.to_string() == decided.service);
            decided.failures = own.map(Failed::of).collect();
            decided.failures.dedup();
            Some(decided)
        })
        .collect();
    ports.sort_by(|a, b| a.place().cmp(&b.place()));
    ports
}

fn port(store: &Store, key: &PortKey, decision: &Decision) -> Option<Decided> {
    let service = store.service(key.service)?;
    let name = store.names().get(key.name).to_owned();
    let number = |protocol| service.ports.iter().find(|port| port.name == key.name && port.protocol == protocol);
    let port = match number(key.protocol) {
        Some(port) if name.is_empty() => port.port.to_string(),
        _ => name,
    };
    Some(Decided {
        service: service.key.to_string(),
        port,
        family: match key.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        },
        protocol: key.protocol.to_string(),
        internal: route(decision.internal),
        external: route(decision.external),
        short_cut: decision.short_cut,
        cluster: decision.cluster.as_ref().map(|ring| spread(ring, decision)),
        local: decision.local.as_ref().map(|ring| spread(ring, decision)),
        decided_by: match &decision.origin {
            Origin::Policy { traffic, balancer } => format!("{traffic}, {balancer}"),
            Origin::LastGood => "last good answer".to_owned(),
            Origin::Fallback(policy) => format!("{policy}, in place of a policy that failed"),
            Origin::LastResort => "nobody: every policy failed".to_owned(),
        },
        reason: decision.reason.to_string(),
        failures: Vec::new(),
    })
}

fn spread(ring: &Ring, decision: &Decision) -> Spread {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for slot in &ring.slots {
        let backend = &decision.backends[usize::from(*slot)];
        *counts.entry(std::net::SocketAddr::new(backend.address, backend.port).to_string()).or_default() += 1;
    }
    let total = f64::from(u32::try_from(ring.slots.len()).unwrap_or(u32::MAX));
    Spread {
        index: match ring.index {
            IndexFunction::Random => "random",
            IndexFunction::RoundRobin => "round-robin",
            IndexFunction::SourceHash => "source-hash",
            IndexFunction::FlowHash => "flow-hash",
        },
        affinity_seconds: ring.affinity_seconds,
        slots: ring.slots.len(),
        shares: counts.into_iter().map(|(name, count)| (name, 100.0 * f64::from(count) / total)).collect(),
    }
}

fn route(route: Route) -> &'static str {
    match route {
        Route::Cluster => "cluster",
        Route::Local => "local",
        Route::Reject => "reject",
        Route::Drop => "drop",
    }
}

impl Failed {
    fn of(failure: &weir_policy::Failure) -> Self {
        Self {
            policy: failure.policy.to_string(),
            reason: failure.reason.to_string(),
            message: failure.message.clone(),
        }
    }
}

impl Decided {
    /// What it is sorted and found by.
    pub(super) fn place(&self) -> (&str, &str, &str, &str) {
        (&self.service, &self.port, &self.protocol, self.family)
    }

    /// The two lists, with what they are called.
    pub(super) fn lists(&self) -> [(&'static str, Option<&Spread>); 2] {
        [("cluster", self.cluster.as_ref()), ("local", self.local.as_ref())]
    }

    /// Whether both send the same clients to the same places in the same way, whoever said so.
    pub(super) fn does_as(&self, other: &Self) -> bool {
        let deeds = |decided: &Self| {
            (decided.internal, decided.external, decided.short_cut, decided.cluster.clone(), decided.local.clone())
        };
        deeds(self) == deeds(other)
    }
}

impl std::fmt::Display for Decided {
    /// `namespace/name:port (IPv4, tcp)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} ({}, {})", self.service, self.port, self.family, self.protocol)
    }
}
