//! Every built-in balancer through the real host: who gets how much, the same on every node, drained, started slowly.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use weir_model::{
    Decision, EndpointSpec, Event, Family, IndexFunction, Load, Loads, NodeIdentity, ObjectKey, Protocol,
    ServicePortSpec, ServiceSpec, SlicePort, SliceSpec, Store,
};
use weir_policy::{BUILT_IN, Catalog, Decider, Engine, FailureReason, Limits, Role};

/// An endpoint: last byte of its address, zone, pod, weight.
type Spec = (u8, &'static str, &'static str, u32);

const THREE: [Spec; 3] = [(1, "a", "web-1", 1), (2, "a", "web-2", 1), (3, "b", "canary-1", 1)];

/// One catalog for all, so that each policy is compiled once.
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let engine = Engine::new(Limits::default()).expect("an engine");
    Catalog::new(&engine, "kubernetes", "random").expect("the built-in policies")
});

/// Connections by the last byte of an endpoint's address.
#[derive(Debug, Default)]
struct Counted(Mutex<BTreeMap<u8, Load>>);

impl Loads for Counted {
    fn load(&self, _: Protocol, address: IpAddr, _: u16) -> Load {
        let IpAddr::V4(v4) = address else { return Load::default() };
        self.0.lock().expect("no one panicked").get(&v4.octets()[3]).copied().unwrap_or_default()
    }
}

struct Node {
    store: Store,
    decider: Decider,
    loads: Arc<Counted>,
    start: Instant,
    now: Duration,
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

impl Node {
    fn new(name: &str, policy: &str, settings: &str, endpoints: &[Spec]) -> Self {
        let store = Store::new(NodeIdentity { name: name.to_owned(), zone: "a".to_owned() });
        let loads = Arc::new(Counted::default());
        let mut decider = Decider::new(CATALOG.clone());
        decider.set_loads(loads.clone());
        let mut node = Self { store, decider, loads, start: Instant::now(), now: Duration::ZERO };
        node.store.apply(Event::Service(ServiceSpec {
            key: key("web"),
            cluster_ips: vec![[10, 96, 0, 10].into()],
            ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
            policy: Some(policy.to_owned()),
            policy_settings: Some(settings.to_owned()).filter(|settings| !settings.is_empty()),
            ..ServiceSpec::default()
        }));
        node.set(endpoints);
        node
    }

    /// Gives the Service those endpoints. A slice has one weight, so each endpoint has its own.
    fn set(&mut self, endpoints: &[Spec]) {
        for host in 1..=20 {
            let of_slice = endpoints.iter().filter(|(of, ..)| *of == host);
            let endpoint = |(host, zone, pod, weight): &Spec| EndpointSpec {
                zone: Some((*zone).to_owned()).filter(|zone| !zone.is_empty()),
                weight: *weight,
                pod: Some((*pod).to_owned()),
                ..EndpointSpec::ready(Ipv4Addr::new(10, 244, 0, *host).into())
            };
            self.store.apply(Event::Slice(SliceSpec {
                key: key(&format!("web-{host}")),
                service: key("web"),
                family: Family::V4,
                ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
                endpoints: of_slice.map(endpoint).collect(),
                triggered: None,
            }));
        }
    }

    fn set_active(&self, active: &[(u8, u32)]) {
        let load = |active| Load { active, begun: active, per_minute: 60 };
        let loads = active.iter().map(|(host, active)| (*host, load(*active)));
        *self.loads.0.lock().expect("no one panicked") = loads.collect();
    }

    /// Decides, so many seconds later.
    fn after(&mut self, seconds: u64) -> Decision {
        self.now += Duration::from_secs(seconds);
        let mut services = self.store.take_dirty();
        let due = self.decider.take_due(self.start + self.now);
        services.extend(due.into_iter().filter(|id| !services.contains(id)).collect::<Vec<_>>());
        let mut decisions = self.decider.decide_at(self.start + self.now, &self.store, &services);
        assert!(decisions.failures.is_empty(), "{:?}", decisions.failures);
        (*decisions.ports.pop().expect("it was due").1).clone()
    }
}

fn decide(policy: &str, settings: &str, endpoints: &[Spec]) -> Decision {
    Node::new("here", policy, settings, endpoints).after(0)
}

/// The slots, as the last byte of the endpoint's address.
fn slots(decision: &Decision) -> Vec<u8> {
    let host = |slot: &u16| match decision.backends[usize::from(*slot)].address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(_) => 0,
    };
    decision.cluster.iter().flat_map(|ring| &ring.slots).map(host).collect()
}

/// Slots of each endpoint in percent of all, for those that have any.
fn percent(decision: &Decision) -> BTreeMap<u8, u32> {
    let slots = slots(decision);
    let share = |host| (slots.iter().filter(|slot| **slot == host).count() * 100).div_ceil(slots.len());
    slots.iter().map(|host| (*host, u32::try_from(share(*host)).expect("at most 100"))).collect()
}

