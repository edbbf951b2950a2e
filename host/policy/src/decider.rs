//! Who decides what, in which order, and what happens when somebody fails.

mod ask;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{
    Backend, Conditions, Decision, IndexFunction, MAX_SLOTS, ObjectKey, Origin, Port, PortKey, Ring, Route, ServiceId,
    Store,
};

use crate::call::Problem;
use crate::catalog::{Catalog, Pair};
use crate::limits::FailureReason;
use crate::subject::{Subject, Subjects, fingerprint};

/// Asks policies, and remembers their last good answers.
#[derive(Debug)]
pub struct Decider {
    catalog: Catalog,
    remembered: BTreeMap<PortKey, Remembered>,
}

/// What a port's policies last said, and of what.
#[derive(Debug)]
struct Remembered {
    policies: [crate::Digest; 2],
    input: u64,
    decision: Arc<Decision>,
}

/// The answers of one sync.
#[derive(Debug, Default)]
pub struct Decisions {
    /// One decision for every port of the Services asked about, in ascending order.
    pub ports: Vec<(PortKey, Arc<Decision>)>,
    /// What went wrong on the way; each of these ports has a decision all the same.
    pub failures: Vec<Failure>,
    /// What it cost, policy by policy.
    pub stats: BTreeMap<Arc<str>, Stats>,
}

/// A policy gave no answer for a port.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The Service.
    pub service: Arc<ObjectKey>,
    /// Name of the port; its number when it has none.
    pub port: String,
    /// The policy.
    pub policy: Arc<str>,
    /// Why, in one stable word.
    pub reason: FailureReason,
    /// Why, in a sentence.
    pub message: String,
}

/// What a policy did in one sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls, the failed ones included.
    pub calls: u64,
    /// Ports or rings it was asked about.
    pub asked: u64,
    /// Fuel it used.
    pub fuel: u64,
    /// Time it took.
    pub time: Duration,
}

