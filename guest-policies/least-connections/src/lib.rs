//! Balancer: endpoints with fewer open connections get more new ones.
//!
//! IPVS' `lc`. Weights of EndpointSlices do not count, but 0 drains.
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

struct LeastConnections;

impl Balancer for LeastConnections {
    type Settings = Pace;

    const LABEL: Label = label!("Endpoints with fewer open connections get more new ones.", kit::FEEDBACK);

    fn spread(pace: &Pace, list: &List<'_>) -> Spread {
        list.follow(Follow { level: Level::Connections, pace: *pace })
    }
}

kit::export!(LeastConnections);
