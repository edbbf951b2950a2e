//! Every limit has a guest that breaks it, a reason of its own, and costs nobody else anything.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir_bad_guests as guests;
use weir_model::{Origin, Route};
use weir_policy::{Artifact, Engine, Limits, LoadError, Policy};

use super::support::{Node, artifact};

fn own(limits: &[(&str, u64)]) -> BTreeMap<String, u64> {
    limits.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

/// The reason that is expected, the guest, its settings and its own limits.
type Case<'a> = (&'static str, &'static [u8], &'static str, &'a [(&'static str, u64)]);

fn limited(component: &[u8], settings: &str, limits: &[(&str, u64)]) -> Artifact {
    Artifact { limits: own(limits), ..artifact(component, settings) }
}

/// What the guest fails for, with limits of its own: the reason, and what it took by the clock.
fn reason(component: &[u8], settings: &str, limits: &[(&str, u64)]) -> (String, Duration) {
    let mut node = Node::new(Limits::default(), &[]);
    node.set("other", "", "", 1..=2);
    node.decide();
    let policy = Policy::from_artifact(&node.engine, &limited(component, "", limits), &[]).expect("it loads");
    // Nobody asks for it yet, so nothing tells that it is bad.
    node.decider.replace(&node.store, policy).expect("taken");
    node.set("victim", "mine", settings, 1..=3);
    let start = Instant::now();
    let decisions = node.decide_at(start);
    let [failure] = &decisions.failures[..] else { panic!("one failure: {:?}", decisions.failures) };
    let (_, decision) = decisions.ports.iter().find(|(_, decision)| decision.backends.len() == 3).expect("decided");
    assert!(matches!(decision.origin, Origin::Fallback(_)) && decision.internal == Route::Cluster, "{decision:?}");
    (failure.reason.to_string(), start.elapsed())
}

#[test]
fn each_limit_has_a_reason_of_its_own() {
    let endless = [("fuel", 10_000_000_000), ("deadline-ms", 200)];
    let patient = [("fuel", 1_000_000_000)];
    let cases: [Case<'_>; 9] = [
        ("fuel", guests::SPIN, "", &[]),
        ("deadline", guests::SPIN, "", &endless),
        ("stack", guests::STACK, "", &[]),
        ("memory", guests::MEMORY_HOG, "", &[]),
        ("handles", guests::HANDLE_HOG, "", &[]),
        ("answer", guests::GARBAGE_ANSWER, "huge-reason", &patient),
        ("trap", guests::TRAP, "trap", &[]),
        ("declared-error", guests::DECLARED_ERROR, "\"no\"", &[]),
        ("invalid-answer", guests::GARBAGE_ANSWER, "no-slots", &[]),
    ];
    for (expected, component, settings, limits) in cases {
        let (told, took) = reason(component, settings, limits);
        assert_eq!(told, expected);
        assert!(took < Duration::from_secs(20), "{expected}: {took:?}");
    }
}

#[test]
fn what_breaks_a_limit_at_the_start_is_not_loaded() {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let cases: [Case<'_>; 9] = [
        ("fuel", guests::DESCRIBE_SPIN, "", &[]),
        ("trap", guests::DESCRIBE_TRAP, "", &[]),
        ("fuel", guests::CHECK_FAILS, "\"spin\"", &[]),
        ("trap", guests::CHECK_FAILS, "\"trap\"", &[]),
        ("memory", guests::TRAP, "", &[("memory-bytes", 65_536)]),
        ("tables", guests::TRAP, "", &[("table-elements", 1)]),
        ("tables", guests::TRAP, "", &[("tables", 1)]),
        ("instances", guests::TRAP, "", &[("instances", 1)]),
        ("too-large", guests::TRAP, "", &[("component-bytes", 100)]),
    ];
    for (expected, component, settings, limits) in cases {
        let why = Policy::from_artifact(&engine, &limited(component, settings, limits), &[]).expect_err(expected);
        assert_eq!(why.reason(), expected, "{why}");
    }
    let fine = artifact(guests::CHECK_FAILS, "\"calm\"");
    Policy::from_artifact(&engine, &fine, &[]).expect("with other settings it does well");
}

#[test]
fn limits_of_its_own_stay_below_the_nodes_and_name_the_field() {
    let ceilings = Limits { fuel: 20_000_000, ..Limits::ceilings() };
    let engine = Engine::new(Limits::default()).expect("an engine").with_ceilings(ceilings);
    let refused = |limits: &[(&str, u64)]| {
        let why = Policy::from_artifact(&engine, &limited(guests::TRAP, "", limits), &[]).expect_err("refused");
        assert!(matches!(why, LoadError::Limits(_)) && why.reason() == "limits");
        why.to_string()
    };
    assert_eq!(
        refused(&[("fuel", 20_000_001)]),
        "limits: fuel: must be 1 to 20000000, the most this node allows, not 20000001"
    );
    assert!(refused(&[("handles", 0)]).starts_with("limits: handles: must be 1 to "));
    assert!(refused(&[("stack-bytes", 1)]).contains("stack-bytes: there is no such limit for one policy"));
    let taken = Policy::from_artifact(&engine, &limited(guests::TRAP, "", &[("fuel", 20_000_000)]), &[]);
    let taken = taken.expect("the ceiling itself is allowed");
    assert_eq!((taken.limits().fuel, taken.limits().memory), (20_000_000, 64 << 20), "all others are the node's");
}