impl Decider {
    /// A decider that knows those policies and remembers nothing.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog, remembered: BTreeMap::new() }
    }

    /// The policies.
    pub fn catalog(&mut self) -> &mut Catalog {
        &mut self.catalog
    }

    /// The last decision for a port.
    #[must_use]
    pub fn decision(&self, port: &PortKey) -> Option<&Arc<Decision>> {
        self.remembered.get(port).map(|remembered| &remembered.decision)
    }

    /// Decides every port of `services`. Ports whose input and policies are as they were keep their answer
    /// without a call; ports that are gone are forgotten.
    pub fn decide(&mut self, store: &Store, services: &[ServiceId]) -> Decisions {
        let mut decisions = Decisions::default();
        let mut subjects = Subjects::new(store);
        let mut pairs: Vec<Pair> = Vec::new();
        let mut inputs: Vec<u64> = Vec::new();
        for id in services {
            let present = self.gather(store, *id, &mut subjects, &mut pairs, &mut inputs, &mut decisions);
            self.forget_others(*id, &present);
        }
        self.answer(&Arc::new(subjects), &pairs, &inputs, &mut decisions);
        decisions.ports.sort_unstable_by_key(|(key, _)| *key);
        decisions
    }

    /// Notes which ports of a Service need an answer; those that do not get their old one at once.
    fn gather(
        &self,
        store: &Store,
        id: ServiceId,
        subjects: &mut Subjects,
        pairs: &mut Vec<Pair>,
        inputs: &mut Vec<u64>,
        decisions: &mut Decisions,
    ) -> Vec<PortKey> {
        let Some(service) = store.service(id) else { return Vec::new() };
        let ports = store.ports(id);
        let present = ports.iter().map(|port| port.key).collect();
        let asked = store.names().get(service.policy);
        let (pair, unknown) = match self.catalog.pair(asked) {
            Ok(pair) => (pair, None),
            Err(unknown) => (self.catalog.default().clone(), Some(unknown.to_string())),
        };
        let policies = [pair.traffic.digest(), pair.balancer.digest()];
        for port in ports {
            let subject = Subject {
                service: service.key.clone(),
                settings: service.policy_settings,
                internal: service.internal_policy,
                external: service.external_policy,
                has_external: service.is_external(&port.spec),
                affinity_seconds: service.affinity_seconds,
                port,
            };
            if let Some(message) = &unknown {
                let problem = Problem::new(FailureReason::UnknownPolicy, message.clone());
                decisions.failures.push(failure(&subject, &Arc::from(asked), problem, store));
            }
            let input = fingerprint(&subject);
            match self.remembered.get(&subject.port.key) {
                Some(last) if last.input == input && last.policies == policies => {
                    decisions.ports.push((subject.port.key, last.decision.clone()));
                }
                _ => {
                    subjects.list.push(subject);
                    pairs.push(pair.clone());
                    inputs.push(input);
                }
            }
        }
        present
    }

    fn forget_others(&mut self, id: ServiceId, present: &[PortKey]) {
        let first = PortKey {
            service: id,
            name: weir_model::NameId(0),
            protocol: weir_model::Protocol::Tcp,
            family: weir_model::Family::V4,
        };
        let of_service = self.remembered.range(first..).map(|(key, _)| *key).take_while(|key| key.service == id);
        let gone: Vec<PortKey> = of_service.filter(|key| !present.contains(key)).collect();
        for key in gone {
            self.remembered.remove(&key);
        }
    }

    /// Asks for every subject: its own policies, then, where they fail and have no last good answer, the built-in
    /// ones, then nobody.
    fn answer(&mut self, subjects: &Arc<Subjects>, pairs: &[Pair], inputs: &[u64], decisions: &mut Decisions) {
        let all: Vec<usize> = (0..subjects.list.len()).collect();
        let mut helpless = Vec::new();
        for (at, answer) in ask::ask(subjects, &all, |at| &pairs[at], decisions) {
            let (key, policies) =
                (subjects.list[at].port.key, [pairs[at].traffic.digest(), pairs[at].balancer.digest()]);
            match answer {
                Some(decision) => {
                    let decision = Arc::new(decision);
                    let remembered = Remembered { policies, input: inputs[at], decision: decision.clone() };
                    self.remembered.insert(key, remembered);
                    decisions.ports.push((key, decision));
                }
                None => match self.last_good(&subjects.list[at]) {
                    Some(decision) => decisions.ports.push((key, Arc::new(decision))),
                    None => helpless.push(at),
                },
            }
        }
        if helpless.is_empty() {
            return;
        }
        let fallback = self.catalog.fallback();
        for (at, answer) in ask::ask(subjects, &helpless, |_| fallback, decisions) {
            let subject = &subjects.list[at];
            let mut decision = answer.unwrap_or_else(|| last_resort(&subject.port));
            if decision.origin != Origin::LastResort {
                decision.origin = Origin::Fallback(fallback.balancer.name.clone());
            }
            decisions.ports.push((subject.port.key, Arc::new(decision)));
        }
    }

    /// The last good answer less the endpoints that no longer exist; `None` when that leaves a list empty that
    /// clients are sent to.
    fn last_good(&self, subject: &Subject) -> Option<Decision> {
        let last = &self.remembered.get(&subject.port.key)?.decision;
        let exists = |backend: &Backend| {
            let found =
                |endpoint: &&weir_model::Endpoint| (endpoint.address, endpoint.port) == (backend.address, backend.port);
            subject.port.endpoints.iter().any(|endpoint| found(&endpoint))
        };
        let alive: Vec<bool> = last.backends.iter().map(exists).collect();
        let thin = |ring: &Ring| {
            let slots: Vec<u16> = ring.slots.iter().copied().filter(|slot| alive[usize::from(*slot)]).collect();
            (!slots.is_empty()).then(|| Ring { slots, ..ring.clone() })
        };
        let decision = Decision {
            cluster: last.cluster.as_ref().and_then(thin),
            local: last.local.as_ref().and_then(thin),
            origin: Origin::LastGood,
            ..(**last).clone()
        };
        let possible = |route| match route {
            Route::Cluster => decision.cluster.is_some(),
            Route::Local => decision.local.is_some(),
            // Turning clients away is an answer to a state that may be long gone.
            Route::Reject | Route::Drop => false,
        };
        (possible(decision.internal) && possible(decision.external)).then_some(decision)
    }
}

/// Uniform random over ready endpoints: the one algorithm the host has itself.
fn last_resort(port: &Port) -> Decision {
    let ready: Vec<Backend> = port
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.conditions.has(Conditions::READY))
        .take(MAX_SLOTS)
        .map(backend)
        .collect();
    let slots: Vec<u16> = (0..).take(ready.len()).collect();
    let ring = Ring { index: IndexFunction::Random, slots, affinity_seconds: 0 };
    let route = if ready.is_empty() { Route::Reject } else { Route::Cluster };
    Decision {
        cluster: (!ready.is_empty()).then_some(ring),
        backends: ready,
        local: None,
        internal: route,
        external: route,
        short_cut: false,
        reason: Arc::from("every policy failed"),
        origin: Origin::LastResort,
    }
}

fn backend(endpoint: &weir_model::Endpoint) -> Backend {
    Backend {
        address: endpoint.address,
        port: endpoint.port,
        id: endpoint.id,
        local: endpoint.conditions.has(Conditions::LOCAL),
    }
}

fn failure(subject: &Subject, policy: &Arc<str>, problem: Problem, store: &Store) -> Failure {
    named_failure(subject, store.names(), policy, problem)
}

fn named_failure(subject: &Subject, names: &weir_model::Names, policy: &Arc<str>, problem: Problem) -> Failure {
    let name = names.get(subject.port.key.name);
    let port = if name.is_empty() { subject.port.spec.port.to_string() } else { name.to_owned() };
    let Problem { reason, message } = problem;
    Failure { service: subject.service.clone(), port, policy: policy.clone(), reason, message }
}
