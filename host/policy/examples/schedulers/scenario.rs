//! What is played.

/// Nodes with clients. Each counts its own connections only, as in a cluster.
pub(crate) const NODES: usize = 4;

/// Seconds that are played, and from when on is measured.
pub(crate) const END: f64 = 240.0;
pub(crate) const MEASURED_FROM: f64 = 60.0;

/// When the backend comes that does so.
pub(crate) const CHANGE: f64 = 90.0;

/// A server.
#[derive(Clone, Copy)]
pub(crate) struct Backend {
    /// Its weight.
    pub(crate) weight: u32,
    /// Connections it serves at a time; others wait.
    pub(crate) workers: u32,
    /// Seconds it takes for one, on the average.
    pub(crate) service: f64,
    /// Since when it is there, in seconds.
    pub(crate) since: f64,
}

/// How the time for one connection is distributed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lengths {
    Exponential,
    /// Pareto with exponent 1.5, cut off at a thousand times the mean: most are short, few take very long.
    HeavyTailed,
}

/// Traffic and servers.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) backends: [Backend; 10],
    pub(crate) lengths: Lengths,
    /// New connections a second of all nodes together, on the average. They come at random (a Poisson process).
    pub(crate) rate: f64,
}

const USUAL: Backend = Backend { weight: 1, workers: 8, service: 0.1, since: 0.0 };

/// Ten, the last of another kind.
const fn with_last(usual: Backend, last: Backend) -> [Backend; 10] {
    let mut all = [usual; 10];
    all[9] = last;
    all
}

const SLOW: Backend = Backend { service: 1.0, ..USUAL };
const LARGE: Backend = Backend { weight: 3, workers: 12, ..USUAL };
const SMALL: Backend = Backend { workers: 4, ..USUAL };
const LONG: Backend = Backend { workers: u32::MAX, service: 40.0, ..USUAL };

/// Positions in [`SCENARIOS`].
pub(crate) const ONE_SLOW: usize = 2;
pub(crate) const ONE_NEW: usize = 4;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "equal",
        about: "ten equal backends of eight workers, 100 ms a connection on the average, at 70 % of what they can do",
        backends: [USUAL; 10],
        lengths: Lengths::Exponential,
        rate: 560.0,
    },
    Scenario {
        name: "heavy tail",
        about: "the same, but most connections are short and few very long (Pareto, exponent 1.5)",
        backends: [USUAL; 10],
        lengths: Lengths::HeavyTailed,
        rate: 560.0,
    },
    Scenario {
        name: "one slow",
        about: "one of the ten takes ten times as long; 50 % of what all can do together, more than the slow one's tenth",
        backends: with_last(USUAL, SLOW),
        lengths: Lengths::Exponential,
        rate: 364.0,
    },
    Scenario {
        name: "large and small",
        about: "five backends of twelve workers and weight 3, five of four and weight 1; 70 % of what they can do",
        backends: [LARGE, LARGE, LARGE, LARGE, LARGE, SMALL, SMALL, SMALL, SMALL, SMALL],
        lengths: Lengths::Exponential,
        rate: 560.0,
    },
    Scenario {
        name: "one new",
        about: "long connections, 40 s on the average, nobody waits; the tenth backend comes after 90 s",
        backends: with_last(LONG, Backend { since: CHANGE, ..LONG }),
        lengths: Lengths::Exponential,
        rate: 50.0,
    },
];
