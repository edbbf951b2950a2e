//! Balancer: a set share of connections for the pods of a canary.
//!
//! ```json
//! { "pod-prefix": "web-v2-", "percent": 5 }
//! ```
//!
//! Pods whose names begin with `pod-prefix` get `percent` (0 to 100) of all connections together, however many they are;
//! the others share the rest. Where one side has no endpoints the other gets everything. Without settings all endpoints
//! are equal.

use kit::{Answer, Balancer, IndexFunction, Inputs, Members, Problem, Settings, Share};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Split {
    pod_prefix: String,
    percent: u32,
}

impl Settings for Split {
    fn problem(&self) -> Option<Problem> {
        if self.pod_prefix.is_empty() {
            return Self::at("pod-prefix", "needed: how the names of the canary's pods begin");
        }
        Self::within("percent", self.percent, 0, 100)
    }
}

struct Canary;

impl Balancer for Canary {
    type Settings = Split;

    const NAME: &str = "canary";
    const SUMMARY: &str = "A set share of connections goes to the pods of a canary.";
    const INPUTS: Inputs = Inputs::PODS;

    fn spread(settings: &Split, members: &Members<'_>) -> Answer {
        if settings.pod_prefix.is_empty() {
            return Answer::new(IndexFunction::Random, Share::Equal);
        }
        let is_canary: Vec<bool> =
            (0..members.ring().count).map(|at| members.pod(at).starts_with(&settings.pod_prefix)).collect();
        let canaries = is_canary.iter().filter(|is| **is).count();
        let others = members.count() - canaries;
        if canaries == 0 || others == 0 {
            let side =
                if canaries == 0 { "no pod of the canary is there" } else { "only pods of the canary are there" };
            return Answer::new(IndexFunction::Random, Share::Equal).because(side);
        }
        // Each side's share, divided among its own: both sides multiplied by both counts, to stay with whole numbers.
        // At most 100 times the 16 thousand endpoints of a ring.
        let (canary, other) = (settings.percent * others as u32, (100 - settings.percent) * canaries as u32);
        let weights = is_canary.iter().map(|is| if *is { canary } else { other }).collect();
        let reason = format!("{} % to {canaries} of {} endpoints", settings.percent, members.count());
        Answer::new(IndexFunction::Random, Share::Weights(weights)).because(reason)
    }
}

kit::policy!(Canary);
