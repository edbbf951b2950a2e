//! Who decides what, in which order, and what happens when somebody fails.

mod ask;
mod reload;
mod replay;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_model::{
    Backend, Conditions, Decision, Endpoint, IndexFunction, Loads, MAX_SLOTS, Names, NoLoads, ObjectKey, Origin, Port,
    PortKey, Ring, Route, ServiceId, Store, TrafficPolicy,
};

use self::ask::{Patience, Rings};
pub use self::reload::Refused;
pub use self::replay::ReplayError;
use crate::again::{Ages, Present, Schedule};
use crate::answer::{Eligible, Spread};
use crate::call::Problem;
use crate::catalog::{Catalog, Pair};
use crate::compiled::{Policy, Role};
use crate::limits::FailureReason;
use crate::record::{CallOutcome, Record, Recorder};
use crate::subject::{Subject, Subjects, fingerprint};

/// Most endpoints in one call, a port counting as one more: keeps what a policy must hold at once independent of the
/// cluster's size, and all that belongs to a call in the processor's caches.
const BATCH: usize = 10_000;

/// Asks policies, and remembers their last good answers.
pub struct Decider {
    catalog: Catalog,
    remembered: HashMap<ServiceId, Vec<Remembered>>,
    /// Who knows the load of endpoints.
    loads: Arc<dyn Loads + Send + Sync>,
    /// Services whose policies ask for it.
    load_users: BTreeSet<ServiceId>,
    ages: Ages,
    schedule: Schedule,
    /// Who gets records of calls.
    recorder: Option<Arc<dyn Recorder>>,
}

/// What a port's policies last said, and of what.
#[derive(Clone, Debug)]
struct Remembered {
    port: PortKey,
    input: u64,
    decision: Arc<Decision>,
    /// Seconds until they want another look; 0 for never.
    again: u32,
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
    /// The most memory one call had, in bytes.
    pub memory: u64,
}

impl fmt::Debug for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decider")
            .field("catalog", &self.catalog)
            .field("remembered", &self.remembered)
            .finish_non_exhaustive()
    }
}

/// A sync so far.
#[derive(Debug, Default)]
struct Progress {
    decisions: Decisions,
    /// By address: a built-in policy and another in its place have the same name.
    patience: BTreeMap<*const Policy, Patience>,
    /// Who wants to know of the calls.
    recorder: Option<Arc<dyn Recorder>>,
}

impl Progress {
    fn set(&mut self, port: PortKey, decision: Arc<Decision>) {
        self.decisions.ports.push((port, decision));
    }

    /// Whether somebody wants to know of calls that went well.
    fn wants_all(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.wants_all())
    }

    /// An answer in its own words, where somebody wants to know of those that are good.
    fn words<A: Clone + Into<CallOutcome>>(&self, answer: &Result<A, Problem>) -> Option<CallOutcome> {
        self.wants_all().then(|| answer.as_ref().ok().cloned().map(Into::into)).flatten()
    }

    /// Hands on what came of a call: an answer in its own `words`, where there are any, or a failure.
    fn record<A>(
        &self,
        checked: &Result<A, Problem>,
        words: Option<CallOutcome>,
        record: impl FnOnce(CallOutcome) -> Record,
    ) {
        let outcome = match checked {
            Ok(_) => words,
            Err(problem) => Some(problem.into()),
        };
        if let (Some(recorder), Some(outcome)) = (&self.recorder, outcome) {
            recorder.record(record(outcome));
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.decisions.failures.push(failure);
    }
}

