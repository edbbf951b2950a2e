//! Who decides what, in which order, and what happens when somebody fails.

mod ask;
mod budget;
mod decisions;
mod keep;
mod memory;
mod reload;
mod replay;
mod run;
mod stand_in;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_model::{
    ByNumber, Decision, Loads, NameId, Names, NoLoads, ObjectKey, Origin, Port, PortKey, ServiceId, ServicePort, Store,
};

use self::budget::{Budget, Overdrawn};
pub use self::decisions::{Attempt, Decisions, Failure, Stats};
use self::keep::keep_slots;
use self::memory::{Memory, Remembered};
pub use self::reload::Refused;
pub use self::replay::ReplayError;
use self::run::Miss;
use self::stand_in::{again, assemble, last_good, last_resort};
use crate::about::Inputs;
use crate::again::{Ages, Present, Schedule};
use crate::answer::Eligible;
use crate::call::Problem;
use crate::catalog::{Catalog, Pair};
use crate::compiled::Role;
use crate::limits::FailureReason;
use crate::quarantine::{Quarantine, Resting};
use crate::record::{CallOutcome, Record, Recorder};
use crate::spent::Spent;
use crate::subject::{Fingerprint, Subject, Subjects};

/// Most endpoints in one call, a port counting as one more: keeps what a policy must hold at once independent of the
/// cluster's size, and all that belongs to a call in the processor's caches.
const BATCH: usize = 10_000;

/// Asks policies, and remembers their last good answers.
pub struct Decider {
    catalog: Catalog,
    memory: Memory,
    /// Who knows the load of endpoints.
    loads: Arc<dyn Loads + Send + Sync>,
    /// Services whose policies ask for it.
    load_users: HashSet<ServiceId, ByNumber>,
    ages: Ages,
    schedule: Schedule,
    quarantine: Quarantine,
    /// Percent of its endpoints a policy may take out of service in one sync.
    max_removed_percent: u8,
    /// Who gets records of calls.
    recorder: Option<Arc<dyn Recorder>>,
    /// What [`Decider::tidy`] lets go.
    spent: Spent,
}

impl fmt::Debug for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decider").field("catalog", &self.catalog).field("memory", &self.memory).finish_non_exhaustive()
    }
}

/// A sync so far.
#[derive(Debug)]
struct Progress {
    now: Instant,
    decisions: Decisions,
    quarantine: Quarantine,
    budget: Budget,
    /// Who wants to know of the calls.
    recorder: Option<Arc<dyn Recorder>>,
    spent: Spent,
}

impl Progress {
    /// Nothing is asked yet.
    fn new(now: Instant, recorder: Option<Arc<dyn Recorder>>) -> Self {
        let (decisions, quarantine, budget) = (Decisions::default(), Quarantine::default(), Budget::default());
        Self { now, decisions, quarantine, budget, recorder, spent: Spent::default() }
    }

    fn set(&mut self, port: PortKey, decision: Arc<Decision>) {
        self.decisions.ports.push((port, decision));
    }

