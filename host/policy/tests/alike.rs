//! Ports that look alike to a policy are asked about once, and nobody can tell from the decisions.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::net::Ipv4Addr;

use fastrand::Rng;
use weir_model::{
    Conditions, EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Origin, Protocol, ServiceKind, ServicePortSpec,
    ServiceSpec, SlicePort, SliceSpec, Store, TrafficPolicy,
};
use weir_policy::{BUILT_IN, Catalog, Decider, Decisions, Engine, FailureReason, Limits};

/// What Services differ in.
struct Kind {
    policy: &'static str,
    settings: &'static str,
    number: u16,
    protocol: Protocol,
    affinity_seconds: u32,
    internal: TrafficPolicy,
    external: TrafficPolicy,
    kind: ServiceKind,
    /// Weight, conditions, and which of three nodes and zones.
    endpoints: Vec<(u32, Conditions, u8)>,
}

impl Kind {
    fn plain(policy: &'static str, count: usize) -> Self {
        Self {
            policy,
            settings: "",
            number: 80,
            protocol: Protocol::Tcp,
            affinity_seconds: 0,
            internal: TrafficPolicy::Cluster,
            external: TrafficPolicy::Cluster,
            kind: ServiceKind::ClusterIp,
            endpoints: vec![(1, Conditions::ready(), 1); count],
        }
    }
}

fn put(store: &mut Store, number: u32, kind: &Kind) {
    let key = ObjectKey { namespace: "default".to_owned(), name: format!("web-{number:04}") };
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let node_port = if kind.kind == ServiceKind::NodePort { 30_080 } else { 0 };
    let port = ServicePortSpec { name: String::new(), protocol: kind.protocol, port: kind.number, node_port };
    store.apply(Event::Service(ServiceSpec {
        key: key.clone(),
        kind: kind.kind,
        cluster_ips: vec![Ipv4Addr::from_bits(0x0a60_0001 + number).into()],
        ports: vec![port],
        policy: some(kind.policy),
        policy_settings: some(kind.settings),
        affinity_seconds: kind.affinity_seconds,
        internal_policy: kind.internal,
        external_policy: kind.external,
        ..ServiceSpec::default()
    }));
    let endpoint = |(at, (weight, conditions, place)): (u32, &(u32, Conditions, u8))| EndpointSpec {
        weight: *weight,
        conditions: *conditions,
        node: Some(format!("node-{place}")),
        zone: Some(format!("zone-{place}")),
        ..EndpointSpec::ready(Ipv4Addr::from_bits(0x0b00_0000 + number * 64 + at).into())
    };
    store.apply(Event::Slice(SliceSpec {
        key: key.clone(),
        service: key,
        family: Family::V4,
        ports: vec![SlicePort { name: String::new(), protocol: kind.protocol, port: 8080 }],
        endpoints: (0..).zip(&kind.endpoints).map(endpoint).collect(),
        triggered: None,
    }));
}

fn store() -> Store {
    Store::new(NodeIdentity { name: "node-0".to_owned(), zone: "zone-0".to_owned() })
}

fn catalog(extra: &[(&str, &[u8])]) -> Catalog {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let mut catalog = Catalog::new(&engine, "kubernetes", "random").expect("the built-in policies");
    for (name, component) in extra {
        catalog.add(name, component).expect("a loadable policy");
    }
    catalog
}

fn decide(catalog: &Catalog, store: &Store) -> Decisions {
    let ids: Vec<_> = store.service_ids().collect();
    Decider::new(catalog.clone()).decide(store, &ids)
}

fn asked(decisions: &Decisions, policy: &str) -> u64 {
    decisions.stats.get(policy).map_or(0, |stats| stats.asked)
}

#[test]
fn each_kind_of_port_is_one_question() {
    let kinds: Vec<Kind> = vec![
        Kind::plain("", 3),
        Kind { number: 81, ..Kind::plain("", 3) },
        Kind { protocol: Protocol::Udp, ..Kind::plain("", 3) },
        Kind { affinity_seconds: 30, ..Kind::plain("", 3) },
        Kind { kind: ServiceKind::NodePort, ..Kind::plain("", 3) },
        Kind { internal: TrafficPolicy::Local, ..Kind::plain("", 3) },
        Kind::plain("", 4),
        Kind { endpoints: vec![(2, Conditions::ready(), 1); 3], ..Kind::plain("", 3) },
        // The second, of this node.
        Kind { endpoints: [1, 0, 1].map(|place| (1, Conditions::ready(), place)).to_vec(), ..Kind::plain("", 3) },
    ];
    let mut store = store();
    for number in 0..90 {
        put(&mut store, number, &kinds[number as usize % kinds.len()]);
    }
    let decisions = decide(&catalog(&[]), &store);
    assert!(decisions.failures.is_empty() && decisions.ports.len() == 90);
    // It sees no affinity.
    assert_eq!(asked(&decisions, "kubernetes"), 8);
    // It sees no way in from outside, and is not asked where nobody is left to serve: no endpoint is on this node.
    let decided = decisions.ports.iter().filter(|(_, decision)| decision.cluster.is_some()).count();
    assert_eq!((asked(&decisions, "random"), decided), (7, 80));
}

