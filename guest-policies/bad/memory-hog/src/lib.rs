//! Takes all the memory it can get.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::about::{self, Info, Inputs, Problem};
use exports::weir::policy::balancer::{Columns, Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

/// How much it takes at a time.
const MEBIBYTE: usize = 1 << 20;

struct MemoryHog;

impl about::Guest for MemoryHog {
    fn describe() -> Info {
        let (name, summary, licence) =
            (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_DESCRIPTION"), env!("CARGO_PKG_LICENSE"));
        Info {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: summary.to_owned(),
            licence: licence.to_owned(),
            inputs: Inputs::empty(),
        }
    }

    fn check(_settings: String) -> Vec<Problem> {
        Vec::new()
    }
}

impl Guest for MemoryHog {
    fn balance(_: &View, _rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        loop {
            hoard.push(std::hint::black_box(Vec::with_capacity(MEBIBYTE)));
        }
    }
}

export!(MemoryHog);