impl Decider {
    /// A decider that knows those policies and remembers nothing.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            remembered: HashMap::new(),
            loads: Arc::new(NoLoads),
            load_users: BTreeSet::new(),
            ages: Ages::default(),
            schedule: Schedule::default(),
            recorder: None,
        }
    }

    /// From now on whoever wants to know gets a record of every call that fails.
    pub fn set_recorder(&mut self, recorder: Arc<dyn Recorder>) {
        self.recorder = Some(recorder);
    }

    /// From now on policies that ask for loads get those.
    pub fn set_loads(&mut self, loads: Arc<dyn Loads + Send + Sync>) {
        self.loads = loads;
    }

    /// Whether any policy that decides a Service asks for loads.
    #[must_use]
    pub fn wants_loads(&self) -> bool {
        !self.load_users.is_empty()
    }

    /// When the next Service is to be decided again although nothing changed; `None` when nobody asked for that.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.schedule.next()
    }

    /// The Services that are to be decided again by now, in ascending order.
    pub fn take_due(&mut self, now: Instant) -> Vec<ServiceId> {
        self.schedule.take(now)
    }

    /// The policies.
    pub fn catalog(&mut self) -> &mut Catalog {
        &mut self.catalog
    }

    /// The last good decision for a port.
    #[must_use]
    pub fn decision(&self, port: &PortKey) -> Option<&Arc<Decision>> {
        self.remembered(port).map(|remembered| &remembered.decision)
    }

    /// Decides every port of `services`, as of now. Ports whose input and policies are as they were keep their answer
    /// without a call, unless a policy asked for what changes by itself; ports that are gone are forgotten.
    pub fn decide(&mut self, store: &Store, services: &[ServiceId]) -> Decisions {
        self.decide_at(Instant::now(), store, services)
    }

    /// [`Decider::decide`] as of another time: a later one makes endpoints older.
    pub fn decide_at(&mut self, now: Instant, store: &Store, services: &[ServiceId]) -> Decisions {
        let loads = self.loads.clone();
        let mut ages = std::mem::take(&mut self.ages);
        let mut present = Present { now, loads: &*loads, ages: &mut ages, last: None };
        let decisions = self.decide_in(&mut present, store, services);
        self.ages = ages;
        for id in services {
            let remembered = self.remembered.get(id).into_iter().flatten();
            let soonest = remembered.map(|remembered| remembered.again).filter(|seconds| *seconds > 0).min();
            self.schedule.set(*id, now, soonest.unwrap_or(0));
        }
        decisions
    }

    fn decide_in(&mut self, present: &mut Present<'_>, store: &Store, services: &[ServiceId]) -> Decisions {
        let mut progress = Progress { recorder: self.recorder.clone(), ..Progress::default() };
        progress.decisions.ports.reserve(services.len());
        let mut batch = Subjects::new(store);
        let mut size = 0;
        for id in services {
            let ports = store.ports(*id);
            self.forget_others(*id, &ports);
            present.ages.forget(*id, |key| ports.iter().any(|port| port.key == *key));
            self.load_users.remove(id);
            let Some(service) = store.service(*id) else { continue };
            let named = store.names().get(service.policy);
            let (pair, unknown) = match self.catalog.pair(named) {
                Ok(pair) => (pair, None),
                Err(unknown) => (self.catalog.without_settings(), Some(unknown.to_string())),
            };
            let inputs = pair.inputs();
            if inputs.loads && !ports.is_empty() {
                self.load_users.insert(*id);
            }
            for port in ports {
                let input = fingerprint(store, service, &pair, &port);
                let key = port.key;
                // Whoever wants every call gets one even where the answer is known.
                let anew = inputs.change_by_themselves() || progress.wants_all();
                let same = |last: &&Remembered| last.input == input && !anew;
                let known = self.remembered(&key).filter(same);
                let known = known.map(|last| last.decision.clone());
                if let Some(message) = &unknown {
                    let problem = Problem::new(FailureReason::UnknownPolicy, message.clone());
                    progress.fail(failure(&service.key, &port, store.names(), &Arc::from(named), problem));
                }
                if let Some(decision) = known {
                    progress.set(key, decision);
                    continue;
                }
                let more = 1 + port.endpoints.len();
                if size > 0 && size + more > BATCH {
                    self.answer(std::mem::replace(&mut batch, Subjects::new(store)), &mut progress);
                    size = 0;
                }
                size += more;
                present.last = inputs.shares.then(|| self.decision(&key).cloned()).flatten();
                batch.list.push(Subject::new(store, service, pair.clone(), port, input, present));
            }
        }
        self.answer(batch, &mut progress);
        progress.decisions.ports.sort_unstable_by_key(|(key, _)| *key);
        progress.decisions
    }

    fn remembered(&self, port: &PortKey) -> Option<&Remembered> {
        self.remembered.get(&port.service)?.iter().find(|remembered| remembered.port == *port)
    }

    fn remember(&mut self, new: Remembered) {
        let of_service = self.remembered.entry(new.port.service).or_default();
        match of_service.iter_mut().find(|remembered| remembered.port == new.port) {
            Some(known) => *known = new,
            None => of_service.push(new),
        }
    }

    /// Forgets all ports of a Service but those.
    fn forget_others(&mut self, id: ServiceId, ports: &[Port]) {
        if ports.is_empty() {
            self.remembered.remove(&id);
        } else if let Some(of_service) = self.remembered.get_mut(&id) {
            of_service.retain(|remembered| ports.iter().any(|port| port.key == remembered.port));
        }
    }

    /// Asks for every subject: its own policies, then, where one fails and there is no last good answer, the built-in
    /// ones in the place of those that failed, then nobody.
    fn answer(&mut self, subjects: Subjects, progress: &mut Progress) {
        let subjects = &Arc::new(subjects);
        let all: Vec<usize> = (0..subjects.list.len()).collect();
        let mut eligible: Vec<Option<Eligible>> = all.iter().map(|_| None).collect();
        ask::traffic(subjects, &all, |subject| &subject.pair.traffic, &mut eligible, progress);
        let eligible = Arc::new(eligible);
        let rings = ask::rings(subjects, &all, |subject| &subject.pair.balancer, &eligible, progress);
        let mut helpless = Vec::new();
        for (at, rings) in rings.into_iter().enumerate() {
            let subject = &subjects.list[at];
            let key = subject.port.key;
            if let (Some(eligible), Some(rings)) = (&eligible[at], rings) {
                let Pair { traffic, balancer, .. } = &subject.pair;
                let origin = Origin::Policy { traffic: traffic.name.clone(), balancer: balancer.name.clone() };
                // Another look is of use only where something can have changed by itself.
                let changes = subject.pair.inputs().change_by_themselves();
                let again = if changes { again(eligible, &rings) } else { 0 };
                let decision = Arc::new(assemble(subject, eligible, rings, origin));
                self.remember(Remembered { port: key, input: subject.input, decision: decision.clone(), again });
                progress.set(key, decision);
            } else if let Some(decision) = self.last_good(subject) {
                progress.set(key, Arc::new(decision));
            } else {
                helpless.push(at);
            }
        }
        if helpless.is_empty() {
            return;
        }
        let mut eligible = Arc::into_inner(eligible).expect("no instance outlives its call");
        let undecided: Vec<usize> = helpless.iter().copied().filter(|at| eligible[*at].is_none()).collect();
        ask::traffic(
            subjects,
            &undecided,
            |subject| self.catalog.fallback(&subject.pair.traffic, Role::TrafficPolicy),
            &mut eligible,
            progress,
        );
        let eligible = Arc::new(eligible);
        let rings = ask::rings(
            subjects,
            &helpless,
            |subject| self.catalog.fallback(&subject.pair.balancer, Role::Balancer),
            &eligible,
            progress,
        );
        for (at, rings) in helpless.into_iter().zip(rings) {
            let subject = &subjects.list[at];
            let decision = match (&eligible[at], rings) {
                (Some(eligible), Some(rings)) => {
                    let fallback = self.catalog.fallback(&subject.pair.balancer, Role::Balancer);
                    assemble(subject, eligible, rings, Origin::Fallback(fallback.name.clone()))
                }
                _ => last_resort(&subject.port),
            };
            progress.set(subject.port.key, Arc::new(decision));
        }
    }

    /// The last good answer less the endpoints that cannot serve any more. `None` when that leaves a list empty that
    /// clients are sent to, or when it turns clients away who could be served by now.
    fn last_good(&self, subject: &Subject) -> Option<Decision> {
        let last = &self.remembered(&subject.port.key)?.decision;
        let endpoints = &subject.port.endpoints;
        let any_ready = subject.any_ready(Conditions::default());
        let usable = |endpoint: &Endpoint| {
            !any_ready || [Conditions::READY, Conditions::SERVING].iter().any(|flag| endpoint.conditions.has(*flag))
        };
        let can_serve = |backend: &Backend| {
            let place = |endpoint: &Endpoint| (endpoint.address, endpoint.port);
            let found = endpoints.binary_search_by_key(&(backend.address, backend.port), place);
            found.is_ok_and(|at| usable(&endpoints[at]))
        };
        let alive: Vec<bool> = last.backends.iter().map(can_serve).collect();
        let thin = |ring: &Ring| {
            let slots: Vec<u16> = ring.slots.iter().copied().filter(|slot| alive[usize::from(*slot)]).collect();
            (!slots.is_empty()).then(|| Ring { slots, ..ring.clone() })
        };
        let (cluster, local) = (last.cluster.as_ref().and_then(thin), last.local.as_ref().and_then(thin));
        let justified = |route, scope| match route {
            Route::Cluster => cluster.is_some(),
            Route::Local => local.is_some(),
            Route::Reject => !any_ready,
            Route::Drop => scope == TrafficPolicy::Local && !subject.any_ready(Conditions::LOCAL),
        };
        // Where there is no way in from outside, the external route repeats the internal one.
        let external = if subject.has_external { subject.external } else { subject.internal };
        (justified(last.internal, subject.internal) && justified(last.external, external)).then(|| Decision {
            cluster,
            local,
            origin: Origin::LastGood,
            ..(**last).clone()
        })
    }
}

