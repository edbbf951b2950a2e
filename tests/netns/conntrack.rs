//! In every test the old backends stay alive and would answer: only a flow that was ended reaches anybody else.
//!
//! Clients keep their source port, as DNS forwarders and QUIC do, so that all they send is one flow.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use weir_conntrack::{Flow, FlowTable};
use weir_model::{Conditions, Family, Protocol};
use weir_netlink::Conntrack;
use weir_testbed::{Answer, Call, Failure, Host, Layout, Listen, Server};
use weir_tests::lab::{Backend, Lab, Service, web};

const CLUSTER_IPS: [&str; 2] = ["10.96.0.10:80", "[fd00:10:96::10]:80"];
const NODE_PORTS: [&str; 2] = ["192.168.0.2:30080", "[2001:db8::1]:30080"];
const NODE_PORT: u16 = 30_080;
/// Outside of the service range: only what the rules held tells that they were a Service's.
const EXTERNAL_IP: &str = "198.51.100.9";
/// The client's side of the one flow.
const SOURCE_PORT: u16 = 9_053;
/// Within this time after a change a flow must be where it belongs: a hundred times what it takes on an idle machine.
const SOON: Duration = Duration::from_secs(5);
/// Patience of one call: long enough for a busy machine, short enough to try several times.
const PATIENCE: Duration = Duration::from_millis(150);
/// The port of the HTTP servers of the TCP test.
const HTTP: u16 = 8_081;

const FIRST: [Backend; 1] = [Backend::new(1)];
const SECOND: [Backend; 1] = [Backend::new(2)];

fn service() -> Service {
    Service::new("web", ["10.96.0.10", "fd00:10:96::10"]).udp(80)
}

