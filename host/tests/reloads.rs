//! Policies that are replaced again and again leave nothing behind in memory. In a process of its own, so that the
//! memory is that of the reloads; `make soak` does a thousand of them, every run of the tests some hundred.
#![allow(clippy::expect_used, reason = "tests panic")]

#[allow(dead_code, reason = "of what the other tests use as well, this one needs the loop only")]
#[path = "policies/daemon.rs"]
mod daemon;

use weir::policies::Delivery;
use weir_model::IndexFunction::Random;
use weir_policy::Digest;

use crate::daemon::{Daemon, artifact, built_in, stamped};

/// Reloads before the memory is first looked at: allocator, compiler and the kept versions have what they need by then.
const WARM_UP: u16 = 60;
/// How many come after, unless WEIR_RELOADS says.
const RELOADS: u16 = 140;
/// Growth that is the allocator's affair.
const SLACK: u64 = 6 << 20;

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes << 10
}

#[test]
fn memory_stays_flat_over_reloads() {
    let wanted = std::env::var("WEIR_RELOADS").ok().map(|text| text.parse::<u16>().expect("WEIR_RELOADS: a number"));
    let last = WARM_UP + wanted.unwrap_or(RELOADS);
    let daemon = Daemon::start(1);
    daemon.deliver(Delivery::Listed);
    daemon.wait_for(Random);
    let component = built_in("round-robin");
    let mut warm = 0;
    for number in 0..last {
        let version = stamped(&component, number);
        let digest = Digest::of(&version).to_string();
        daemon.deliver(artifact("mine", version));
        daemon.wait_for_status(|status| status.digest == digest);
        daemon.spread.try_iter().for_each(drop);
        if number + 1 == WARM_UP {
            warm = resident();
        }
    }
    let now = resident();
    println!("{} reloads: {} KiB, then {} KiB", last, warm >> 10, now >> 10);
    assert!(now <= warm + SLACK, "{} KiB after {WARM_UP} reloads, {} KiB after {last}", warm >> 10, now >> 10);
}
