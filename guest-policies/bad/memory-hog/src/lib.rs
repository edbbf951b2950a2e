//! Takes all the memory it can get.

wit_bindgen::generate!({ path: "../../../wit/v0.1", world: "balancer-only" });

use exports::weir::policy::balancer::{Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

/// How much it takes at a time.
const MEBIBYTE: usize = 1 << 20;

struct MemoryHog;

impl Guest for MemoryHog {
    fn balance(_: &View, _rings: Vec<Ring>, _ids: Vec<u32>, _weights: Vec<u32>) -> Result<Vec<Spread>, PolicyError> {
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        loop {
            hoard.push(std::hint::black_box(Vec::with_capacity(MEBIBYTE)));
        }
    }
}

export!(MemoryHog);
