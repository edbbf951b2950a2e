//! Waits and deadlines.

use std::time::Duration;

/// How long things may take and how long to wait. The default suits a cluster; tests shorten it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long the API server may take to connect, to begin its answer, and between two pieces of a list.
    pub answer: Duration,
    /// How long a watch may be silent. The API server sends a bookmark a minute where nothing else happens
    /// (`bookmarkFrequency` of its cacher), so that silence beyond it means a connection that is dead on one side.
    pub silence: Duration,
    /// How long the API server is asked to keep a watch, at least; at most twice as long, by chance, as in client-go
    /// (`minWatchTimeout`), lest all nodes come back at the same time.
    pub watch: Duration,
    /// First wait after a failure; doubles with each further one. Every wait is stretched or shortened by up to half.
    pub first_wait: Duration,
    /// Longest wait while the API server cannot be reached: asking costs it nothing then, and it should find us back
    /// soon after it returns.
    pub longest_wait_unreachable: Duration,
    /// Longest wait while it answers with errors.
    pub longest_wait_refused: Duration,
    /// How often to ask for a kind the API server does not have, or does not let us see.
    pub absent: Duration,
    /// How often everything is listed anew while all seems well, by up to half earlier or later: heals what a watch lost
    /// without anybody noticing.
    pub relist: Duration,
    /// Objects a page of a list.
    pub page: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(90),
            watch: Duration::from_secs(5 * 60),
            first_wait: Duration::from_millis(500),
            longest_wait_unreachable: Duration::from_secs(3),
            longest_wait_refused: Duration::from_secs(30),
            absent: Duration::from_secs(15 * 60),
            relist: Duration::from_secs(6 * 60 * 60),
            page: 500,
        }
    }
}

/// `length`, by up to half shorter or longer.
pub(super) fn jittered(length: Duration) -> Duration {
    length.mul_f64(0.5 + fastrand::f64())
}
