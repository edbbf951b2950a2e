//! Waiting, in tests, for what a thread of its own does.

use std::time::{Duration, Instant};

/// Returns when `holds` does. After ten seconds it panics with `what`, which says what is wrong then.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
