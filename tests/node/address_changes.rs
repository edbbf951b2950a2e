use std::net::IpAddr;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::timeout;
use weir::node::{AddressChanges, addresses};
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