#[test]
fn settings_make_a_difference_and_names_make_every_port_one_of_its_own() {
    let settings = ["", r#"{"timeout-seconds": 7}"#, r#"{"timeout-seconds": 8}"#];
    let mut store = store();
    for number in 0..60 {
        let (policy, settings) = match number % 4 {
            3 => ("maglev", ""),
            at => ("client-ip", settings[at as usize]),
        };
        put(&mut store, number, &Kind { settings, ..Kind::plain(policy, 5) });
    }
    let decisions = decide(&catalog(&[]), &store);
    assert!(decisions.failures.is_empty(), "{:?}", decisions.failures);
    assert_eq!(asked(&decisions, "client-ip"), 3);
    assert_eq!(asked(&decisions, "maglev"), 15, "it asks for names");
    // A traffic policy without settings of its own sees none.
    assert_eq!(asked(&decisions, "kubernetes"), 1);
    let seconds = |at: usize| decisions.ports[at].1.cluster.as_ref().expect("a ring").affinity_seconds;
    assert_eq!([0, 1, 2, 4, 5, 6].map(seconds), [10_800, 7, 8, 10_800, 7, 8]);
}

#[test]
fn decisions_are_those_of_asking_about_each() {
    let mut random = Rng::with_seed(7);
    let catalog = catalog(&[]);
    let mut store = store();
    for number in 0..1_500 {
        let (policy, _) = BUILT_IN[random.usize(..BUILT_IN.len())];
        let scope = |random: &mut Rng| if random.u8(..4) == 0 { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        let conditions = [Conditions::ready(), Conditions::SERVING | Conditions::TERMINATING, Conditions::default()];
        // Few kinds, so that many are alike.
        let endpoint = |random: &mut Rng| {
            let condition = if random.u8(..5) == 0 { random.usize(..3) } else { 0 };
            (random.u32(0..3), conditions[condition], random.u8(..3))
        };
        let kind = Kind {
            affinity_seconds: if random.u8(..4) == 0 { 10 } else { 0 },
            internal: scope(&mut random),
            external: scope(&mut random),
            kind: if random.bool() { ServiceKind::ClusterIp } else { ServiceKind::NodePort },
            endpoints: (0..random.usize(..4)).map(|_| endpoint(&mut random)).collect(),
            ..Kind::plain(policy, 0)
        };
        put(&mut store, number, &kind);
    }
    let ids: Vec<_> = store.service_ids().collect();
    let mut each = Decider::new(catalog.clone());
    each.ask_each();
    let (together, each) = (decide(&catalog, &store), each.decide(&store, &ids));
    assert!(together.failures.is_empty(), "{:?}", together.failures.first());
    for ((port, one), (_, other)) in together.ports.iter().zip(&each.ports) {
        assert_eq!(one, other, "{port:?}");
    }
    assert_eq!(asked(&each, "kubernetes"), 1_500);
    assert!(asked(&together, "kubernetes") < 1_200, "{}", asked(&together, "kubernetes"));
}

#[test]
fn whoever_shares_a_question_shares_its_failure_and_is_told() {
    let mut store = store();
    for number in 0..40 {
        let settings = if number % 2 == 0 { "unknown-endpoint" } else { "" };
        put(&mut store, number, &Kind { settings, ..Kind::plain("garbage", 3) });
    }
    let decisions = decide(&catalog(&[("garbage", weir_bad_guests::GARBAGE_ANSWER)]), &store);
    assert_eq!(decisions.failures.len(), 20, "{:?}", decisions.failures.first());
    for failure in &decisions.failures {
        assert_eq!(failure.reason, FailureReason::InvalidAnswer);
        assert_eq!(failure.service.name.as_bytes()[7] % 2, b'0' % 2, "{}", failure.service);
    }
    for (at, (_, decision)) in decisions.ports.iter().enumerate() {
        assert_eq!(matches!(decision.origin, Origin::Policy { .. }), at % 2 == 1, "{:?}", decision.origin);
        assert_eq!(decision.cluster.as_ref().map(|ring| ring.slots.len()), Some(3));
    }
}

#[test]
fn whoever_asks_for_nothing_sees_nobodys_name() {
    let mut store = store();
    for number in 0..10 {
        put(&mut store, number, &Kind::plain("blind", 2));
    }
    let decisions = decide(&catalog(&[("blind", weir_bad_guests::BLIND)]), &store);
    assert!(decisions.failures.is_empty(), "{:?}", decisions.failures);
    let stats = decisions.stats.get("blind").expect("it was asked");
    assert_eq!((stats.asked, stats.blind), (1, true));
    assert!(!decisions.stats["kubernetes"].blind);
    assert!(decisions.ports.iter().all(|(_, decision)| &*decision.reason == "seen: "), "{:?}", decisions.ports[0].1);
}
