//! The two rounds of questions: traffic policies for ports, then balancers for the lists they made.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::{Names, TrafficPolicy};

use super::progress::Progress;
use super::run::{Miss, queue, run};
use super::{Attempt, Failure, failure};
use crate::answer::{self, Eligible, Reasons, Spread};
use crate::bindings::exports::weir::policy::{balancer, traffic_policy};
use crate::bindings::weir::policy::types;
use crate::call::{Instance, Problem};
use crate::compiled::{Policy, Role};
use crate::host::ring_number;
use crate::limits::FailureReason;
use crate::record::Record;
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

/// A count as the contract carries it.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a sync has fewer than 2^32 endpoints")
}

/// Asks `policy_of` each subject in `asked` who may serve it, and sets that in `eligible`; where a policy fails,
/// `progress` tells.
pub(super) fn traffic<'a>(
    subjects: &'a Arc<Subjects>,
    asked: &[usize],
    policy_of: impl Fn(&'a Subject) -> &'a Arc<Policy>,
    eligible: &mut [Option<Eligible>],
    progress: &mut Progress<'_>,
) {
    for (policy, members) in groups(asked.len(), |at| policy_of(&subjects.list[asked[at]])) {
        let of = |member: usize| &subjects.list[asked[member]];
        let (queue, denied) = queue(policy, Role::TrafficPolicy, members, of, progress);
        for (member, problem) in denied {
            let miss = Miss { problem, asked: false };
            fail(of(member), &subjects.names, policy, Role::TrafficPolicy, miss, progress);
        }
        let members = &queue.members;
        let subject = |at: usize| of(members[at]);
        let answers = run(
            policy,
            &queue,
            || Instance::start(policy, subjects.clone(), None),
            |instance, range| {
                let total = range.clone().map(|at| subject(at).port.endpoints.len()).sum();
                let mut endpoints = columns(subjects, policy, total);
                let mut ports = Vec::with_capacity(range.len());
                for at in range {
                    let first = number(endpoints.ids.len());
                    let port = subject(at);
                    fill(&mut endpoints, policy, port, 0..number(port.port.endpoints.len()));
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
            progress,
        );
        let mut reasons = Reasons::default();
        for (at, answer) in answers.into_iter().enumerate() {
            let words = progress.words(&answer);
            let id = number(asked[members[at]]);
            let checked =
                answer.and_then(|answer| answer::eligible(subject(at), id, answer, &mut reasons).map_err(invalid));
            progress.record(&checked, words, |outcome| Record::of(subjects, asked[members[at]], None, policy, outcome));
            match checked {
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

/// The guard on answers does not believe it.
fn invalid(why: String) -> Miss {
    Miss { problem: Problem::new(FailureReason::InvalidAnswer, why), asked: true }
}

/// Columns for so many endpoints, none of them in yet.
fn columns(subjects: &Subjects, policy: &Policy, total: usize) -> types::Columns {
    let wanted = policy.inputs();
    let room = |wanted: bool| if wanted { total } else { 0 };
    types::Columns {
        ids: Vec::with_capacity(total),
        conditions: Vec::with_capacity(total),
        weights: Vec::with_capacity(total),
        zones: Vec::with_capacity(room(wanted.zones)),
        loads: types::Loads {
            active: Vec::with_capacity(room(wanted.loads)),
            begun: Vec::with_capacity(room(wanted.loads)),
            per_minute: Vec::with_capacity(room(wanted.loads)),
        },
        ages: Vec::with_capacity(room(wanted.ages)),
        shares: Vec::new(),
        here: if wanted.zones { subjects.zone.0 } else { 0 },
    }
}

/// Adds the endpoints at `places` in the list of `subject`, with what `policy` wants to see of them.
fn fill(columns: &mut types::Columns, policy: &Policy, subject: &Subject, places: impl Iterator<Item = u32> + Clone) {
    let endpoints = || places.clone().map(|at| &subject.port.endpoints[at as usize]);
    columns.ids.extend(endpoints().map(|endpoint| endpoint.id));
    // The contract's bits are the model's.
    columns.conditions.extend(endpoints().map(|endpoint| endpoint.conditions.0));
    columns.weights.extend(endpoints().map(|endpoint| endpoint.weight));
    let wanted = policy.inputs();
    if wanted.zones {
        columns.zones.extend(endpoints().map(|endpoint| endpoint.zone.0));
    }
    let Some(extras) = &subject.extras else { return };
    if wanted.loads {
        let loads = || places.clone().map(|at| &extras.loads[at as usize]);
        columns.loads.active.extend(loads().map(|load| load.active));
        columns.loads.begun.extend(loads().map(|load| load.begun));
        columns.loads.per_minute.extend(loads().map(|load| load.per_minute));
    }
    if wanted.ages {
        columns.ages.extend(places.map(|at| extras.ages[at as usize]));
    }
}

/// Adds the slots the members of a ring have in the one that is in force; which of the two rings is meant says `which`.
fn fill_shares(columns: &mut types::Columns, subject: &Subject, members: &[u32], which: usize) {
    let Some(shares) = subject.extras.as_ref().map(|extras| &extras.shares[which]) else { return };
    // Nobody's share is known yet: zeros keep the columns of other rings where they belong.
    columns.shares.extend(members.iter().map(|at| shares.get(*at as usize).copied().unwrap_or(0)));
}

/// The cluster and the local ring of a subject, where it has them.
pub(super) type Rings = [Option<Spread>; 2];

/// Asks `policy_of` each subject in `asked` how connections spread over its `eligible` lists. The answer is in the
/// order of `asked`; `None` where nobody is known to be eligible, and where the policy failed for one of the lists,
/// which `progress` then tells.
pub(super) fn rings<'a>(
    subjects: &'a Arc<Subjects>,
    asked: &[usize],
    policy_of: impl Fn(&'a Subject) -> &'a Arc<Policy>,
    eligible: &Arc<Vec<Option<Eligible>>>,
    progress: &mut Progress<'_>,
) -> Vec<Option<Rings>> {
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
                let mut members = columns(subjects, policy, total);
                let mut asked = Vec::with_capacity(range.len());
                for at in range {
                    let (port, list) = (subject(at), list(at));
                    asked.push(balancer::Ring {
                        id: id(at),
                        number: port.port.spec.port,
                        protocol: protocol(port.port.key.protocol),
                        local: id(at) % 2 == 1,
                        affinity_seconds: port.affinity_seconds,
                        first: number(members.ids.len()),
                        count: number(list.len()),
                    });
                    fill(&mut members, policy, port, list.iter().copied());
                    if policy.inputs().shares {
                        fill_shares(&mut members, port, list, id(at) as usize % 2);
                    }
                }
                instance.balance(&asked, &members)
            },
            progress,
        );
        let mut reasons = Reasons::default();
        for (at, answer) in answers.into_iter().enumerate() {
            let words = progress.words(&answer);
            let checked =
                answer.and_then(|answer| answer::spread(id(at), list(at), answer, &mut reasons).map_err(invalid));
            let (place, which) = wanted[members[at]];
            progress.record(&checked, words, |outcome| {
                Record::of(subjects, asked[place], Some((number(which), list(at))), policy, outcome)
            });
            match checked {
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
