//! Who decides what, in which order, and what happens when somebody fails.

mod answer;
mod ask;
mod budget;
mod crew;
mod decisions;
mod keep;
mod memory;
mod part;
mod progress;
mod questions;
mod reload;
mod replay;
mod run;
mod stand_in;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_model::{
    ByNumber, Decision, Loads, Names, NoLoads, ObjectKey, Origin, Port, PortKey, ServiceId, ServicePort, Store,
};

use self::budget::{Budget, Overdrawn};
use self::crew::on_threads;
pub use self::decisions::{Attempt, Decisions, Failure, Stats};
use self::memory::Memory;
use self::part::{Desk, parts};
use self::progress::Shared;
pub use self::reload::Refused;
pub use self::replay::ReplayError;
use crate::again::{Ages, Schedule};
use crate::call::Problem;
use crate::catalog::Catalog;
use crate::compiled::Role;
use crate::quarantine::{Quarantine, Resting};
use crate::record::Recorder;
use crate::spent::Spent;

/// Most threads of one sync: whoever works on a node leaves most of it to others.
const MOST_THREADS: usize = 4;

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
    /// See [`Decider::ask_each`].
    each: bool,
}

impl fmt::Debug for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decider").field("catalog", &self.catalog).field("memory", &self.memory).finish_non_exhaustive()
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
            each: false,
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

    /// From now on policies are asked about every port that is decided, even where ports look alike to them and one answer
    /// would do for all: to see how they behave, and what their calls cost.
    pub fn ask_each(&mut self) {
        self.each = true;
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
        let decisions = self.decide_in(now, store, services);
        if !self.memory.may_want_looks() && self.schedule.is_empty() && self.quarantine.is_empty() {
            return decisions;
        }
        self.schedule.reserve(services.len());
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

    fn decide_in(&mut self, now: Instant, store: &Store, services: &[ServiceId]) -> Decisions {
        let shared = Shared::new(now, self.recorder.clone(), self.each, std::mem::take(&mut self.quarantine));
        let Self { catalog, memory, loads, ages, .. } = self;
        let desk = Desk { store, catalog, memory, loads: &**loads, ages, shared: &shared };
        // Records of all calls are for people: those come in order.
        let threads = if shared.wants_all() { 1 } else { MOST_THREADS };
        let done = on_threads(threads, parts(store, services), |part| desk.decide(part));
        // What is new is taken in when all are done: until then they look up what was.
        let (mut decisions, mut budget) = (Decisions::default(), Budget::default());
        memory.reserve(services.len());
        if done.iter().any(|part| !part.aged.is_empty()) {
            ages.reserve(services.len());
        }
        for id in services {
            self.load_users.remove(id);
        }
        for part in done {
            part.gone.iter().for_each(|port| memory.forget(port));
            part.remembered.into_iter().for_each(|remembered| memory.set(remembered));
            part.aged.into_iter().for_each(|(service, ready)| ages.set(service, ready));
            self.load_users.extend(part.load_users);
            budget.absorb(part.budget);
            decisions.absorb(part.decisions);
        }
        decisions.ports.sort_unstable_by_key(|(key, _)| *key);
        (self.quarantine, self.spent) = shared.end();
        self.keep_to(budget, store, now, &mut decisions);
        decisions.rests.extend(self.quarantine.settle(now));
        decisions
    }

    /// Takes back what policies said that would take too much away, and has them rest.
    fn keep_to(&mut self, budget: Budget, store: &Store, now: Instant, decisions: &mut Decisions) {
        let overdrawn = budget.overdrawn(self.max_removed_percent, &self.memory.all());
        for Overdrawn { policy, before, problem } in overdrawn {
            decisions.rests.extend(self.quarantine.rest_as_a_whole(&policy, &problem, now));
            for (last, input) in before {
                let Some(service) = store.service(last.port.service) else { continue };
                let role = if policy.plays(Role::TrafficPolicy) { Role::TrafficPolicy } else { Role::Balancer };
                self.quarantine.denied(last.port, role, &policy, input, &problem, now);
                let is_it = |port: &&ServicePort| (port.name, port.protocol) == (last.port.name, last.port.protocol);
                let number = service.ports.iter().find(is_it).map_or(0, |port| port.port);
                let name = store.names().get(last.port.name);
                decisions.failures.push(Failure {
                    service: service.key.clone(),
                    port: if name.is_empty() { number.to_string() } else { name.to_owned() },
                    policy: policy.name.clone(),
                    reason: problem.reason,
                    message: problem.message.clone(),
                    attempt: Attempt::None,
                });
                if let Ok(at) = decisions.ports.binary_search_by_key(&last.port, |(key, _)| *key) {
                    let kept = Decision { origin: Origin::LastGood, ..(*last.decision).clone() };
                    decisions.ports[at].1 = Arc::new(kept);
                }
                self.memory.set(last);
            }
        }
    }
}

fn failure(service: &Arc<ObjectKey>, port: &Port, names: &Names, policy: &Arc<str>, problem: Problem) -> Failure {
    let name = names.get(port.key.name);
    let port = if name.is_empty() { port.spec.port.to_string() } else { name.to_owned() };
    let Problem { reason, message } = problem;
    Failure { service: service.clone(), port, policy: policy.clone(), reason, message, attempt: Attempt::First }
}
