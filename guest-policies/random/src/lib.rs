//! Balancer: every connection goes to a random endpoint, all of them equally likely.
//!
//! What kube-proxy does. It takes no settings, and keeps the affinity a Service asks for. Endpoints whose EndpointSlice
//! gives them weight 0 are drained.

use kit::schedulers::share;
use kit::{Balancer, IndexFunction, Inputs, Label, List, Spread, label};

struct Random;

impl Balancer for Random {
    type Settings = ();

    const LABEL: Label = label!("Every connection goes to a random endpoint.", Inputs::empty());

    const HAS_SETTINGS: bool = false;

    fn spread((): &(), list: &List<'_>) -> Spread {
        Spread::new(IndexFunction::Random, share::equal(list.weights()))
    }
}

kit::export!(Random);
