//! Policies come, change and go: good versions at once, bad ones not at all.

use std::sync::Arc;
use std::time::Instant;

use weir_bad_guests::{DECLARED_ERROR, TRAP};
use weir_model::{IndexFunction, Origin};
use weir_policy::{Artifact, Engine, Limits, LoadError, Policy, Refused};

use super::support::{Node, artifact, built_in};

/// Delivers a policy and decides for those who use it; returns how many these are.
fn replace(node: &mut Node, artifact: &Artifact) -> Result<usize, Refused> {
    let users = node.deliver(artifact)?;
    node.decider.decide(&node.store, &users);
    Ok(users.len())
}

/// Sets a Service with three endpoints, on `n1` to `n3`, and decides it.
fn set(node: &mut Node, name: &str, policy: &str, settings: &str) {
    node.set(name, policy, settings, 1..=3);
    node.decide();
}

/// How a Service's connections spread: index function, slots, and who says so.
fn spread(node: &mut Node, name: &str) -> (IndexFunction, usize, String) {
    let decisions = node.decide_again(Instant::now(), name);
    let decision = node.decision(&decisions, name);
    let ring = decision.cluster.as_ref().expect("a ring");
    let by = match &decision.origin {
        Origin::Policy { balancer, .. } => balancer.to_string(),
        other => format!("{other:?}"),
    };
    (ring.index, ring.slots.len(), by)
}

use IndexFunction::{Random, RoundRobin};

#[test]
fn a_policy_comes_changes_and_goes() {
    let mut node = Node::awaiting("random");
    set(&mut node, "web", "mine", "");
    set(&mut node, "other", "", "");
    assert_eq!(spread(&mut node, "web"), (Random, 3, "random".to_owned()), "the default, until the policy comes");

    assert_eq!(replace(&mut node, &artifact(built_in("round-robin"), "")), Ok(1), "one Service asks for it");
    assert_eq!(spread(&mut node, "web"), (RoundRobin, 3, "mine".to_owned()));
    let weights = r#"{"by-node": {"n1": 4}}"#;
    assert_eq!(replace(&mut node, &artifact(built_in("weighted"), weights)), Ok(1));
    assert_eq!(spread(&mut node, "web"), (Random, 6, "mine".to_owned()), "with the settings it came with");
    assert_eq!(replace(&mut node, &artifact(built_in("weighted"), "")), Ok(1));
    assert_eq!(spread(&mut node, "web"), (Random, 3, "mine".to_owned()), "new settings alone change the answer, too");

    let users = node.decider.withdraw(&node.store, "mine");
    assert_eq!(users.len(), 1);
    node.decider.decide(&node.store, &users);
    assert_eq!(spread(&mut node, "web"), (Random, 3, "random".to_owned()));
    assert_eq!(spread(&mut node, "other").2, "random");
}

