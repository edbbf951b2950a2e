//! The testbed by itself, before any Service: every path is there, every failure is told apart.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use weir_testbed::{Call, Failure, Host, Layout, Listen, Node, Probe, Server, Tally, enter_for_tests};

fn main() {
    let arguments = Arguments::from_args();
    if !enter_for_tests("testbed") {
        return;
    }
    let case = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
    };
    libtest_mimic::run(
        &arguments,
        vec![
            case("comes_up_in_two_seconds", comes_up_in_two_seconds),
            case("every_host_reaches_every_other", every_host_reaches_every_other),
            case("a_fixed_source_port_is_kept", a_fixed_source_port_is_kept),
            case("the_outside_has_many_addresses", the_outside_has_many_addresses),
            case("failures_are_told_apart", failures_are_told_apart),
            case("rejects_are_never_rate_limited", rejects_are_never_rate_limited),
            case("replies_between_pods_pass_the_node", replies_between_pods_pass_the_node),
            case("a_pod_reaches_itself_through_the_node", a_pod_reaches_itself_through_the_node),
            case("a_probe_sees_an_outage", a_probe_sees_an_outage),
            case("a_wrong_pod_name_is_refused", a_wrong_pod_name_is_refused),
            case("hosts_are_isolated", hosts_are_isolated),
        ],
    )
    .exit();
}

fn node() -> Node {
    Node::up(&Layout::default()).unwrap()
}

/// Loads rules into the node with the `nft` tool.
fn nft(node: &Node, rules: &str) {
    node.kernel().command_with_input("nft", &["-f", "-"], rules).unwrap();
}

fn comes_up_in_two_seconds() {
    let start = Instant::now();
    let _node = node();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

fn every_host_reaches_every_other() {
    let node = node();
    let hosts: Vec<&Host> = node.pods().iter().chain([node.kernel(), node.outside()]).collect();
    let listen = [Listen::Greeting(7000), Listen::Http(7080), Listen::Udp(7000)];
    let _servers: Vec<_> = hosts.iter().map(|host| Server::start_all(host, &listen).unwrap()).collect();
    for from in &hosts {
        for to in &hosts {
            for address in [IpAddr::from(to.v4()), to.v6().into()] {
                let (raw, web) = (SocketAddr::new(address, 7000), SocketAddr::new(address, 7080));
                for call in [Call::tcp(raw), Call::http(web), Call::udp(raw)] {
                    let answer = call.make_on(from).unwrap_or_else(|why| panic!("{} {call:?}: {why}", from.name()));
                    assert_eq!(answer.backend, to.name());
                    assert_eq!(answer.client.ip(), from.address_towards(address), "{} {call:?}", from.name());
                }
            }
        }
    }
}

fn a_fixed_source_port_is_kept() {
    let node = node();
    let backend = node.pod("backend-1");
    let _servers = Server::start_all(backend, &[Listen::Greeting(7000), Listen::Udp(7000)]).unwrap();
    let target = SocketAddr::from((backend.v4(), 7000));
    let client = node.pod("client");
    for call in [Call::tcp(target), Call::tcp(target), Call::udp(target)] {
        let answer = call.from(client.v4().into(), 45_678).make_on(client).unwrap();
        assert_eq!(answer.client, SocketAddr::from((client.v4(), 45_678)));
    }
}

fn the_outside_has_many_addresses() {
    let node = node();
    let backend = node.pod("backend-1");
    let _servers = Server::start_all(backend, &[Listen::Greeting(7000), Listen::Udp(7000)]).unwrap();
    for n in [1, 77, 254] {
        let source = Layout::outside(n);
        for (target, source) in
            [(IpAddr::from(backend.v4()), IpAddr::from(source.v4)), (backend.v6().into(), source.v6.into())]
        {
            let target = SocketAddr::new(target, 7000);
            for call in [Call::tcp(target), Call::udp(target)] {
                let answer = call.from(source, 0).make_on(node.outside()).unwrap();
                assert_eq!(answer.client.ip(), source);
            }
        }
    }
}

/// 7000: no server. 7001: dropped. 7002: rejected with an ICMP error. 7003: rejected with a TCP reset.
const FILTER: &str =
    "table inet t { chain f { type filter hook forward priority 0; th dport 7001 drop; th dport 7002 reject;
    tcp dport 7003 reject with tcp reset; }; }";

fn failures_are_told_apart() {
    let node = node();
    let client = node.pod("client");
    nft(&node, FILTER);
    let timeout = Duration::from_millis(300);
    for address in [IpAddr::from(node.pod("backend-1").v4()), node.pod("backend-1").v6().into()] {
        let at = |port| SocketAddr::new(address, port);
        for (call, expected) in [
            (Call::tcp(at(7000)), Failure::Refused),
            (Call::tcp(at(7001)), Failure::TimedOut),
            (Call::tcp(at(7003)), Failure::Refused),
            (Call::udp(at(7000)), Failure::Refused),
            (Call::udp(at(7001)), Failure::TimedOut),
            (Call::udp(at(7002)), Failure::Refused),
        ] {
            let (seen, took) = client.run(|| call.within(timeout).timed());
            assert_eq!(seen, Err(expected.clone()), "{call:?}");
            assert_eq!(took >= timeout, expected == Failure::TimedOut, "{call:?}: {took:?}");
        }
        // The one case that needs the default patience, see `Call::timeout`.
        assert_eq!(Call::tcp(at(7002)).make_on(client), Err(Failure::Refused));
    }
}

