//! Never returns.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::balancer::{Columns, Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

struct Spin;

bad_about::about!(Spin);

impl Guest for Spin {
    fn balance(_: &View, rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        let mut turns = rings.len();
        loop {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }
}

export!(Spin);
