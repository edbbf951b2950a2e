use std::net::SocketAddr;

use weir::config::{DetectLocal, DetectLocalMode};
use weir_testbed::{Call, Failure, Host};
use weir_tests::lab::{Backend, DROPPED, Lab, Service, web};

const CLUSTER_IPS: [&str; 2] = ["10.96.0.10:80", "[fd00:10:96::10]:80"];
const BALANCER_IPS: [&str; 2] = ["192.0.2.5:80", "[2001:db8:1b::5]:80"];
const CALLS: usize = 30;

fn target(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What `host` makes of `target`: whether every backend saw it with an address of the node. The Lab holds each call
/// against the simulator besides.
fn masqueraded(lab: &mut Lab, host: &Host, address: &str) -> bool {
    let tally = lab.call(host, CALLS, Call::tcp(target(address))).unwrap();
    assert_eq!(tally.failed(), 0, "{address}: {tally:?}");
    let own = host.address_towards(target(address).ip());
    tally.clients.values().flatten().all(|client| *client != own)
}

/// A Service for pods, and a balancer in front that keeps the client's address.
fn services() -> [Service; 1] {
    [web().load_balancer(["192.0.2.5", "2001:db8:1b::5"]).external_local()]
}

/// Pods keep their address on the way to a ClusterIP and reach every endpoint through the balancer's address; clients
/// from outside are masqueraded on the one way and reach this node's endpoints on the other.
fn assert_pods_are_told_apart(lab: &mut Lab) {
    let (pod, outside) = (lab.client().clone(), lab.outside().clone());
    for address in CLUSTER_IPS {
        assert!(!masqueraded(lab, &pod, address), "{address} from a pod");
        assert!(masqueraded(lab, &outside, address), "{address} from outside");
    }
    for address in BALANCER_IPS {
        let by_pod = lab.call(&pod, 4 * CALLS, Call::tcp(target(address))).unwrap();
        assert!(by_pod.answers_of("backend-3") > 0, "the short cut leads to all: {by_pod:?}");
        let from_outside = lab.call(&outside, CALLS, Call::tcp(target(address))).unwrap();
        assert_eq!(from_outside.answers_of("backend-3"), 0, "{from_outside:?}");
    }
}

pub(crate) fn pods_are_told_by_their_network() {
    assert_pods_are_told_apart(&mut Lab::up(&services()).unwrap());
    let node_cidr = |config: &mut weir::config::Config| config.detect_local_mode = DetectLocalMode::NodeCidr;
    assert_pods_are_told_apart(&mut Lab::up_with(&services(), node_cidr).unwrap());
}

/// The testbed's links of pods are named after them.
pub(crate) fn pods_are_told_by_their_interface() {
    for (mode, names) in [
        (
            DetectLocalMode::InterfaceNamePrefix,
            DetectLocal { interface_name_prefix: "cli".to_owned(), ..DetectLocal::default() },
        ),
        (
            DetectLocalMode::BridgeInterface,
            DetectLocal { bridge_interface: "client".to_owned(), ..DetectLocal::default() },
        ),
    ] {
        let by_interface = |config: &mut weir::config::Config| {
            config.pod_cidrs.clear();
            (config.detect_local_mode, config.detect_local) = (mode, names);
        };
        assert_pods_are_told_apart(&mut Lab::up_with(&services(), by_interface).unwrap());
    }
}

/// Without a way to tell, nobody is masqueraded, and pods get this node's endpoints like everybody.
pub(crate) fn pods_that_cannot_be_told_are_like_others() {
    let mut lab = Lab::up_with(&services(), |config| config.pod_cidrs.clear()).unwrap();
    let (pod, outside) = (lab.client().clone(), lab.outside().clone());
    for address in CLUSTER_IPS {
        assert!(!masqueraded(&mut lab, &pod, address) && !masqueraded(&mut lab, &outside, address));
    }
    let tally = lab.call(&pod, 2 * CALLS, Call::tcp(target(BALANCER_IPS[0]))).unwrap();
    assert_eq!(tally.answers_of("backend-3"), 0, "{tally:?}");
}

pub(crate) fn everybody_is_masqueraded_on_request() {
    let mut lab = Lab::up_with(&services(), |config| config.masquerade_all = true).unwrap();
    let (pod, outside) = (lab.client().clone(), lab.outside().clone());
    for address in CLUSTER_IPS {
        assert!(masqueraded(&mut lab, &pod, address) && masqueraded(&mut lab, &outside, address));
    }
}

/// A port of a balancer's or external address that no Service has: refused at once where that is asked for, else on
/// its way to wherever the address leads (the outside client has none of these, so nobody answers).
pub(crate) fn unused_ports_of_external_addresses_are_refused_on_request() {
    let services = [web().load_balancer(["192.0.2.5", "2001:db8:1b::5"]).external(["198.51.100.9"])];
    for on in [true, false] {
        let mut lab = Lab::up_with(&services, |config| config.reject_unused_external_ports = on).unwrap();
        let pod = lab.client().clone();
        for address in ["192.0.2.5:81", "[2001:db8:1b::5]:81", "198.51.100.9:81"] {
            for call in [Call::tcp(target(address)), Call::udp(target(address))] {
                let tally = lab.ask(&pod, 3, call.within(DROPPED));
                let refused = tally.failures.get(&Failure::Refused).copied().unwrap_or(0);
                assert_eq!(refused == 3, on, "{address}: {tally:?}");
                assert_eq!(tally.answered(), 0);
            }
        }
        // Those in use go on, and so do addresses of the node itself.
        let tally = lab.call(&pod, CALLS, Call::tcp(target("198.51.100.9:80"))).unwrap();
        assert_eq!(tally.failed(), 0, "{tally:?}");
    }
}

/// A TCP client of a Service without endpoints hears of it within milliseconds, not when it tries again after a second.
pub(crate) fn a_refusal_is_immediate() {
    let mut lab = Lab::up(&[web().on(&[])]).unwrap();
    for host in [lab.client().clone(), lab.outside().clone(), lab.node().kernel().clone()] {
        for address in CLUSTER_IPS {
            let start = std::time::Instant::now();
            let tally = lab.call(&host, 5, Call::tcp(target(address))).unwrap();
            assert_eq!(tally.failures.get(&Failure::Refused), Some(&5), "{tally:?}");
            assert!(
                start.elapsed() < std::time::Duration::from_secs(1),
                "{} waited {:?}",
                host.name(),
                start.elapsed()
            );
        }
    }
}

/// Pods behind a bridge, with `br_netfilter`, as with most simple network plugins: the bridge runs prerouting itself, before
/// it hands packets on.
pub(crate) fn pods_behind_a_bridge_are_served_and_refused() {
    let mut lab = Lab::up(&[web().on(&[Backend::new(1), Backend::new(2)])]).unwrap();
    let kernel = lab.node().kernel().clone();
    let pods = ["client", "backend-1", "backend-2"].map(|name| lab.node().pod(name).clone());
    // Pods know the node by the hardware address of their link.
    let link = kernel.command("ip", &["-brief", "link", "show", "client"]).unwrap();
    let address = link.split_whitespace().nth(2).unwrap();
    let mut lines = vec![format!("link add name cni0 address {address} type bridge"), "link set cni0 up".to_owned()];
    for pod in &pods {
        lines.push(format!("link set dev {} master cni0", pod.name()));
        lines.push(format!("route replace {} dev cni0", pod.v4()));
        lines.push(format!("route replace {} dev cni0", pod.v6()));
    }
    kernel.ip(&lines).unwrap();
    let filtered = ["iptables", "ip6tables"].map(|family| format!("bridge/bridge-nf-call-{family}"));
    if let Err(missing) = kernel.set_sysctls(&filtered.each_ref().map(|name| (name.as_str(), "1"))) {
        println!("skipped: pods_behind_a_bridge_are_served_and_refused: no br_netfilter ({missing:#})");
        return;
    }
    for address in CLUSTER_IPS {
        let served = lab.call(&pods[0], CALLS, Call::tcp(target(address))).unwrap();
        assert!(
            served.failed() == 0 && served.answers_of("backend-1") > 0 && served.answers_of("backend-2") > 0,
            "{served:?}"
        );
        assert!(!masqueraded(&mut lab, &pods[0], address), "{address}");
    }
    lab.apply(&[web().on(&[])]).unwrap();
    for address in CLUSTER_IPS {
        let start = std::time::Instant::now();
        let refused = lab.call(&pods[0], 5, Call::tcp(target(address))).unwrap();
        assert_eq!(refused.failures.get(&Failure::Refused), Some(&5), "{refused:?}");
        assert!(start.elapsed() < std::time::Duration::from_secs(1), "{:?}", start.elapsed());
    }
}
