use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use weir_testbed::{Call, Probe, ProbeReport, Tally};
use weir_tests::lab::{Backend, Lab, Service, web};

const TARGETS: [&str; 2] = ["10.96.0.10:80", "[fd00:10:96::10]:80"];
/// Connections per second of a probe, for each family.
const RATE: u32 = 200;
/// A probe's patience. Less than the second after which a lost SYN is sent again, so that one counts as a failure.
const PATIENCE: Duration = Duration::from_millis(900);
/// Long enough for a probe to see the state before and after a change.
const WHILE: Duration = Duration::from_millis(300);
/// No answer may be later than this. Between two answers lie 5 ms when all goes well; the rest is for a busy machine.
const LONGEST_GAP: Duration = Duration::from_millis(500);

fn target(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// New connections by TCP, and one UDP flow, from the pod `client`, in both families.
fn probes(lab: &Lab) -> Vec<Probe> {
    let start = |text| {
        let flow = Probe::flow(lab.client(), Call::udp(target(text)).within(PATIENCE), RATE).unwrap();
        [Probe::connections(lab.client(), Call::tcp(target(text)).within(PATIENCE), RATE), flow]
    };
    TARGETS.into_iter().flat_map(start).collect()
}

fn assert_unharmed(probes: Vec<Probe>) -> Vec<ProbeReport> {
    let reports: Vec<_> = probes.into_iter().map(Probe::stop).collect();
    for report in &reports {
        assert_eq!(report.failures().len(), 0, "{:?}", report.failures());
        assert!(report.tally.answered() >= 50, "the probe did not run: {} answers", report.tally.answered());
        assert!(report.longest_gap < LONGEST_GAP, "{:?} without an answer", report.longest_gap);
    }
    reports
}

pub(crate) fn a_second_sync_sends_nothing() {
    let mut lab = Lab::up(&[web()]).unwrap();
    let again = lab.apply(&[web()]).unwrap();
    assert!(again.transaction.is_empty(), "{:?}", again.transaction);
}

/// A crash and a new start, which knows nothing and finds all of it in the kernel. Ten times, with all kinds of rings
/// there are.
pub(crate) fn a_restart_sends_nothing_and_breaks_nothing() {
    let services = [
        web().node_port(30_080).load_balancer(["192.0.2.5", "2001:db8:1b::5"]).external_local(),
        Service::new("turns", ["10.96.0.11"]).tcp(80).policy("round-robin"),
        Service::new("sticky", ["10.96.0.12", "fd00:10:96::12"]).udp(53).affinity(600),
        Service::new("nobody", ["10.96.0.13"]).tcp(80).on(&[]),
        Service::new("scales", ["10.96.0.14"]).tcp(80).policy("weighted"),
    ];
    let mut lab = Lab::up(&services).unwrap();
    let probes = probes(&lab);
    for _ in 0..10 {
        lab.stop();
        sleep(WHILE / 10);
        let outcome = lab.start(&services).unwrap();
        assert!(outcome.transaction.is_empty(), "{:?}", outcome.transaction);
    }
    sleep(WHILE);
    assert_unharmed(probes);
}

/// Backend 2 keeps serving those who are on their way to it, as a pod that terminates does.
pub(crate) fn endpoints_come_and_go_under_load() {
    let mut lab = Lab::up(&[web()]).unwrap();
    let without = web().on(&[Backend::new(1), Backend::new(3)]);
    let probes = probes(&lab);
    for _ in 0..10 {
        sleep(WHILE / 10);
        lab.apply(std::slice::from_ref(&without)).unwrap();
        let client = lab.client().clone();
        for text in TARGETS {
            let tally = lab.call(&client, 20, Call::tcp(target(text))).unwrap();
            assert_eq!(tally.answers_of("backend-2"), 0, "a removed endpoint gets no new connection");
        }
        lab.apply(&[web()]).unwrap();
    }
    sleep(WHILE);
    let reports = assert_unharmed(probes);
    assert!(reports[0].tally.answers_of("backend-2") > 0, "{:?}", reports[0].tally.answers);
}

/// What a removed Service leaves behind is what there was before it came.
pub(crate) fn a_removed_service_leaves_nothing() {
    let mut lab = Lab::up(&[web()]).unwrap();
    let list = |lab: &Lab| lab.node().kernel().command("nft", &["list", "ruleset"]).unwrap();
    let before = list(&lab);
    let other = Service::new("other", ["10.96.0.20", "fd00:10:96::20"])
        .tcp(80)
        .udp(53)
        .policy("round-robin")
        .affinity(60)
        .node_port(30_081)
        .external(["198.51.100.9"])
        .load_balancer(["192.0.2.9"])
        .external_local();
    lab.apply(&[web(), other]).unwrap();
    assert_ne!(list(&lab), before);
    lab.apply(&[web()]).unwrap();
    assert_eq!(list(&lab), before);
}

pub(crate) fn rules_outlive_weir() {
    let mut lab = Lab::up(&[web()]).unwrap();
    lab.stop();
    for text in TARGETS {
        for call in [Call::tcp(target(text)), Call::udp(target(text))] {
            let tally = Tally::repeat(lab.client(), 30, call);
            assert_eq!((tally.answered(), tally.failed()), (30, 0), "{tally:?}");
        }
    }
}

/// Where the kernel lets us own our tables (6.9 and later), `nft flush ruleset`, as firewall managers run it on every
/// reload, passes them by. On an older kernel the tables are gone and the next sync after a restart brings them back.
pub(crate) fn a_flush_cannot_remove_the_tables() {
    let mut lab = Lab::up(&[web()]).unwrap();
    let probes = probes(&lab);
    let owned = lab.node().kernel().command("nft", &["list", "table", "ip", "weir"]).unwrap().contains("owner");
    for _ in 0..20 {
        lab.node().kernel().command("nft", &["flush", "ruleset"]).unwrap();
        if !owned {
            lab.stop();
            lab.start(&[web()]).unwrap();
        }
        sleep(WHILE / 10);
    }
    if owned {
        assert_unharmed(probes);
    }
    let tally = Tally::repeat(lab.client(), 30, Call::tcp(target(TARGETS[0])));
    assert_eq!(tally.answered(), 30, "{tally:?}");
}
