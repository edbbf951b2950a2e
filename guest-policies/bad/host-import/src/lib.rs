//! Wants a host function that Weir does not have.

wit_bindgen::generate!({
    inline: r#"
        package example:dialer@1.0.0;
        interface network { dial: func(address: string) -> bool; }
        world dialer {
            include weir:policy/balancer-only@0.2.0;
            import network;
        }
    "#,
    path: ["../../../wit"],
    world: "example:dialer/dialer",
    generate_all,
});

use example::dialer::network::dial;
use exports::weir::policy::balancer::{Columns, Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use weir::policy::snapshot::View;

struct Dialer;

bad_about::about!(Dialer);

impl Guest for Dialer {
    fn balance(view: &View, rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        Ok(rings.into_iter().map(|ring| spread(view, ring)).collect())
    }
}

fn spread(view: &View, ring: Ring) -> Spread {
    let alive = (0..ring.count).filter(|endpoint| dial(&view.endpoint_address(ring.id, *endpoint)));
    Spread {
        id: ring.id,
        index: IndexFunction::Random,
        share: Share::Slots(alive.collect()),
        affinity_seconds: 0,
        again_seconds: 0,
        reason: String::new(),
    }
}

export!(Dialer);