fn target(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// One datagram of the flow from `host`, and its answer.
fn send(host: &Host, target: SocketAddr) -> Result<Answer, Failure> {
    Call::udp(target).from(host.address_towards(target.ip()), SOURCE_PORT).within(PATIENCE).make_on(host)
}

/// Keeps sending until `wanted` holds of an outcome.
fn until(host: &Host, target: SocketAddr, what: &str, wanted: impl Fn(&Result<Answer, Failure>) -> bool) {
    let start = Instant::now();
    loop {
        let outcome = send(host, target);
        if wanted(&outcome) {
            return;
        }
        assert!(start.elapsed() < SOON, "{} to {target}: no {what} in {SOON:?}; at last {outcome:?}", host.name());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn until_answered(host: &Host, target: SocketAddr, backend: &str) {
    until(host, target, backend, |outcome| outcome.as_ref().is_ok_and(|answer| answer.backend == backend));
}

fn assert_answered(host: &Host, target: SocketAddr, backend: &str) {
    let outcome = send(host, target);
    assert!(outcome.as_ref().is_ok_and(|answer| answer.backend == backend), "{backend} expected: {outcome:?}");
}

/// The flow from `host` to `target` as the node tracks it, which it must.
fn tracked(lab: &Lab, host: &Host, target: SocketAddr) -> Flow {
    find_tracked(lab, host, target).unwrap_or_else(|| panic!("nothing tracked from {} to {target}", host.name()))
}

/// The same, where a pass may just have ended it.
fn find_tracked(lab: &Lab, host: &Host, target: SocketAddr) -> Option<Flow> {
    let source = SocketAddr::new(host.address_towards(target.ip()), SOURCE_PORT);
    let mut found = None;
    lab.node().kernel().run(|| {
        let mut each = |flow: Flow| {
            if (flow.source, flow.destination) == (source, target) {
                found = Some(flow);
            }
        };
        Conntrack::open().unwrap().dump(Family::of(target.ip()), Protocol::Udp, &mut each).unwrap();
    });
    found
}

/// Waits until a pass has begun and ended after the last sync: of two that end from now on, the first may have begun
/// before.
fn reconciled(lab: &Lab) {
    let (start, before) = (Instant::now(), lab.conntrack().passes.load(Ordering::Acquire));
    while lab.conntrack().passes.load(Ordering::Acquire) < before + 2 {
        assert!(start.elapsed() < Duration::from_secs(5), "no pass is made");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn deleted(lab: &Lab) -> u64 {
    lab.conntrack().deleted.load(Ordering::Acquire)
}

/// Kubernetes e2e: "should be able to preserve UDP traffic when server pod cycles for a ClusterIP service".
pub(crate) fn should_be_able_to_preserve_udp_traffic_when_server_pod_cycles_for_a_cluster_ip_service() {
    let mut lab = Lab::up(&[service().on(&FIRST)]).unwrap();
    for target in CLUSTER_IPS.map(target) {
        assert_answered(lab.client(), target, "backend-1");
    }
    lab.apply(&[service().on(&SECOND)]).unwrap();
    for target in CLUSTER_IPS.map(target) {
        until_answered(lab.client(), target, "backend-2");
    }
}

/// Kubernetes e2e: "should be able to preserve UDP traffic when server pod cycles for a NodePort service".
pub(crate) fn should_be_able_to_preserve_udp_traffic_when_server_pod_cycles_for_a_node_port_service() {
    let service = service().node_port(NODE_PORT);
    let mut lab = Lab::up(&[service.clone().on(&FIRST)]).unwrap();
    for target in NODE_PORTS.map(target) {
        assert_answered(lab.outside(), target, "backend-1");
    }
    lab.apply(&[service.on(&SECOND)]).unwrap();
    for target in NODE_PORTS.map(target) {
        until_answered(lab.outside(), target, "backend-2");
    }
}

/// Kubernetes e2e: "should be able to preserve UDP traffic when initial unready endpoints get ready".
pub(crate) fn should_be_able_to_preserve_udp_traffic_when_initial_unready_endpoints_get_ready() {
    let service = service().on(&FIRST).node_port(NODE_PORT);
    let mut lab = Lab::up(&[service.clone().in_state(Conditions::default())]).unwrap();
    let inside = CLUSTER_IPS.map(|text| (lab.client().clone(), target(text)));
    let outside = NODE_PORTS.map(|text| (lab.outside().clone(), target(text)));
    let flows = [inside, outside].concat();
    for (host, target) in &flows {
        assert_eq!(send(host, *target), Err(Failure::Refused));
    }
    lab.apply(&[service]).unwrap();
    flows.iter().for_each(|(host, target)| until_answered(host, *target, "backend-1"));
}

/// The case of kubernetes#139628: no endpoint at all must not mean that nobody looks at the flows.
pub(crate) fn a_service_scaled_to_zero_and_back_keeps_no_flow() {
    let service = service().node_port(NODE_PORT);
    let mut lab = Lab::up(&[service.clone().on(&FIRST)]).unwrap();
    let (inside, outside) = (lab.client().clone(), lab.outside().clone());
    let flows = [(&inside, CLUSTER_IPS), (&outside, NODE_PORTS)];
    let flows: Vec<_> = flows.into_iter().flat_map(|(host, texts)| texts.map(|text| (host, target(text)))).collect();
    flows.iter().for_each(|(host, target)| assert_answered(host, *target, "backend-1"));
    lab.apply(&[service.clone().on(&[])]).unwrap();
    for (host, target) in &flows {
        until(host, *target, "refusal", |outcome| *outcome == Err(Failure::Refused));
    }
    lab.apply(&[service.on(&SECOND)]).unwrap();
    flows.iter().for_each(|(host, target)| until_answered(host, *target, "backend-2"));
}

/// Every kind of address, and back with another endpoint.
pub(crate) fn flows_end_with_their_service() {
    let service = service().node_port(NODE_PORT).external([EXTERNAL_IP]);
    let mut lab = Lab::up(&[web(), service.clone().on(&FIRST)].map(apart)).unwrap();
    let (inside, outside) = (lab.client().clone(), lab.outside().clone());
    let external = SocketAddr::new(EXTERNAL_IP.parse().unwrap(), 80);
    let flows = [(&inside, target("10.96.0.20:80")), (&inside, external), (&outside, target(NODE_PORTS[0]))];
    flows.iter().for_each(|(host, target)| assert_answered(host, *target, "backend-1"));
    lab.apply(&[web()]).unwrap();
    for (host, target) in &flows {
        until(host, *target, "silence", Result::is_err);
    }
    lab.apply(&[web(), service.on(&SECOND)].map(apart)).unwrap();
    flows.iter().for_each(|(host, target)| until_answered(host, *target, "backend-2"));
}

/// The pod's port changes, then the Service's, then the node port: nobody stays with the old one.
pub(crate) fn flows_end_where_a_port_changes() {
    const OTHER_PORT: u16 = 8_090;
    let at = |number: u16, node_port: u16| {
        Service::new("web", ["10.96.0.10", "fd00:10:96::10"]).udp(number).node_port(node_port).on(&FIRST)
    };
    let mut lab = Lab::up(&[at(80, NODE_PORT)]).unwrap();
    let (inside, outside) = (lab.client().clone(), lab.outside().clone());
    let flows = CLUSTER_IPS.map(|text| (&inside, target(text)));
    let flows = [flows, NODE_PORTS.map(|text| (&outside, target(text)))].concat();
    flows.iter().for_each(|(host, target)| assert_answered(host, *target, "backend-1"));

    // Both ports of the pod answer: only the flow itself tells which one it reaches.
    let _server = Server::start(lab.node().pod("backend-1"), Listen::Udp(OTHER_PORT)).unwrap();
    lab.apply(&[at(80, NODE_PORT).target_port(OTHER_PORT)]).unwrap();
    for (host, target) in &flows {
        let start = Instant::now();
        let moved = |flow: Flow| flow.reply_source.port() == OTHER_PORT;
        while send(host, *target).is_err() || !find_tracked(&lab, host, *target).is_some_and(moved) {
            assert!(start.elapsed() < SOON, "{} to {target} stays with the old port", host.name());
        }
    }

    lab.apply(&[at(81, NODE_PORT + 1)]).unwrap();
    for (host, target) in &flows {
        until(host, *target, "refusal", |outcome| *outcome == Err(Failure::Refused));
        let moved = SocketAddr::new(target.ip(), target.port() + 1);
        until_answered(host, moved, "backend-1");
    }
    lab.apply(&[at(80, NODE_PORT)]).unwrap();
    flows.iter().for_each(|(host, target)| until_answered(host, *target, "backend-1"));
}

/// Gives a Service that is reached from outside a name and ClusterIPs of its own.
fn apart(mut service: Service) -> Service {
    if !service.spec.external_ips.is_empty() {
        service.spec.key.name = "other".to_owned();
        service.spec.cluster_ips = ["10.96.0.20", "fd00:10:96::20"].map(|ip| ip.parse().unwrap()).to_vec();
    }
    service
}

/// The new Weir has never heard of the Service; that the rules it finds have it is all there is to go by.
pub(crate) fn flows_end_that_lost_their_service_while_weir_was_down() {
    let mut lab = Lab::up(&[service().on(&FIRST).external([EXTERNAL_IP])]).unwrap();
    let external = SocketAddr::new(EXTERNAL_IP.parse().unwrap(), 80);
    assert_answered(lab.client(), external, "backend-1");
    lab.stop();
    assert_answered(lab.client(), external, "backend-1");
    lab.start(&[]).unwrap();
    until(lab.client(), external, "silence", Result::is_err);
}

/// The first datagram meets no rule, and its entry would keep all others from the Service.
pub(crate) fn flows_older_than_the_service_reach_it() {
    let mut lab = Lab::up(&[web()]).unwrap();
    let (inside, outside) = (lab.client().clone(), lab.outside().clone());
    let external = SocketAddr::new(EXTERNAL_IP.parse().unwrap(), 80);
    let flows = [(&inside, external), (&outside, target(NODE_PORTS[0])), (&outside, target(NODE_PORTS[1]))];
    // Nobody is there; that they are refused ends no flow.
    for (host, target) in flows {
        assert!(send(host, target).is_err());
    }
    for (host, target) in flows {
        assert!(!tracked(&lab, host, target).is_translated());
    }
    let other = service().node_port(NODE_PORT).external([EXTERNAL_IP]);
    lab.apply(&[web(), apart(other.on(&FIRST))]).unwrap();
    flows.into_iter().for_each(|(host, target)| until_answered(host, target, "backend-1"));
}

/// kube-proxy takes every flow to that port number, wherever it leads, for one of the node port's.
pub(crate) fn the_node_port_of_another_address_is_left_alone() {
    let service = service().node_port(NODE_PORT);
    let mut lab = Lab::up(&[service.clone().on(&FIRST)]).unwrap();
    let _server = Server::start(lab.outside(), Listen::Udp(NODE_PORT)).unwrap();
    let elsewhere = SocketAddr::new(Layout::OUTSIDE.v4.into(), NODE_PORT);
    assert_answered(lab.client(), elsewhere, "outside");
    let before = tracked(&lab, lab.client(), elsewhere);
    lab.apply(&[service.clone().on(&SECOND)]).unwrap();
    lab.apply(&[service.on(&[])]).unwrap();
    reconciled(&lab);
    assert_eq!(tracked(&lab, lab.client(), elsewhere), before);
    assert_eq!(deleted(&lab), 0);
}

/// kubernetes#122740: a restart of kube-proxy ended every UDP flow.
pub(crate) fn a_restart_ends_no_flow() {
    let services = [service().node_port(NODE_PORT)];
    let mut lab = Lab::up(&services).unwrap();
    let (inside, outside) = (lab.client().clone(), lab.outside().clone());
    let flows =
        [(&inside, target(CLUSTER_IPS[0])), (&inside, target(CLUSTER_IPS[1])), (&outside, target(NODE_PORTS[0]))];
    let before = flows.map(|(host, target)| {
        let answer = send(host, target).unwrap();
        (answer, tracked(&lab, host, target))
    });
    lab.stop();
    lab.start(&services).unwrap();
    reconciled(&lab);
    assert_eq!(deleted(&lab), 0);
    let after = flows.map(|(host, target)| (send(host, target).unwrap(), tracked(&lab, host, target)));
    assert_eq!(after, before);
}

/// Twenty changes of the same Service and of another; the flow's own endpoint serves all the while, at last only as
/// one that is about to stop.
pub(crate) fn healthy_flows_outlive_the_changes_of_others() {
    let other = || Service::new("other", ["10.96.0.20", "fd00:10:96::20"]).udp(80);
    let mut lab = Lab::up(&[service().on(&FIRST), other()]).unwrap();
    let client = lab.client().clone();
    let before = CLUSTER_IPS.map(target).map(|target| {
        assert_answered(&client, target, "backend-1");
        tracked(&lab, &client, target)
    });
    for round in 0..20 {
        let on: &[Backend] = if round % 2 == 0 { &Backend::ALL } else { &FIRST };
        let terminating = if round < 10 { Conditions::ready() } else { Conditions::SERVING | Conditions::TERMINATING };
        let others: &[Backend] = if round % 3 == 0 { &[] } else { &SECOND };
        lab.apply(&[service().on(on).in_state(terminating), other().on(others)]).unwrap();
        for target in CLUSTER_IPS.map(target) {
            assert_answered(&client, target, "backend-1");
        }
    }
    reconciled(&lab);
    assert_eq!(CLUSTER_IPS.map(target).map(|target| tracked(&lab, &client, target)), before);
    assert_eq!(deleted(&lab), 0);
}

/// One request and its answer on an open connection.
fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")?;
    let mut buffer = [0; 512];
    let length = stream.read(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    Ok(text.split("\r\n\r\n").nth(1).and_then(|body| body.split(' ').next()).unwrap_or_default().to_owned())
}

pub(crate) fn stale_tcp_is_reset_only_if_asked_for() {
    for reset in [false, true] {
        let service = Service::new("web", ["10.96.0.10", "fd00:10:96::10"]).tcp(80).target_port(HTTP);
        let mut lab =
            Lab::up_with(&[service.clone().on(&FIRST)], |config| config.conntrack.reset_stale_tcp = reset).unwrap();
        let _servers: Vec<_> =
            lab.node().pods().iter().map(|pod| Server::start(pod, Listen::Http(HTTP)).unwrap()).collect();
        let mut streams = CLUSTER_IPS.map(target).map(|target| {
            let stream = lab.client().run(|| TcpStream::connect_timeout(&target, SOON)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        });
        // Endpoints that come end no connection, either way.
        lab.apply(&[service.clone().on(&Backend::ALL)]).unwrap();
        streams.iter_mut().for_each(|stream| assert_eq!(ask(stream).unwrap(), "backend-1"));
        lab.apply(&[service.on(&SECOND)]).unwrap();
        if reset {
            for stream in &mut streams {
                let start = Instant::now();
                // An answer that was on its way when the entry went is lost; the client then repeats its request.
                loop {
                    match ask(stream).map_err(|error| error.kind()) {
                        Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => break,
                        other => assert!(start.elapsed() < SOON, "no reset in {SOON:?}, but {other:?}"),
                    }
                }
            }
            assert_eq!(deleted(&lab), 2);
        } else {
            streams.iter_mut().for_each(|stream| assert_eq!(ask(stream).unwrap(), "backend-1"));
            assert_eq!(deleted(&lab), 0);
        }
    }
}
