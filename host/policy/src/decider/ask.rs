//! The two rounds of questions: traffic policies for ports, then balancers for the lists they made.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::{Names, TrafficPolicy};

use super::progress::Progress;
use super::questions::{Asker, Checked, Questions, number};
use super::run::{Miss, queue, run};
use super::{Attempt, Failure, failure};
use crate::answer::{self, Eligible, Reasons, Spread};
use crate::bindings::exports::weir::policy::{balancer, traffic_policy};
use crate::bindings::weir::policy::types;
use crate::call::{Instance, Problem};
use crate::compiled::{Policy, Role};
use crate::host::ring_number;
use crate::limits::FailureReason;
use crate::record::{CallOutcome, Record};
use crate::subject::{Subject, Subjects};

/// Positions below `count` that share a policy, policy by policy.
fn groups<'p>(count: usize, policy_of: impl Fn(usize) -> &'p Arc<Policy>) -> Vec<(&'p Arc<Policy>, Vec<usize>)> {
    let mut groups: BTreeMap<*const Policy, usize> = BTreeMap::new();
    let mut found: Vec<(&Arc<Policy>, Vec<usize>)> = Vec::new();
    for at in 0..count {
        let policy = policy_of(at);
        let group = *groups.entry(Arc::as_ptr(policy)).or_insert_with(|| {
            found.push((policy, Vec::new()));
            found.len() - 1
        });
        found[group].1.push(at);
    }
    found
}

