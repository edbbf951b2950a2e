//! The guard on all answers of a sync together: each may be fine by itself, and all of them still an outage.
//!
//! Counted is what only the policy can be blamed for: endpoints that served before, are still ready, and serve no more
//! after it was asked the same again, because it is a new version or sees what changes by itself. A port that changed
//! in the cluster in any way is not counted, nor one the policy decides for the first time because its Service chose one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use weir_model::{Conditions, Decision, Origin, PortKey};

use super::memory::Remembered;
use super::progress::Progress;
use crate::answer::Eligible;
use crate::call::Problem;
use crate::catalog::is_built_in;
use crate::compiled::Policy;
use crate::limits::FailureReason;
use crate::subject::Subject;

/// Endpoints that may go at once whatever their share: in a small cluster every change is a large part.
const FLOOR: u64 = 10;

/// Percent of its endpoints a policy may take out of service in one sync, where nobody says otherwise.
pub(super) const DEFAULT_PERCENT: u8 = 50;

/// What the policies of a sync take away, by where they are in memory: two versions go by one name.
#[derive(Debug, Default)]
pub(super) struct Budget(BTreeMap<usize, Taken>);

/// What one policy takes away.
#[derive(Debug)]
struct Taken {
    policy: Arc<Policy>,
    /// Ports it was asked about again, with what they lived by before.
    before: Vec<(Remembered, u64)>,
    /// Endpoints that served those ports.
    served: u64,
    /// Those of them that are ready and serve no more.
    lost: u64,
}

/// A policy that takes too much away.
#[derive(Debug)]
pub(super) struct Overdrawn {
    pub(super) policy: Arc<Policy>,
    /// The ports in question, with what they lived by before and their input now.
    pub(super) before: Vec<(Remembered, u64)>,
    pub(super) problem: Problem,
}

/// The positions of endpoints that serve by `decision`.
fn serving(decision: &Decision) -> Vec<bool> {
    let mut serving = vec![false; decision.backends.len()];
    for slot in [&decision.cluster, &decision.local].into_iter().flatten().flat_map(|ring| &ring.slots) {
        serving[usize::from(*slot)] = true;
    }
    serving
}

fn count(flags: &[bool]) -> u64 {
    flags.iter().map(|flag| u64::from(*flag)).sum()
}

/// Whether `policy` had a part in `decision`.
fn decided(decision: &Decision, policy: &Policy) -> bool {
    matches!(&decision.origin, Origin::Policy { traffic, balancer } if *traffic == policy.name || *balancer == policy.name)
}

/// Notes what `after` takes away from a port that was decided as `before`.
pub(super) fn note(
    progress: &mut Progress<'_>,
    subject: &Subject,
    before: &Remembered,
    eligible: &Eligible,
    after: &Decision,
) {
    let pair = &subject.pair;
    let counts =
        |policy: &Arc<Policy>| !is_built_in(&policy.name) && (decided(&before.decision, policy) || !subject.chosen);
    // Equal input means equal endpoints in equal order, but for a last good answer, which keeps those of its time.
    let same = before.cluster == subject.cluster && before.decision.backends.len() == after.backends.len();
    if !same || !(counts(&pair.traffic) || counts(&pair.balancer)) {
        return;
    }
    let (was, is) = (serving(&before.decision), serving(after));
    let mut may = vec![false; was.len()];
    eligible.lists.iter().flatten().for_each(|at| may[*at as usize] = true);
    let ready = |at: usize| subject.port.endpoints[at].conditions.has(Conditions::READY);
    let lost: Vec<usize> = (0..was.len()).filter(|at| was[*at] && !is[*at] && ready(*at)).collect();
    let by_traffic = lost.iter().filter(|at| !may[**at]).count() as u64;
    for (policy, lost) in [(&pair.traffic, by_traffic), (&pair.balancer, lost.len() as u64 - by_traffic)] {
        if !counts(policy) {
            continue;
        }
        let taken = progress.budget.0.entry(Arc::as_ptr(policy).addr()).or_insert_with(|| Taken {
            policy: policy.clone(),
            before: Vec::new(),
            served: 0,
            lost: 0,
        });
        taken.lost += lost;
        if taken.before.last().is_none_or(|(last, _)| last.port != before.port) {
            taken.served += count(&was);
            taken.before.push((before.clone(), subject.input));
        }
    }
}

impl Budget {
    /// Adds what was noted elsewhere.
    pub(super) fn absorb(&mut self, other: Self) {
        for (policy, mut taken) in other.0 {
            match self.0.entry(policy) {
                Entry::Vacant(place) => drop(place.insert(taken)),
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    known.before.append(&mut taken.before);
                    known.served += taken.served;
                    known.lost += taken.lost;
                }
            }
        }
    }

    /// The policies that take away more than `percent` of what they serve, or than what is set for them. `others`
    /// are all remembered decisions.
    pub(super) fn overdrawn<'a, I>(self, percent: u8, others: &I) -> Vec<Overdrawn>
    where
        I: Iterator<Item = &'a Remembered> + Clone,
    {
        let judge = |taken: Taken| {
            let percent = u64::from(taken.policy.max_removed_percent.unwrap_or(percent));
            if taken.lost <= FLOOR || taken.lost * 100 <= percent * taken.served {
                return None;
            }
            let mut asked: Vec<PortKey> = taken.before.iter().map(|(before, _)| before.port).collect();
            asked.sort_unstable();
            let unasked = others
                .clone()
                .filter(|other| asked.binary_search(&other.port).is_err() && decided(&other.decision, &taken.policy));
            let served = taken.served + unasked.map(|other| count(&serving(&other.decision))).sum::<u64>();
            (taken.lost * 100 > percent * served).then(|| {
                let message = format!(
                    "its answers would take {} of {served} endpoints that are ready out of service at once; at most \
                     {percent} % may go (max-removed-percent beside the policy allows more)",
                    taken.lost
                );
                let problem = Problem::new(FailureReason::Budget, message);
                Overdrawn { policy: taken.policy, before: taken.before, problem }
            })
        };
        self.0.into_values().filter_map(judge).collect()
    }
}
