//! Components of the contract before this one, as they were compiled then, still decide.
#![allow(clippy::expect_used, reason = "tests panic")]

use weir_model::{
    Conditions, Decision, EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Origin, Protocol, Route,
    ServicePortSpec, ServiceSpec, SlicePort, SliceSpec, Store, TrafficPolicy,
};
use weir_policy::{Catalog, Decider, Engine, Limits, Policy, Role};

const WEIGHTED: &[u8] = include_bytes!("fixtures/weighted-0.1.wasm");
const KUBERNETES: &[u8] = include_bytes!("fixtures/kubernetes-0.1.wasm");

/// A Service that asks for `policy`, with three endpoints in two zones: here, here and terminating, elsewhere.
fn cluster(policy: &str, settings: &str) -> Store {
    let key = |name: &str| ObjectKey { namespace: "default".to_owned(), name: name.to_owned() };
    let mut store = Store::new(NodeIdentity { name: "here".to_owned(), zone: "a".to_owned() });
    let endpoint = |host: u8, node: &str, zone: &str, conditions| EndpointSpec {
        node: Some(node.to_owned()),
        zone: Some(zone.to_owned()),
        conditions,
        ..EndpointSpec::ready([10, 244, 0, host].into())
    };
    let leaving = Conditions::SERVING | Conditions::TERMINATING;
    store.apply(Event::Slice(SliceSpec {
        key: key("web-1"),
        service: key("web"),
        family: Family::V4,
        ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: vec![
            endpoint(1, "here", "a", Conditions::ready()),
            endpoint(2, "here", "a", leaving),
            endpoint(3, "there", "b", Conditions::ready()),
        ],
        triggered: None,
    }));
    store.apply(Event::Service(ServiceSpec {
        key: key("web"),
        cluster_ips: vec![[10, 96, 0, 10].into()],
        external_ips: vec![[192, 0, 2, 1].into()],
        external_policy: TrafficPolicy::Local,
        ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
        policy: Some(policy.to_owned()),
        policy_settings: Some(settings.to_owned()).filter(|settings| !settings.is_empty()),
        ..ServiceSpec::default()
    }));
    store
}

fn catalog() -> Catalog {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let mut catalog = Catalog::new(&engine, "kubernetes", "random").expect("the built-in policies");
    catalog.add("old-weighted", WEIGHTED).expect("it still loads");
    catalog.add("old-kubernetes", KUBERNETES).expect("it still loads");
    catalog
}

fn decide(policy: &str, settings: &str) -> Decision {
    let mut store = cluster(policy, settings);
    let dirty = store.take_dirty();
    let mut decisions = Decider::new(catalog()).decide(&store, &dirty);
    assert!(decisions.failures.is_empty(), "{policy}: {:?}", decisions.failures);
    let (_, decision) = decisions.ports.pop().expect("one port");
    (*decision).clone()
}

#[test]
fn what_they_are_is_known() {
    let catalog = catalog();
    let policy = |name| -> &Policy { catalog.policy(name).expect("it is there") };
    let (old, new) = (policy("old-weighted"), policy("weighted"));
    assert_eq!((old.contract(), new.contract()), ("0.1", "0.2"));
    assert!(old.about().is_none() && new.about().is_some(), "0.1 had no word for what a policy is");
    assert!(old.plays(Role::Balancer) && !old.plays(Role::TrafficPolicy));
    assert_eq!(old.check("nonsense").expect("asked"), [], "nor a way to check settings");
    assert!(!new.check("nonsense").expect("asked").is_empty());
}

#[test]
fn they_decide_as_the_present_ones_do() {
    for (old, new, settings) in [
        ("old-weighted", "weighted", r#"{"by-zone": {"a": 3, "b": 1}}"#),
        ("old-weighted", "weighted", r#"{"by-node": {"there": 0}}"#),
        ("old-kubernetes", "kubernetes", ""),
    ] {
        let (old, new) = (decide(old, settings), decide(new, settings));
        assert!(matches!(old.origin, Origin::Policy { .. }), "{:?}", old.origin);
        assert_eq!((&old.cluster, &old.local), (&new.cluster, &new.local));
        assert_eq!((old.internal, old.external, old.short_cut), (new.internal, new.external, new.short_cut));
    }
    let decision = decide("old-kubernetes", "");
    assert_eq!((decision.internal, decision.external, decision.short_cut), (Route::Cluster, Route::Local, true));
}

#[test]
fn their_failures_are_told_in_their_words() {
    let mut store = cluster("old-weighted", r#"{"by-zone": 7}"#);
    let dirty = store.take_dirty();
    let decisions = Decider::new(catalog()).decide(&store, &dirty);
    let failure = decisions.failures.first().expect("it refuses these settings");
    assert!(failure.message.contains("by-zone"), "{failure:?}");
    assert!(matches!(decisions.ports[0].1.origin, Origin::Fallback(_)));
}
