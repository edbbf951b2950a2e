//! Says that it cannot, with the port's settings as the reason.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::balancer::{Columns, Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

struct DeclaredError;

bad_about::about!(DeclaredError);

impl Guest for DeclaredError {
    fn balance(view: &View, rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        Err(PolicyError::Unsupported(rings.iter().map(|ring| view.settings(ring.id)).collect()))
    }
}

export!(DeclaredError);
