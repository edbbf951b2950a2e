//! Looks up everything there is about a ring, without asking for it in `about`, and tells what it got as the reason.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use exports::weir::policy::balancer::{Columns, Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use weir::policy::snapshot::View;

struct Blind;

bad_about::about!(Blind);

impl Guest for Blind {
    fn balance(view: &View, rings: Vec<Ring>, columns: Columns) -> Result<Vec<Spread>, PolicyError> {
        Ok(rings.iter().map(|ring| spread(view, ring, &columns)).collect())
    }
}

fn spread(view: &View, ring: &Ring, columns: &Columns) -> Spread {
    let names = [View::service_name, View::port_name].map(|name| name(view, ring.id));
    let lookups = [View::endpoint_address, View::endpoint_pod, View::endpoint_node, View::endpoint_zone];
    let of_first = lookups.map(|name| name(view, ring.id, 0));
    let annotation = view.annotation(ring.id, "weir.proxy/policy");
    let ids = columns.ids.iter().map(u32::to_string);
    let seen: Vec<String> = names.into_iter().chain(of_first).chain(annotation).chain(ids).collect();
    Spread {
        id: ring.id,
        index: IndexFunction::Random,
        share: Share::Equal,
        affinity_seconds: 0,
        again_seconds: 0,
        reason: format!("seen: {}", seen.concat()),
    }
}

export!(Blind);
