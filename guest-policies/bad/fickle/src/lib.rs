//! Changes its mind after a while: as soon as any endpoint has been ready for ten seconds at most a minute, the others
//! serve no more. Wants another look each second.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::balancer::{Columns, Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use weir::policy::snapshot::View;

struct Fickle;

bad_about::about!(Fickle, Inputs::AGES);

impl Guest for Fickle {
    fn balance(_: &View, rings: Vec<Ring>, members: Columns) -> Result<Vec<Spread>, PolicyError> {
        Ok(rings.into_iter().map(|ring| spread(ring, &members.ages)).collect())
    }
}

fn spread(ring: Ring, ages: &[u32]) -> Spread {
    let ages = &ages[ring.first as usize..(ring.first + ring.count) as usize];
    let favourite = |age: &u32| (10..60).contains(age);
    let share = match ages.iter().any(favourite) {
        true => Share::Weights(ages.iter().map(|age| u32::from(favourite(age))).collect()),
        false => Share::Equal,
    };
    Spread {
        id: ring.id,
        index: IndexFunction::Random,
        share,
        affinity_seconds: 0,
        again_seconds: 1,
        reason: String::new(),
    }
}

export!(Fickle);
