use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use weir_testbed::{Call, Host, Layout, Tally};
use weir_tests::lab::{Backend, Lab, Service, address_of, chi_square, chi_square_limit, web};

const TARGETS: [&str; 2] = ["10.96.0.10:80", "[fd00:10:96::10]:80"];
/// Connections per measured distribution.
const CALLS: usize = 3000;

/// Every target by TCP and by UDP.
fn calls() -> impl Iterator<Item = Call> {
    TARGETS.into_iter().flat_map(|text| {
        let target: SocketAddr = text.parse().unwrap();
        [Call::tcp(target), Call::udp(target)]
    })
}

/// Answers of backend 1, 2, 3.
fn counts(tally: &Tally) -> [u64; 3] {
    assert_eq!(tally.failed(), 0, "{tally:?}");
    ["backend-1", "backend-2", "backend-3"].map(|backend| tally.answers_of(backend))
}

fn assert_spread(tally: &Tally, weights: [u64; 3]) {
    let seen = counts(tally);
    let statistic = chi_square(&seen, &weights);
    assert!(statistic < chi_square_limit(3), "{seen:?} is not {weights:?}: chi-square {statistic:.1}");
}

pub(crate) fn random_is_uniform() {
    let mut lab = Lab::up(&[web().policy("random")]).unwrap();
    let client = lab.client().clone();
    for call in calls() {
        assert_spread(&lab.call(&client, CALLS, call).unwrap(), [1, 1, 1]);
    }
}

pub(crate) fn weights_are_kept() {
    let weighted = |weights: [u32; 3]| {
        let backends =
            Backend::ALL.map(|backend| Backend { weight: weights[usize::from(backend.number) - 1], ..backend });
        web().policy("weighted").on(&backends)
    };
    let mut lab = Lab::up(&[weighted([1, 2, 5])]).unwrap();
    let client = lab.client().clone();
    for call in calls() {
        assert_spread(&lab.call(&client, CALLS, call).unwrap(), [1, 2, 5]);
    }
    lab.apply(&[weighted([3, 0, 1])]).unwrap();
    for call in calls() {
        let tally = lab.call(&client, 400, call).unwrap();
        assert_eq!(tally.answers_of("backend-2"), 0, "weight 0 drains");
        let [first, _, third] = counts(&tally);
        assert!(chi_square(&[first, third], &[3, 1]) < chi_square_limit(2), "{tally:?}");
    }
}

/// Each family and protocol has a counter of its own, so the order is exact, whoever else connects.
pub(crate) fn round_robin_takes_turns() {
    let mut lab = Lab::up(&[web().policy("round-robin")]).unwrap();
    let (client, outside) = (lab.client().clone(), lab.outside().clone());
    for call in calls() {
        let mut order = lab.call(&client, 30, call).unwrap().order;
        order.extend(lab.call(&outside, 30, call).unwrap().order);
        assert_eq!(order[..3].iter().collect::<BTreeSet<_>>().len(), 3, "{order:?}");
        assert!(order.windows(4).all(|turns| turns[0] == turns[3]), "{order:?}");
    }
}

/// Outside clients number 1 to 60, as far as affinity is concerned: sixty machines.
fn clients() -> std::ops::RangeInclusive<u8> {
    1..=60
}

/// Whom each outside client gets, each asking once.
fn assignment(outside: &Host, call: Call) -> BTreeMap<u8, String> {
    let numbers: Vec<u8> = clients().collect();
    let tally = Tally::of(outside, numbers.len(), |at| {
        call.from(address_of(Layout::outside(numbers[at]), call.target.ip()), 0)
    });
    assert_eq!(tally.failed(), 0, "{tally:?}");
    numbers.into_iter().zip(tally.order).collect()
}

fn spread_over(assignment: &BTreeMap<u8, String>) -> usize {
    assignment.values().collect::<BTreeSet<_>>().len()
}

