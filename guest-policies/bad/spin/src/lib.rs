//! Never returns.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::about::{self, Info, Inputs, Problem};
use exports::weir::policy::balancer::{Columns, Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

struct Spin;

impl about::Guest for Spin {
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

impl Guest for Spin {
    fn balance(_: &View, rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        let mut turns = rings.len();
        loop {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }
}

export!(Spin);
