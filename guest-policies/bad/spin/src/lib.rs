//! Never returns.

wit_bindgen::generate!({ path: "../../../wit/v0.1", world: "balancer-only" });

use exports::weir::policy::balancer::{Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

struct Spin;

impl Guest for Spin {
    fn balance(_: &View, rings: Vec<Ring>, _ids: Vec<u32>, _weights: Vec<u32>) -> Result<Vec<Spread>, PolicyError> {
        let mut turns = rings.len();
        loop {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }
}

export!(Spin);
