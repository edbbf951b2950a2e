//! Three schedulers side by side: the same backends, one of them slow, and what clients get.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_netlink::Kernel;

use super::scene::Scene;
use super::table;
use crate::pipeline::Pipeline;
use crate::race::{self, DELAY, RATE, Runner, SLOW, SLOW_DELAY, SOON};

/// Who runs.
const RUNNERS: [Runner; 3] = [
    Runner { number: 1, scheduler: "random", settings: "" },
    Runner { number: 2, scheduler: "round-robin", settings: "" },
    Runner { number: 3, scheduler: "least-connections", settings: SOON },
];

/// Time in which is counted.
const COUNTED: Duration = Duration::from_secs(4);

/// Runs them and prints what came of it. Returns whether it came out as it should: nothing failed, and the scheduler that
/// looks at load spared the slow backend.
pub(super) fn run(scene: &Scene, pipeline: &mut Pipeline<Kernel>) -> anyhow::Result<bool> {
    race::count_loads(pipeline, &scene.node);
    println!(
        "\nthree schedulers, the same backends, {} takes {SLOW_DELAY:?} and the others {DELAY:?}; {RATE} connections a second each:",
        table::short(SLOW)
    );
    let reports = race::run(&RUNNERS, &scene.node, pipeline, COUNTED)?;
    println!("  {:<20} {:<28} {:>8} {:>8} {:>8}", "scheduler", "connections", "mean", "p50", "p99");
    let mut slow = BTreeMap::new();
    let mut failed = 0;
    for (Runner { scheduler, .. }, report) in RUNNERS.iter().zip(&reports) {
        failed += report.tally.failed();
        slow.insert(*scheduler, report.tally.share_of(SLOW));
        let [mean, median, most] = race::latencies(&report.latencies);
        let shares = table::shares(&report.tally);
        println!("  {scheduler:<20} {shares:<28} {mean:>5.0} ms {median:>5.0} ms {most:>5.0} ms");
    }
    Ok(failed == 0 && slow["least-connections"] < slow["random"] / 2.0)
}
