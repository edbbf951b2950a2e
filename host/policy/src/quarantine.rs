//! Who is not asked for a while: policies that failed, port by port, with growing waits.
//!
//! A policy that is slow, greedy or wrong for a port gives the same answer when it is asked the same again, and may
//! use up a whole allowance each time. So it rests for that port: first for [`FIRST_WAIT`], twice as long after each
//! further failure, for [`LAST_WAIT`] at most. A port whose input has changed is asked about at once, unless the policy
//! still owes time: calls that failed may take no more than one part in [`SHARE`] of all time. A policy that wastes its allowance on many ports rests as a whole, and is then tried on one port before it is trusted with all again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_model::{PortKey, ServiceId};

use crate::call::Problem;
use crate::compiled::{Policy, Role};
use crate::limits::FailureReason;

/// Wait after the first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Longest wait.
const LAST_WAIT: Duration = Duration::from_secs(300);

/// One part in so many of all time may go into calls of a policy that fail.
const SHARE: u32 = 100;

/// Debt that does not matter yet: ten milliseconds of wasted time. What fails at once may be tried again at once.
const CREDIT: Duration = Duration::from_secs(1);

/// Ports of one policy that may use up a whole allowance of fuel, time or memory in one sync, each on its own, before
/// it rests as a whole. Calls that are under way on other threads by then are one more each.
const COSTLY_FAILURES: u32 = 8;

/// Why and since when a policy rests, for one port or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    /// The policy.
    pub policy: Arc<str>,
    /// The Service and the name of the port; `None` where the policy rests as a whole.
    pub port: Option<PortKey>,
    /// Why it failed, in one stable word.
    pub reason: FailureReason,
    /// Why, in a sentence.
    pub message: String,
    /// How often it failed in a row.
    pub failures: u32,
    /// When it is asked again.
    pub until: Instant,
}

/// What a question is asked for: a port, in one role, of one version of a policy.
type Place = (PortKey, u8, u64);

/// All that is at rest. Empty, and free, while every policy does well.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    ports: BTreeMap<Place, Rest>,
    policies: BTreeMap<u64, Account>,
}

#[derive(Debug)]
struct Rest {
    policy: Arc<str>,
    input: u64,
    /// 0 for a port that was not asked about because the policy rests as a whole.
    failures: u32,
    until: Instant,
    problem: Problem,
}

/// What a policy owes.
#[derive(Debug)]
struct Account {
    name: Arc<str>,
    /// Until then it has wasted more than its share of time.
    settled: Instant,
    /// How often in a row it had to rest as a whole.
    rests: u32,
    /// Until when it rests as a whole, and why.
    until: Option<(Instant, Problem)>,
    /// What happened in this sync.
    costly: u32,
    good: bool,
    last_costly: Option<Problem>,
}

/// Whether a policy may be asked.
#[derive(Debug)]
pub(crate) enum Leave {
    /// Together with others.
    Batched,
    /// On its own: it rested as a whole.
    Alone,
    /// On its own, after all others: it failed for this port before.
    Suspect,
    /// Not now, for that reason.
    Denied(Problem),
}

fn place(port: PortKey, role: Role, policy: &Policy) -> Place {
    (port, u8::from(role == Role::Balancer), policy.version())
}

/// The wait after so many failures in a row.
fn wait(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_WAIT.saturating_mul(doubled).min(LAST_WAIT)
}

impl Quarantine {
    /// Whether `policy` may be asked about a port with that input.
    pub(crate) fn leave(&self, port: PortKey, role: Role, policy: &Policy, input: u64, now: Instant) -> Leave {
        let Some(account) = self.policies.get(&policy.version()) else { return Leave::Batched };
        if let Some((until, problem)) = &account.until
            && *until > now
        {
            return Leave::Denied(problem.clone());
        }
        let together = if account.until.is_some() { Leave::Alone } else { Leave::Batched };
        let Some(rest) = self.ports.get(&place(port, role, policy)) else { return together };
        if rest.failures == 0 {
            return together;
        }
        let waits = rest.input == input && rest.until > now;
        if waits || account.owes(now) { Leave::Denied(rest.problem.clone()) } else { Leave::Suspect }
    }

