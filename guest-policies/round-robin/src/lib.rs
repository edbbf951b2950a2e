//! Balancer: connections go to the endpoints in turn.
//!
//! Fairer than random where connections are few or long-lived. The counter belongs to one port on one node, so
//! nodes do not take turns with each other. It takes no settings, and keeps the affinity a Service asks for: then
//! only a client's first connection takes a turn.

wit_bindgen::generate!({ path: "../../wit/v0.1", world: "balancer-only" });

use exports::weir::policy::balancer::{Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use weir::policy::snapshot::View;

struct RoundRobin;

impl Guest for RoundRobin {
    fn balance(_: &View, rings: Vec<Ring>, _ids: Vec<u32>, _weights: Vec<u32>) -> Result<Vec<Spread>, PolicyError> {
        Ok(rings.into_iter().map(spread).collect())
    }
}

fn spread(ring: Ring) -> Spread {
    Spread {
        id: ring.id,
        index: IndexFunction::RoundRobin,
        share: Share::Equal,
        affinity_seconds: ring.affinity_seconds,
    }
}

export!(RoundRobin);