/// Notes that `policy` has no answer for a subject.
fn fail(subject: &Subject, names: &Names, policy: &Policy, role: Role, miss: Miss, progress: &mut Progress<'_>) {
    let Miss { problem, asked } = miss;
    let (key, input, now) = (subject.port.key, subject.input, progress.shared.now);
    let attempt = if !asked {
        progress.shared.quarantine().denied(key, role, policy, input, &problem, now);
        Attempt::None
    } else if progress.shared.quarantine().failed(key, role, policy, input, &problem, now) {
        Attempt::First
    } else {
        Attempt::Repeated
    };
    let failure = failure(&subject.service, &subject.port, names, &policy.name, problem);
    progress.fail(Failure { attempt, ..failure });
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

/// Asks `policy_of` each subject in `asked` who may serve it, and sets that in `eligible`; where a policy fails,
/// `progress` tells.
pub(super) fn traffic<'a>(
    subjects: &'a Arc<Subjects>,
    asked: &[usize],
    policy_of: impl Fn(&'a Subject) -> &'a Arc<Policy>,
    eligible: &mut [Option<Arc<Eligible>>],
    progress: &mut Progress<'_>,
) {
    let shared = progress.shared;
    for (policy, members) in groups(asked.len(), |at| policy_of(&subjects.list[asked[at]])) {
        let of = |member: usize| &subjects.list[asked[member]];
        let (queue, denied) = queue(policy, Role::TrafficPolicy, members, of, progress);
        for (member, problem) in denied {
            let miss = Miss { problem, asked: false };
            fail(of(member), &subjects.names, policy, Role::TrafficPolicy, miss, progress);
        }
        let members = &queue.members;
        let subject = |at: usize| of(members[at]);
        let id = |at: usize| number(asked[members[at]]);
        let answers = run(
            policy,
            &queue,
            || Instance::start(policy, subjects.clone(), None),
            |instance, range| {
                let total = range.clone().map(|at| subject(at).port.endpoints.len()).sum();
                let each = shared.asks_each();
                let mut questions = Questions::new(policy.inputs(), range.len(), total, subjects.zone, each);
                for at in range {
                    let port = subject(at);
                    let question = traffic_policy::Port {
                        id: 0,
                        number: port.port.spec.port,
                        protocol: protocol(port.port.key.protocol),
                        internal: scope(port.internal),
                        external: scope(port.external),
                        has_external: port.has_external,
                        first: 0,
                        count: number(port.port.endpoints.len()),
                    };
                    let settings = port.traffic_settings;
                    let asker = Asker { at, id: id(at), subject: port, settings, ring: None };
                    questions.ask(&asker, 0..question.count, &[], question);
                }
                let answers = instance.decide(&questions.list, &questions.columns)?;
                let mut reasons = Reasons::default();
                questions.answers(answers, |at, answer| {
                    checked(shared.wants_all(), answer, |answer| {
                        answer::eligible(subject(at), id(at), answer, &mut reasons)
                    })
                })
            },
            progress,
        );
        for (at, (answer, words)) in answers.into_iter().enumerate() {
            progress.record(&answer, words, |outcome| Record::of(subjects, asked[members[at]], None, policy, outcome));
            match answer {
                Ok(answer) => eligible[asked[members[at]]] = Some(answer),
                Err(miss) => fail(subject(at), &subjects.names, policy, Role::TrafficPolicy, miss, progress),
            }
        }
        let mut quarantine = progress.shared.quarantine();
        for (at, member) in members.iter().enumerate() {
            if eligible[asked[*member]].is_some() {
                quarantine.did_well(subject(at).port.key, Role::TrafficPolicy, policy);
            }
        }
    }
}

/// What `check` makes of an answer; the answer's own words too, if they are wanted and it is good.
fn checked<A: Clone + Into<CallOutcome>, T>(
    wants_words: bool,
    answer: A,
    check: impl FnOnce(A) -> Result<T, String>,
) -> Checked<T> {
    let words = wants_words.then(|| Box::new(answer.clone().into()));
    match check(answer) {
        Ok(answer) => (Ok(Arc::new(answer)), words),
        Err(why) => (Err(Problem::new(FailureReason::InvalidAnswer, why)), None),
    }
}

/// The cluster and the local ring of a subject, where it has them.
pub(super) type Rings = [Option<Arc<Spread>>; 2];

/// Asks `policy_of` each subject in `asked` how connections spread over its `eligible` lists. The answer is in the
/// order of `asked`; `None` where nobody is known to be eligible, and where the policy failed for one of the lists,
/// which `progress` then tells.
pub(super) fn rings<'a>(
    subjects: &'a Arc<Subjects>,
    asked: &[usize],
    policy_of: impl Fn(&'a Subject) -> &'a Arc<Policy>,
    eligible: &Arc<Vec<Option<Arc<Eligible>>>>,
    progress: &mut Progress<'_>,
) -> Vec<Option<Rings>> {
    let shared = progress.shared;
    let mut rings: Vec<Option<Rings>> = asked.iter().map(|at| eligible[*at].as_ref().map(|_| [None, None])).collect();
    // Positions in `asked`, and which of the two lists.
    let mut wanted: Vec<(usize, usize)> = Vec::with_capacity(asked.len());
    for (place, at) in asked.iter().enumerate() {
        let lists = eligible[*at].iter().flat_map(|eligible| &eligible.lists).enumerate();
        wanted.extend(lists.filter(|(_, list)| !list.is_empty()).map(|(which, _)| (place, which)));
    }
    for (policy, members) in groups(wanted.len(), |at| policy_of(&subjects.list[asked[wanted[at].0]])) {
        let of = |member: usize| &subjects.list[asked[wanted[member].0]];
        let (queue, denied) = queue(policy, Role::Balancer, members, of, progress);
        for (member, problem) in denied {
            rings[wanted[member].0] = None;
            fail(of(member), &subjects.names, policy, Role::Balancer, Miss { problem, asked: false }, progress);
        }
        let members = &queue.members;
        let subject = |at: usize| of(members[at]);
        let list = |at: usize| {
            let (place, which) = wanted[members[at]];
            eligible[asked[place]].as_ref().map_or(&[][..], |eligible| &eligible.lists[which])
        };
        let id = |at: usize| {
            let (place, which) = wanted[members[at]];
            ring_number(number(asked[place]), number(which))
        };
        let answers = run(
            policy,
            &queue,
            || Instance::start(policy, subjects.clone(), Some(eligible.clone())),
            |instance, range| {
                let total = range.clone().map(|at| list(at).len()).sum();
                let each = shared.asks_each();
                let mut questions = Questions::new(policy.inputs(), range.len(), total, subjects.zone, each);
                for at in range {
                    let (port, list, (_, which)) = (subject(at), list(at), wanted[members[at]]);
                    let question = balancer::Ring {
                        id: 0,
                        number: port.port.spec.port,
                        protocol: protocol(port.port.key.protocol),
                        local: which == 1,
                        affinity_seconds: port.affinity_seconds,
                        first: 0,
                        count: number(list.len()),
                    };
                    let settings = port.balancer_settings;
                    let asker = Asker { at, id: id(at), subject: port, settings, ring: Some(which) };
                    // Of the answer come slots that name places in the port's list.
                    questions.ask(&asker, list.iter().copied(), list, question);
                }
                let answers = instance.balance(&questions.list, &questions.columns)?;
                let mut reasons = Reasons::default();
                questions.answers(answers, |at, answer| {
                    checked(shared.wants_all(), answer, |answer| answer::spread(id(at), list(at), answer, &mut reasons))
                })
            },
            progress,
        );
        for (at, (answer, words)) in answers.into_iter().enumerate() {
            let (place, which) = wanted[members[at]];
            progress.record(&answer, words, |outcome| {
                Record::of(subjects, asked[place], Some((number(which), list(at))), policy, outcome)
            });
            match answer {
                Ok(ring) => {
                    if let Some(rings) = &mut rings[place] {
                        rings[which] = Some(ring);
                    }
                }
                Err(miss) => {
                    rings[place] = None;
                    fail(subject(at), &subjects.names, policy, Role::Balancer, miss, progress);
                }
            }
        }
        let mut quarantine = progress.shared.quarantine();
        for (at, member) in members.iter().enumerate() {
            if rings[wanted[*member].0].is_some() {
                quarantine.did_well(subject(at).port.key, Role::Balancer, policy);
            }
        }
    }
    rings
}