#[test]
fn what_a_service_sets_goes_before_what_the_policy_came_with() {
    let mut node = Node::awaiting("random");
    set(&mut node, "web", "mine", r#"{"by-node": {"n2": 2}}"#);
    set(&mut node, "plain", "mine", "");
    replace(&mut node, &artifact(built_in("weighted"), r#"{"by-node": {"n1": 4}}"#)).expect("replaced");
    assert_eq!((spread(&mut node, "web").1, spread(&mut node, "plain").1), (4, 6));
}

/// A default that comes late, as it does from a ConfigMap.
#[test]
fn the_nodes_default_may_come_later_and_go_again() {
    let mut node = Node::awaiting("mine");
    set(&mut node, "web", "", "");
    assert_eq!(spread(&mut node, "web").2, "random");
    assert_eq!(replace(&mut node, &artifact(built_in("round-robin"), "")), Ok(1));
    assert_eq!(spread(&mut node, "web"), (RoundRobin, 3, "mine".to_owned()));
    node.decider.withdraw(&node.store, "mine");
    assert_eq!(spread(&mut node, "web").2, "random");
}

#[test]
fn a_version_that_fails_where_the_last_one_did_well_changes_nothing() {
    let mut node = Node::awaiting("random");
    set(&mut node, "web", "mine", "");
    set(&mut node, "api", "mine", "");
    replace(&mut node, &artifact(built_in("round-robin"), "")).expect("replaced");

    let refused = replace(&mut node, &artifact(DECLARED_ERROR, "")).expect_err("it says it cannot");
    assert_eq!((refused.failed, refused.asked), (2, 2), "{refused}");
    let unknown = artifact(built_in("weighted"), r#"{"by-planet": {}}"#);
    let refused = Policy::from_artifact(&node.engine, &unknown, &[]).expect_err("bad settings");
    assert!(refused.reason() == "settings" && refused.to_string().contains("by-planet"), "{refused}");
    assert_eq!(spread(&mut node, "web"), (RoundRobin, 3, "mine".to_owned()));

    // One Service of two is enough: it was served well before.
    set(&mut node, "api", "mine", "trap");
    let refused = replace(&mut node, &artifact(TRAP, "")).expect_err("a trap");
    assert_eq!((refused.failed, refused.asked, refused.reason), (1, 2, "trap"), "{refused}");
    assert_eq!(refused.service, "default/api");
    assert_eq!(spread(&mut node, "api").2, "mine");
}

/// Nobody is worse off by a policy that is new: those it fails for are served as they were.
#[test]
fn a_new_policy_that_serves_some_is_taken() {
    let mut node = Node::awaiting("random");
    set(&mut node, "web", "mine", "");
    set(&mut node, "api", "mine", "trap");
    assert_eq!(replace(&mut node, &artifact(TRAP, "")), Ok(2));
    assert_eq!(spread(&mut node, "web"), (RoundRobin, 3, "mine".to_owned()));
    assert_eq!(spread(&mut node, "api").0, Random);
}

#[test]
fn the_fail_strategy_says_who_steps_in() {
    let mut node = Node::awaiting("random");
    replace(&mut node, &Artifact { fail_strategy: "round-robin".to_owned(), ..artifact(TRAP, "") }).expect("taken");
    set(&mut node, "web", "mine", "trap");
    assert_eq!(spread(&mut node, "web"), (RoundRobin, 3, "Fallback(\"round-robin\")".to_owned()));
}

#[test]
fn what_cannot_be_a_policy_is_refused_by_field() {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let random = built_in("random");
    let reason = |artifact: Artifact| {
        Policy::from_artifact(&engine, &artifact, &[]).map(|_| ()).map_err(|why| (why.reason(), why.to_string()))
    };
    let told = |artifact| reason(artifact).expect_err("refused");
    let (word, text) = told(Artifact { name: "random".to_owned(), ..artifact(random, "") });
    assert!(word == "built-in-name" && text.contains("\"random\""), "{text}");
    let (word, text) = told(artifact(random, "{by-node: 1}"));
    assert!(word == "settings" && text.contains("no JSON"), "{text}");
    let (word, text) = told(Artifact { fail_strategy: "reject".to_owned(), ..artifact(random, "") });
    assert!(word == "fail-strategy" && text.contains("\"reject\""), "{text}");
    assert_eq!(told(artifact(b"\0asm\x01\0\0\0", "")).0, "core-module");
    let limits = Limits { component: 1000, ..Limits::default() };
    let engine = Engine::new(limits).expect("an engine");
    assert!(matches!(
        Policy::from_artifact(&engine, &artifact(random, ""), &[]),
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
    let (first, _) = load(&artifact(built_in("weighted"), ""), &[]);
    let (second, _) = load(&artifact(built_in("weighted"), "{}"), std::slice::from_ref(&first));
    assert_eq!((first.digest(), second.settings()), (second.digest(), "{}"));
    assert_eq!(first.settings(), "", "the other one keeps its own settings");
}