fn rejects_are_never_rate_limited() {
    let node = node();
    nft(&node, FILTER);
    let backend = node.pod("backend-1");
    for address in [IpAddr::from(backend.v4()), backend.v6().into()] {
        let tally = Tally::repeat(node.pod("client"), 200, Call::udp(SocketAddr::new(address, 7002)));
        assert_eq!(tally.failures, [(Failure::Refused, 200)].into());
    }
}

/// NAT between two pods of the node works, which needs the reply to pass the node's connection tracking.
fn replies_between_pods_pass_the_node() {
    let node = node();
    let backend = node.pod("backend-1");
    let _servers = Server::start_all(backend, &[Listen::Greeting(7000), Listen::Udp(7000)]).unwrap();
    nft(
        &node,
        "table ip t { chain p { type nat hook prerouting priority -100; ip daddr 10.96.0.1 dnat to 10.244.0.11; }; }
         table ip6 t { chain p { type nat hook prerouting priority -100; ip6 daddr fd00:10:96::1 dnat to fd00:244::11; }; }",
    );
    for target in ["10.96.0.1:7000", "[fd00:10:96::1]:7000"] {
        for call in [Call::tcp(target.parse().unwrap()), Call::udp(target.parse().unwrap())] {
            for from in [node.pod("client"), node.outside()] {
                assert_eq!(call.make_on(from).unwrap().backend, "backend-1", "{} {call:?}", from.name());
            }
        }
    }
}

/// Hairpin: out of a pod, back into it, with the node's address.
fn a_pod_reaches_itself_through_the_node() {
    let node = node();
    let backend = node.pod("backend-1");
    let _servers = Server::start_all(backend, &[Listen::Greeting(7000), Listen::Udp(7000)]).unwrap();
    nft(
        &node,
        "table ip t {
            chain p { type nat hook prerouting priority -100; ip daddr 10.96.0.1 dnat to 10.244.0.11; }
            chain m { type nat hook postrouting priority 100; ct status dnat masquerade; }; }
         table ip6 t {
            chain p { type nat hook prerouting priority -100; ip6 daddr fd00:10:96::1 dnat to fd00:244::11; }
            chain m { type nat hook postrouting priority 100; ct status dnat masquerade; }; }",
    );
    for target in ["10.96.0.1:7000", "[fd00:10:96::1]:7000"] {
        let target: SocketAddr = target.parse().unwrap();
        for call in [Call::tcp(target), Call::udp(target)] {
            let tally = Tally::repeat(backend, 20, call);
            assert_eq!(tally.answers_of("backend-1"), 20, "{tally:?}");
            assert_eq!(tally.clients["backend-1"], [node.kernel().address_towards(target.ip())].into());
        }
    }
}

fn a_probe_sees_an_outage() {
    let node = node();
    let backend = node.pod("backend-1");
    let listen = [Listen::Greeting(7000), Listen::Udp(7000)];
    let mut servers = Server::start_all(backend, &listen).unwrap();
    let target = SocketAddr::from((backend.v4(), 7000));
    let outage = Duration::from_millis(300);
    let patience = Duration::from_millis(50);

    for fails in [false, true] {
        let connections = Probe::connections(node.pod("client"), Call::tcp(target).within(patience), 200);
        let flow = Probe::flow(node.pod("client"), Call::udp(target).within(patience), 200).unwrap();
        std::thread::sleep(outage);
        if fails {
            servers.clear();
            std::thread::sleep(outage);
            servers = Server::start_all(backend, &listen).unwrap();
        } else {
            std::thread::sleep(outage);
        }
        std::thread::sleep(outage);
        for report in [connections.stop(), flow.stop()] {
            assert!(report.tally.answered() > 60, "{report:?}");
            assert_eq!(report.failures().contains_key(&Failure::Refused), fails, "{report:?}");
            assert_eq!(report.longest_gap > outage, fails, "{report:?}");
        }
    }
}

fn a_wrong_pod_name_is_refused() {
    for name in ["", "sixteen-letters-", "eth0", "client"] {
        let mut layout = Layout::default();
        layout.pods[1].name = name.to_owned();
        let error = Node::up(&layout).unwrap_err().to_string();
        assert!(error.contains(&format!("{name:?}")), "{error}");
    }
}

/// The hosts see their own links only, and the process's first namespace sees none: the machine's are out of reach.
fn hosts_are_isolated() {
    let node = node();
    let links = |list: &str| -> Vec<String> {
        list.lines().map(|line| line.split([':', '@']).nth(1).unwrap().trim().to_owned()).collect()
    };
    let of_the_client = node.pod("client").command("ip", &["-o", "link"]).unwrap();
    assert_eq!(links(&of_the_client), ["lo", "eth0"]);
    let of_the_process = std::process::Command::new("ip").args(["-o", "link"]).output().unwrap();
    assert_eq!(links(&String::from_utf8(of_the_process.stdout).unwrap()), ["lo"]);
}