/// `sessionAffinity: ClientIP`, also in turn, and the policy `client-ip` for a Service that does not ask for it.
pub(crate) fn clients_stay_with_their_backend() {
    let in_turn = web().affinity(600).policy("round-robin");
    for service in [web().affinity(600), in_turn, web().policy("client-ip")] {
        let lab = Lab::up(&[service]).unwrap();
        for call in calls() {
            let first = assignment(lab.outside(), call);
            assert_eq!(spread_over(&first), 3, "different clients get different backends: {first:?}");
            for _ in 0..5 {
                assert_eq!(assignment(lab.outside(), call), first, "{call:?}");
            }
        }
    }
}

/// That sixty clients who choose anew among three backends all get the one they had happens once in 3⁶⁰.
pub(crate) fn affinity_ends_with_its_timeout() {
    let timeout = Duration::from_secs(2);
    let lab = Lab::up(&[web().affinity(2)]).unwrap();
    for call in TARGETS.map(|target| Call::tcp(target.parse().unwrap())) {
        let first = assignment(lab.outside(), call);
        // Each connection starts the time anew: far beyond the timeout nobody has moved.
        for _ in 0..6 {
            sleep(timeout / 4);
            assert_eq!(assignment(lab.outside(), call), first, "{call:?}");
        }
        sleep(timeout + timeout / 4);
        assert_ne!(assignment(lab.outside(), call), first, "{call:?}");
    }
}

/// Clients nobody knows take turns; those that are known do not take any.
pub(crate) fn new_clients_take_turns() {
    let lab = Lab::up(&[web().affinity(600).policy("round-robin").node_port(30_080)]).unwrap();
    let node_port = Call::tcp("192.168.0.2:30080".parse().unwrap());
    for call in calls().chain([node_port]) {
        let first = assignment(lab.outside(), call);
        let order: Vec<&String> = first.values().collect();
        assert_eq!(spread_over(&first), 3, "{first:?}");
        assert!(order.windows(4).all(|turns| turns[0] == turns[3]), "{first:?}");
        assert_eq!(assignment(lab.outside(), call), first, "{call:?}");
    }
}

/// Clients of a backend that goes are spread anew and stay; the others notice nothing.
pub(crate) fn affinity_ends_with_its_backend() {
    for policy in ["random", "round-robin"] {
        ends_with_its_backend(&|| web().affinity(600).policy(policy));
    }
}

fn ends_with_its_backend(service: &dyn Fn() -> Service) {
    let mut lab = Lab::up(&[service()]).unwrap();
    let before: Vec<_> = calls().map(|call| (call, assignment(lab.outside(), call))).collect();
    lab.apply(&[service().on(&[Backend::new(1), Backend::new(3)])]).unwrap();
    for (call, before) in before {
        let after = assignment(lab.outside(), call);
        for (client, backend) in &before {
            if backend != "backend-2" {
                assert_eq!(&after[client], backend, "client {client} was moved without need: {call:?}");
            }
        }
        assert_eq!(spread_over(&after), 2, "{after:?}");
        assert!(!after.values().any(|backend| backend == "backend-2"), "{after:?}");
        assert_eq!(assignment(lab.outside(), call), after, "{call:?}");
    }
}

/// Whoever was sent to a backend before a crash is sent there afterwards, though the cluster changed meanwhile.
pub(crate) fn affinity_outlives_a_restart() {
    let mut lab = Lab::up(&[web().affinity(600).node_port(30_080)]).unwrap();
    let node_ports = ["192.168.0.2:30080", "[2001:db8::1]:30080"].map(|target| Call::tcp(target.parse().unwrap()));
    let calls: Vec<Call> = calls().chain(node_ports).collect();
    let before: Vec<_> = calls.iter().map(|call| assignment(lab.outside(), *call)).collect();
    lab.stop();
    let other = Service::new("other", ["10.96.0.20"]).tcp(80);
    lab.start(&[other, web().affinity(600).node_port(30_080)]).unwrap();
    for (call, before) in calls.into_iter().zip(before) {
        assert_eq!(assignment(lab.outside(), call), before, "{call:?}");
    }
}
