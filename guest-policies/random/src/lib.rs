//! Balancer: every connection goes to a random endpoint, all of them equally likely.
//!
//! What kube-proxy does. It takes no settings, and keeps the affinity a Service asks for.

wit_bindgen::generate!({ path: "../../wit/v0.1", world: "balancer-only" });

use exports::weir::policy::balancer::{Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use weir::policy::snapshot::View;

struct Random;

impl Guest for Random {
    fn balance(_: &View, rings: Vec<Ring>, _ids: Vec<u32>, _weights: Vec<u32>) -> Result<Vec<Spread>, PolicyError> {
        Ok(rings.into_iter().map(spread).collect())
    }
}

fn spread(ring: Ring) -> Spread {
    Spread { id: ring.id, index: IndexFunction::Random, share: Share::Equal, affinity_seconds: ring.affinity_seconds }
}

export!(Random);