    /// Whether `policy` has used up what it may waste in one sync; then the reason.
    pub(crate) fn exhausted(&self, policy: &Policy) -> Option<Problem> {
        let account = self.policies.get(&policy.version())?;
        // One that had to rest gets one more chance, not eight.
        let allowed = if account.until.is_some() { 1 } else { COSTLY_FAILURES };
        let last = account.last_costly.as_ref()?;
        (account.costly >= allowed).then(|| account.weary(last))
    }

    /// Whether `policy` has wasted more than its share of time.
    pub(crate) fn owes(&self, policy: &Policy, now: Instant) -> bool {
        self.policies.get(&policy.version()).is_some_and(|account| account.owes(now))
    }

    /// A call of `policy` failed after so long.
    pub(crate) fn wasted(&mut self, policy: &Policy, time: Duration, now: Instant) {
        let account = self.account(policy, now);
        account.settled = account.settled.max(now) + time * SHARE;
    }

    /// `policy`, asked about one port alone that is no suspect, used up a whole allowance.
    pub(crate) fn burnt(&mut self, policy: &Policy, problem: &Problem, now: Instant) {
        let account = self.account(policy, now);
        account.costly += 1;
        account.last_costly = Some(problem.clone());
    }

    /// `policy` has no good answer for a port. Returns whether that is news: the first time, or for another reason.
    pub(crate) fn failed(
        &mut self,
        port: PortKey,
        role: Role,
        policy: &Policy,
        input: u64,
        problem: &Problem,
        now: Instant,
    ) -> bool {
        self.account(policy, now);
        let rest = self.rest(place(port, role, policy), policy, input, problem, now);
        let news = rest.failures == 0 || rest.problem.reason != problem.reason;
        // Both lists of a port may fail in one sync.
        let counted = rest.failures > 0 && rest.input == input && rest.until > now;
        rest.failures = if rest.input == input { rest.failures + u32::from(!counted) } else { 1 };
        (rest.input, rest.problem, rest.until) = (input, problem.clone(), now + wait(rest.failures));
        news
    }

    /// `policy` was not asked about a port: it rests.
    pub(crate) fn denied(
        &mut self,
        port: PortKey,
        role: Role,
        policy: &Policy,
        input: u64,
        problem: &Problem,
        now: Instant,
    ) {
        self.rest(place(port, role, policy), policy, input, problem, now);
    }

    fn rest(&mut self, place: Place, policy: &Policy, input: u64, problem: &Problem, now: Instant) -> &mut Rest {
        let fresh = || Rest { policy: policy.name.clone(), input, failures: 0, until: now, problem: problem.clone() };
        self.ports.entry(place).or_insert_with(fresh)
    }

    /// `policy` did well for a port.
    pub(crate) fn did_well(&mut self, port: PortKey, role: Role, policy: &Policy) {
        if let Some(account) = self.policies.get_mut(&policy.version()) {
            account.good = true;
            self.ports.remove(&place(port, role, policy));
        }
    }

    /// Has `policy` rest as a whole. Tells of it if it did not rest before.
    pub(crate) fn rest_as_a_whole(&mut self, policy: &Policy, problem: &Problem, now: Instant) -> Option<Resting> {
        let account = self.account(policy, now);
        // That it gave answers is no sign that it does well.
        account.good = false;
        account.rests += 1;
        let until = now + wait(account.rests);
        account.until = Some((until, problem.clone()));
        (account.rests == 1).then(|| account.resting(problem, until))
    }

    /// Ends a sync: decides which policies rest as a whole. Returns those that begin to.
    pub(crate) fn settle(&mut self, now: Instant) -> Vec<Resting> {
        if self.policies.is_empty() {
            return Vec::new();
        }
        let mut begin = Vec::new();
        for account in self.policies.values_mut() {
            let allowed = if account.until.is_some() { 1 } else { COSTLY_FAILURES };
            match account.last_costly.take() {
                Some(problem) if account.costly >= allowed => {
                    account.rests += 1;
                    let until = (now + wait(account.rests)).max(account.settled);
                    if account.rests == 1 {
                        begin.push(account.resting(&problem, until));
                    }
                    account.until = Some((until, account.weary(&problem)));
                }
                _ if account.good && account.until.as_ref().is_some_and(|(until, _)| *until <= now) => {
                    (account.rests, account.until) = (0, None);
                }
                _ => {}
            }
            (account.costly, account.good) = (0, false);
        }
        let ports = &self.ports;
        self.policies.retain(|version, account| {
            let rests = account.until.as_ref().is_some_and(|(until, _)| *until > now);
            account.settled > now || rests || ports.keys().any(|(_, _, policy)| policy == version)
        });
        begin
    }

