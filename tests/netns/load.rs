//! How many connections each endpoint has, counted on real ones.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use weir::follow::load::LoadFollower;
use weir_conntrack::FlowTable;
use weir_model::{Family, Load, Loads, Protocol};
use weir_netlink::{Conntrack, ConntrackEvents};
use weir_testbed::{Call, Host, Listen, Server, Tally};
use weir_tests::lab::{BACKEND_PORT, Backend, Lab, Service, web};

const CLUSTER_IPS: [&str; 2] = ["10.96.0.10:80", "[fd00:10:96::10]:80"];
/// The port of the servers that keep connections open.
const HTTP: u16 = 8_081;
/// Within this time after anything happened the numbers must be right: a hundred times what it takes on an idle
/// machine.
const SOON: Duration = Duration::from_secs(5);
const BACKENDS: [Backend; 2] = [Backend::new(1), Backend::new(2)];
const NAMES: [&str; 2] = ["backend-1", "backend-2"];

/// A follower of the testbed's node that has begun to count.
fn counting(lab: &Lab, receive_buffer: usize) -> LoadFollower {
    let follower = LoadFollower::with(move || {
        let events = ConntrackEvents::open(receive_buffer).map_err(std::io::Error::other)?;
        Ok(Box::new(events))
    });
    lab.node().kernel().run(|| follower.set_wanted(true));
    until("it has begun to count", || (follower.dumps(), 1));
    follower
}