    /// Whether somebody wants to know of calls that went well.
    fn wants_all(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.wants_all())
    }

    /// An answer in its own words, where somebody wants to know of those that are good.
    fn words<A: Clone + Into<CallOutcome>>(&self, answer: &Result<A, Miss>) -> Option<CallOutcome> {
        self.wants_all().then(|| answer.as_ref().ok().cloned().map(Into::into)).flatten()
    }

    /// Hands on what came of a call: an answer in its own `words`, where there are any, or a failure.
    fn record<A>(
        &self,
        checked: &Result<A, Miss>,
        words: Option<CallOutcome>,
        record: impl FnOnce(CallOutcome) -> Record,
    ) {
        let outcome = match checked {
            Ok(_) => words,
            Err(Miss { problem, asked }) => asked.then(|| problem.into()),
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
            memory: Memory::default(),
            loads: Arc::new(NoLoads),
            load_users: HashSet::default(),
            ages: Ages::default(),
            schedule: Schedule::default(),
            quarantine: Quarantine::default(),
            max_removed_percent: budget::DEFAULT_PERCENT,
            recorder: None,
            spent: Spent::default(),
        }
    }

    /// From now on answers of a policy that would take more than so many percent of the endpoints it serves out of
    /// service in one sync are refused, where nothing else is set for the policy itself. 100 lets policies do as they
    /// like. What the cluster takes away does not count, and a handful of endpoints may always go.
    pub fn set_max_removed_percent(&mut self, percent: u8) {
        self.max_removed_percent = percent;
    }

    /// Policies that are not asked for now: those that rest as a whole, then port by port.
    #[must_use]
    pub fn resting(&self) -> Vec<Resting> {
        self.quarantine.list(Instant::now())
    }

    /// How many ports each policy is not asked about for now.
    #[must_use]
    pub fn resting_ports(&self) -> BTreeMap<Arc<str>, u64> {
        self.quarantine.counts()
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
        self.memory.of_port(port).map(|remembered| &remembered.decision)
    }

    /// Decides every port of `services`, as of now. Ports whose input and policies are as they were keep their answer
    /// without a call, unless a policy asked for what changes by itself; ports that are gone are forgotten.
    pub fn decide(&mut self, store: &Store, services: &[ServiceId]) -> Decisions {
        self.decide_at(Instant::now(), store, services)
    }

    /// Gives back the memory the calls of the last [`Decider::decide`] used: for when nobody waits.
    pub fn tidy(&mut self) {
        self.spent.clear();
    }

    /// [`Decider::decide`] as of another time: a later one makes endpoints older.
    pub fn decide_at(&mut self, now: Instant, store: &Store, services: &[ServiceId]) -> Decisions {
        let loads = self.loads.clone();
        let mut ages = std::mem::take(&mut self.ages);
        let mut present = Present { now, loads: &*loads, ages: &mut ages, last: None };
        let decisions = self.decide_in(&mut present, store, services);
        self.ages = ages;
        if !self.memory.may_want_looks() && self.schedule.is_empty() && self.quarantine.is_empty() {
            return decisions;
        }
        for id in services {
            let remembered = self.memory.of_service(*id).iter();
            // A policy that rests gets no other look before its time.
            let remembered = remembered.filter(|remembered| !self.quarantine.holds(&remembered.port));
            let again = remembered.map(|remembered| remembered.again).filter(|seconds| *seconds > 0).min();
            let again = again.map(|seconds| now + Duration::from_secs(u64::from(seconds)));
            self.schedule.set(*id, again.into_iter().chain(self.quarantine.due(*id)).min());
        }
        decisions
    }

    fn decide_in(&mut self, present: &mut Present<'_>, store: &Store, services: &[ServiceId]) -> Decisions {
        let mut progress = Progress::new(present.now, self.recorder.clone());
        std::mem::swap(&mut progress.quarantine, &mut self.quarantine);
        progress.decisions.ports.reserve(services.len());
        self.memory.reserve(services.len());
        // Subjects are large: a vector that grows copies all it holds each time.
        let room = services.len().min(BATCH / 10);
        let mut batch = Subjects::new(store, room);
        let mut size = 0;
        let mut deciders: Option<Deciders> = None;
        for id in services {
            let ports = store.ports(*id);
            self.memory.keep(*id, &ports);
            present.ages.forget(*id, |key| ports.iter().any(|port| port.key == *key));
            self.load_users.remove(id);
            let Some(service) = store.service(*id) else {
                progress.quarantine.forget(*id, |_, _| false);
                continue;
            };
            // Neighbours often ask for the same.
            if deciders.as_ref().is_none_or(|last| last.named != service.policy) {
                deciders = Some(Deciders::of(&self.catalog, store, service.policy));
            }
            let Some(Deciders { pair, inputs, unknown, .. }) = &deciders else { continue };
            progress
                .quarantine
                .forget(*id, |key, version| self.asks(pair, version) && ports.iter().any(|port| port.key == *key));
            if inputs.loads && !ports.is_empty() {
                self.load_users.insert(*id);
            }
            for port in ports {
                let print = Fingerprint::of(store, service, pair, &port);
                let key = port.key;
                // Whoever wants every call gets one even where the answer is known.
                let anew = inputs.change_by_themselves() || progress.wants_all();
                let same = |last: &&Remembered| last.input == print.input && !anew;
                let known = self.memory.of_port(&key).filter(same);
                let known = known.map(|last| last.decision.clone());
                if let Some(message) = unknown {
                    let named = store.names().get(service.policy);
                    let problem = Problem::new(FailureReason::UnknownPolicy, message.clone());
                    progress.fail(failure(&service.key, &port, store.names(), &Arc::from(named), problem));
                }
                if let Some(decision) = known {
                    progress.set(key, decision);
                    continue;
                }
                let more = 1 + port.endpoints.len();
                if size > 0 && size + more > BATCH {
                    self.answer(std::mem::replace(&mut batch, Subjects::new(store, room)), &mut progress);
                    size = 0;
                }
                size += more;
                present.last = inputs.shares.then(|| self.decision(&key).cloned()).flatten();
                batch.list.push(Subject::new(store, service, pair.clone(), port, print, present));
            }
        }
        self.answer(batch, &mut progress);
        progress.decisions.ports.sort_unstable_by_key(|(key, _)| *key);
        self.keep_to_budget(store, &mut progress);
        progress.decisions.rests.extend(progress.quarantine.settle(present.now));
        self.quarantine = progress.quarantine;
        self.spent = progress.spent;
        progress.decisions
    }

    /// Whether that version of a policy may be asked where `pair` decides.
    fn asks(&self, pair: &Pair, version: u64) -> bool {
        [&pair.traffic, &pair.balancer].iter().any(|policy| policy.version() == version)
            || self.catalog.is_fallback(pair, version)
    }

    /// Takes back what policies said that would take too much away, and has them rest.
    fn keep_to_budget(&mut self, store: &Store, progress: &mut Progress) {
        let budget = std::mem::take(&mut progress.budget);
        let overdrawn = budget.overdrawn(self.max_removed_percent, &self.memory.all());
        for Overdrawn { policy, before, problem } in overdrawn {
            let now = progress.now;
            progress
                .quarantine
                .rest_as_a_whole(&policy, &problem, now)
                .into_iter()
                .for_each(|rest| progress.decisions.rests.push(rest));
            for (last, input) in before {
                let Some(service) = store.service(last.port.service) else { continue };
                let role = if policy.plays(Role::TrafficPolicy) { Role::TrafficPolicy } else { Role::Balancer };
                progress.quarantine.denied(last.port, role, &policy, input, &problem, now);
                let is_it = |port: &&ServicePort| (port.name, port.protocol) == (last.port.name, last.port.protocol);
                let number = service.ports.iter().find(is_it).map_or(0, |port| port.port);
                let name = store.names().get(last.port.name);
                progress.fail(Failure {
                    service: service.key.clone(),
                    port: if name.is_empty() { number.to_string() } else { name.to_owned() },
                    policy: policy.name.clone(),
                    reason: problem.reason,
                    message: problem.message.clone(),
                    attempt: Attempt::None,
                });
                if let Ok(at) = progress.decisions.ports.binary_search_by_key(&last.port, |(key, _)| *key) {
                    let kept = Decision { origin: Origin::LastGood, ..(*last.decision).clone() };
                    progress.decisions.ports[at].1 = Arc::new(kept);
                }
                self.memory.set(last);
            }
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
                let Pair { traffic, balancer, .. } = &*subject.pair;
                let origin = Origin::Policy { traffic: traffic.name.clone(), balancer: balancer.name.clone() };
                // Another look is of use only where something can have changed by itself.
                let changes = subject.pair.inputs().change_by_themselves();
                let again = if changes { again(eligible, &rings) } else { 0 };
                let mut decision = assemble(subject, eligible, rings, origin);
                let before = self.memory.of_port(&key);
                if let Some(before) = before.filter(|_| subject.pair.balancer.inputs().shares) {
                    keep_slots(&before.decision, &mut decision);
                }
                // Who asks again and again mostly hears the same.
                let same = before.filter(|before| *before.decision == decision);
                let decision = same.map_or_else(|| Arc::new(decision), |before| before.decision.clone());
                if let Some(before) = before {
                    budget::note(progress, subject, before, eligible, &decision);
                }
                let (cluster, input) = (subject.cluster, subject.input);
                self.memory.set(Remembered { port: key, cluster, input, decision: decision.clone(), again });
                progress.set(key, decision);
            } else if let Some(decision) = self.memory.of_port(&key).and_then(|last| last_good(&last.decision, subject))
            {
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
}

/// Who decides where Services ask for a policy of that name.
struct Deciders {
    named: NameId,
    pair: Arc<Pair>,
    inputs: Inputs,
    /// Why the policy that is asked for is not among them.
    unknown: Option<String>,
}

impl Deciders {
    fn of(catalog: &Catalog, store: &Store, named: NameId) -> Self {
        let (pair, unknown) = match catalog.pair(store.names().get(named)) {
            Ok(pair) => (pair, None),
            Err(unknown) => (catalog.without_settings(), Some(unknown.to_string())),
        };
        Self { named, inputs: pair.inputs(), pair: Arc::new(pair), unknown }
    }
}

fn failure(service: &Arc<ObjectKey>, port: &Port, names: &Names, policy: &Arc<str>, problem: Problem) -> Failure {
    let name = names.get(port.key.name);
    let port = if name.is_empty() { port.spec.port.to_string() } else { name.to_owned() };
    let Problem { reason, message } = problem;
    Failure { service: service.clone(), port, policy: policy.clone(), reason, message, attempt: Attempt::First }
}
