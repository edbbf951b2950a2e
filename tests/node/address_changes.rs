use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::timeout;
use weir::config::Config;
use weir::node::{AddressChanges, Surroundings, addresses};
use weir_model::{Event, NodeIdentity, NodeSpec, Store};
use weir_plan::{NodeFacts, NodePortAddresses};
use weir_testbed::{Host, Layout};

use crate::followed::runtime;

/// How long a change may take to be told.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to listen for a change that should not be. More than the watch gathers for.
const SILENCE: Duration = Duration::from_millis(200);

/// A namespace with one link, and a watch of its addresses.
struct Watched {
    host: Host,
    runtime: Runtime,
    changes: AddressChanges,
}

impl Watched {
    fn new() -> Self {
        let host = Host::create("watched", Layout::NODE).unwrap();
        ip(&host, "link add eth0 type veth peer name eth1");
        for link in ["eth0", "eth1"] {
            // No address but ours.
            ip(&host, &format!("link set {link} addrgenmode none"));
            ip(&host, &format!("link set {link} up"));
        }
        let runtime = runtime(&host);
        let changes = host.run(|| {
            let _inside = runtime.enter();
            AddressChanges::open().unwrap()
        });
        let mut watched = Self { host, runtime, changes };
        // Messages of the link itself may still be on their way.
        while watched.told_within(SILENCE) {}
        watched
    }

    fn told_within(&mut self, patience: Duration) -> bool {
        let changes = &mut self.changes;
        self.runtime.block_on(async { timeout(patience, changes.changed()).await }).map(Result::unwrap).is_ok()
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.host.run(addresses).unwrap()
    }
}

fn ip(host: &Host, line: &str) {
    host.command("ip", &line.split(' ').collect::<Vec<_>>()).unwrap();
}

