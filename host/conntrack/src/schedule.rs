//! When the next pass is due.

use std::time::Duration;

/// How long after a change a second pass looks again: a packet that passed the old rules just before the commit
/// makes its entry only when it leaves the node, perhaps after the first pass has read the table.
pub const FOLLOW_UP: Duration = Duration::from_secs(1);

/// First wait after a pass that failed; doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Longest wait after a pass that failed.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// After a pass, so many times its own duration pass before the next, so that passes never take more than a fifth
/// of one processor, however large the kernel's table and however quick the changes.
const REST: u32 = 4;

/// Decides when to make a pass: at once after a change, again [`FOLLOW_UP`] later, and after failures with growing
/// waits. Changes that come while none may start yet share one pass. Times count from any fixed moment.
#[derive(Debug, Default)]
pub struct Schedule {
    /// No pass has begun since the last change.
    changed: bool,
    /// The last change that no complete pass has followed up yet.
    follow_up: Option<Duration>,
    retry: Option<Retry>,
    rest_until: Duration,
}

#[derive(Debug)]
struct Retry {
    at: Duration,
    wait: Duration,
}

impl Schedule {
    /// Notes a change at `now`.
    pub fn change(&mut self, now: Duration) {
        self.changed = true;
        self.follow_up = Some(now + FOLLOW_UP);
    }

    /// When the next pass should begin; `None` while there is nothing to do.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let wanted = if self.changed { Some(Duration::ZERO) } else { None };
        let wanted = wanted.or(self.retry.as_ref().map(|retry| retry.at)).or(self.follow_up);
        wanted.map(|at| at.max(self.rest_until))
    }

    /// Notes that a pass begins.
    pub fn begin(&mut self) {
        self.changed = false;
    }

    /// Notes the end of the pass that began at `begin`, and whether it was complete. Changes since its begin still
    /// ask for another.
    pub fn end(&mut self, begin: Duration, end: Duration, complete: bool) {
        self.rest_until = end + (end - begin) * REST;
        if complete {
            self.retry = None;
            self.follow_up = self.follow_up.filter(|due| begin < *due);
        } else {
            let wait = self.retry.as_ref().map_or(FIRST_RETRY, |retry| (retry.wait * 2).min(LAST_RETRY));
            self.retry = Some(Retry { at: end + wait, wait });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_change_is_followed_up_once() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(), None);
        schedule.change(ms(500));
        assert_eq!(schedule.due(), Some(ms(0)));
        schedule.begin();
        schedule.end(ms(500), ms(501), true);
        assert_eq!(schedule.due(), Some(ms(1500)));
        schedule.begin();
        schedule.end(ms(1500), ms(1501), true);
        assert_eq!(schedule.due(), None);
    }

    #[test]
    fn changes_share_a_pass_and_long_passes_rest() {
        let mut schedule = Schedule::default();
        schedule.change(ms(0));
        schedule.begin();
        schedule.change(ms(50));
        schedule.change(ms(90));
        schedule.end(ms(0), ms(100), true);
        assert_eq!(schedule.due(), Some(ms(500)));
        schedule.begin();
        schedule.end(ms(500), ms(600), true);
        assert_eq!(schedule.due(), Some(ms(1090)));
    }

    #[test]
    fn failures_wait_longer_each_time_and_never_give_up() {
        let mut schedule = Schedule::default();
        schedule.change(ms(0));
        let (mut now, mut waits) = (ms(0), Vec::new());
        for _ in 0..12 {
            schedule.begin();
            schedule.end(now, now, false);
            let due = schedule.due().expect("another attempt");
            waits.push(due - now);
            now = due;
        }
        assert_eq!(waits[..3], [ms(250), ms(500), ms(1000)]);
        assert_eq!(waits[11], LAST_RETRY);
        // A change does not wait for the next attempt.
        schedule.change(now);
        assert!(schedule.due().is_some_and(|due| due <= now), "{:?}", schedule.due());
        schedule.begin();
        schedule.end(now, now, true);
        assert_eq!(schedule.due(), Some(now + FOLLOW_UP));
    }
}
