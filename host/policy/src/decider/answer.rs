//! From a batch of ports to their decisions, whatever the policies do.

use std::sync::Arc;

use weir_model::Origin;

use super::memory::{Memory, Remembered};
use super::progress::Progress;
use super::stand_in::{again, assemble, last_good, last_resort};
use super::{ask, budget, keep::keep_slots};
use crate::answer::Eligible;
use crate::catalog::{Catalog, Pair};
use crate::compiled::Role;
use crate::subject::Subjects;

/// Asks for every subject: its own policies, then, where one fails and there is no last good answer, the built-in
/// ones in the place of those that failed, then nobody.
pub(super) fn answer(catalog: &Catalog, memory: &Memory, subjects: Subjects, progress: &mut Progress<'_>) {
    let subjects = &Arc::new(subjects);
    let all: Vec<usize> = (0..subjects.list.len()).collect();
    let mut eligible: Vec<Option<Arc<Eligible>>> = all.iter().map(|_| None).collect();
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
            let before = memory.of_port(&key);
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
            let remembered = Remembered { port: key, cluster, input, decision: decision.clone(), again };
            progress.remembered.push(remembered);
            progress.set(key, decision);
        } else if let Some(decision) = memory.of_port(&key).and_then(|last| last_good(&last.decision, subject)) {
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
        |subject| catalog.fallback(&subject.pair.traffic, Role::TrafficPolicy),
        &mut eligible,
        progress,
    );
    let eligible = Arc::new(eligible);
    let rings = ask::rings(
        subjects,
        &helpless,
        |subject| catalog.fallback(&subject.pair.balancer, Role::Balancer),
        &eligible,
        progress,
    );
    for (at, rings) in helpless.into_iter().zip(rings) {
        let subject = &subjects.list[at];
        let decision = match (&eligible[at], rings) {
            (Some(eligible), Some(rings)) => {
                let fallback = catalog.fallback(&subject.pair.balancer, Role::Balancer);
                assemble(subject, eligible, rings, Origin::Fallback(fallback.name.clone()))
            }
            _ => last_resort(&subject.port),
        };
        progress.set(subject.port.key, Arc::new(decision));
    }
}
