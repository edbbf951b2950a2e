//! Panics on rings with the settings `trap`, as a word or as JSON; all others it balances well.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::balancer::{Columns, Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use weir::policy::snapshot::View;

struct Trap;

bad_about::about!(Trap);

impl Guest for Trap {
    fn balance(view: &View, rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
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
        again_seconds: 0,
        reason: String::new(),
    }
}

export!(Trap);
