//! The two rounds of questions: traffic policies for ports, then balancers for the lists they made.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use weir_model::{Decision, Origin, Ring, TrafficPolicy};

use super::{Decisions, Stats, backend, named_failure};
use crate::answer::{self, Eligible};
use crate::bindings::exports::weir::policy::{balancer, traffic_policy};
use crate::bindings::weir::policy::types;
use crate::call::{Instance, Problem};
use crate::catalog::Pair;
use crate::compiled::Policy;
use crate::host::Members;
use crate::limits::FailureReason;
use crate::subject::{Subject, Subjects};

/// Most endpoints in one call: keeps what a policy must hold at once independent of the cluster's size.
const BATCH: usize = 10_000;

/// Ports of one policy that may use up a whole allowance of fuel, time or memory in one sync, each on its own, before
/// its other ports are not tried any more.
const COSTLY_FAILURES: u32 = 8;

/// Asks `pair_of` each subject in `asked`. The answer is in the order of `asked`; `None` where a policy failed,
/// which is then told in `decisions.failures`.
pub(super) fn ask<'a>(
    subjects: &Arc<Subjects>,
    asked: &[usize],
    pair_of: impl Fn(usize) -> &'a Pair,
    decisions: &mut Decisions,
) -> Vec<(usize, Option<Decision>)> {
    let eligible = traffic_round(subjects, asked, &pair_of, decisions);
    let mut rings = ring_round(subjects, asked, &eligible, &pair_of, decisions);
    let mut answers = Vec::with_capacity(asked.len());
    for ((at, eligible), rings) in asked.iter().zip(eligible).zip(&mut rings) {
        let decision = eligible.zip(rings.take()).map(|(eligible, [cluster, local])| {
            let pair = pair_of(*at);
            assemble(&subjects.list[*at], eligible, cluster, local, pair)
        });
        answers.push((*at, decision));
    }
    answers
}

fn assemble(
    subject: &Subject,
    eligible: Eligible,
    cluster: Option<Ring>,
    local: Option<Ring>,
    pair: &Pair,
) -> Decision {
    Decision {
        backends: subject.port.endpoints.iter().map(backend).collect(),
        cluster,
        local,
        internal: eligible.internal,
        external: eligible.external,
        short_cut: eligible.short_cut,
        reason: Arc::from(eligible.reason),
        origin: Origin::Policy { traffic: pair.traffic.name.clone(), balancer: pair.balancer.name.clone() },
    }
}

/// Positions (in `asked`) that share a policy, policy by policy.
fn groups<'p>(
    count: usize,
    policy_of: impl Fn(usize) -> Option<&'p Arc<Policy>>,
) -> Vec<(&'p Arc<Policy>, Vec<usize>)> {
    let mut groups: BTreeMap<*const Policy, usize> = BTreeMap::new();
    let mut found: Vec<(&Arc<Policy>, Vec<usize>)> = Vec::new();
    for at in 0..count {
        let Some(policy) = policy_of(at) else { continue };
        let group = *groups.entry(Arc::as_ptr(policy)).or_insert_with(|| {
            found.push((policy, Vec::new()));
            found.len() - 1
        });
        found[group].1.push(at);
    }
    found
}

/// Cuts a list into stretches of at most [`BATCH`] endpoints, at least one entry each.
fn batches(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut endpoints) = (0, 0);
    for (at, size) in sizes.iter().enumerate() {
        if at > start && endpoints + size > BATCH {
            batches.push(start..at);
            (start, endpoints) = (at, 0);
        }
        endpoints += size;
    }
    if start < sizes.len() {
        batches.push(start..sizes.len());
    }
    batches
}

