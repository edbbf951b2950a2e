use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir_tests::requests::{self, Request};

use crate::town::{PATIENCE, Town};

/// The rights in `deploy/` are held against the same table: so they cover what the daemon asks, and nothing else.
pub(crate) fn the_daemon_asks_for_what_it_has_rights_to() {
    let town = Town::up();
    let asked = || -> BTreeSet<Request> {
        let requests = town.cluster.asked().into_iter().map(|asked| Request {
            // ConfigMaps are asked for where policies are; Events go wherever their object is.
            namespace: Some(asked.namespace).filter(|_| asked.resource == "configmaps"),
            group: asked.group,
            resource: asked.resource,
            verb: asked.verb.to_owned(),
        });
        requests.collect()
    };
    let start = Instant::now();
    // The daemon's first Event may take a moment.
    while asked() != requests::all() {
        assert!(start.elapsed() < PATIENCE, "asked {:?}\nrights {:?}", asked(), requests::all());
        sleep(Duration::from_millis(20));
    }
}
