//! How long to wait after a failure.

use std::time::Duration;

use super::Timing;
use super::api::Failure;
use super::timing::jittered;

/// Longest wait an API server can talk us into: one that asks for a day would leave us blind.
const LONGEST_ASKED: Duration = Duration::from_secs(120);

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure. Never less than the API server asks for, up to [`LONGEST_ASKED`].
    pub(super) fn next(&mut self, failure: &Failure, timing: &Timing) -> Duration {
        let longest = if failure.is_answer() { timing.longest_wait_refused } else { timing.longest_wait_unreachable };
        let doubled = timing.first_wait.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let own = jittered(doubled.min(longest));
        // All nodes are told the same number; they should not come back at the same moment.
        let asked = failure.retry_after().map(|asked| asked.min(LONGEST_ASKED).mul_f64(1.0 + fastrand::f64() / 2.0));
        asked.map_or(own, |asked| asked.max(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(retry_after: Option<u64>) -> Failure {
        Failure::Status { code: 429, message: String::new(), retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let timing = Timing::default();
        let mut backoff = Backoff::default();
        for expected in [500_u32, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            let wait = backoff.next(&refused(None), &timing);
            let expected = Duration::from_millis(expected.into());
            assert!(wait >= expected / 2 && wait <= expected * 3 / 2, "{wait:?} is not about {expected:?}");
        }
        for _ in 0..100 {
            assert!(backoff.next(&refused(None), &timing) <= Duration::from_secs(45), "no overflow");
        }
        backoff.reset();
        assert!(backoff.next(&refused(None), &timing) <= Duration::from_millis(750));
    }

    #[test]
    fn an_unreachable_server_is_asked_more_often() {
        let mut backoff = Backoff { failures: 20 };
        assert!(backoff.next(&Failure::Transport("refused".into()), &Timing::default()) <= Duration::from_millis(4500));
    }

    #[test]
    fn what_the_server_asks_for_is_kept_and_spread() {
        let waits: Vec<Duration> =
            (0..50).map(|_| Backoff::default().next(&refused(Some(10)), &Timing::default())).collect();
        assert!(waits.iter().all(|wait| (10..=15).contains(&wait.as_secs())), "{waits:?}");
        assert!(waits.iter().max() > waits.iter().min(), "they differ");
        let day = Backoff::default().next(&refused(Some(86_400)), &Timing::default());
        assert!(day <= LONGEST_ASKED * 3 / 2, "{day:?}");
    }
}
