//! Traps when it is asked what it is.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::about::{Guest as About, Info, Problem};
use exports::weir::policy::balancer::{Columns, Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

struct Nameless;

impl About for Nameless {
    fn describe() -> Info {
        panic!("who am I?")
    }

    fn check(_: String) -> Vec<Problem> {
        Vec::new()
    }
}

impl Guest for Nameless {
    fn balance(_: &View, _: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        Ok(Vec::new())
    }
}

export!(Nameless);
