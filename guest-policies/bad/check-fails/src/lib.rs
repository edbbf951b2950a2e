//! Traps, or never ends, when it is asked to check the settings `"trap"` or `"spin"`; without settings it does well.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::about::{Guest as About, Info, Inputs, Problem};
use exports::weir::policy::balancer::{Columns, Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use weir::policy::snapshot::View;

struct Unchecked;

impl About for Unchecked {
    fn describe() -> Info {
        let text = String::new;
        Info { name: text(), version: text(), summary: text(), licence: text(), inputs: Inputs::empty() }
    }

    fn check(settings: String) -> Vec<Problem> {
        assert_ne!(settings, "\"trap\"", "told to trap");
        while settings == "\"spin\"" {
            std::hint::black_box(());
        }
        Vec::new()
    }
}

impl Guest for Unchecked {
    fn balance(_: &View, rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        Ok(rings.into_iter().map(spread).collect())
    }
}

fn spread(ring: Ring) -> Spread {
    Spread {
        id: ring.id,
        index: IndexFunction::Random,
        share: Share::Equal,
        affinity_seconds: 0,
        again_seconds: 0,
        reason: String::new(),
    }
}

export!(Unchecked);
