//! Calls itself without end.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::balancer::{Columns, Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

struct Deep;

bad_about::about!(Deep);

impl Guest for Deep {
    fn balance(_: &View, rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        Err(PolicyError::Internal(deeper(rings.len() as u64).to_string()))
    }
}

/// Uses little of the memory's own stack, so that it is the machine's that ends first.
fn deeper(level: u64) -> u64 {
    let below = std::hint::black_box(deeper as fn(u64) -> u64);
    below(level + 1).wrapping_mul(level)
}

export!(Deep);
