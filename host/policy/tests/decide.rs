//! Policies decide: the built-in ones by the rules of Kubernetes, bad ones without harm to anybody else.
#![allow(clippy::expect_used, reason = "tests panic")]

use weir_model::{
    Conditions, Decision, EndpointSpec, Event, Family, IndexFunction, NodeIdentity, ObjectKey, Origin, Protocol, Route,
    ServiceKind, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec, Store, TrafficPolicy,
};
use weir_policy::{Catalog, Decider, Decisions, Engine, FailureReason, Limits};

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

fn service(name: &str, policy: Option<&str>) -> ServiceSpec {
    ServiceSpec {
        key: key(name),
        kind: ServiceKind::LoadBalancer,
        cluster_ips: vec!["10.0.0.1".parse().expect("an address")],
        load_balancer_ips: vec!["192.0.2.1".parse().expect("an address")],
        ports: vec![ServicePortSpec { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
        policy: policy.map(str::to_owned),
        ..ServiceSpec::default()
    }
}

/// Endpoints as (last byte of the address, on this node, conditions).
fn slice(service: &str, endpoints: &[(u8, bool, Conditions)]) -> SliceSpec {
    let endpoint = |(host, local, conditions): &(u8, bool, Conditions)| EndpointSpec {
        node: Some(if *local { "here" } else { "there" }.to_owned()),
        conditions: *conditions,
        ..EndpointSpec::ready(format!("10.244.0.{host}").parse().expect("an address"))
    };
    SliceSpec {
        key: key(&format!("{service}-1")),
        service: key(service),
        family: Family::V4,
        ports: vec![SlicePort { name: "http".to_owned(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: endpoints.iter().map(endpoint).collect(),
        triggered: None,
    }
}

fn ready() -> Conditions {
    Conditions::ready()
}

fn terminating() -> Conditions {
    Conditions::SERVING | Conditions::TERMINATING
}

struct Bench {
    store: Store,
    decider: Decider,
}

impl Bench {
    fn new(limits: Limits, extra: &[(&str, &[u8])]) -> Self {
        Self::with_balancer("random", limits, extra)
    }

    fn with_balancer(balancer: &str, limits: Limits, extra: &[(&str, &[u8])]) -> Self {
        let engine = Engine::new(limits).expect("an engine");
        let mut catalog = Catalog::new(&engine, "kubernetes", balancer).expect("the built-in policies");
        for (name, bytes) in extra {
            catalog.add(name, bytes).expect("a loadable policy");
        }
        let node = NodeIdentity { name: "here".to_owned(), zone: "a".to_owned() };
        Self { store: Store::new(node), decider: Decider::new(catalog) }
    }

    fn apply(&mut self, service: ServiceSpec, endpoints: &[(u8, bool, Conditions)]) {
        self.store.apply(Event::Slice(slice(&service.key.name.clone(), endpoints)));
        self.store.apply(Event::Service(service));
    }

    fn decide(&mut self) -> Decisions {
        let dirty = self.store.take_dirty();
        self.decider.decide(&self.store, &dirty)
    }
}

fn one(mut bench: Bench, service: ServiceSpec, endpoints: &[(u8, bool, Conditions)]) -> Decision {
    bench.apply(service, endpoints);
    let mut decisions = bench.decide();
    assert!(decisions.failures.is_empty(), "{:?}", decisions.failures);
    (*decisions.ports.pop().expect("one port").1).clone()
}

fn hosts(decision: &Decision, ring: Option<&weir_model::Ring>) -> Vec<u8> {
    let host = |slot: &u16| match decision.backends[usize::from(*slot)].address {
        std::net::IpAddr::V4(v4) => v4.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    };
    ring.map(|ring| ring.slots.iter().map(host).collect()).unwrap_or_default()
}

#[test]
fn traffic_policy_by_the_rules_of_kubernetes() {
    use Route::{Cluster, Drop, Local, Reject};
    use TrafficPolicy as T;
    type Case<'a> = (&'a str, T, T, &'a [(u8, bool, Conditions)], (&'a [u8], &'a [u8]), (Route, Route, bool));
    let cases: &[Case<'_>] = &[
        (
            "plain",
            T::Cluster,
            T::Cluster,
            &[(1, true, ready()), (2, false, ready())],
            (&[1, 2], &[]),
            (Cluster, Cluster, false),
        ),
        ("nobody", T::Cluster, T::Cluster, &[], (&[], &[]), (Reject, Reject, false)),
        ("unready", T::Cluster, T::Local, &[(1, true, Conditions::default())], (&[], &[]), (Reject, Reject, false)),
        (
            "local",
            T::Cluster,
            T::Local,
            &[(1, true, ready()), (2, false, ready())],
            (&[1, 2], &[1]),
            (Cluster, Local, true),
        ),
        ("none local", T::Cluster, T::Local, &[(2, false, ready())], (&[2], &[]), (Cluster, Drop, true)),
        (
            "internal local",
            T::Local,
            T::Cluster,
            &[(1, true, ready()), (2, false, ready())],
            (&[1, 2], &[1]),
            (Local, Cluster, false),
        ),
        ("internal, none local", T::Local, T::Cluster, &[(2, false, ready())], (&[2], &[]), (Drop, Cluster, false)),
        (
            "only terminating",
            T::Cluster,
            T::Cluster,
            &[(1, true, terminating()), (2, false, Conditions::TERMINATING)],
            (&[1], &[]),
            (Cluster, Cluster, false),
        ),
        (
            "local terminating",
            T::Cluster,
            T::Local,
            &[(1, true, terminating()), (2, false, ready())],
            (&[2], &[1]),
            (Cluster, Local, true),
        ),
    ];
    for (name, internal, external, endpoints, (cluster, local), (to_internal, to_external, short_cut)) in cases {
        let spec = ServiceSpec { internal_policy: *internal, external_policy: *external, ..service("web", None) };
        let decision = one(Bench::new(Limits::default(), &[]), spec, endpoints);
        assert_eq!(hosts(&decision, decision.cluster.as_deref()), *cluster, "{name}: cluster list");
        assert_eq!(hosts(&decision, decision.local.as_deref()), *local, "{name}: local list");
        assert_eq!((decision.internal, decision.external), (*to_internal, *to_external), "{name}: routes");
        assert_eq!(decision.short_cut, *short_cut, "{name}: short cut");
    }
}

#[test]
fn balancers_spread_as_they_say() {
    let endpoints = [(1, true, ready()), (2, false, ready())];
    let ask = |policy, settings: Option<&str>| {
        let spec = ServiceSpec { policy_settings: settings.map(str::to_owned), ..service("web", Some(policy)) };
        let decision = one(Bench::new(Limits::default(), &[]), spec, &endpoints);
        let ring = decision.cluster.clone().expect("a ring");
        (ring.index, hosts(&decision, Some(&ring)), ring.affinity_seconds)
    };
    assert_eq!(ask("random", None), (IndexFunction::Random, vec![1, 2], 0));
    let (index, mut in_turn, _) = ask("round-robin", None);
    // Each node begins its round elsewhere.
    in_turn.sort_unstable();
    assert_eq!((index, in_turn), (IndexFunction::RoundRobin, vec![1, 2]));
    assert_eq!(ask("client-ip", None), (IndexFunction::Random, vec![1, 2], 10_800));
    assert_eq!(ask("client-ip", Some(r#"{"timeout-seconds": 7}"#)).2, 7);
    let (_, weighted, _) = ask("weighted", Some(r#"{"by-node": {"here": 3}, "default": 1}"#));
    assert_eq!((weighted.len(), weighted.iter().filter(|host| **host == 1).count()), (4, 3));
    let (_, drained, _) = ask("weighted", Some(r#"{"by-address": {"10.244.0.1": 0}}"#));
    assert_eq!(drained, [2]);
}

#[test]
fn settings_that_make_no_sense_name_the_field_and_fall_back() {
    let mut bench = Bench::new(Limits::default(), &[]);
    let spec =
        ServiceSpec { policy_settings: Some(r#"{"by-nodes": {}}"#.to_owned()), ..service("web", Some("weighted")) };
    bench.apply(spec, &[(1, true, ready())]);
    let decisions = bench.decide();
    let failure = decisions.failures.first().expect("a failure");
    assert_eq!(failure.reason, FailureReason::DeclaredError);
    assert!(failure.message.contains("by-nodes"), "{}", failure.message);
    assert!(matches!(decisions.ports[0].1.origin, Origin::Fallback(_)), "{:?}", decisions.ports[0].1.origin);
}

#[test]
fn unknown_policies_are_told_with_the_names_there_are_and_the_defaults_decide() {
    let mut bench = Bench::with_balancer("client-ip", Limits::default(), &[]);
    let settings = Some(r#"{"not-for": "client-ip"}"#.to_owned());
    let spec = ServiceSpec { policy_settings: settings, ..service("web", Some("fastest")) };
    bench.apply(spec, &[(1, true, ready())]);
    let decisions = bench.decide();
    let [failure] = &decisions.failures[..] else { panic!("{:?}", decisions.failures) };
    assert_eq!(failure.reason, FailureReason::UnknownPolicy);
    assert!(failure.message.contains("fastest") && failure.message.contains("round-robin"), "{}", failure.message);
    let defaults = Origin::Policy { traffic: "kubernetes".into(), balancer: "client-ip".into() };
    assert_eq!(decisions.ports[0].1.origin, defaults);
}

#[test]
fn settings_reach_the_policy_they_are_meant_for_and_nobody_else() {
    let ask = |policy, settings: &str| {
        let spec = ServiceSpec { policy_settings: Some(settings.to_owned()), ..service("web", policy) };
        let bench = Bench::with_balancer("client-ip", Limits::default(), &[]);
        one(bench, spec, &[(1, true, ready())]).cluster.expect("a ring").affinity_seconds
    };
    // `client-ip` refuses fields it does not know.
    assert_eq!(ask(Some("kubernetes"), r#"{"not-for": "client-ip"}"#), 10_800, "the default of the other role");
    assert_eq!(ask(None, r#"{"timeout-seconds": 7}"#), 7, "the defaults, where no policy is named");
}

#[test]
fn unchanged_input_is_not_asked_again_and_answers_are_equal() {
    let mut bench = Bench::new(Limits::default(), &[]);
    bench.apply(service("web", Some("weighted")), &[(1, true, ready()), (2, false, ready())]);
    let dirty = bench.store.take_dirty();
    let first = bench.decider.decide(&bench.store, &dirty);
    let again = bench.decider.decide(&bench.store, &dirty);
    assert_eq!(first.ports, again.ports);
    assert!(!first.stats.is_empty() && again.stats.is_empty(), "{:?}", again.stats);
    let elsewhere = {
        let mut bench = Bench::new(Limits::default(), &[]);
        bench.apply(service("web", Some("weighted")), &[(1, true, ready()), (2, false, ready())]);
        bench.decide()
    };
    let fuel = |decisions: &Decisions| {
        decisions.stats.iter().map(|(name, stats)| (name.clone(), stats.fuel)).collect::<Vec<_>>()
    };
    assert_eq!(first.ports, elsewhere.ports);
    assert_eq!(fuel(&first), fuel(&elsewhere), "fuel must be the same on every node");
}

#[test]
fn a_policy_that_spins_on_every_port_does_not_hold_up_the_sync() {
    let mut bench = Bench::new(Limits::default(), &[("spin", weir_bad_guests::SPIN)]);
    for number in 0..2_000 {
        bench.apply(service(&format!("web-{number}"), Some("spin")), &[(1, true, ready())]);
    }
    let start = std::time::Instant::now();
    let decisions = bench.decide();
    assert_eq!((decisions.ports.len(), decisions.failures.len()), (2_000, 2_000));
    assert!(decisions.ports.iter().all(|(_, decision)| decision.cluster.is_some()), "everybody is served");
    let spin = decisions.stats.get("spin").expect("it was asked");
    assert!(spin.calls < 20, "asked {} times in {:?}", spin.calls, start.elapsed());
    assert!(
        decisions.failures[1_999].message.contains("after it failed for 8 ports"),
        "{:?}",
        decisions.failures[1_999]
    );
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_large_sync_on_several_threads_says_what_small_ones_say() {
    // More than one call takes, of every kind there is.
    let policies = [None, Some("weighted"), Some("least-connections"), Some("maglev"), Some("trap"), Some("nobody")];
    let filled = || {
        let mut bench = Bench::new(Limits::default(), &[("trap", weir_bad_guests::TRAP)]);
        let endpoints: Vec<(u8, bool, Conditions)> =
            (1..=9).map(|host| (host, host == 1, if host == 9 { terminating() } else { ready() })).collect();
        for number in 0..2_400 {
            let policy = policies[number % policies.len()];
            let settings = policy.filter(|policy| *policy == "trap").map(str::to_owned);
            let spec = ServiceSpec { policy_settings: settings, ..service(&format!("web-{number:04}"), policy) };
            bench.apply(spec, &endpoints);
        }
        bench
    };
    let (mut large, mut small) = (filled(), filled());
    let together = large.decide();
    let mut apart = Decisions::default();
    for id in small.store.take_dirty() {
        let mut one = small.decider.decide(&small.store, &[id]);
        apart.ports.append(&mut one.ports);
        apart.failures.append(&mut one.failures);
    }
    assert_eq!(together.ports, apart.ports);
    let told = |decisions: &Decisions| {
        let failure = |failure: &weir_policy::Failure| (failure.service.to_string(), failure.reason, failure.attempt);
        let mut told: Vec<_> = decisions.failures.iter().map(failure).collect();
        told.sort_by(|one, other| one.0.cmp(&other.0));
        told
    };
    assert_eq!(told(&together).len(), 800, "two of six kinds fail");
    assert_eq!(told(&together), told(&apart));
    assert_eq!(large.decider.wants_loads(), small.decider.wants_loads());
    assert!(large.decider.next_due().is_some() && large.decider.resting().len() == 400);

    let (gone, _) = together.ports[0];
    for number in 0..1_200 {
        large.store.apply(Event::ServiceGone(key(&format!("web-{number:04}"))));
    }
    assert!(large.decide().ports.is_empty());
    assert!(large.decider.decision(&gone).is_none() && large.decider.resting().len() == 200);
}
