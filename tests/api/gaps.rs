use std::time::{Duration, Instant};

use weir_source::kubernetes::Timing;
use weir_tests::api_server::ApiServer;

use crate::rig::{Rig, cluster, quick, service, slice};

/// While nobody looks: A goes, B comes, and `web` gets another endpoint.
fn meanwhile(rig: &Rig) {
    rig.cluster.delete("Service", "default", "a");
    rig.cluster.apply([service("b", "10.0.0.3"), slice("web", &["10.1.0.2"])]);
}

const AFTERWARDS: &[(&str, &[&str])] = &[("b", &[]), ("web", &["10.1.0.2"])];

fn started() -> Rig {
    let cluster = cluster();
    cluster.apply([service("a", "10.0.0.2")]);
    let mut rig = Rig::start(&cluster, quick());
    rig.converges_on(&[("a", &[]), ("web", &["10.1.0.1"])]);
    rig.watched();
    rig
}

/// Stops the server, lets `while_away` happen, and starts it again where it was.
fn outage(rig: &mut Rig, while_away: impl FnOnce(&Rig)) {
    let server = rig.server.take().unwrap();
    let address = server.address();
    server.stop();
    while_away(rig);
    let start = Instant::now();
    let listener = loop {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => break listener,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(5), "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    rig.server = Some(ApiServer::listen(&rig.cluster, listener).unwrap());
}

/// F04: an outage takes nothing away, and what changed meanwhile is known soon after it.
#[test]
fn an_outage_keeps_everything_and_ends_soon() {
    let mut rig = started();
    outage(&mut rig, |rig| {
        meanwhile(rig);
        std::thread::sleep(Duration::from_millis(500));
    });
    let back = Instant::now();
    rig.converges_on(AFTERWARDS);
    assert!(back.elapsed() < Duration::from_secs(2), "took {:?}", back.elapsed());
    assert_eq!(rig.count("list", "services"), 1, "a watch goes on where it stood");
}

/// F06, taken up where it stood: the history still has what was missed.
#[test]
fn a_cut_watch_goes_on_where_it_stood() {
    let mut rig = started();
    rig.cluster.cut_watches();
    meanwhile(&rig);
    rig.converges_on(AFTERWARDS);
    assert_eq!(rig.count("list", "services"), 1);
}

/// F06, too old: the answer to the new watch is 410.
#[test]
fn what_vanished_in_a_gap_is_gone_after_410() {
    let mut rig = started();
    outage(&mut rig, |rig| {
        meanwhile(rig);
        rig.cluster.compact();
    });
    rig.converges_on(AFTERWARDS);
    assert!(rig.cluster.asked().iter().any(|asked| asked.verb == "watch" && asked.code == 410));
    assert_eq!(rig.count("list", "services"), 2);
}

/// F06, told inside of the watch.
#[test]
fn what_vanished_in_a_gap_is_gone_after_an_error_event() {
    for code in [410, 500] {
        let mut rig = started();
        rig.cluster.fault(|faults| faults.drop_deletes = true);
        meanwhile(&rig);
        rig.cluster.end_watches_with(code);
        rig.converges_on(AFTERWARDS);
        assert_eq!(rig.count("list", "services"), 2, "ERROR {code}");
    }
}

/// A line that is no event is a gap, too: nobody knows what it meant.
#[test]
fn garbage_in_a_watch_leads_to_a_new_list() {
    for line in ["{\"type\":\"ADDED\",\"obj", "what?", "{\"type\":\"SURPRISE\",\"object\":{}}"] {
        let mut rig = started();
        rig.cluster.fault(|faults| faults.drop_deletes = true);
        meanwhile(&rig);
        rig.cluster.say("services", line);
        rig.converges_on(AFTERWARDS);
    }
}

/// A page of a list that is too old begins the list again.
#[test]
fn a_list_that_expires_halfway_begins_again() {
    let cluster = cluster();
    cluster.apply((0..20).map(|number| service(&format!("s{number}"), &format!("10.0.1.{number}"))));
    cluster.fault(|faults| faults.delay_list("services", Duration::from_millis(50)));
    let mut rig = Rig::start(&cluster, Timing { page: 5, ..quick() });
    rig.until("a page of the list", |_| rig.count("list", "services") >= 2);
    cluster.delete("Service", "default", "s0");
    cluster.compact();
    rig.listed();
    assert_eq!(rig.store.service_ids().count(), 20, "19 and web");
    assert!(cluster.asked().iter().any(|asked| asked.verb == "list" && asked.code == 410));
}

/// F05: the connection stands, the other end is dead. Noticed by its silence; what happened meanwhile comes.
#[test]
fn a_hung_watch_is_noticed_by_its_silence() {
    let cluster = cluster();
    cluster.apply([service("a", "10.0.0.2")]);
    cluster.fault(|faults| faults.bookmarks = Duration::from_millis(50));
    let mut rig = Rig::start(&cluster, Timing { silence: Duration::from_millis(300), ..quick() });
    rig.converges_on(&[("a", &[]), ("web", &["10.1.0.1"])]);
    rig.watched();
    // Bookmarks keep a quiet watch alive.
    let before = rig.count("watch", "services");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(rig.count("watch", "services"), before, "a watch with bookmarks is not given up");

    cluster.freeze_watches();
    let frozen = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    meanwhile(&rig);
    rig.converges_on(AFTERWARDS);
    assert!(frozen.elapsed() < Duration::from_secs(2), "took {:?}", frozen.elapsed());
    assert_eq!(rig.count("list", "services"), 1, "a bookmark was enough to go on");
}

/// The same where nothing answers at all for a while, not even a new connection.
#[test]
fn a_server_that_hangs_is_asked_until_it_answers() {
    let cluster = cluster();
    cluster.apply([service("a", "10.0.0.2")]);
    cluster.fault(|faults| faults.bookmarks = Duration::from_millis(50));
    let quick = Timing { silence: Duration::from_millis(200), answer: Duration::from_millis(200), ..quick() };
    let mut rig = Rig::start(&cluster, quick);
    rig.converges_on(&[("a", &[]), ("web", &["10.1.0.1"])]);
    rig.watched();
    cluster.fault(|faults| faults.frozen = true);
    let watches = rig.count("watch", "services");
    rig.until("two attempts", |_| rig.count("watch", "services") >= watches + 2);
    meanwhile(&rig);
    assert!(rig.events.try_recv().is_err(), "nothing is taken back while nothing is known");
    cluster.fault(|faults| faults.frozen = false);
    rig.converges_on(AFTERWARDS);
}

/// A bookmark moves a quiet watch along: after it, an old history is not needed any more.
#[test]
fn a_watch_goes_on_from_the_last_bookmark() {
    let cluster = cluster();
    cluster.fault(|faults| faults.bookmarks = Duration::from_millis(30));
    let mut rig = Rig::start(&cluster, quick());
    rig.converges_on(&[("web", &["10.1.0.1"])]);
    rig.watched();
    // Only Services change; every other kind learns by bookmark how far the cluster is.
    cluster.apply((0..5).map(|number| service(&format!("s{number}"), &format!("10.0.1.{number}"))));
    std::thread::sleep(Duration::from_millis(300));
    cluster.compact();
    cluster.cut_watches();
    rig.until("new watches", |_| rig.count("watch", "nodes") == 2 && rig.count("watch", "endpointslices") == 2);
    rig.watched();
    assert_eq!((rig.count("list", "nodes"), rig.count("list", "endpointslices")), (1, 1));
}

/// Deletes nobody told of, on a watch that looks well: only a new list finds them.
#[test]
fn lost_deletes_are_found_by_the_next_list() {
    let cluster = cluster();
    cluster.apply([service("a", "10.0.0.2")]);
    let mut rig = Rig::start(&cluster, Timing { relist: Duration::from_millis(500), ..quick() });
    rig.converges_on(&[("a", &[]), ("web", &["10.1.0.1"])]);
    cluster.fault(|faults| faults.drop_deletes = true);
    cluster.delete("Service", "default", "a");
    rig.converges_on(&[("web", &["10.1.0.1"])]);
}

/// A watch whose time is over is asked for again at once, and one that ends at once is not asked for without end.
#[test]
fn watches_end_and_begin_again() {
    let cluster = cluster();
    let mut rig = Rig::start(&cluster, Timing { watch: Duration::from_secs(1), ..quick() });
    rig.converges_on(&[("web", &["10.1.0.1"])]);
    rig.until("a second watch", |_| rig.count("watch", "services") >= 2);
    assert_eq!(rig.count("list", "services"), 1);
    cluster.delete("Service", "default", "web");
    rig.converges_on(&[]);
}
