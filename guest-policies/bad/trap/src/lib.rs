//! Panics on rings with the settings `trap`, as a word or as JSON; all others it balances well.

wit_bindgen::generate!({ path: "../../../wit/v0.1", world: "balancer-only" });

use exports::weir::policy::balancer::{Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use weir::policy::snapshot::View;

struct Trap;

impl Guest for Trap {
    fn balance(view: &View, rings: Vec<Ring>, _ids: Vec<u32>, _weights: Vec<u32>) -> Result<Vec<Spread>, PolicyError> {
        Ok(rings.into_iter().map(|ring| spread(view, ring)).collect())
    }
}

fn spread(view: &View, ring: Ring) -> Spread {
    assert_ne!(view.settings(ring.id).trim_matches('"'), "trap", "told to trap");
    Spread {
        id: ring.id,
        index: IndexFunction::RoundRobin,
        share: Share::Equal,
        affinity_seconds: ring.affinity_seconds,
    }
}

export!(Trap);
