//! Answers nonsense, of the kind its settings name; without settings it answers well. Plays both roles.

wit_bindgen::generate!({ path: "../../../wit", world: "policy" });

use std::sync::atomic::{AtomicBool, Ordering};

use exports::weir::policy::balancer::{self, IndexFunction, Ring, Share, Spread};
use exports::weir::policy::traffic_policy::{self, Eligibility, Port, Route, Selection};
use weir::policy::snapshot::View;
use weir::policy::types::{Columns, PolicyError};

/// Whether this instance has answered before.
static USED: AtomicBool = AtomicBool::new(false);

struct Garbage;

bad_about::about!(Garbage);

impl traffic_policy::Guest for Garbage {
    fn decide(view: &View, ports: Vec<Port>, _: Columns) -> Result<Vec<Eligibility>, PolicyError> {
        let mut answer: Vec<_> = ports.iter().map(|port| eligibility(port, &kind(view, port.id))).collect();
        if ports.iter().any(|port| kind(view, port.id) == "no-eligibility") {
            answer.clear();
        }
        Ok(answer)
    }
}

/// The settings of a port or ring, as a word or as JSON.
fn kind(view: &View, id: u32) -> String {
    view.settings(id).trim_matches('"').to_owned()
}

fn eligibility(port: &Port, kind: &str) -> Eligibility {
    let and = |more: u32| Selection::Only((0..port.count).chain([more]).collect());
    let mut answer = Eligibility {
        id: port.id,
        cluster: Selection::All,
        local: Selection::None,
        internal: Route::Cluster,
        external: Route::Cluster,
        short_cut: false,
        again_seconds: 0,
        reason: String::new(),
    };
    match kind {
        "wrong-id" => answer.id += 1,
        "unknown-endpoint" => answer.cluster = and(port.count),
        "duplicate-endpoint" => answer.cluster = and(0),
        "route-to-empty-list" => answer.internal = Route::Local,
        "external-route-to-empty-list" => answer.external = Route::Local,
        "remote-in-local-list" => answer.local = Selection::Only((0..port.count).collect()),
        "all-in-local-list" => answer.local = Selection::All,
        "nobody-serves" => {
            (answer.cluster, answer.internal, answer.external) = (Selection::None, Route::Drop, Route::Drop);
        }
        "long-reason" => answer.reason = "because ".repeat(1 << 10),
        "huge-reason" => answer.reason = "because ".repeat(3 << 20),
        _ => {}
    }
    answer
}

impl balancer::Guest for Garbage {
    fn balance(view: &View, rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        let mut answer: Vec<_> = rings.iter().map(|ring| spread(ring, &kind(view, ring.id))).collect();
        if rings.iter().any(|ring| kind(view, ring.id) == "one-spread-too-many") {
            answer.extend(rings.first().map(|ring| spread(ring, "")));
        }
        if rings.iter().any(|ring| kind(view, ring.id) == "forgetful") {
            assert!(!USED.swap(true, Ordering::Relaxed), "an instance is there for one call");
        }
        if rings.iter().any(|ring| kind(view, ring.id) == "unknown-ring") {
            view.settings(u32::MAX);
        }
        Ok(answer)
    }
}

fn spread(ring: &Ring, kind: &str) -> Spread {
    let share = match kind {
        "too-few-weights" => Share::Weights(vec![1; ring.count as usize - 1]),
        "drained" => Share::Weights(vec![0; ring.count as usize]),
        "no-slots" => Share::Slots(Vec::new()),
        "unknown-slot" => Share::Slots(vec![ring.count]),
        "too-many-slots" => Share::Slots(vec![0; 1 << 16]),
        _ => Share::Equal,
    };
    Spread {
        id: ring.id,
        index: IndexFunction::Random,
        share,
        affinity_seconds: ring.affinity_seconds,
        again_seconds: 0,
        reason: String::new(),
    }
}

export!(Garbage);
