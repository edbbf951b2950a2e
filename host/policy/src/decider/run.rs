//! One policy and those who ask it: who may, in which order, and what happens when it fails.

use std::ops::Range;
use std::time::Instant;

use super::progress::Progress;
use super::questions::Checked;
use crate::call::{Instance, Problem};
use crate::compiled::{Policy, Role};
use crate::limits::FailureReason;
use crate::quarantine::Leave;
use crate::subject::Subject;

/// The subjects of one policy, in the order in which it is asked about them.
pub(super) struct Queue {
    /// Positions among those who ask.
    pub(super) members: Vec<usize>,
    /// How many at the beginning may go into one call.
    batched: usize,
    /// How many at the end are under suspicion.
    suspects: usize,
}

/// Sorts `members` by how `policy` may be asked about them. Those it may not be asked about now come with the reason.
pub(super) fn queue<'a>(
    policy: &Policy,
    role: Role,
    members: Vec<usize>,
    subject: impl Fn(usize) -> &'a Subject,
    progress: &Progress<'_>,
) -> (Queue, Vec<(usize, Problem)>) {
    let (mut alone, mut suspects, mut denied) = (Vec::new(), Vec::new(), Vec::new());
    let mut batched = Vec::with_capacity(members.len());
    let quarantine = progress.shared.quarantine();
    for member in members {
        let Subject { port, input, .. } = subject(member);
        match quarantine.leave(port.key, role, policy, *input, progress.shared.now) {
            Leave::Batched => batched.push(member),
            Leave::Alone => alone.push(member),
            Leave::Suspect => suspects.push(member),
            Leave::Denied(problem) => denied.push((member, problem)),
        }
    }
    let (together, suspicious) = (batched.len(), suspects.len());
    batched.append(&mut alone);
    batched.append(&mut suspects);
    (Queue { members: batched, batched: together, suspects: suspicious }, denied)
}

/// Why a policy has no answer.
pub(super) struct Miss {
    pub(super) problem: Problem,
    /// Whether it was asked at all.
    pub(super) asked: bool,
}

/// Runs `call` for all that may be asked together; if that fails, again one by one, each in an instance of its own, so
/// that only what is at fault has no answer. The answers are in the order of the queue, each with its own words where
/// somebody wants to know of those that are good.
pub(super) fn run<'p, T: Send + Sync>(
    policy: &'p Policy,
    queue: &Queue,
    start: impl Fn() -> Result<Instance<'p>, Problem> + Sync,
    call: impl Fn(&mut Instance<'p>, Range<usize>) -> Result<Vec<Checked<T>>, Problem> + Sync,
    progress: &mut Progress<'_>,
) -> Vec<Checked<T, Miss>> {
    let Progress { shared, decisions, .. } = progress;
    let now = shared.now;
    let stats = decisions.stats.entry(policy.name.clone()).or_default();
    let mut once = |range: Range<usize>| {
        let began = Instant::now();
        let answer = policy.apart(|| {
            let mut instance = start()?;
            let answer = call(&mut instance, range.clone());
            stats.calls += 1;
            stats.asked += instance.cost.asked;
            stats.blind |= instance.is_blind();
            stats.fuel += instance.cost.fuel;
            stats.time += instance.cost.time;
            stats.memory = stats.memory.max(instance.cost.memory);
            shared.spend(instance.end());
            answer
        });
        let answer = answer.and_then(|answer| answer);
        if answer.is_err() {
            shared.quarantine().wasted(policy, began.elapsed(), now);
        }
        answer
    };
    let mut answers = Vec::with_capacity(queue.members.len());
    let answer_of = |(checked, words): Checked<T>| (checked.map_err(|problem| Miss { problem, asked: true }), words);
    if queue.batched > 1
        && let Ok(given) = once(0..queue.batched)
    {
        answers.extend(given.into_iter().map(answer_of));
    }
    let innocent = queue.members.len() - queue.suspects;
    for at in answers.len()..queue.members.len() {
        let suspect = at >= innocent;
        let denied = if suspect {
            let owes = || Problem::new(FailureReason::Deadline, "not asked for a while, because of the time it wasted");
            shared.quarantine().owes(policy, now).then(owes)
        } else {
            shared.quarantine().exhausted(policy)
        };
        answers.push(match denied {
            Some(problem) => (Err(Miss { problem, asked: false }), None),
            None => once(at..at + 1)
                .and_then(|mut given| {
                    given.pop().ok_or_else(|| Problem::new(FailureReason::InvalidAnswer, "it gave no answer"))
                })
                .map_or_else(
                    |problem| {
                        if !suspect && problem.reason.is_costly() {
                            shared.quarantine().burnt(policy, &problem, now);
                        }
                        (Err(Miss { problem, asked: true }), None)
                    },
                    answer_of,
                ),
        });
    }
    answers
}