/// Waits until both of a pair are equal.
fn until<T: PartialEq + std::fmt::Debug>(what: &str, look: impl Fn() -> (T, T)) {
    let start = Instant::now();
    loop {
        let (seen, wanted) = look();
        if seen == wanted {
            return;
        }
        assert!(start.elapsed() < SOON, "{what}: {seen:?}, not {wanted:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn target(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The load of both backends, at their addresses of the family of `like`.
fn loads(lab: &Lab, follower: &LoadFollower, protocol: Protocol, like: IpAddr, port: u16) -> [Load; 2] {
    NAMES.map(|name| follower.load(protocol, lab.node().pod(name).address_towards(like), port))
}

/// Open connections and those that began, of both backends.
fn sums(lab: &Lab, follower: &LoadFollower, protocol: Protocol, like: IpAddr, port: u16) -> [(u32, u32); 2] {
    loads(lab, follower, protocol, like, port).map(|load| (load.active, load.begun))
}

/// Opens a connection, asks who is there, and leaves it open.
fn open(client: &Host, target: SocketAddr) -> (TcpStream, String) {
    let mut stream = client.run(|| TcpStream::connect_timeout(&target, SOON)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").unwrap();
    let mut text = String::new();
    while !text.ends_with("\n") || !text.contains("\r\n\r\nbackend-") {
        let mut buffer = [0; 512];
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => text.push_str(&String::from_utf8_lossy(&buffer[..length])),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => panic!("{other:?} after {text:?}"),
        }
    }
    let backend = NAMES.into_iter().find(|name| text.contains(name)).unwrap();
    (stream, backend.to_owned())
}

/// Both families, in turn on one testbed; a second Service leads to the same endpoints.
pub(crate) fn connections_are_counted_from_open_to_close() {
    let other = Service::new("other", ["10.96.0.20", "fd00:10:96::20"]).tcp(80).target_port(HTTP);
    let services = [Service::new("web", ["10.96.0.10", "fd00:10:96::10"]).tcp(80).target_port(HTTP), other];
    let lab = Lab::up(&services.map(|service| service.on(&BACKENDS))).unwrap();
    let _servers: Vec<_> = NAMES.map(|name| Server::start(lab.node().pod(name), Listen::Http(HTTP)).unwrap()).into();
    // Nobody asks yet: active when counting begins, but not begun.
    let (early, early_backend) = open(lab.client(), target(CLUSTER_IPS[0]));
    let follower = counting(&lab, ConntrackEvents::RECEIVE_BUFFER);
    for (family, others) in CLUSTER_IPS.map(target).into_iter().zip(["10.96.0.20:80", "[fd00:10:96::20]:80"]) {
        let like = family.ip();
        let early = |at: usize| u32::from(like.is_ipv4() && NAMES[at] == early_backend);
        let mut streams: Vec<_> = (0..12).map(|_| open(lab.client(), family)).collect();
        streams.extend((0..4).map(|_| open(lab.client(), target(others))));
        let count = |streams: &[(TcpStream, String)], name| {
            u32::try_from(streams.iter().filter(|(_, backend)| backend == name).count()).unwrap()
        };
        let begun = NAMES.map(|name| count(&streams, name));
        let look = |streams: &[(TcpStream, String)]| {
            let wanted = [0, 1].map(|at| (count(streams, NAMES[at]) + early(at), begun[at]));
            (sums(&lab, &follower, Protocol::Tcp, like, HTTP), wanted)
        };
        until("all are open", || look(&streams));
        let rates = loads(&lab, &follower, Protocol::Tcp, like, HTTP).map(|load| load.per_minute);
        assert!([0, 1].iter().all(|at| (rates[*at] > 0) == (begun[*at] > 0)), "{rates:?} of {begun:?} begun");
        streams.truncate(5);
        until("some are closed", || look(&streams));
        streams.clear();
        until("all are closed", || look(&streams));
    }
    drop(early);
}

/// A UDP flow is open until the kernel's entry ends.
pub(crate) fn udp_flows_are_counted_until_their_entry_ends() {
    let mut lab = Lab::up(&[web().on(&BACKENDS)]).unwrap();
    let follower = counting(&lab, ConntrackEvents::RECEIVE_BUFFER);
    let client = lab.client().clone();
    for target in CLUSTER_IPS.map(target) {
        let tally = lab.ask(&client, 20, Call::udp(target));
        let begun = NAMES.map(|name| u32::try_from(tally.answers_of(name)).unwrap());
        assert_eq!(begun.iter().sum::<u32>(), 20, "{tally:?}");
        let look = || sums(&lab, &follower, Protocol::Udp, target.ip(), BACKEND_PORT);
        until("all are open", || (look(), begun.map(|begun| (begun, begun))));
        lab.node().kernel().run(|| {
            let (mut table, mut flows) = (Conntrack::open().unwrap(), Vec::new());
            table.dump(Family::of(target.ip()), Protocol::Udp, &mut |flow| flows.push(flow)).unwrap();
            for flow in &flows {
                table.delete(flow).unwrap();
            }
        });
        until("all are gone", || (look(), begun.map(|begun| (0, begun))));
    }
}

/// The receive buffer holds a handful of events.
pub(crate) fn a_burst_beyond_the_receive_buffer_ends_with_the_right_numbers() {
    const CONNECTIONS: usize = 400;
    let lab = Lab::up(&[web().on(&BACKENDS)]).unwrap();
    let follower = counting(&lab, 4096);
    let target = target(CLUSTER_IPS[0]);
    let tally = Tally::repeat(lab.client(), CONNECTIONS, Call::tcp(target));
    let begun = NAMES.map(|name| u32::try_from(tally.answers_of(name)).unwrap());
    assert_eq!(usize::try_from(begun.iter().sum::<u32>()).unwrap(), CONNECTIONS, "{tally:?}");
    until("all are counted", || {
        (sums(&lab, &follower, Protocol::Tcp, target.ip(), BACKEND_PORT), begun.map(|begun| (0, begun)))
    });
    assert!(follower.dumps() > 1, "no event was lost: the test tests nothing");
}

/// What the kernel's own list of netlink sockets says of the node's namespace.
pub(crate) fn nobody_listens_while_nobody_asks() {
    let lab = Lab::up(&[web().on(&BACKENDS)]).unwrap();
    let target = target(CLUSTER_IPS[0]);
    let call = |count| Tally::repeat(lab.client(), count, Call::tcp(target)).answered();
    let listeners = || lab.node().kernel().run(listeners);
    assert_eq!((listeners(), call(20)), (0, 20));
    let follower = counting(&lab, ConntrackEvents::RECEIVE_BUFFER);
    assert_eq!(listeners(), 1);
    let begun = || -> u32 {
        sums(&lab, &follower, Protocol::Tcp, target.ip(), BACKEND_PORT).iter().map(|(_, begun)| begun).sum()
    };
    assert_eq!((begun(), call(20)), (0, 20));
    until("what began after that is counted", || (begun(), 20));
    follower.set_wanted(false);
    until("the socket is closed", || (listeners(), 0));
    assert_eq!(call(20), 20);
    assert_eq!(sums(&lab, &follower, Protocol::Tcp, target.ip(), BACKEND_PORT), [(0, 0); 2]);
}

/// Sockets of this namespace that get netfilter's events.
fn listeners() -> usize {
    const NETFILTER: &str = "12";
    let table = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let head = lines.next().unwrap();
    assert_eq!(head[1..4], ["Eth", "Pid", "Groups"]);
    lines.filter(|line| line[1] == NETFILTER && u32::from_str_radix(line[3], 16).unwrap() != 0).count()
}
