//! How far a sync is, on each thread and for all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use wasmtime::Store;
use weir_model::{Decision, PortKey, ServiceId};

use super::budget::Budget;
use super::crew::lock;
use super::decisions::{Decisions, Failure};
use super::memory::Remembered;
use super::run::Miss;
use crate::again::Ready;
use crate::host::HostState;
use crate::quarantine::Quarantine;
use crate::record::{CallOutcome, Record, Recorder};
use crate::spent::Spent;

/// What all threads of a sync have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// The moment of the sync.
    pub(super) now: Instant,
    /// Who wants to know of the calls.
    recorder: Option<Arc<dyn Recorder>>,
    /// See [`super::Decider::ask_each`].
    each: bool,
    quarantine: Mutex<Quarantine>,
    spent: Mutex<Spent>,
}

impl Shared {
    pub(super) fn new(now: Instant, recorder: Option<Arc<dyn Recorder>>, each: bool, quarantine: Quarantine) -> Self {
        Self { now, recorder, each, quarantine: Mutex::new(quarantine), spent: Mutex::default() }
    }

    /// Who is at rest. Nobody may hold this while a policy runs.
    pub(super) fn quarantine(&self) -> MutexGuard<'_, Quarantine> {
        lock(&self.quarantine)
    }

    /// Takes in an instance that has done its work.
    pub(super) fn spend(&self, instance: Option<Store<HostState>>) {
        let too_many = lock(&self.spent).take(instance);
        // It takes its time to go.
        drop(too_many);
    }

    /// Whether somebody wants to know of calls that went well.
    pub(super) fn wants_all(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.wants_all())
    }

    /// Whether policies are asked about each port, however alike: for those who look on.
    pub(super) fn asks_each(&self) -> bool {
        self.each || self.wants_all()
    }

    /// Ends the sync: who is at rest, and what is still to be let go.
    pub(super) fn end(self) -> (Quarantine, Spent) {
        let Self { quarantine, spent, .. } = self;
        (
            quarantine.into_inner().unwrap_or_else(PoisonError::into_inner),
            spent.into_inner().unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// What came of a part of a sync.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    pub(super) shared: &'a Shared,
    pub(super) decisions: Decisions,
    pub(super) budget: Budget,
    /// Good answers, to be kept.
    pub(super) remembered: Vec<Remembered>,
    /// Ports that are known and not there any more.
    pub(super) gone: Vec<PortKey>,
    /// Services whose policies ask for loads.
    pub(super) load_users: Vec<ServiceId>,
    /// Since when the endpoints of Services are ready, where policies ask for that or did.
    pub(super) aged: Vec<(ServiceId, Vec<(PortKey, Ready)>)>,
}

impl<'a> Progress<'a> {
    /// Nothing is asked yet.
    pub(super) fn new(shared: &'a Shared) -> Self {
        let (decisions, budget) = (Decisions::default(), Budget::default());
        let (remembered, gone, load_users, aged) = Default::default();
        Self { shared, decisions, budget, remembered, gone, load_users, aged }
    }

    pub(super) fn set(&mut self, port: PortKey, decision: Arc<Decision>) {
        self.decisions.ports.push((port, decision));
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        self.decisions.failures.push(failure);
    }

    /// Hands on what came of a call: an answer in its own `words`, where there are any, or a failure.
    pub(super) fn record<A>(
        &self,
        checked: &Result<A, Miss>,
        words: Option<Box<CallOutcome>>,
        record: impl FnOnce(CallOutcome) -> Record,
    ) {
        let outcome = match checked {
            Ok(_) => words.map(|words| *words),
            Err(Miss { problem, asked }) => asked.then(|| problem.into()),
        };
        if let (Some(recorder), Some(outcome)) = (&self.shared.recorder, outcome) {
            recorder.record(record(outcome));
        }
    }
}
