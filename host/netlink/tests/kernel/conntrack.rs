//! Tracked flows of this namespace's loopback, against what was sent.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Instant;

use weir_conntrack::{Dump, Flow, FlowTable};
use weir_model::{Family, Protocol};
use weir_netlink::Conntrack;

use crate::Test;
use crate::namespace::{Needs, nft_load};

pub(crate) const TESTS: &[Test] = &[
    ("flows_are_read_with_their_translation", Needs::Nft, flows_are_read_with_their_translation),
    ("only_the_named_flow_is_removed", Needs::Nft, only_the_named_flow_is_removed),
    ("many_flows_are_read_completely", Needs::Nft, many_flows_are_read_completely),
];

/// Tracks every packet of the loopback, and translates port 53.
const TRACKING: &str = "
table ip nat {
    chain output { type nat hook output priority -100
        udp dport 53 dnat to 127.0.0.7:5353
    }
}
table ip6 nat {
    chain output { type nat hook output priority -100
        udp dport 53 dnat to [::1]:5353
    }
}
";

fn tracking() -> Conntrack {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip starts");
    assert!(up.success());
    nft_load(TRACKING);
    Conntrack::open().unwrap()
}

/// Sends one datagram to nobody and returns where it came from.
fn send(from: &str, to: &str) -> SocketAddr {
    let socket = UdpSocket::bind(from).unwrap();
    socket.send_to(b"?", to).unwrap();
    socket.local_addr().unwrap()
}

fn read(conntrack: &mut Conntrack, family: Family, protocol: Protocol) -> Vec<Flow> {
    let mut flows = Vec::new();
    let dump = conntrack.dump(family, protocol, &mut |flow| flows.push(flow)).unwrap();
    assert_eq!(dump, Dump::Complete);
    flows
}

fn flows_are_read_with_their_translation() {
    let mut conntrack = tracking();
    assert!(conntrack.is_empty().unwrap());
    for (family, from, to, answers) in [
        (Family::V4, "127.0.0.1:4001", "127.0.0.2:53", "127.0.0.7:5353"),
        (Family::V6, "[::1]:4002", "[::1]:53", "[::1]:5353"),
        (Family::V4, "127.0.0.1:4003", "127.0.0.2:54", "127.0.0.2:54"),
    ] {
        let source = send(from, to);
        let flows = read(&mut conntrack, family, Protocol::Udp);
        let flow = flows.iter().find(|flow| flow.source == source).expect("the flow");
        assert_eq!((flow.destination, flow.reply_source), (to.parse().unwrap(), answers.parse().unwrap()));
        assert_eq!((flow.family(), flow.protocol, flow.zone), (family, Protocol::Udp, 0));
        assert_eq!(flow.is_translated(), to.ends_with(":53"));
    }
    // Each protocol is listed for itself.
    let _listener = TcpListener::bind("127.0.0.2:54").unwrap();
    let _connection = TcpStream::connect("127.0.0.2:54").unwrap();
    let tcp = read(&mut conntrack, Family::V4, Protocol::Tcp);
    assert_eq!(tcp.iter().map(|flow| flow.destination).collect::<Vec<_>>(), ["127.0.0.2:54".parse().unwrap()]);
    assert_eq!(read(&mut conntrack, Family::V4, Protocol::Udp).len(), 2);
    assert_eq!(read(&mut conntrack, Family::V6, Protocol::Udp).len(), 1);
    assert_eq!(read(&mut conntrack, Family::V4, Protocol::Sctp), []);
}

fn only_the_named_flow_is_removed() {
    let mut conntrack = tracking();
    for (family, from, to) in [
        (Family::V4, ["127.0.0.1:4001", "127.0.0.1:4002"], "127.0.0.2:53"),
        (Family::V6, ["[::1]:4001", "[::1]:4002"], "[::1]:53"),
    ] {
        let sources = from.map(|from| send(from, to));
        let flows = read(&mut conntrack, family, Protocol::Udp);
        let first = *flows.iter().find(|flow| flow.source == sources[0]).expect("the first flow");
        // An entry between the same addresses that came later has another number.
        assert!(!conntrack.delete(&Flow { id: first.id ^ 1, ..first }).unwrap(), "not this one");
        assert!(!conntrack.delete(&Flow { zone: 9, ..first }).unwrap(), "not in this zone");
        assert_eq!(read(&mut conntrack, family, Protocol::Udp).len(), 2);
        assert!(conntrack.delete(&first).unwrap());
        assert!(!conntrack.delete(&first).unwrap(), "it is gone already");
        let left = read(&mut conntrack, family, Protocol::Udp);
        assert_eq!(left.iter().map(|flow| flow.source).collect::<Vec<_>>(), [sources[1]]);
    }
}

/// More than fits into one datagram of the dump, or into the socket's buffer.
fn many_flows_are_read_completely() {
    const COUNT: u32 = 20_000;
    let mut conntrack = tracking();
    let socket = UdpSocket::bind("127.0.0.1:4001").unwrap();
    let targets: BTreeSet<SocketAddr> = (0..COUNT)
        .map(|number| {
            let [_, high, middle, low] = number.to_be_bytes();
            SocketAddr::new(IpAddr::from([127, 1 + high, middle, low]), 54)
        })
        .collect();
    // Nobody listens, so some sends report the refusal of an earlier one, and have not been made.
    for target in &targets {
        while socket.send_to(b"?", target).is_err() {}
    }
    let start = Instant::now();
    let flows = read(&mut conntrack, Family::V4, Protocol::Udp);
    println!("{} flows: read in {:?}", flows.len(), start.elapsed());
    let seen: BTreeSet<SocketAddr> = flows.into_iter().map(|flow| flow.destination).collect();
    assert_eq!(seen, targets);
    assert!(conntrack.len().unwrap() >= COUNT);
}
