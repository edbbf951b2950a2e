use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use weir_testbed::{Call, Failure, Layout, Tally};
use weir_tests::lab::{Backend, DROPPED, Lab, Service, address_of, web};

/// Enough that each of three backends gets a connection for sure.
const CALLS: usize = 90;

/// `web` with every kind of frontend, in both families.
fn everywhere() -> Service {
    web().node_port(30_080).external(["198.51.100.7", "2001:db8:e::7"]).load_balancer(["192.0.2.5", "2001:db8:1b::5"])
}

const CLUSTER_IPS: [&str; 2] = ["10.96.0.10:80", "[fd00:10:96::10]:80"];
const NODE_PORTS: [&str; 2] = ["192.168.0.2:30080", "[2001:db8::1]:30080"];
const EXTERNAL_IPS: [&str; 2] = ["198.51.100.7:80", "[2001:db8:e::7]:80"];
const LOAD_BALANCER_IPS: [&str; 2] = ["192.0.2.5:80", "[2001:db8:1b::5]:80"];
/// Whatever a client outside of the cluster can use.
const EXTERNAL: [[&str; 2]; 3] = [NODE_PORTS, EXTERNAL_IPS, LOAD_BALANCER_IPS];

fn target(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// By TCP and by UDP.
fn calls(text: &str) -> [Call; 2] {
    [Call::tcp(target(text)), Call::udp(target(text))]
}

/// The backends that answered; every call must have got an answer.
fn answering(tally: &Tally) -> Vec<&str> {
    assert_eq!(tally.failed(), 0, "{tally:?}");
    tally.answers.keys().map(String::as_str).collect()
}

/// The client addresses any backend saw.
fn clients(tally: &Tally) -> BTreeSet<IpAddr> {
    tally.clients.values().flatten().copied().collect()
}

pub(crate) fn every_frontend_works() {
    let mut lab = Lab::up(&[everywhere()]).unwrap();
    let hosts = [lab.client().clone(), lab.outside().clone(), lab.node().kernel().clone()];
    for frontend in [CLUSTER_IPS].iter().chain(&EXTERNAL).flatten() {
        for call in calls(frontend) {
            for host in &hosts {
                let tally = lab.call(host, CALLS, call).unwrap();
                assert_eq!(answering(&tally), ["backend-1", "backend-2", "backend-3"], "{} {call:?}", host.name());
            }
        }
    }
}

/// A pod keeps its address on the way to a ClusterIP; a client from outside cannot, since replies must pass this node.
pub(crate) fn backends_see_the_client_or_the_node() {
    let mut lab = Lab::up(&[everywhere()]).unwrap();
    let (pod, outside) = (lab.client().clone(), lab.outside().clone());
    for call in CLUSTER_IPS.into_iter().flat_map(calls) {
        let like = call.target.ip();
        assert_eq!(clients(&lab.call(&pod, CALLS, call).unwrap()), [pod.address_towards(like)].into());
        assert_eq!(clients(&lab.call(&outside, CALLS, call).unwrap()), [address_of(Layout::NODE, like)].into());
    }
    for call in EXTERNAL.into_iter().flatten().flat_map(calls) {
        let like = call.target.ip();
        assert_eq!(clients(&lab.call(&outside, CALLS, call).unwrap()), [address_of(Layout::NODE, like)].into());
    }
}

pub(crate) fn external_local_keeps_the_client() {
    let mut lab = Lab::up(&[everywhere().external_local()]).unwrap();
    let (pod, outside) = (lab.client().clone(), lab.outside().clone());
    for call in EXTERNAL.into_iter().flatten().flat_map(calls) {
        let tally = lab.call(&outside, CALLS, call).unwrap();
        assert_eq!(answering(&tally), ["backend-1", "backend-2"], "{call:?}");
        assert_eq!(clients(&tally), [address_of(Layout::OUTSIDE, call.target.ip())].into(), "{call:?}");
        // Pods of the cluster are not external: they reach all endpoints through the same address.
        let tally = lab.call(&pod, CALLS, call).unwrap();
        assert_eq!(answering(&tally), ["backend-1", "backend-2", "backend-3"], "{call:?}");
    }
}

/// Silence makes a load balancer try another node; a refusal would reach the client.
pub(crate) fn external_local_without_endpoint_here_drops() {
    let mut lab = Lab::up(&[everywhere().external_local().on(&[Backend::new(3)])]).unwrap();
    let (pod, outside) = (lab.client().clone(), lab.outside().clone());
    for call in EXTERNAL.into_iter().flatten().flat_map(calls) {
        let tally = lab.call(&outside, 1, call.within(DROPPED)).unwrap();
        assert_eq!(tally.failures, [(Failure::TimedOut, 1)].into(), "{call:?}");
        assert_eq!(answering(&lab.call(&pod, 3, call).unwrap()), ["backend-3"], "{call:?}");
    }
    for call in CLUSTER_IPS.into_iter().flat_map(calls) {
        assert_eq!(answering(&lab.call(&pod, 3, call).unwrap()), ["backend-3"], "{call:?}");
    }
}

pub(crate) fn internal_local_stays_on_the_node() {
    let mut lab = Lab::up(&[everywhere().internal_local()]).unwrap();
    let (pod, outside) = (lab.client().clone(), lab.outside().clone());
    for call in CLUSTER_IPS.into_iter().flat_map(calls) {
        assert_eq!(answering(&lab.call(&pod, CALLS, call).unwrap()), ["backend-1", "backend-2"], "{call:?}");
    }
    for call in EXTERNAL.into_iter().flatten().flat_map(calls) {
        let all = ["backend-1", "backend-2", "backend-3"];
        assert_eq!(answering(&lab.call(&outside, CALLS, call).unwrap()), all, "{call:?}");
    }
    // With no endpoint here the traffic is dropped, not refused (kube-proxy: `serviceNoLocalEndpointsInternal`).
    lab.apply(&[everywhere().internal_local().on(&[Backend::new(3)])]).unwrap();
    for call in CLUSTER_IPS.into_iter().flat_map(calls) {
        let tally = lab.call(&pod, 1, call.within(DROPPED)).unwrap();
        assert_eq!(tally.failures, [(Failure::TimedOut, 1)].into(), "{call:?}");
    }
}

/// A packet that comes back to the pod that sent it needs another source, or the pod would take the reply for its own.
pub(crate) fn a_backend_reaches_itself() {
    let mut lab = Lab::up(&[everywhere()]).unwrap();
    let backend = lab.node().pod("backend-1").clone();
    for call in CLUSTER_IPS.into_iter().flat_map(calls) {
        let like = call.target.ip();
        let tally = lab.call(&backend, CALLS, call).unwrap();
        assert_eq!(answering(&tally), ["backend-1", "backend-2", "backend-3"], "{call:?}");
        assert_eq!(tally.clients["backend-1"], [address_of(Layout::NODE, like)].into(), "{call:?}");
        assert_eq!(tally.clients["backend-2"], [backend.address_towards(like)].into(), "{call:?}");
    }
    // The same when the pod is the only endpoint, and through the addresses for outside clients.
    lab.apply(&[everywhere().on(&[Backend::new(1)])]).unwrap();
    for call in [CLUSTER_IPS].into_iter().chain(EXTERNAL).flatten().flat_map(calls) {
        let tally = lab.call(&backend, 3, call).unwrap();
        assert_eq!(answering(&tally), ["backend-1"], "{call:?}");
        assert_eq!(clients(&tally), [address_of(Layout::NODE, call.target.ip())].into(), "{call:?}");
    }
}

pub(crate) fn no_endpoint_rejects_at_once() {
    let mut lab = Lab::up(&[everywhere().on(&[])]).unwrap();
    let (pod, outside) = (lab.client().clone(), lab.outside().clone());
    for frontend in [CLUSTER_IPS].iter().chain(&EXTERNAL).flatten() {
        for host in [&pod, &outside] {
            let udp = Call::udp(target(frontend));
            let (seen, took) = host.run(|| udp.timed());
            assert_eq!(seen, Err(Failure::Refused), "{} {udp:?}", host.name());
            assert!(took < DROPPED, "{took:?} for {} {udp:?}", host.name());
            let refused = [(Failure::Refused, 1)].into();
            assert_eq!(lab.call(host, 1, udp).unwrap().failures, refused, "{} {udp:?}", host.name());
        }
    }
    // TCP takes a second here whatever the rules are, see `Call::timeout`; one frontend of each kind will do.
    for frontend in [CLUSTER_IPS[0], NODE_PORTS[1], EXTERNAL_IPS[0], LOAD_BALANCER_IPS[1]] {
        let tally = lab.call(&outside, 1, Call::tcp(target(frontend))).unwrap();
        assert_eq!(tally.failures, [(Failure::Refused, 1)].into(), "{frontend}");
    }
}

/// A port that no Service has on a ClusterIP that is in use is refused; an unused ClusterIP is dropped.
pub(crate) fn what_nobody_serves() {
    let mut lab = Lab::up(&[everywhere()]).unwrap();
    let pod = lab.client().clone();
    for unused_port in ["10.96.0.10:81", "[fd00:10:96::10]:81"] {
        for call in calls(unused_port) {
            let tally = lab.call(&pod, 1, call).unwrap();
            assert_eq!(tally.failures, [(Failure::Refused, 1)].into(), "{call:?}");
        }
    }
    for unused_address in ["10.96.0.99:80", "[fd00:10:96::99]:80"] {
        for call in calls(unused_address) {
            let tally = lab.call(&pod, 1, call.within(DROPPED)).unwrap();
            assert_eq!(tally.failures, [(Failure::TimedOut, 1)].into(), "{call:?}");
        }
    }
}

/// Loopback and the ClusterIP do not listen on the node port's number.
pub(crate) fn node_ports_are_on_the_primary_address_only() {
    let mut lab = Lab::up(&[everywhere()]).unwrap();
    let node = lab.node().kernel().clone();
    for call in NODE_PORTS.into_iter().flat_map(calls) {
        assert_eq!(lab.call(&node, 3, call).unwrap().answered(), 3, "{call:?}");
    }
    for loopback in ["127.0.0.1:30080", "[::1]:30080"] {
        for call in calls(loopback) {
            assert_eq!(call.make_on(&node), Err(Failure::Refused), "{call:?}");
        }
    }
}

/// Somebody else on the node translates a guarded address as well, as the host ports of a network plugin do, in a chain
/// that comes before ours: whom the source ranges leave out does not get in by that way, either.
pub(crate) fn source_ranges_go_before_the_translations_of_others() {
    let mut service = web().load_balancer(["192.0.2.5"]);
    service.spec.source_ranges = vec!["203.0.113.128/25".parse().unwrap()];
    let lab = Lab::up(&[service]).unwrap();
    let call =
        |client: u8| Call::tcp(target("192.0.2.5:80")).from(Layout::outside(client).v4.into(), 0).within(DROPPED);
    let seen = |client: u8| call(client).make_on(lab.outside()).map(|answer| answer.backend);
    assert_eq!(seen(2), Err(Failure::TimedOut));
    load_host_port(&lab, "dstnat");
    assert_eq!(seen(2), Err(Failure::TimedOut));
    assert_eq!(seen(200).as_deref(), Ok("backend-2"), "the plugin's chain was made last, so it comes first");
}

/// A frontend without an endpoint here is refused only when nobody else translates it: host ports of a small load
/// balancer's pods do, before Weir or after it.
pub(crate) fn refusals_come_after_the_translations_of_others() {
    for priority in ["dstnat", "dstnat + 10"] {
        let mut lab = Lab::up(&[web().load_balancer(["192.0.2.5"]).external_local().on(&[Backend::new(3)])]).unwrap();
        let call = || Call::tcp(target("192.0.2.5:80")).within(DROPPED);
        let seen = |lab: &Lab| call().make_on(lab.outside()).map(|answer| answer.backend);
        assert_eq!(seen(&lab), Err(Failure::TimedOut));
        load_host_port(&lab, priority);
        assert_eq!(seen(&lab).as_deref(), Ok("backend-2"), "{priority}");
        lab.apply(&[web().load_balancer(["192.0.2.5"]).on(&[])]).unwrap();
        assert_eq!(seen(&lab).as_deref(), Ok("backend-2"), "{priority}, without any endpoint");
    }
}

/// A chain as of a network plugin's host ports: 192.0.2.5:80 is served by backend-2.
fn load_host_port(lab: &Lab, priority: &str) {
    let rules = format!(
        "table ip plugin {{ chain prerouting {{
            type nat hook prerouting priority {priority}
            ip daddr 192.0.2.5 tcp dport 80 dnat to 10.244.0.12:8080
        }}; }}"
    );
    lab.node().kernel().command_with_input("nft", &["-f", "-"], &rules).unwrap();
}
