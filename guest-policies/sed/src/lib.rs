//! Balancer: endpoints where the next connection has the least to wait for get more of them.
//!
//! IPVS' `sed`, shortest expected delay: (connections + 1) / weight is levelled, which prefers endpoints of large
//! weight while there is little to do. Weights are those of EndpointSlices; 0 drains.
//!
//! A loop over seconds, not a choice for each connection: see `schedulers::feedback`. Settings:
//!
//! ```json
//! { "period-seconds": 5, "slow-start-seconds": 30 }
//! ```
//!
//! `period-seconds` (1 to 3600) is the time between two looks; in `slow-start-seconds` (0 to 3600) the share of an
//! endpoint that has become ready grows to its full size.

use kit::schedulers::feedback::{Follow, Level, Pace};
use kit::{Balancer, Label, List, Spread, label};

struct Sed;

impl Balancer for Sed {
    type Settings = Pace;

    const LABEL: Label =
        label!("Endpoints where the next connection has the least to wait for get more of them.", kit::FEEDBACK);

    fn spread(pace: &Pace, list: &List<'_>) -> Spread {
        list.follow(Follow { level: Level::ExpectedDelay, pace: *pace })
    }
}

kit::export!(Sed);
