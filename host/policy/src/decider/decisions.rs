//! What comes out of a sync.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{Decision, ObjectKey, PortKey};

use crate::limits::FailureReason;
use crate::quarantine::Resting;

/// The answers of one sync.
#[derive(Debug, Default)]
pub struct Decisions {
    /// One decision for every port of the Services asked about, in ascending order.
    pub ports: Vec<(PortKey, Arc<Decision>)>,
    /// What went wrong on the way; each of these ports has a decision all the same.
    pub failures: Vec<Failure>,
    /// Policies that rest as a whole from now on: they wasted too much, or would have taken too much away.
    pub rests: Vec<Resting>,
    /// What it cost, policy by policy.
    pub stats: BTreeMap<Arc<str>, Stats>,
}

impl Decisions {
    /// Adds what came of other ports of the same sync.
    pub(super) fn absorb(&mut self, other: Self) {
        let Self { mut ports, mut failures, mut rests, stats } = other;
        self.ports.append(&mut ports);
        self.failures.append(&mut failures);
        self.rests.append(&mut rests);
        for (policy, more) in stats {
            self.stats.entry(policy).or_default().add(more);
        }
    }
}

/// A policy gave no answer for a port.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The Service.
    pub service: Arc<ObjectKey>,
    /// Name of the port; its number when it has none.
    pub port: String,
    /// The policy.
    pub policy: Arc<str>,
    /// Why, in one stable word.
    pub reason: FailureReason,
    /// Why, in a sentence.
    pub message: String,
    /// Whether it was asked, and whether that is news.
    pub attempt: Attempt,
}

/// How a policy came to give no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It was asked, and failed in a way it did not fail for this port the last time.
    First,
    /// It was asked again, and failed again.
    Repeated,
    /// It was not asked, because it failed before.
    None,
}

/// What a policy did in one sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls, the failed ones included.
    pub calls: u64,
    /// Ports or rings it was asked about; those that look alike to it count once.
    pub asked: u64,
    /// Fuel it used.
    pub fuel: u64,
    /// Time it took, on all threads together.
    pub time: Duration,
    /// The most memory one call had, in bytes.
    pub memory: u64,
    /// Whether it looked up what it asks for in none of its [`crate::Inputs`], and got nothing.
    pub blind: bool,
}

impl Stats {
    /// Adds what it did besides.
    pub fn add(&mut self, more: Self) {
        let Self { calls, asked, fuel, time, memory, blind } = more;
        self.calls += calls;
        self.asked += asked;
        self.fuel += fuel;
        self.time += time;
        self.memory = self.memory.max(memory);
        self.blind |= blind;
    }
}
