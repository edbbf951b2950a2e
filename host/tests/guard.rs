//! What a policy that fails comes to in the whole daemon's terms: rules, metrics, digest.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::time::Duration;

use weir::metrics::{Metrics, Sources};
use weir::pipeline::{Outcome, Pipeline};
use weir_model::{
    EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec,
    Store,
};
use weir_nft::sim::Memory;
use weir_nft::{Dataplane, Installed, text};
use weir_plan::NodeFacts;
use weir_policy::{Artifact, Attempt, BUILT_IN, Catalog, Decider, Engine, Limits, Policy};

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// Service number `n` with endpoints 10.1.n.x, by the policy `weighted` with those settings.
fn service(n: u8, settings: &str, hosts: impl IntoIterator<Item = u8>) -> [Event; 2] {
    let endpoint = |host: u8| EndpointSpec::ready([10, 1, n, host].into());
    let name = format!("s{n}");
    let service = ServiceSpec {
        key: key(&name),
        cluster_ips: vec![[10, 0, 0, n].into()],
        ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
        policy: Some("weighted".to_owned()),
        policy_settings: Some(settings.to_owned()).filter(|settings| !settings.is_empty()),
        ..ServiceSpec::default()
    };
    let slice = SliceSpec {
        key: key(&format!("{name}-1")),
        service: key(&name),
        family: Family::V4,
        ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: hosts.into_iter().map(endpoint).collect(),
        triggered: None,
    };
    [Event::Service(service), Event::Slice(slice)]
}

/// What the policy refuses to work with.
const BAD: &str = r#"{"by-planet": {"mars": 1}}"#;

fn pipeline() -> Pipeline<Memory> {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let catalog = Catalog::new(&engine, "kubernetes", "random").expect("the built-in policies");
    let store = Store::new(NodeIdentity::default());
    Pipeline::new(store, Decider::new(catalog), Installed::new(NodeFacts::default()), Memory::default())
}

fn sync(pipeline: &mut Pipeline<Memory>, events: impl IntoIterator<Item = Event>) -> Outcome {
    events.into_iter().for_each(|event| pipeline.apply(event));
    pipeline.sync().expect("a sync")
}

fn rules(pipeline: &mut Pipeline<Memory>) -> String {
    text::ruleset(&pipeline.dataplane().dump().expect("rules"))
}

/// The value of a sample, by its name with labels as they are written.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?.parse().ok()
}

#[test]
fn who_is_left_alone_is_counted_and_told_once() {
    let mut pipeline = pipeline();
    let metrics = Metrics::new(Sources::default(), false);
    let seen = |pipeline: &Pipeline<Memory>, outcome: &Outcome| {
        metrics.synced(pipeline, outcome, Duration::ZERO);
        let text = metrics.encode();
        let failures = value(&text, r#"weir_policy_failures_total{policy="weighted",reason="declared-error"}"#);
        (value(&text, r#"weir_policy_quarantined{policy="weighted"}"#), failures)
    };
    let first = sync(&mut pipeline, [service(1, "", 1..=3), service(2, BAD, 1..=3)].concat());
    assert_eq!(seen(&pipeline, &first), (Some(1.0), Some(1.0)));
    assert_eq!(first.failures.iter().map(|failure| failure.attempt).collect::<Vec<_>>(), [Attempt::First]);
    let before = rules(&mut pipeline);

    // All of it is planned anew, and the policy is left alone.
    pipeline.set_facts(NodeFacts { masquerade_all: true, ..NodeFacts::default() });
    let second = sync(&mut pipeline, []);
    assert_eq!(second.failures.iter().map(|failure| failure.attempt).collect::<Vec<_>>(), [Attempt::None]);
    assert_eq!(seen(&pipeline, &second), (Some(1.0), Some(1.0)), "it was not asked, so it did not fail");
    pipeline.set_facts(NodeFacts::default());
    sync(&mut pipeline, []);
    assert_eq!(rules(&mut pipeline), before);
    assert!(pipeline.next_look().is_some(), "it is tried again by itself");

    let mended = sync(&mut pipeline, service(2, "", 1..=3));
    assert_eq!(seen(&pipeline, &mended), (None, Some(1.0)), "no line is left");
    assert!(pipeline.next_look().is_none());
}

#[test]
fn nodes_that_agree_have_the_same_digest_however_they_came_there() {
    let (mut one, mut other) = (pipeline(), pipeline());
    assert_eq!(one.decisions_digest(), 0);
    sync(&mut one, [service(1, "", 1..=3), service(2, "", 1..=5)].concat());
    sync(&mut other, service(2, "", 7..=9));
    sync(&mut other, service(3, "", 1..=2));
    assert_ne!(one.decisions_digest(), other.decisions_digest());
    sync(&mut other, [service(2, "", 1..=5), service(1, "", (1..=3).rev())].concat());
    sync(&mut other, [Event::ServiceGone(key("s3"))]);
    assert_eq!(one.decisions_digest(), other.decisions_digest());
    let (metrics, outcome) = (Metrics::new(Sources::default(), false), sync(&mut one, []));
    metrics.synced(&one, &outcome, Duration::ZERO);
    let shown = value(&metrics.encode(), "weir_decisions_digest").expect("a number");
    assert_eq!(shown as u64, one.decisions_digest() >> 11);

    // Other weights are another decision.
    sync(&mut one, service(2, r#"{"by-address": {"10.1.2.1": 2}, "default": 1}"#, 1..=5));
    assert_ne!(one.decisions_digest(), other.decisions_digest());
}

#[test]
fn a_version_that_takes_too_much_away_changes_no_rule() {
    let mut pipeline = pipeline();
    let engine = Engine::new(Limits::default()).expect("an engine");
    let weighted = BUILT_IN.iter().find(|(name, _)| *name == "weighted").expect("built in").1;
    let version = |settings: &str, max_removed_percent| {
        let (name, component, settings) = ("mine".to_owned(), weighted.to_vec(), settings.to_owned());
        let artifact = Artifact { name, component, settings, max_removed_percent, ..Artifact::default() };
        Policy::from_artifact(&engine, &artifact, &[]).expect("a policy")
    };
    let mine = |n| {
        let [service, slice] = service(n, "", 1..=20);
        let Event::Service(spec) = service else { unreachable!("it is one") };
        [Event::Service(ServiceSpec { policy: Some("mine".to_owned()), ..spec }), slice]
    };
    pipeline.set_policy(version("", None)).expect("taken");
    sync(&mut pipeline, [mine(1), mine(2)].concat());
    let before = rules(&mut pipeline);
    let drains = r#"{"default": 0, "by-address": {"10.1.1.1": 1, "10.1.2.1": 1}}"#;
    let refused = pipeline.set_policy(version(drains, None)).expect_err("38 of 40");
    assert!(refused.reason == "budget" && refused.message.contains("38 of 40"), "{refused}");
    sync(&mut pipeline, []);
    assert_eq!(rules(&mut pipeline), before);
    pipeline.set_policy(version(drains, Some(100))).expect("forced");
    sync(&mut pipeline, []);
    assert_ne!(rules(&mut pipeline), before);
}
