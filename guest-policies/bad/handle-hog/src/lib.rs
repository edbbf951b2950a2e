//! Takes all the handles it can get, of a resource of its own.

wit_bindgen::generate!({
    inline: r#"
        package example:hoarder;
        interface hoard {
            resource coin {}
        }
        world hoarder {
            include weir:policy/balancer-only@0.2.0;
            export hoard;
        }
    "#,
    path: ["../../../wit"],
    world: "example:hoarder/hoarder",
    generate_all,
});

use exports::example::hoarder::hoard::{Coin, Guest as Hoard, GuestCoin};
use exports::weir::policy::balancer::{Columns, Guest, PolicyError, Ring, Spread};
use weir::policy::snapshot::View;

struct HandleHog;

/// What it hoards.
struct Penny;

impl GuestCoin for Penny {}

impl Hoard for HandleHog {
    type Coin = Penny;
}

bad_about::about!(HandleHog);

impl Guest for HandleHog {
    fn balance(_: &View, _: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        loop {
            std::mem::forget(Coin::new(Penny));
        }
    }
}

export!(HandleHog);