    fn account(&mut self, policy: &Policy, now: Instant) -> &mut Account {
        self.policies.entry(policy.version()).or_insert_with(|| Account {
            name: policy.name.clone(),
            settled: now,
            rests: 0,
            until: None,
            costly: 0,
            good: false,
            last_costly: None,
        })
    }

    fn of_service(&self, service: ServiceId) -> impl Iterator<Item = (&Place, &Rest)> {
        self.ports
            .range((PortKey::first_of(service), 0, 0)..)
            .take_while(move |((port, ..), _)| port.service == service)
    }

    /// When a port of that Service is to be asked about again.
    pub(crate) fn due(&self, service: ServiceId) -> Option<Instant> {
        if self.ports.is_empty() {
            return None;
        }
        self.of_service(service).map(|((.., version), rest)| self.end(*version, rest)).min()
    }

    /// Whether nobody is in it, and no policy wasted anything lately.
    pub(crate) fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.policies.is_empty()
    }

    /// Whether any policy rests for that port.
    pub(crate) fn holds(&self, port: &PortKey) -> bool {
        !self.ports.is_empty() && self.ports.range((*port, 0, 0)..).next().is_some_and(|((held, ..), _)| held == port)
    }

    /// When a rest ends.
    fn end(&self, version: u64, rest: &Rest) -> Instant {
        let Some(account) = self.policies.get(&version) else { return rest.until };
        let whole = account.until.as_ref().map_or(rest.until, |(until, _)| *until);
        let settled = account.settled.checked_sub(CREDIT).filter(|_| rest.failures > 0).unwrap_or(rest.until);
        rest.until.max(whole).max(settled)
    }

    /// Forgets what `stays` does not hold for, of one Service: ports that are gone, and versions that nobody asks.
    pub(crate) fn forget(&mut self, service: ServiceId, stays: impl Fn(&PortKey, u64) -> bool) {
        if self.ports.is_empty() {
            return;
        }
        let gone: Vec<Place> = self
            .of_service(service)
            .map(|(place, _)| *place)
            .filter(|(port, _, version)| !stays(port, *version))
            .collect();
        gone.iter().for_each(|place| drop(self.ports.remove(place)));
    }

    /// Everything that is at rest: policies as a whole first, then ports.
    pub(crate) fn list(&self, now: Instant) -> Vec<Resting> {
        let whole = self.policies.values().filter_map(|account| {
            let (until, problem) = account.until.as_ref()?;
            (*until > now).then(|| account.resting(problem, *until))
        });
        let ports = self.ports.iter().map(|((port, _, version), rest)| Resting {
            policy: rest.policy.clone(),
            port: Some(*port),
            reason: rest.problem.reason,
            message: rest.problem.message.clone(),
            failures: rest.failures,
            until: self.end(*version, rest),
        });
        whole.chain(ports).collect()
    }

    /// How many ports each policy is not asked about for now.
    pub(crate) fn counts(&self) -> BTreeMap<Arc<str>, u64> {
        let mut counts = BTreeMap::new();
        for rest in self.ports.values() {
            *counts.entry(rest.policy.clone()).or_default() += 1;
        }
        counts
    }
}

impl Account {
    /// Whether it has wasted more than its share of time.
    fn owes(&self, now: Instant) -> bool {
        self.settled > now + CREDIT
    }

    /// Why it is not asked after such a failure.
    fn weary(&self, last: &Problem) -> Problem {
        let ports = if self.costly == 1 { "a port".to_owned() } else { format!("{} ports", self.costly) };
        let message = format!("not asked for a while, after it failed for {ports}: {}", last.message);
        Problem::new(last.reason, message)
    }

    fn resting(&self, problem: &Problem, until: Instant) -> Resting {
        Resting {
            policy: self.name.clone(),
            port: None,
            reason: problem.reason,
            message: problem.message.clone(),
            failures: self.rests,
            until,
        }
    }
}