/// Runs `call` over the batches of one policy's entries; a batch that fails is run again entry by entry, each in an
/// instance of its own, so that only the entry at fault has no answer.
fn run<'p, A>(
    policy: &'p Policy,
    sizes: &[usize],
    start: impl Fn() -> Result<Instance<'p>, Problem>,
    mut call: impl FnMut(&mut Instance<'p>, Range<usize>) -> Result<Vec<A>, Problem>,
    stats: &mut BTreeMap<Arc<str>, Stats>,
) -> Vec<Result<A, Problem>> {
    let mut answers = Vec::with_capacity(sizes.len());
    let stats = stats.entry(policy.name.clone()).or_default();
    let mut instance = start();
    let mut once = |instance: &mut Result<Instance<'p>, Problem>, range: Range<usize>| {
        let running = instance.as_mut().map_err(|problem| problem.clone())?;
        let before = running.cost;
        let answer = call(running, range.clone());
        stats.calls += 1;
        stats.asked += range.len() as u64;
        stats.fuel += running.cost.fuel - before.fuel;
        stats.time += running.cost.time - before.time;
        match answer {
            Ok(given) if given.len() != range.len() => {
                let message = format!("it gave {} answers to {} questions", given.len(), range.len());
                Err(Problem::new(FailureReason::InvalidAnswer, message))
            }
            other => other,
        }
    };
    let (mut costly, mut exhausted): (u32, Option<Problem>) = (0, None);
    for batch in batches(sizes) {
        match once(&mut instance, batch.clone()) {
            Ok(given) => answers.extend(given.into_iter().map(Ok)),
            Err(problem) if batch.len() == 1 => {
                answers.push(Err(problem));
                instance = start();
            }
            Err(_) => {
                for at in batch {
                    // A policy that burns its whole allowance for one port after the other would hold up everybody.
                    if let Some(problem) = &exhausted {
                        answers.push(Err(problem.clone()));
                        continue;
                    }
                    let alone = once(&mut start(), at..at + 1).and_then(|mut given| {
                        given.pop().ok_or_else(|| Problem::new(FailureReason::InvalidAnswer, "it gave no answer"))
                    });
                    if let Err(problem) = &alone
                        && problem.reason.is_costly()
                    {
                        costly += 1;
                        let message = format!("not asked, after it failed for {costly} ports: {}", problem.message);
                        exhausted = (costly == COSTLY_FAILURES).then(|| Problem::new(problem.reason, message));
                    }
                    answers.push(alone);
                }
                instance = start();
            }
        }
    }
    answers
}

fn scope(policy: TrafficPolicy) -> types::Scope {
    match policy {
        TrafficPolicy::Cluster => types::Scope::Cluster,
        TrafficPolicy::Local => types::Scope::Local,
    }
}

fn protocol(protocol: weir_model::Protocol) -> types::Protocol {
    match protocol {
        weir_model::Protocol::Tcp => types::Protocol::Tcp,
        weir_model::Protocol::Udp => types::Protocol::Udp,
        weir_model::Protocol::Sctp => types::Protocol::Sctp,
    }
}

/// A count as the contract carries it.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a sync has fewer than 2^32 endpoints")
}

fn traffic_round<'a>(
    subjects: &Arc<Subjects>,
    asked: &[usize],
    pair_of: &impl Fn(usize) -> &'a Pair,
    decisions: &mut Decisions,
) -> Vec<Option<Eligible>> {
    let mut eligible: Vec<Option<Eligible>> = asked.iter().map(|_| None).collect();
    for (policy, members) in groups(asked.len(), |at| Some(&pair_of(asked[at]).traffic)) {
        let subject = |at: usize| &subjects.list[asked[members[at]]];
        let sizes: Vec<usize> = (0..members.len()).map(|at| subject(at).port.endpoints.len()).collect();
        let answers = run(
            policy,
            &sizes,
            || Instance::start(policy, subjects.clone(), None),
            |instance, range| {
                let mut endpoints = Vec::with_capacity(sizes[range.clone()].iter().sum());
                let mut ports = Vec::with_capacity(range.len());
                for at in range {
                    let first = number(endpoints.len());
                    let port = subject(at);
                    endpoints.extend(port.port.endpoints.iter().map(|endpoint| traffic_policy::Endpoint {
                        id: endpoint.id,
                        conditions: conditions(endpoint.conditions),
                    }));
                    ports.push(traffic_policy::Port {
                        id: number(asked[members[at]]),
                        number: port.port.spec.port,
                        protocol: protocol(port.port.key.protocol),
                        internal: scope(port.internal),
                        external: scope(port.external),
                        has_external: port.has_external,
                        first,
                        count: number(port.port.endpoints.len()),
                    });
                }
                instance.decide(&ports, &endpoints)
            },
            &mut decisions.stats,
        );
        for (at, answer) in answers.into_iter().enumerate() {
            let checked = answer.and_then(|answer| {
                answer::eligible(subject(at), number(asked[members[at]]), answer)
                    .map_err(|why| Problem::new(FailureReason::InvalidAnswer, why))
            });
            match checked {
                Ok(answer) => eligible[members[at]] = Some(answer),
                Err(problem) => {
                    decisions.failures.push(named_failure(subject(at), &subjects.names, &policy.name, problem));
                }
            }
        }
    }
    eligible
}

