//! Balancer: as sed, and endpoints without any connection come first.
//!
//! IPVS' `nq`, never queue: as `sed`, and endpoints without a connection get up to four times as much: the more, the
//! longer connections last. Where they are short, everybody has none at times, and what helps for one connection would
//! make a queue until the next look. Weights are those of EndpointSlices; 0 drains.
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

struct Nq;

impl Balancer for Nq {
    type Settings = Pace;

    const LABEL: Label = label!("As sed, and endpoints without any connection come first.", kit::FEEDBACK);

    fn spread(pace: &Pace, list: &List<'_>) -> Spread {
        list.follow(Follow { level: Level::NeverQueue, pace: *pace })
    }
}

kit::export!(Nq);
