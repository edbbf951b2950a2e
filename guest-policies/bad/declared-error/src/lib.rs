//! Says that it cannot, with the port's settings as the reason.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::about::{self, Info, Inputs, Problem};
use exports::weir::policy::balancer::{Columns, Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

struct DeclaredError;

impl about::Guest for DeclaredError {
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

impl Guest for DeclaredError {
    fn balance(view: &View, rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        Err(PolicyError::Unsupported(rings.iter().map(|ring| view.settings(ring.id)).collect()))
    }
}

export!(DeclaredError);
