//! Plays traffic against every scheduler and prints tables, as they stand in docs/schedulers.md:
//! `cargo run -p weir-policy --example schedulers`.
//!
//! Weir's schedulers are the built-in policies, run by the host as on a node: they see the connections that node counts,
//! decide when they asked to, and connections pick slots in between. Their twins of IPVS look at the counters for every
//! connection. Time, clients and servers are simulated, by a generator with fixed seeds: equal runs print equal tables.
#![allow(clippy::expect_used, reason = "an example may panic")]

mod disruption;
mod ipvs;
mod scenario;
mod simulation;
mod weir;

use ipvs::Kind;
use scenario::{NODES, ONE_NEW, ONE_SLOW, SCENARIOS, Scenario};
use simulation::{Outcome, Scheduler, simulate};
use weir::Weir;

/// Who picks.
#[derive(Clone, Copy)]
enum Who {
    /// A policy by name.
    Weir(&'static str),
    /// A scheduler of IPVS, on so many nodes: on one it knows every connection there is.
    Ipvs(Kind, usize),
}

/// Those that are compared, with their name in the tables.
const ENTRIES: [(&str, Who); 22] = [
    ("`random`", Who::Weir("random")),
    ("`round-robin`", Who::Weir("round-robin")),
    ("IPVS rr", Who::Ipvs(Kind::RoundRobin, NODES)),
    ("`weighted`", Who::Weir("weighted")),
    ("`weighted`, in turn", Who::Weir("wrr")),
    ("IPVS wrr", Who::Ipvs(Kind::WeightedRoundRobin, NODES)),
    ("`source-hash`", Who::Weir("source-hash")),
    ("IPVS sh", Who::Ipvs(Kind::SourceHash, NODES)),
    ("`maglev`", Who::Weir("maglev")),
    ("IPVS mh", Who::Ipvs(Kind::Maglev, NODES)),
    ("`least-connections`", Who::Weir("least-connections")),
    ("IPVS lc", Who::Ipvs(Kind::LeastConnections, NODES)),
    ("IPVS lc, 1 node", Who::Ipvs(Kind::LeastConnections, 1)),
    ("`weighted-least-connections`", Who::Weir("weighted-least-connections")),
    ("IPVS wlc", Who::Ipvs(Kind::WeightedLeastConnections, NODES)),
    ("IPVS wlc, 1 node", Who::Ipvs(Kind::WeightedLeastConnections, 1)),
    ("`sed`", Who::Weir("sed")),
    ("IPVS sed", Who::Ipvs(Kind::ShortestExpectedDelay, NODES)),
    ("IPVS sed, 1 node", Who::Ipvs(Kind::ShortestExpectedDelay, 1)),
    ("`nq`", Who::Weir("nq")),
    ("IPVS nq", Who::Ipvs(Kind::NeverQueue, NODES)),
    ("IPVS nq, 1 node", Who::Ipvs(Kind::NeverQueue, 1)),
];

/// Runs of each, with other seeds: what is shown is their mean.
const RUNS: u64 = 5;

fn play(scenario: &Scenario, who: Who) -> Outcome {
    let weights: Vec<u32> = scenario.backends.iter().map(|backend| backend.weight).collect();
    let node = |node| -> Box<dyn Scheduler> {
        match who {
            Who::Weir(policy) => Box::new(Weir::new(node, policy, "", weights.clone())),
            Who::Ipvs(kind, _) => ipvs::scheduler(kind, weights.clone()),
        }
    };
    let nodes = if let Who::Ipvs(_, nodes) = who { nodes } else { NODES };
    let runs: Vec<Outcome> = (0..RUNS).map(|seed| simulate(scenario, seed, (0..nodes).map(node).collect())).collect();
    Outcome::mean(&runs)
}

fn main() {
    for Scenario { name, about, .. } in SCENARIOS {
        println!("* {name}: {about}");
    }
    let outcomes: Vec<Vec<Outcome>> =
        ENTRIES.iter().map(|(_, who)| SCENARIOS.iter().map(|scenario| play(scenario, *who)).collect()).collect();
    let waits: Vec<usize> = (0..SCENARIOS.len()).filter(|at| SCENARIOS[*at].backends[0].workers < u32::MAX).collect();
    table("Time until served: half of all / 99 of 100", &waits, &outcomes, |outcome| {
        format!("{} / {}", shown(outcome.median), shown(outcome.p99))
    });
    let all: Vec<usize> = (0..SCENARIOS.len()).collect();
    table("Connections by weight: the busiest endpoint by the mean (standard deviation)", &all, &outcomes, |outcome| {
        format!("{:.2} ({:.1} %)", outcome.busiest, 100.0 * outcome.deviation)
    });
    println!("\n### The slow endpoint, and the new one\n");
    println!("| scheduler | share of the slow one | share of the new one in its busiest 2 s | its most, by the mean |");
    println!("|---|---|---|---|");
    for ((name, _), outcomes) in ENTRIES.iter().zip(&outcomes) {
        let (share, level) = outcomes[ONE_NEW].newcomer;
        println!("| {name} | {:.1} % | {:.0} % | {level:.2} |", 100.0 * outcomes[ONE_SLOW].last, 100.0 * share);
    }
    disruption::print();
}

/// A row a scheduler, a column for each of those scenarios.
fn table(title: &str, scenarios: &[usize], outcomes: &[Vec<Outcome>], cell: impl Fn(&Outcome) -> String) {
    println!("\n### {title}\n");
    let names: Vec<&str> = scenarios.iter().map(|at| SCENARIOS[*at].name).collect();
    println!("| scheduler | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for ((name, _), outcomes) in ENTRIES.iter().zip(outcomes) {
        let cells: Vec<String> = scenarios.iter().map(|at| cell(&outcomes[*at])).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}

/// Seconds, for people.
fn shown(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}