fn index(decision: &Decision) -> IndexFunction {
    decision.cluster.as_ref().expect("a ring").index
}

fn balancers() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name).filter(|name| *name != "kubernetes")
}

#[test]
fn equal_endpoints_get_equal_shares_from_all_that_know_no_zone() {
    for policy in balancers().filter(|name| !name.starts_with("zone-aware")) {
        let decision = decide(policy, "", &THREE);
        let shares = percent(&decision);
        assert!(shares.len() == 3 && shares.values().all(|share| (33..=35).contains(share)), "{policy}: {shares:?}");
        assert_eq!(decision.reason.as_ref(), "", "{policy}: nothing is unusual");
    }
}

#[test]
fn weight_0_drains_whatever_the_policy_and_where_all_are_drained_all_serve() {
    for policy in balancers() {
        let drained = [(1, "a", "web-1", 1), (2, "a", "web-2", 0), (3, "a", "web-3", 1)];
        let decision = decide(policy, "", &drained);
        assert_eq!(percent(&decision).into_keys().collect::<Vec<_>>(), [1, 3], "{policy}");
        assert!(decision.reason.contains("1 of 3 endpoints drained"), "{policy}: {:?}", decision.reason);
        let all = drained.map(|(host, zone, pod, _)| (host, zone, pod, 0));
        let decision = decide(policy, "", &all);
        assert_eq!(percent(&decision).into_keys().collect::<Vec<_>>(), [1, 2, 3], "{policy}");
        assert!(decision.reason.contains("all 3 endpoints are drained"), "{policy}: {:?}", decision.reason);
    }
}

#[test]
fn nodes_agree_unless_they_take_turns() {
    for policy in balancers() {
        let mut seen: Vec<Vec<u8>> =
            (1..=8).map(|node| slots(&Node::new(&format!("node-{node}"), policy, "", &THREE).after(0))).collect();
        let begun: BTreeSet<u8> = seen.iter().map(|slots| slots[0]).collect();
        if policy == "round-robin" {
            assert!(begun.len() > 1, "each begins elsewhere: {seen:?}");
            seen.iter_mut().for_each(|slots| slots.sort_unstable());
        }
        assert!(seen.iter().all(|slots| *slots == seen[0]), "{policy}: {seen:?}");
    }
}

