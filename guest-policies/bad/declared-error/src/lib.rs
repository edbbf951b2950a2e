//! Says that it cannot, with the port's settings as the reason.

wit_bindgen::generate!({ path: "../../../wit/v0.1", world: "balancer-only" });

use exports::weir::policy::balancer::{Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

struct DeclaredError;

impl Guest for DeclaredError {
    fn balance(view: &View, rings: Vec<Ring>, _ids: Vec<u32>, _weights: Vec<u32>) -> Result<Vec<Spread>, PolicyError> {
        Err(PolicyError::Unsupported(rings.iter().map(|ring| view.settings(ring.id)).collect()))
    }
}

export!(DeclaredError);
