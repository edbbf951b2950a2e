//! Policies come, change and go: good versions at once, bad ones not at all.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::sync::Arc;

use weir_bad_guests::{DECLARED_ERROR, TRAP};
use weir_model::{
    Conditions, EndpointSpec, Event, Family, IndexFunction, NodeIdentity, ObjectKey, Origin, Protocol, ServicePortSpec,
    ServiceSpec, SlicePort, SliceSpec, Store,
};
use weir_policy::{Artifact, BUILT_IN, Catalog, Decider, Engine, Limits, LoadError, Policy, Refused};

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

fn built_in(name: &str) -> Vec<u8> {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).expect("built in").1.to_vec()
}

fn artifact(component: &[u8], settings: &str) -> Artifact {
    Artifact {
        name: "mine".to_owned(),
        component: component.to_vec(),
        settings: settings.to_owned(),
        ..Artifact::default()
    }
}

struct Bench {
    engine: Engine,
    store: Store,
    decider: Decider,
}

impl Bench {
    fn new(balancer: &str) -> Self {
        let engine = Engine::new(Limits::default()).expect("an engine");
        let catalog = Catalog::awaiting(&engine, "kubernetes", balancer).expect("the built-in policies");
        let node = NodeIdentity { name: "here".to_owned(), zone: String::new() };
        Self { engine, store: Store::new(node), decider: Decider::new(catalog) }
    }

    /// A Service with endpoints 10.1.0.1 to 10.1.0.3, of nodes `n1` to `n3`.
    fn service(&mut self, name: &str, policy: &str, settings: &str) {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        self.store.apply(Event::Service(ServiceSpec {
            key: key(name),
            cluster_ips: vec!["10.0.0.1".parse().expect("an address")],
            ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
            policy: some(policy),
            policy_settings: some(settings),
            ..ServiceSpec::default()
        }));
        let endpoint = |n: u8| EndpointSpec {
            address: [10, 1, 0, n].into(),
            node: Some(format!("n{n}")),
            zone: None,
            conditions: Conditions::ready(),
            hint_zones: Vec::new(),
            hint_nodes: Vec::new(),
            weight: 1,
            pod: None,
        };
        self.store.apply(Event::Slice(SliceSpec {
            key: key(&format!("{name}-1")),
            service: key(name),
            family: Family::V4,
            ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
            endpoints: (1..=3).map(endpoint).collect(),
            triggered: None,
        }));
        self.decide();
    }

    fn decide(&mut self) {
        let dirty = self.store.take_dirty();
        self.decider.decide(&self.store, &dirty);
    }

    fn replace(&mut self, artifact: &Artifact) -> Result<usize, Refused> {
        let policy = Policy::from_artifact(&self.engine, artifact, &[]).expect("a policy");
        let users = self.decider.replace(&self.store, policy)?;
        self.decider.decide(&self.store, &users);
        Ok(users.len())
    }

    /// How a Service's connections spread: index function, slots, and who says so.
    fn spread(&mut self, name: &str) -> (IndexFunction, usize, String) {
        let id = self.store.find(&key(name)).expect("a Service");
        let decisions = self.decider.decide(&self.store, &[id]);
        let decision = &decisions.ports[0].1;
        let ring = decision.cluster.as_ref().expect("a ring");
        let by = match &decision.origin {
            Origin::Policy { balancer, .. } => balancer.to_string(),
            other => format!("{other:?}"),
        };
        (ring.index, ring.slots.len(), by)
    }
}

use IndexFunction::{Random, RoundRobin};

#[test]
fn a_policy_comes_changes_and_goes() {
    let mut bench = Bench::new("random");
    bench.service("web", "mine", "");
    bench.service("other", "", "");
    assert_eq!(bench.spread("web"), (Random, 3, "random".to_owned()), "the default, until the policy comes");

    assert_eq!(bench.replace(&artifact(&built_in("round-robin"), "")), Ok(1), "one Service asks for it");
    assert_eq!(bench.spread("web"), (RoundRobin, 3, "mine".to_owned()));
    let weights = r#"{"by-node": {"n1": 4}}"#;
    assert_eq!(bench.replace(&artifact(&built_in("weighted"), weights)), Ok(1));
    assert_eq!(bench.spread("web"), (Random, 6, "mine".to_owned()), "with the settings it came with");
    assert_eq!(bench.replace(&artifact(&built_in("weighted"), "")), Ok(1));
    assert_eq!(bench.spread("web"), (Random, 3, "mine".to_owned()), "new settings alone change the answer, too");

    let users = bench.decider.withdraw(&bench.store, "mine");
    assert_eq!(users.len(), 1);
    bench.decider.decide(&bench.store, &users);
    assert_eq!(bench.spread("web"), (Random, 3, "random".to_owned()));
    assert_eq!(bench.spread("other").2, "random");
}

