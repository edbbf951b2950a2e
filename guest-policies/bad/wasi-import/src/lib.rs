//! Wants a clock, and spreads connections by the time of day.

wit_bindgen::generate!({
    inline: r#"
        package example:clocked;
        world clocked {
            include weir:policy/balancer-only@0.2.0;
            import wasi:clocks/monotonic-clock@0.2.3;
        }
    "#,
    path: ["wit", "../../../wit"],
    world: "example:clocked/clocked",
    generate_all,
});

use exports::weir::policy::balancer::{Columns, Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use weir::policy::snapshot::View;

struct Clocked;

bad_about::about!(Clocked);

impl Guest for Clocked {
    fn balance(_: &View, rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        Ok(rings.into_iter().map(spread).collect())
    }
}

fn spread(ring: Ring) -> Spread {
    let now = wasi::clocks::monotonic_clock::now();
    let chosen = u32::try_from(now % u64::from(ring.count)).unwrap_or_default();
    Spread {
        id: ring.id,
        index: IndexFunction::Random,
        share: Share::Slots(vec![chosen]),
        affinity_seconds: 0,
        again_seconds: 0,
        reason: String::new(),
    }
}

export!(Clocked);
