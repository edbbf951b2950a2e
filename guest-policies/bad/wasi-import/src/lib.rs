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

use exports::weir::policy::about::{self, Info, Inputs, Problem};
use exports::weir::policy::balancer::{Columns, Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use weir::policy::snapshot::View;

struct Clocked;

impl about::Guest for Clocked {
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
