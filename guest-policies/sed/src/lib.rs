//! Balancer: endpoints whose connections, the next one included, are fewer by their weight get more new ones.
//!
//! What IPVS calls `sed`, the shortest expected delay. Weights are those of EndpointSlices; 0 drains.
//!
//! A loop over seconds, not a choice for each connection: see `kit`'s `feedback`. Settings:
//!
//! ```json
//! { "period-seconds": 5, "slow-start-seconds": 30 }
//! ```
//!
//! `period-seconds` (1 to 3600) is the time between two looks; in `slow-start-seconds` (0 to 3600) the share of an endpoint
//! that became ready grows to its full size.

use kit::{Answer, Balancer, Feedback, Formula, Inputs, Members};

struct Sed;

impl Balancer for Sed {
    type Settings = Feedback;

    const NAME: &str = "sed";
    const SUMMARY: &str = "The shortest delay to be expected gets more new connections.";
    const INPUTS: Inputs = Inputs::LOADS.union(Inputs::AGES).union(Inputs::SHARES);

    fn spread(settings: &Feedback, members: &Members<'_>) -> Answer {
        settings.spread(Formula::ShortestDelay, members)
    }
}

kit::policy!(Sed);