#[test]
fn settings_that_make_no_sense_are_told_field_by_field() {
    for (policy, settings, problems) in [
        ("random", r#"{"seed": 1}"#, vec!["this policy takes no settings"]),
        ("round-robin", "{", vec!["this policy takes no settings"]),
        (
            "weighted",
            r#"{"by-node": {"a": -1, "b": 70000}, "index": "best"}"#,
            vec![
                "by-node.a: -1 is no whole number from 0 to 65535",
                "by-node.b: 70000 is no whole number from 0 to 65535",
                "index: \"best\" is none of \"random\", \"round-robin\"",
            ],
        ),
        ("client-ip", r#"{"timeout-seconds": 0}"#, vec!["timeout-seconds: 0 is no whole number from 1 to 86400"]),
        ("source-hash", r#"{"include-port": 1}"#, vec!["include-port: 1 is neither true nor false"]),
        ("maglev", r#"{"table-size": 1000}"#, vec!["table-size: 1000 is no prime; 251, 1021, 4093 and 16381 are some"]),
        ("sed", r#"{"period": 1}"#, vec!["period: no such setting; there are period-seconds, slow-start-seconds"]),
        ("canary", r#"{"percent": 5}"#, vec!["pod-prefix: missing; it says how the names of the canary's pods begin"]),
        ("zone-aware", r#"{"overload": 0.5}"#, vec!["overload: 0.5 is no number from 1 to 100"]),
        ("zone-aware-by-load", r#"{"busy-at": "x"}"#, vec!["busy-at: \"x\" is no whole number from 1 to 1000000"]),
    ] {
        let found = CATALOG.policy(policy).expect("it is built in").check(settings).expect("it can be asked");
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, problems, "{policy}");
        // Policies without settings are not even given any.
        if problems != ["this policy takes no settings"] {
            let mut node = Node::new("here", policy, settings, &THREE);
            let dirty = node.store.take_dirty();
            let decisions = node.decider.decide(&node.store, &dirty);
            let failure = decisions.failures.first().expect("it refuses them");
            assert_eq!(failure.reason, FailureReason::DeclaredError, "{policy}");
            assert!(failure.message.contains(problems[0]), "{policy}: {}", failure.message);
        }
    }
    assert!(balancers().all(|name| CATALOG.policy(name).expect("built in").plays(Role::Balancer)));
}

#[test]
fn weights_by_address_pod_node_and_zone_in_that_order() {
    let shares = |settings| percent(&decide("weighted", settings, &THREE));
    assert_eq!(shares(r#"{"by-zone": {"a": 1, "b": 2}}"#), [(1, 25), (2, 25), (3, 50)].into());
    assert_eq!(shares(r#"{"by-pod-prefix": {"web-": 1, "web-2": 2}, "default": 1}"#)[&2], 50, "the longest prefix");
    let all = r#"{"by-address": {"10.244.0.1": 8}, "by-pod-prefix": {"web-": 4}, "by-zone": {"a": 9, "b": 4}}"#;
    assert_eq!(shares(all), [(1, 50), (2, 25), (3, 25)].into());
    let slices = [(1, "", "", 3), (2, "", "", 1)];
    assert_eq!(percent(&decide("weighted", "", &slices)), [(1, 75), (2, 25)].into());
    let in_turn = decide("weighted", r#"{"index": "round-robin"}"#, &slices);
    assert_eq!((index(&in_turn), percent(&in_turn)), (IndexFunction::RoundRobin, [(1, 75), (2, 25)].into()));
}

#[test]
fn hashes_take_the_port_in_when_told_to() {
    for policy in ["source-hash", "maglev"] {
        assert_eq!(index(&decide(policy, "", &THREE)), IndexFunction::SourceHash);
        assert_eq!(index(&decide(policy, r#"{"include-port": true}"#, &THREE)), IndexFunction::FlowHash);
        let weighted = percent(&decide(policy, "", &[(1, "", "", 3), (2, "", "", 1)]));
        assert!((74..=76).contains(&weighted[&1]), "{policy}: {weighted:?}");
    }
}

#[test]
fn maglev_moves_few_clients_when_an_endpoint_leaves() {
    let endpoints: Vec<Spec> = (1..=10).map(|host| (host, "", "", 1)).collect();
    let (before, after) = (slots(&decide("maglev", "", &endpoints)), slots(&decide("maglev", "", &endpoints[1..])));
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!((before.len(), after.len()), (251, 251));
    assert!((25..=60).contains(&moved), "{moved} of 251 slots; 25 had to");
}

#[test]
fn a_canary_gets_its_percentage_however_many_it_has() {
    let settings = r#"{"pod-prefix": "canary-", "percent": 20}"#;
    let decision = decide("canary", settings, &THREE);
    assert_eq!(
        (percent(&decision), &*decision.reason),
        ([(1, 40), (2, 40), (3, 20)].into(), "20 % to 1 of 3 endpoints")
    );
    let decision = decide("canary", settings, &THREE[..2]);
    assert_eq!(percent(&decision), [(1, 50), (2, 50)].into());
    assert_eq!(&*decision.reason, "no endpoint is a canary, so all serve alike");
}

#[test]
fn zones_keep_what_they_can_bear_and_spill_the_rest() {
    let even = [(1, "a", "", 1), (2, "b", "", 1)];
    assert_eq!(percent(&decide("zone-aware", "", &even)), [(1, 100)].into());
    let scarce = [(1, "a", "", 1), (2, "b", "", 1), (3, "b", "", 1), (4, "b", "", 1)];
    let strict = percent(&decide("zone-aware", r#"{"overload": 1}"#, &scarce));
    assert_eq!(strict, [(1, 50), (2, 17), (3, 17), (4, 17)].into());
    let mut node = Node::new("here", "zone-aware-by-load", r#"{"busy-at": 10, "period-seconds": 2}"#, &even);
    assert_eq!(percent(&node.after(0)), [(1, 100)].into());
    node.set_active(&[(1, 40)]);
    let busy = node.after(2);
    assert_eq!(
        (percent(&busy), &*busy.reason),
        ([(1, 25), (2, 75)].into(), "own zone keeps 25 %: its endpoints are busy")
    );
}

#[test]
fn shares_follow_connections_and_come_back() {
    for policy in ["least-connections", "weighted-least-connections", "sed", "nq"] {
        let mut node = Node::new("here", policy, "", &THREE);
        node.after(0);
        node.set_active(&[(1, 2), (2, 2), (3, 20)]);
        let busy = percent(&node.after(5));
        assert!(busy[&3] < 15 && busy[&1] == busy[&2], "{policy}: {busy:?}");
        node.set_active(&[]);
        let shares = (0..8).map(|_| percent(&node.after(5))).last().expect("the last of eight");
        assert!(shares.values().all(|share| (33..=35).contains(share)), "{policy}: {shares:?}");
    }
}

#[test]
fn a_new_endpoint_starts_slowly() {
    let mut node = Node::new("here", "least-connections", r#"{"slow-start-seconds": 20}"#, &THREE[..2]);
    assert_eq!(percent(&node.after(0)), [(1, 50), (2, 50)].into(), "who was there before is not new");
    node.set(&THREE);
    let grown: Vec<u32> = [0, 5, 5, 5, 5, 5, 5].into_iter().map(|later| percent(&node.after(later))[&3]).collect();
    assert!(grown[0] <= 6 && grown.is_sorted() && (33..=35).contains(&grown[6]), "{grown:?}");
}