/// The contract's flags are the model's, bit by bit.
fn conditions(conditions: weir_model::Conditions) -> types::Conditions {
    use weir_model::Conditions as C;
    const PAIRS: [(C, types::Conditions); 8] = [
        (C::READY, types::Conditions::READY),
        (C::SERVING, types::Conditions::SERVING),
        (C::TERMINATING, types::Conditions::TERMINATING),
        (C::LOCAL, types::Conditions::LOCAL),
        (C::ZONE_HINTS, types::Conditions::ZONE_HINTS),
        (C::HINTS_THIS_ZONE, types::Conditions::HINTS_THIS_ZONE),
        (C::NODE_HINTS, types::Conditions::NODE_HINTS),
        (C::HINTS_THIS_NODE, types::Conditions::HINTS_THIS_NODE),
    ];
    // The usual state needs no loop.
    if conditions == (C::READY | C::SERVING) {
        return types::Conditions::READY | types::Conditions::SERVING;
    }
    PAIRS
        .into_iter()
        .filter(|(flag, _)| conditions.has(*flag))
        .fold(types::Conditions::empty(), |all, (_, flag)| all | flag)
}

/// The cluster and the local ring of a subject, where it has them; `None` when the balancer failed for one.
type Rings = Option<[Option<Ring>; 2]>;

fn ring_round<'a>(
    subjects: &Arc<Subjects>,
    asked: &[usize],
    eligible: &[Option<Eligible>],
    pair_of: &impl Fn(usize) -> &'a Pair,
    decisions: &mut Decisions,
) -> Vec<Rings> {
    let mut lists: Vec<Members> = Vec::new();
    // For each list: position in `asked`, and which of the two rings it becomes.
    let mut places: Vec<(usize, usize)> = Vec::new();
    for (at, eligible) in eligible.iter().enumerate() {
        let Some(eligible) = eligible else { continue };
        for (which, list) in [&eligible.cluster, &eligible.local].into_iter().enumerate() {
            if !list.is_empty() {
                lists.push(Members { subject: number(asked[at]), endpoints: list.clone() });
                places.push((at, which));
            }
        }
    }
    let mut rings: Vec<Rings> = eligible.iter().map(|eligible| eligible.as_ref().map(|_| [None, None])).collect();
    let lists = Arc::new(lists);
    for (policy, members) in groups(lists.len(), |list| Some(&pair_of(asked[places[list].0]).balancer)) {
        let subject = |at: usize| &subjects.list[lists[members[at]].subject as usize];
        let sizes: Vec<usize> = members.iter().map(|list| lists[*list].endpoints.len()).collect();
        let answers = run(
            policy,
            &sizes,
            || Instance::start(policy, subjects.clone(), Some(lists.clone())),
            |instance, range| {
                let total = sizes[range.clone()].iter().sum();
                let (mut ids, mut weights) = (Vec::with_capacity(total), Vec::with_capacity(total));
                let mut asked = Vec::with_capacity(range.len());
                for at in range {
                    let port = subject(at);
                    asked.push(balancer::Ring {
                        id: number(members[at]),
                        protocol: protocol(port.port.key.protocol),
                        affinity_seconds: port.affinity_seconds,
                        first: number(ids.len()),
                        count: number(sizes[at]),
                    });
                    for endpoint in &lists[members[at]].endpoints {
                        let endpoint = &port.port.endpoints[*endpoint as usize];
                        ids.push(endpoint.id);
                        weights.push(endpoint.weight);
                    }
                }
                instance.balance(&asked, &ids, &weights)
            },
            &mut decisions.stats,
        );
        for (at, answer) in answers.into_iter().enumerate() {
            let list = members[at];
            let checked = answer.and_then(|answer| {
                answer::ring(number(list), &lists[list].endpoints, answer)
                    .map_err(|why| Problem::new(FailureReason::InvalidAnswer, why))
            });
            let (asked_at, which) = places[list];
            match checked {
                Ok(ring) => {
                    if let Some(rings) = &mut rings[asked_at] {
                        rings[which] = Some(ring);
                    }
                }
                Err(problem) => {
                    rings[asked_at] = None;
                    decisions.failures.push(named_failure(subject(at), &subjects.names, &policy.name, problem));
                }
            }
        }
    }
    rings
}
