//! Weir on one page: source → model → policy → plan → nft → netlink, as code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use weir_model::{Decision, Event, Family, Loads, ObjectKey, Origin, PortKey, ServiceId, Store, Trigger};
use weir_nft::{CommitError, Dataplane, DumpError, Installed, Op, Ruleset, Staged, Transaction, diff};
use weir_plan::{Claims, NodeFacts, PortPlan, Rejection};
use weir_policy::{
    Attempt, Decider, Decisions, DecisionsDigest, Failure, Policy, Record, Recorder, Refused, Resting, Stats,
};

use crate::follow::Synced;

/// The plans of some ports; `None` where a port goes away.
type Changes = Vec<(PortKey, Option<PortPlan>)>;

/// The stages, and what they remember between two syncs.
pub struct Pipeline<D> {
    store: Store,
    claims: Claims,
    decider: Decider,
    installed: Installed,
    dataplane: D,
    /// Whether `installed` is known to be what the kernel holds. Not so at start, and after a commit whose
    /// outcome is unknown; then the next sync compares with a dump.
    trusted: bool,
    /// Facts about the node that have not reached the kernel.
    facts: Option<NodeFacts>,
    /// Services whose change has not reached the kernel.
    pending: BTreeSet<ServiceId>,
    /// Ports the kernel refused, and what it said. Tried again when their Service changes.
    quarantined: BTreeMap<PortKey, String>,
    /// What is to be told of once the kernel has it.
    news: News,
    /// The decision each port lives by, for `weir explain`.
    decisions: BTreeMap<PortKey, Arc<Decision>>,
    /// All of `decisions` in one number.
    digest: DecisionsDigest,
}

/// What happened since the last sync that reached the kernel.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// When the changes of endpoints began.
    pub triggers: Vec<Trigger>,
    /// What the policies cost, policy by policy.
    pub policies: BTreeMap<Arc<str>, Stats>,
    /// Ports whose policies gave no answer, by what stood in: `last-good`, `fallback` or `last-resort`.
    pub fallbacks: BTreeMap<&'static str, u64>,
}

/// What one sync did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Services looked at, those that are gone included.
    pub services: Vec<ServiceId>,
    /// Ports whose plan changed.
    pub ports: usize,
    /// What was sent; empty when nothing had to change.
    pub transaction: Transaction,
    /// Policies that failed, port by port.
    pub failures: Vec<Failure>,
    /// Policies that are not asked for a while from now on.
    pub rests: Vec<Resting>,
    /// Addresses Services did not get.
    pub rejections: Vec<Rejection>,
    /// Time each stage took.
    pub timings: Timings,
    /// For metrics: this sync, and those before it that failed.
    pub news: News,
}

/// Time each stage of a sync took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Asking the policies.
    pub decide: Duration,
    /// Planning the ports.
    pub plan: Duration,
    /// Compiling, diffing and committing.
    pub commit: Duration,
}

/// Why a sync did not reach the kernel. What it would have done is tried again with the next one.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The rules could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The present rules could not be read.
    #[error(transparent)]
    Dump(#[from] DumpError),
}

impl<D: Dataplane> Pipeline<D> {
    /// A pipeline that has seen nothing yet and writes to `dataplane`.
    pub fn new(store: Store, decider: Decider, installed: Installed, dataplane: D) -> Self {
        Self {
            store,
            claims: Claims::default(),
            decider,
            installed,
            dataplane,
            trusted: false,
            facts: None,
            pending: BTreeSet::new(),
            news: News::default(),
            quarantined: BTreeMap::new(),
            decisions: BTreeMap::new(),
            digest: DecisionsDigest::default(),
        }
    }

    /// Takes the tables over, or creates them without a rule: from then on no other process can change them.
    ///
    /// # Errors
    /// When another process has them, or they cannot be written at all.
    pub fn claim(&mut self) -> Result<(), CommitError> {
        let ops = Family::ALL.map(Op::AddTable).to_vec();
        self.dataplane.commit(&Transaction { ops }).map(drop)
    }

    /// Takes in one event; nothing reaches the kernel before [`Pipeline::sync`].
    pub fn apply(&mut self, event: Event) {
        self.store.apply(event);
    }

