use std::time::{Duration, Instant};

use crate::rig::{PATIENCE, Rig, cluster, quick, service, slice};

const SERVICES: usize = 2000;

/// Thousands of Services come in pages, all of them, within seconds, and a new list of them is no event for those who
/// did not change.
#[test]
fn thousands_of_services_are_listed_in_pages() {
    let cluster = cluster();
    let address = |number: usize| format!("10.2.{}.{}", number / 250, number % 250 + 1);
    cluster.apply((0..SERVICES).map(|number| service(&format!("s{number}"), &address(number))));
    let endpoints = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"];
    cluster.apply((0..SERVICES).map(|number| slice(&format!("s{number}"), &endpoints)));
    let start = Instant::now();
    let mut rig = Rig::start(&cluster, quick());
    rig.listed();
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    assert_eq!(rig.store.service_ids().count(), SERVICES + 1);
    assert_eq!((rig.count("list", "services"), rig.count("list", "endpointslices")), (5, 5), "pages of 500");
    rig.store.take_dirty();

    rig.watched();
    cluster.end_watches_with(410);
    cluster.apply([slice("s7", &["10.1.0.9"])]);
    let changed = rig.store.find(&weir_model::ObjectKey { namespace: "default".into(), name: "s7".into() }).unwrap();
    let start = Instant::now();
    let mut dirty = Vec::new();
    let lists = |rig: &Rig| (rig.count("list", "services"), rig.count("list", "endpointslices"));
    while dirty.is_empty() || lists(&rig) != (10, 10) {
        // What is listed again waits until it is taken: nothing piles up.
        rig.event();
        dirty.extend(rig.store.take_dirty());
        assert!(start.elapsed() < PATIENCE, "{} Services changed, lists: {:?}", dirty.len(), lists(&rig));
    }
    assert_eq!(dirty, [changed], "listing again what did not change is no change");
}
