//! Sharing by load: a control loop over seconds.
//!
//! The kernel picks a slot for every connection; a policy only says how many slots each endpoint has. So "the endpoint
//! with the fewest connections" cannot be chosen connection by connection. What can be done is to move slots, every few
//! seconds, from endpoints that have more open connections than they should to those that have fewer:
//!
//! ```text
//! share ← share × ((target + c) / (active + c)) ^ ½
//! ```
//!
//! Connections open at an endpoint are its share of arrivals times how long it takes, so in the steady state shares are
//! in inverse proportion to service times, as with IPVS. The root makes the loop converge by half of what is left at
//! each step, without overshooting; `c` keeps it from chasing the noise of a handful of connections; and with little
//! load all shares drift back to the fair ones.

use serde::Deserialize;

use crate::{Answer, IndexFunction, Members, Problem, Settings, Share};

/// Slots of an endpoint with the fair share.
const FAIR: f64 = 16.0;

/// Least and most slots: an endpoint that is never asked could never show that it has become fast.
const RANGE: (f64, f64) = (1.0, 160.0);

/// Connections by which a difference is damped.
const NOISE: f64 = 2.0;

/// What is to be equal among endpoints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Formula {
    /// Open connections.
    Connections,
    /// Open connections by weight.
    WeightedConnections,
    /// The delay to be expected: open connections and the next one, by weight.
    ShortestDelay,
    /// The same, and idle endpoints get twice their share.
    NeverQueue,
}

/// Settings of the balancers that share by load.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Feedback {
    /// Seconds between two looks.
    period_seconds: u32,
    /// Seconds in which the share of a new endpoint grows to its full size; 0 for at once.
    slow_start_seconds: u32,
}

impl Default for Feedback {
    fn default() -> Self {
        Self { period_seconds: 5, slow_start_seconds: 30 }
    }
}

impl Settings for Feedback {
    fn problem(&self) -> Option<Problem> {
        Self::within("period-seconds", self.period_seconds, 1, 3600)
            .or_else(|| Self::within("slow-start-seconds", self.slow_start_seconds, 0, 3600))
    }
}

impl Feedback {
    /// Slots by load.
    pub fn spread(&self, formula: Formula, members: &Members<'_>) -> Answer {
        let weights = weights(formula, members.weights());
        let shares = shares(formula, &weights, members);
        let slots = shares.iter().zip(members.ages()).map(|(share, age)| self.slots(*share, *age)).collect();
        let again_seconds = if members.count() > 1 { self.period_seconds } else { 0 };
        let answer = Answer::new(IndexFunction::Random, Share::Weights(slots)).because(reason(members, &weights));
        Answer { again_seconds, ..answer }
    }

    /// Slots for a share, as many of them as an endpoint of that age may have.
    fn slots(&self, share: f64, age: u32) -> u32 {
        if share == 0.0 {
            return 0;
        }
        let grown = if age < self.slow_start_seconds {
            f64::from(age + 1) / f64::from(self.slow_start_seconds + 1)
        } else {
            1.0
        };
        // Within RANGE, so that no figure is lost.
        (share * grown).round().clamp(RANGE.0, RANGE.1) as u32
    }
}

/// What each endpoint should carry, in proportion; 0 for one that is drained. Where all are, nobody is.
fn weights(formula: Formula, by_slice: &[u32]) -> Vec<f64> {
    let all_drained = by_slice.iter().all(|weight| *weight == 0);
    let weight = |weight: &u32| match (formula, *weight) {
        _ if all_drained => 1.0,
        (_, 0) => 0.0,
        (Formula::Connections, _) => 1.0,
        (_, weight) => f64::from(weight),
    };
    by_slice.iter().map(weight).collect()
}

/// The share of each endpoint in slots, 0 where it is drained.
fn shares(formula: Formula, weights: &[f64], members: &Members<'_>) -> Vec<f64> {
    let serving = weights.iter().filter(|weight| **weight > 0.0).count().max(1) as f64;
    let mean = weights.iter().sum::<f64>() / serving;
    let fair = |weight: f64| (FAIR * weight / mean).clamp(RANGE.0, RANGE.1);
    let ahead = if matches!(formula, Formula::ShortestDelay | Formula::NeverQueue) { 1.0 } else { 0.0 };
    let active: Vec<f64> = members.loads().iter().map(|load| f64::from(load.active) + ahead).collect();
    let carried =
        active.iter().zip(weights).filter(|(_, weight)| **weight > 0.0).map(|(active, _)| active).sum::<f64>();
    // With few connections there is nothing to learn: back to fair shares, by a fifth each time at most.
    let forget = 0.2 / (1.0 + carried / serving);
    let share = |((weight, active), before): ((&f64, &f64), &u32)| {
        if *weight == 0.0 {
            return 0.0;
        }
        let fair = fair(*weight);
        let before = if *before == 0 { fair } else { f64::from(*before) };
        let target = carried / serving * weight / mean;
        let moved = before * ((target + NOISE) / (active + NOISE)).sqrt();
        let idle = formula == Formula::NeverQueue && *active == ahead && carried > ahead * serving;
        let share = moved.powf(1.0 - forget) * fair.powf(forget);
        (if idle { share.max(2.0 * fair) } else { share }).clamp(RANGE.0, RANGE.1)
    };
    let before = scaled(members.shares(), serving);
    let shares: Vec<f64> = weights.iter().zip(&active).zip(&before).map(share).collect();
    // The sum stays, or all would creep to one end of the range together.
    let total: f64 = shares.iter().sum();
    let factor = if total > 0.0 { FAIR * serving / total } else { 1.0 };
    shares.iter().map(|share| share * factor).collect()
}

/// The slots in force, as if they had been given as [`FAIR`] ones on the average: the host keeps proportions only.
fn scaled(slots: &[u32], serving: f64) -> Vec<u32> {
    let total: f64 = slots.iter().map(|slots| f64::from(*slots)).sum();
    let factor = if total > 0.0 { FAIR * serving / total } else { 1.0 };
    slots
        .iter()
        .map(|slots| if *slots == 0 { 0 } else { (f64::from(*slots) * factor).round().max(1.0) as u32 })
        .collect()
}

/// The busiest and the idlest, for people.
fn reason(members: &Members<'_>, weights: &[f64]) -> String {
    let active =
        || members.loads().iter().zip(weights).filter(|(_, weight)| **weight > 0.0).map(|(load, _)| load.active);
    match (active().min(), active().max()) {
        (Some(least), Some(most)) if most > 0 => format!("{least} to {most} connections an endpoint"),
        _ => String::new(),
    }
}
