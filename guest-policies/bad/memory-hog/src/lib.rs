//! Takes all the memory it can get.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::balancer::{Columns, Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

/// How much it takes at a time.
const MEBIBYTE: usize = 1 << 20;

struct MemoryHog;

bad_about::about!(MemoryHog);

impl Guest for MemoryHog {
    fn balance(_: &View, _rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        loop {
            hoard.push(std::hint::black_box(Vec::with_capacity(MEBIBYTE)));
        }
    }
}

export!(MemoryHog);