pub(crate) fn every_kind_of_change_is_told() {
    let mut watched = Watched::new();
    let before = watched.addresses();
    for line in [
        "addr add 192.0.2.7/24 dev eth0",
        "addr add 2001:db8::7/64 dev eth0 nodad",
        "route add default via 192.0.2.1",
        "-6 route add default via 2001:db8::1",
        "route del default",
        "-6 route del default",
        "addr del 2001:db8::7/64 dev eth0",
    ] {
        ip(&watched.host, line);
        assert!(watched.told_within(PATIENCE), "{line}");
    }
    let news: Vec<IpAddr> = watched.addresses().into_iter().filter(|address| !before.contains(address)).collect();
    assert_eq!(news, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
}

/// A hundred addresses come as one or a few changes, and the last one is told after the last address.
pub(crate) fn a_burst_is_one_change() {
    let mut watched = Watched::new();
    let lines: String = (1..=100).map(|n| format!("addr add 192.0.2.{n}/32 dev eth0\n")).collect();
    watched.host.command_with_input("ip", &["-batch", "-"], &lines).unwrap();
    assert!(watched.told_within(PATIENCE));
    assert_eq!(watched.addresses().len(), 100);
    assert!(!watched.told_within(SILENCE), "one burst, one change");
}

/// As in a `select!` where something else happens first.
pub(crate) fn a_dropped_wait_loses_nothing() {
    let mut watched = Watched::new();
    ip(&watched.host, "route add 198.51.100.0/24 dev eth0");
    assert!(watched.told_within(PATIENCE));
    // One message, unlike a new address with its routes.
    ip(&watched.host, "route del 198.51.100.0/24");
    for _ in 0..3 {
        // Long enough to take the message, too short to tell of it.
        assert!(!watched.told_within(Duration::from_millis(10)));
    }
    assert!(watched.told_within(PATIENCE));
    assert!(!watched.told_within(SILENCE));
}

/// More messages than the socket keeps: the kernel drops some and says so.
pub(crate) fn a_lost_message_is_a_change() {
    let mut watched = Watched::new();
    let lines: String =
        (0..4000_u32).map(|n| format!("route add 198.18.{}.{}/32 dev eth0\n", n / 250, n % 250)).collect();
    watched.host.command_with_input("ip", &["-batch", "-"], &lines).unwrap();
    assert!(watched.told_within(PATIENCE));
    while watched.told_within(SILENCE) {}
    // It goes on working.
    ip(&watched.host, "addr add 192.0.2.7/24 dev eth0");
    assert!(watched.told_within(PATIENCE));
}

fn listed(addresses: &[&str]) -> NodePortAddresses {
    NodePortAddresses::Listed(addresses.iter().map(|ip| ip.parse().unwrap()).collect())
}

/// Node ports by the words `primary`, `localhost` and `all`, on a node that gets another address, another default route,
/// an object in the cluster, and loses all of it: without a restart the facts are those a new start would find.
pub(crate) fn the_primary_address_is_followed() {
    let Watched { host, runtime, .. } = Watched::new();
    let mut store = Store::new(NodeIdentity { name: "watched".to_owned(), zone: String::new() });
    let config = |words: &[&str]| Config {
        node_name: "watched".to_owned(),
        node_port_addresses: words.iter().map(|word| (*word).to_owned()).collect(),
        ..Config::default()
    };
    let open = |words: &[&str]| {
        host.run(|| {
            let _inside = runtime.enter();
            Surroundings::open(config(words)).unwrap()
        })
    };
    let mut primary = open(&["primary"]);
    // A namespace is joined by a thread, so facts are asked for there.
    let facts = |surroundings: &mut Surroundings, store: &Store| host.run(|| surroundings.changed_facts(store));
    // Two commands may come as two changes.
    let follows =
        |surroundings: &mut Surroundings, store: &Store, expected: &dyn Fn(&NodeFacts) -> bool, what: &dyn Debug| {
            loop {
                let told = host.run(|| runtime.block_on(async { timeout(PATIENCE, surroundings.changed()).await }));
                assert!(told.is_ok(), "{what:?} is not followed");
                if facts(surroundings, store).is_some_and(|facts| expected(&facts)) {
                    return;
                }
            }
        };
    assert_eq!(facts(&mut primary, &store).unwrap().node_ports_v4, listed(&[]));
    assert!(facts(&mut primary, &store).is_none(), "nothing changed");
    let steps: [(&[&str], &[&str], &[&str]); 4] = [
        (&["addr add 192.0.2.7/24 dev eth0"], &["192.0.2.7"], &[]),
        (&["addr add 2001:db8::7/64 dev eth0 nodad"], &["192.0.2.7"], &["2001:db8::7"]),
        // The lower address is not the one the world is reached from.
        (&["addr add 192.0.2.3/32 dev eth1", "route add default via 192.0.2.1"], &["192.0.2.7"], &["2001:db8::7"]),
        (&["addr del 192.0.2.7/24 dev eth0"], &["192.0.2.3"], &["2001:db8::7"]),
    ];
    for (lines, v4, v6) in steps {
        lines.iter().for_each(|line| ip(&host, line));
        // The node's addresses are what source ranges take for the node.
        let known: Vec<IpAddr> = v4.iter().chain(v6).map(|ip| ip.parse().unwrap()).collect();
        let expected = |facts: &NodeFacts| {
            (&facts.node_ports_v4, &facts.node_ports_v6) == (&listed(v4), &listed(v6)) && facts.addresses == known
        };
        follows(&mut primary, &store, &expected, &lines);
    }
    for (named, expected) in
        [(Some("192.0.2.99"), "192.0.2.99"), (Some("192.0.2.98"), "192.0.2.98"), (None, "192.0.2.3")]
    {
        let object = named.map(|ip| NodeSpec { addresses: vec![ip.parse().unwrap()], ..NodeSpec::default() });
        store.apply(Event::Node(object));
        assert_eq!(facts(&mut primary, &store).unwrap().node_ports_v4, listed(&[expected]), "{named:?}");
    }
    for (words, expected) in [
        (&["localhost"][..], listed(&[])),
        (&["localhost", "192.0.2.0/24"], listed(&["192.0.2.3"])),
        (&["primary", "192.0.2.0/24"], listed(&["192.0.2.3"])),
        (&["localhost", "all"], NodePortAddresses::All),
    ] {
        let mut surroundings = open(words);
        assert_eq!(facts(&mut surroundings, &store).unwrap().node_ports_v4, expected, "{words:?}");
        ip(&host, "addr add 192.0.2.5/32 dev eth1");
        let mut expected = expected;
        if let (NodePortAddresses::Listed(listed), true) = (&mut expected, words.contains(&"192.0.2.0/24")) {
            listed.push("192.0.2.5".parse().unwrap());
        }
        follows(&mut surroundings, &store, &|facts| facts.node_ports_v4 == expected, &words);
        ip(&host, "addr del 192.0.2.5/32 dev eth1");
    }
}