#[test]
fn what_a_service_sets_goes_before_what_the_policy_came_with() {
    let mut bench = Bench::new("random");
    bench.service("web", "mine", r#"{"by-node": {"n2": 2}}"#);
    bench.service("plain", "mine", "");
    bench.replace(&artifact(&built_in("weighted"), r#"{"by-node": {"n1": 4}}"#)).expect("replaced");
    assert_eq!((bench.spread("web").1, bench.spread("plain").1), (4, 6));
}

/// A default that comes late, as it does from a ConfigMap.
#[test]
fn the_nodes_default_may_come_later_and_go_again() {
    let mut bench = Bench::new("mine");
    bench.service("web", "", "");
    assert_eq!(bench.spread("web").2, "random");
    assert_eq!(bench.replace(&artifact(&built_in("round-robin"), "")), Ok(1));
    assert_eq!(bench.spread("web"), (RoundRobin, 3, "mine".to_owned()));
    bench.decider.withdraw(&bench.store, "mine");
    assert_eq!(bench.spread("web").2, "random");
}

#[test]
fn a_version_that_fails_where_the_last_one_did_well_changes_nothing() {
    let mut bench = Bench::new("random");
    bench.service("web", "mine", "");
    bench.service("api", "mine", "");
    bench.replace(&artifact(&built_in("round-robin"), "")).expect("replaced");

    let refused = bench.replace(&artifact(DECLARED_ERROR, "")).expect_err("it says it cannot");
    assert_eq!((refused.failed, refused.asked), (2, 2), "{refused}");
    let unknown = artifact(&built_in("weighted"), r#"{"by-planet": {}}"#);
    let refused = Policy::from_artifact(&bench.engine, &unknown, &[]).expect_err("bad settings");
    assert!(refused.reason() == "settings" && refused.to_string().contains("by-planet"), "{refused}");
    assert_eq!(bench.spread("web"), (RoundRobin, 3, "mine".to_owned()));

    // One Service of two is enough: it was served well before.
    bench.service("api", "mine", "trap");
    let refused = bench.replace(&artifact(TRAP, "")).expect_err("a trap");
    assert_eq!((refused.failed, refused.asked, refused.reason), (1, 2, "trap"), "{refused}");
    assert_eq!(refused.service, "default/api");
    assert_eq!(bench.spread("api").2, "mine");
}

/// Nobody is worse off by a policy that is new: those it fails for are served as they were.
#[test]
fn a_new_policy_that_serves_some_is_taken() {
    let mut bench = Bench::new("random");
    bench.service("web", "mine", "");
    bench.service("api", "mine", "trap");
    assert_eq!(bench.replace(&artifact(TRAP, "")), Ok(2));
    assert_eq!(bench.spread("web"), (RoundRobin, 3, "mine".to_owned()));
    assert_eq!(bench.spread("api").0, Random);
}

#[test]
fn the_fail_strategy_says_who_steps_in() {
    let mut bench = Bench::new("random");
    bench.replace(&Artifact { fail_strategy: "round-robin".to_owned(), ..artifact(TRAP, "") }).expect("taken");
    bench.service("web", "mine", "trap");
    assert_eq!(bench.spread("web"), (RoundRobin, 3, "Fallback(\"round-robin\")".to_owned()));
}

#[test]
fn what_cannot_be_a_policy_is_refused_by_field() {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let random = built_in("random");
    let reason = |artifact: Artifact| {
        Policy::from_artifact(&engine, &artifact, &[]).map(|_| ()).map_err(|why| (why.reason(), why.to_string()))
    };
    let told = |artifact| reason(artifact).expect_err("refused");
    let (word, text) = told(Artifact { name: "random".to_owned(), ..artifact(&random, "") });
    assert!(word == "built-in-name" && text.contains("\"random\""), "{text}");
    let (word, text) = told(artifact(&random, "{by-node: 1}"));
    assert!(word == "settings" && text.contains("no JSON"), "{text}");
    let (word, text) = told(Artifact { fail_strategy: "reject".to_owned(), ..artifact(&random, "") });
    assert!(word == "fail-strategy" && text.contains("\"reject\""), "{text}");
    assert_eq!(told(artifact(b"\0asm\x01\0\0\0", "")).0, "core-module");
    let limits = Limits { component: 1000, ..Limits::default() };
    let engine = Engine::new(limits).expect("an engine");
    assert!(matches!(
        Policy::from_artifact(&engine, &artifact(&random, ""), &[]),
        Err(LoadError::TooLarge { limit: 1000, .. })
    ));
}

#[test]
fn a_known_component_is_not_compiled_again() {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let load = |artifact: &Artifact, known: &[Arc<Policy>]| {
        let start = std::time::Instant::now();
        let policy = Arc::new(Policy::from_artifact(&engine, artifact, known).expect("a policy"));
        (policy, start.elapsed())
    };
    let (first, _) = load(&artifact(&built_in("weighted"), ""), &[]);
    let (second, _) = load(&artifact(&built_in("weighted"), "{}"), std::slice::from_ref(&first));
    assert_eq!((first.digest(), second.settings()), (second.digest(), "{}"));
    assert_eq!(first.settings(), "", "the other one keeps its own settings");
}