    /// Takes in new facts about this node; nothing reaches the kernel before [`Pipeline::sync`]. Every port is
    /// planned anew, because plans depend on the facts.
    pub fn set_facts(&mut self, facts: NodeFacts) {
        if *self.facts() != facts {
            self.pending.extend(self.store.service_ids());
            self.facts = Some(facts);
        }
    }

    /// Looks whether the kernel may hold something else than what was programmed; if so, the next [`Pipeline::sync`]
    /// compares all of it, and mends it.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn audit(&mut self) -> std::io::Result<bool> {
        let untouched = self.dataplane.is_untouched()?;
        self.trusted &= untouched;
        Ok(untouched)
    }

    /// Tries a new policy, or a new version of one, on the Services it decides, and lets it decide them from the next
    /// [`Pipeline::sync`] on. Returns how many they are.
    ///
    /// # Errors
    /// When it fails where the version before it does well, or everywhere: nothing changes then.
    pub fn set_policy(&mut self, policy: Policy) -> Result<usize, Refused> {
        let users = self.decider.replace(&self.store, policy)?;
        let count = users.len();
        self.pending.extend(users);
        Ok(count)
    }

    /// Lets the policy of that name go. The Services it decided get the node's defaults with the next
    /// [`Pipeline::sync`]. Returns how many they are.
    pub fn withdraw_policy(&mut self, name: &str) -> usize {
        let users = self.decider.withdraw(&self.store, name);
        let count = users.len();
        self.pending.extend(users);
        count
    }

    /// Lets the policy of that name rest, whether it is there or not: the Services that ask for it get the node's
    /// defaults with the next [`Pipeline::sync`], and nobody is told that it is missing. Returns how many they are.
    pub fn switch_policy_off(&mut self, name: &str) -> usize {
        let users = self.decider.switch_off(&self.store, name);
        let count = users.len();
        self.pending.extend(users);
        count
    }

    /// From now on whoever wants to know gets a record of every call to a policy that fails.
    pub fn set_recorder(&mut self, recorder: Arc<dyn Recorder>) {
        self.decider.set_recorder(recorder);
    }

    /// Asks the policies about all ports of a Service anew, and returns what was asked and answered; nothing if there
    /// is no such Service.
    pub fn records(&mut self, service: &ObjectKey) -> Vec<Record> {
        let id = self.store.find(service);
        self.decider.records(&self.store, id.as_slice())
    }

    /// From now on policies that ask for the load of endpoints get it from there.
    pub fn set_loads(&mut self, loads: Arc<dyn Loads + Send + Sync>) {
        self.decider.set_loads(loads);
    }

    /// Whether a policy that decides a Service asks for the load of endpoints.
    #[must_use]
    pub fn wants_loads(&self) -> bool {
        self.decider.wants_loads()
    }

    /// When a policy wants another look at a Service although nothing changed: time for a [`Pipeline::sync`].
    #[must_use]
    pub fn next_look(&self) -> Option<Instant> {
        self.decider.next_due()
    }

    /// How many Services have changes that have not reached the kernel.
    #[must_use]
    pub fn pending(&self) -> usize {
        // Either may hold Services the other holds as well; counting them twice until the next sync does no harm.
        self.pending.len() + self.store.dirty_count()
    }

    /// The decision every port lives by.
    pub fn decisions(&self) -> impl Iterator<Item = (&PortKey, &Decision)> + '_ {
        self.decisions.iter().map(|(port, decision)| (port, &**decision))
    }

    /// All decisions in one number: see [`DecisionsDigest`].
    #[must_use]
    pub fn decisions_digest(&self) -> u64 {
        self.digest.value()
    }

    /// Who decides.
    #[must_use]
    pub fn decider(&self) -> &Decider {
        &self.decider
    }

    /// The facts that hold, in the kernel or with the next sync.
    fn facts(&self) -> &NodeFacts {
        self.facts.as_ref().unwrap_or(self.installed.node())
    }

    /// Brings the kernel in line with everything applied so far.
    ///
    /// # Errors
    /// See [`SyncError`]; the kernel then holds what it held before, and the next sync tries again.
    pub fn sync(&mut self) -> Result<Outcome, SyncError> {
        let mut dirty = self.store.take_dirty();
        dirty.extend(std::mem::take(&mut self.pending));
        dirty.extend(self.decider.take_due(Instant::now()));
        dirty.sort_unstable();
        dirty.dedup();
        let services = self.claims.update(&self.store, &dirty);

        let start = Instant::now();
        let decisions = self.decider.decide(&self.store, &services);
        let decide = start.elapsed();
        self.news.note(self.store.take_triggers(), &decisions);

        let start = Instant::now();
        let mut rejections = Vec::new();
        let mut decisions = decisions;
        let changes = self.plan(&services, std::mem::take(&mut decisions.ports), &mut rejections);
        let plan = start.elapsed();

        let start = Instant::now();
        let ports = changes.len();
        match self.commit(changes) {
            Ok(transaction) => {
                let timings = Timings { decide, plan, commit: start.elapsed() };
                let Decisions { failures, rests, .. } = decisions;
                let news = std::mem::take(&mut self.news);
                Ok(Outcome { services, ports, transaction, failures, rests, rejections, timings, news })
            }
            Err(error) => {
                self.pending.extend(services);
                Err(error)
            }
        }
    }

    /// Does what a sync leaves for when nobody waits: gives memory of the policies back.
    pub fn tidy(&mut self) {
        self.decider.tidy();
    }

    /// Plans the ports that were decided, and the end of those that were not: they are gone.
    fn plan(
        &mut self,
        services: &[ServiceId],
        decided: Vec<(PortKey, Arc<Decision>)>,
        rejections: &mut Vec<Rejection>,
    ) -> Changes {
        let mut changes = Changes::new();
        for id in services {
            let gone = |port: &PortKey| decided.binary_search_by_key(port, |(key, _)| *key).is_err();
            changes.extend(self.installed.ports_of(*id).filter(gone).map(|port| (port, None)));
        }
        for (port, _) in &changes {
            self.decisions.remove(port);
            self.digest.remove(port);
        }
        for (port, decision) in decided {
            self.quarantined.remove(&port);
            let plan = weir_plan::build(&self.store, &self.claims, self.facts(), port, &decision, rejections);
            if self.installed.plan(&port) != plan.as_ref() {
                changes.push((port, plan));
            }
            let known = self.decisions.get(&port).is_some_and(|known| Arc::ptr_eq(known, &decision));
            if let Some(service) = self.store.service(port.service).filter(|_| !known) {
                self.digest.set(&service.key, self.store.names().get(port.name), port, &decision);
            }
            self.decisions.insert(port, decision);
        }
        changes
    }

    /// Compiles, diffs and commits. A port the kernel refuses is quarantined, alone.
    fn commit(&mut self, mut changes: Changes) -> Result<Transaction, SyncError> {
        loop {
            let Staged { transaction, before } = self.stage(changes)?;
            let error = match self.dataplane.commit(&transaction) {
                Ok(_) => {
                    self.trusted = true;
                    return Ok(transaction);
                }
                Err(error) => error,
            };
            // Whatever went wrong, the next attempt starts from what the kernel says.
            self.trusted = false;
            if let CommitError::Unknown(why) = error {
                warn!(%why, "commit of unknown outcome; comparing with the kernel");
                changes = Changes::new();
                continue;
            }
            let CommitError::Rejected { op, element, what, error } = error else {
                self.installed.revert(before);
                return Err(error.into());
            };
            let culprits = transaction.ops.get(op).map(|op| self.installed.wanting(op, element)).unwrap_or_default();
            changes = self.installed.revert(before);
            if culprits.is_empty() {
                return Err(CommitError::Rejected { op, element, what, error }.into());
            }
            for port in culprits {
                let plan = changes.iter().find(|(key, _)| *key == port).and_then(|(_, plan)| plan.as_ref());
                warn!(port = plan.map_or("", |plan| &plan.name), %what, %error, "the kernel refuses this port; it is left out");
                self.quarantined.insert(port, format!("{what}: {error}"));
                changes.retain(|(key, _)| *key != port);
                changes.push((port, None));
            }
        }
    }

    /// What must be sent for `changes`: the difference to the state we know, or to what the kernel says.
    fn stage(&mut self, changes: Changes) -> Result<Staged, SyncError> {
        match (self.trusted, self.facts.take()) {
            (true, None) => return Ok(self.installed.stage(changes)),
            (true, Some(facts)) => {
                let present = self.installed.ruleset();
                self.installed.set_node(facts);
                let before = self.installed.load(changes);
                return Ok(Staged { transaction: diff(&present, &self.installed.ruleset()), before });
            }
            (false, Some(facts)) => self.installed.set_node(facts),
            (false, None) => {}
        }
        // From here on nobody else changes what is about to be compared.
        self.claim()?;
        let before = self.installed.load(changes);
        let transaction = match self.dataplane.dump() {
            Ok(present) => {
                self.installed.adopt_sizes(&present);
                diff(&present, &self.installed.ruleset())
            }
            Err(DumpError::Foreign { what }) => {
                warn!(%what, "the table holds something else; building it anew");
                self.rebuild()
            }
            Err(error) => {
                self.installed.revert(before);
                return Err(error.into());
            }
        };
        Ok(Staged { transaction, before })
    }

    /// Removes whatever is in Weir's tables and builds them anew, in one batch.
    fn rebuild(&self) -> Transaction {
        let wanted = self.installed.ruleset();
        let mut ops = Vec::new();
        for family in wanted.tables.keys() {
            // Deleting a table that may not exist: create it first.
            ops.extend([Op::AddTable(*family), Op::DelTable(*family)]);
        }
        ops.extend(diff(&Ruleset::default(), &wanted).ops);
        Transaction { ops }
    }

    /// The state of the cluster.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What `outcome` means to those who follow the Services.
    #[must_use]
    pub fn synced<'a>(&'a self, outcome: &'a Outcome) -> Synced<'a> {
        let Outcome { services, transaction, .. } = outcome;
        Synced { store: &self.store, installed: &self.installed, services, transaction }
    }

    /// What is programmed.
    pub fn installed(&self) -> &Installed {
        &self.installed
    }

    /// The last decision for a port.
    pub fn decision(&self, port: &PortKey) -> Option<&Decision> {
        self.decisions.get(port).map(|decision| &**decision)
    }

    /// Ports the kernel refused, and what it said.
    pub fn quarantined(&self) -> &BTreeMap<PortKey, String> {
        &self.quarantined
    }

    /// Where the rules go.
    pub fn dataplane(&mut self) -> &mut D {
        &mut self.dataplane
    }
}

