use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::mpsc::Receiver;
use weir_model::Event;
use weir_source::kubernetes::Timing;
use weir_testbed::Failure;

use crate::town::{PATIENCE, Town, WEB, assert_unharmed, service, slice};

const OTHER: &str = "10.96.0.11:80";

/// Long enough for a daemon that would do harm to have done it.
const WHILE: Duration = Duration::from_millis(700);

/// The end-to-end case of that name: rules stay while the API server is away, and what changed meanwhile is programmed
/// soon after it is back (F04).
pub(crate) fn work_after_restarting_apiserver() {
    let mut town = Town::up();
    let probe = town.probe();
    town.stop_api_server();
    town.cluster.apply([slice("web", &[1, 3])]);
    sleep(WHILE);
    town.start_api_server();
    let back = Instant::now();
    town.reaches(WEB, &["backend-1", "backend-3"]);
    assert!(back.elapsed() < Duration::from_secs(6), "took {:?}\n{}", back.elapsed(), town.log());
    assert_unharmed(probe);
}

/// While the API server is away one Service goes, another comes, and the past is forgotten (F06).
pub(crate) fn a_gap_with_a_forgotten_past() {
    let mut town = Town::up();
    town.cluster.apply([service("a", "10.96.0.11"), slice("a", &[1])]);
    town.reaches(OTHER, &["backend-1"]);
    let probe = town.probe();
    town.stop_api_server();
    town.cluster.delete("Service", "default", "a");
    town.cluster.delete("EndpointSlice", "default", "a-1");
    town.cluster.apply([service("b", "10.96.0.12"), slice("b", &[2])]);
    town.cluster.compact();
    town.start_api_server();
    town.reaches("10.96.0.12:80", &["backend-2"]);
    // An address of the Services' range that no Service has.
    town.fails(OTHER, &Failure::TimedOut);
    assert_unharmed(probe);
}

/// A new daemon that gets Services, but no slices yet, finds rules in the kernel and leaves them alone (F03).
pub(crate) fn late_slices_take_nothing_away() {
    let mut town = Town::up();
    let probe = town.probe();
    town.end_daemon(Signal::SIGTERM);
    town.cluster.fault(|faults| faults.delay_list("endpointslices", WHILE * 2));
    town.cluster.apply([slice("web", &[2, 3])]);
    town.cluster.forget_asked();
    town.start_daemon();
    town.reaches(WEB, &["backend-2", "backend-3"]);
    let listed = town.cluster.asked().iter().any(|asked| asked.resource == "services" && asked.verb == "watch");
    assert!(listed, "the Services were there");
    assert_unharmed(probe);
}

/// The end-to-end case of that name: killed and started again and again, with and without a word (F01).
pub(crate) fn work_after_restarting_kube_proxy() {
    let mut town = Town::up();
    let probe = town.probe();
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
        town.end_daemon(signal);
        town.start_daemon();
        sleep(WHILE / 2);
    }
    town.cluster.apply([slice("web", &[3])]);
    town.reaches(WEB, &["backend-3"]);
    assert_unharmed(probe);
}

/// What was deleted while no daemon ran is gone once one runs again, and only that (F02).
pub(crate) fn what_went_while_nobody_looked_is_gone() {
    let mut town = Town::up();
    town.cluster.apply([service("a", "10.96.0.11"), slice("a", &[1])]);
    town.reaches(OTHER, &["backend-1"]);
    let probe = town.probe();
    town.end_daemon(Signal::SIGKILL);
    town.cluster.delete("Service", "default", "a");
    town.reaches(OTHER, &["backend-1"]);
    town.start_daemon();
    town.fails(OTHER, &Failure::TimedOut);
    sleep(WHILE);
    assert_unharmed(probe);
}

/// Every packet of the connections there are is dropped from now on, in both directions, and nobody is told: the source
/// notices the silence and takes other connections. A daemon that has not noticed yet keeps its rules (F05).
pub(crate) fn connections_that_die_silently_are_replaced() {
    let town = Town::up();
    town.cluster.fault(|faults| faults.bookmarks = Duration::from_millis(50));
    let (_runtime, mut events) = town.follow(Timing {
        answer: Duration::from_millis(500),
        silence: Duration::from_millis(400),
        first_wait: Duration::from_millis(20),
        ..Timing::default()
    });
    while next(&mut events, &town) != Event::Listed {}
    let watches = town.cluster.watches();
    let probe = town.probe();
    town.drop_api_connections();
    town.cluster.apply([service("b", "10.96.0.12")]);
    let start = Instant::now();
    let event = next(&mut events, &town);
    assert!(matches!(&event, Event::Service(spec) if spec.key.name == "b"), "{event:?}");
    assert!(start.elapsed() >= Duration::from_millis(300), "the old connections still work: {:?}", start.elapsed());
    assert!(town.cluster.watches() > watches, "the server thinks that the old ones live");
    town.reaches(WEB, &["backend-1", "backend-2"]);
    sleep(WHILE);
    assert_unharmed(probe);
}

/// The next event of a source.
fn next(events: &mut Receiver<Event>, town: &Town) -> Event {
    let start = Instant::now();
    loop {
        if let Ok(event) = events.try_recv() {
            return event;
        }
        assert!(start.elapsed() < PATIENCE, "no event; asked: {:#?}", town.cluster.asked());
        sleep(Duration::from_millis(1));
    }
}

/// Endpoints that come and go a hundred times a second, with watches that are cut (F34).
pub(crate) fn a_storm_of_changes_breaks_nothing() {
    let town = Town::up();
    let probe = town.probe();
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let backends: &[u8] = [&[1, 2][..], &[1, 2, 3], &[1, 3], &[2, 3]][number % 4];
        town.cluster.apply([slice("web", backends)]);
        if number % 50 == 49 {
            town.cluster.cut_watches();
        }
        number += 1;
        sleep(Duration::from_millis(10));
    }
    town.cluster.apply([slice("web", &[3])]);
    town.reaches(WEB, &["backend-3"]);
    assert_unharmed(probe);
}

/// An API server that refuses everything for a while (F49).
pub(crate) fn an_overloaded_apiserver_breaks_nothing() {
    let town = Town::up();
    let probe = town.probe();
    town.cluster.fault(|faults| faults.refuse = Some((429, Some(1))));
    town.cluster.cut_watches();
    town.cluster.apply([slice("web", &[1])]);
    let refused = |town: &Town| town.cluster.asked().iter().filter(|asked| asked.code == 429).count();
    let start = Instant::now();
    while refused(&town) < 10 {
        assert!(start.elapsed() < PATIENCE, "{} refusals", refused(&town));
        sleep(Duration::from_millis(20));
    }
    town.cluster.fault(|faults| faults.refuse = None);
    town.reaches(WEB, &["backend-1"]);
    assert_unharmed(probe);
}