/// Seconds until the first of those who decided a port wants another look; 0 for never.
fn again(eligible: &Eligible, rings: &Rings) -> u32 {
    let all = rings.iter().flatten().map(|spread| spread.again).chain([eligible.again]);
    all.filter(|seconds| *seconds > 0).min().unwrap_or(0)
}

/// The reasons of all who decided a port, each once.
fn reasons(eligible: &Eligible, rings: &Rings) -> Arc<str> {
    let mut reasons: Vec<&Arc<str>> = Vec::new();
    for reason in [&eligible.reason].into_iter().chain(rings.iter().flatten().map(|spread| &spread.reason)) {
        if !reason.is_empty() && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    match reasons[..] {
        [] => Arc::default(),
        [one] => one.clone(),
        _ => reasons.iter().map(|reason| &***reason).collect::<Vec<_>>().join("; ").into(),
    }
}

fn assemble(subject: &Subject, eligible: &Eligible, rings: Rings, origin: Origin) -> Decision {
    let reason = reasons(eligible, &rings);
    let [cluster, local] = rings.map(|spread| spread.map(|Spread { ring, .. }| ring));
    Decision {
        backends: subject.port.endpoints.iter().map(backend).collect(),
        cluster,
        local,
        internal: eligible.internal,
        external: eligible.external,
        short_cut: eligible.short_cut,
        reason,
        origin,
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

fn backend(endpoint: &Endpoint) -> Backend {
    Backend {
        address: endpoint.address,
        port: endpoint.port,
        id: endpoint.id,
        local: endpoint.conditions.has(Conditions::LOCAL),
    }
}

fn failure(service: &Arc<ObjectKey>, port: &Port, names: &Names, policy: &Arc<str>, problem: Problem) -> Failure {
    let name = names.get(port.key.name);
    let port = if name.is_empty() { port.spec.port.to_string() } else { name.to_owned() };
    let Problem { reason, message } = problem;
    Failure { service: service.clone(), port, policy: policy.clone(), reason, message }
}