impl News {
    fn note(&mut self, triggers: Vec<Trigger>, decisions: &Decisions) {
        self.triggers.extend(triggers);
        for (policy, stats) in &decisions.stats {
            self.policies.entry(policy.clone()).or_default().add(*stats);
        }
        for (_, decision) in &decisions.ports {
            let stand_in = match decision.origin {
                Origin::Policy { .. } => continue,
                Origin::LastGood => "last-good",
                Origin::Fallback(_) => "fallback",
                Origin::LastResort => "last-resort",
            };
            *self.fallbacks.entry(stand_in).or_default() += 1;
        }
    }
}

impl Outcome {
    /// Logs what the operator should know.
    pub fn log(&self) {
        self.log_problems();
        if !self.transaction.is_empty() {
            let Timings { decide, plan, commit } = self.timings;
            info!(
                services = self.services.len(),
                ports = self.ports,
                operations = self.transaction.ops.len(),
                ?decide,
                ?plan,
                ?commit,
                "synced"
            );
        }
    }

    /// Logs what went wrong for single ports.
    pub fn log_problems(&self) {
        for rest in &self.rests {
            let Resting { policy, reason, message, .. } = rest;
            warn!(%policy, %reason, "policy rests; last good decisions and stand-ins serve: {message}");
        }
        // What was told once is not told with each attempt.
        for failure in self.failures.iter().filter(|failure| failure.attempt == Attempt::First) {
            warn!(service = %failure.service, port = %failure.port, policy = %failure.policy, reason = %failure.reason, "{}", failure.message);
        }
        for rejection in &self.rejections {
            warn!(port = %rejection.port(), "{rejection}");
        }
    }
}
