//! Guests that do wrong: each is told apart by its reason, costs nobody else anything, and the sync goes on.

use std::time::{Duration, Instant};

use weir_bad_guests as guests;
use weir_model::{Conditions, Decision, IndexFunction, Origin, Ring, Route, TrafficPolicy};
use weir_policy::{Engine, FailureReason, Limits};

use super::support::Node;

/// The last byte of the address in each slot.
fn hosts(decision: &Decision) -> Vec<u8> {
    let host = |slot: &u16| match decision.backends[usize::from(*slot)].address {
        std::net::IpAddr::V4(v4) => v4.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    };
    let mut hosts: Vec<u8> =
        decision.cluster.as_ref().map(|ring| ring.slots.iter().map(host).collect()).unwrap_or_default();
    // Where a round begins depends on the node.
    hosts.sort_unstable();
    hosts
}

/// The Service `victim` asks for the bad policy between two that do not. Only it fails, for `reason`; it is then
/// served by the built-in policies, and nothing changes for the others.
fn only_the_victim_suffers(limits: Limits, guest: &[u8], settings: &str, reason: FailureReason) -> String {
    let mut node = Node::new(limits, &[("bad", guest)]);
    node.set("before", "", "", 1..=2);
    node.set("victim", "bad", settings, 1..=3);
    node.set("after", "round-robin", "", 1..=2);
    let decisions = node.decide();
    let [failure] = &decisions.failures[..] else { panic!("{settings}: one failure: {:?}", decisions.failures) };
    assert_eq!(
        (failure.service.name.as_str(), &*failure.policy, failure.reason),
        ("victim", "bad", reason),
        "{settings}: {failure:?}"
    );
    assert!(failure.message.len() <= 400, "{settings}: {} bytes of message", failure.message.len());
    for (name, count) in [("before", 2), ("victim", 3), ("after", 2)] {
        let decision = node.decision(&decisions, name);
        assert_eq!(hosts(decision), (1..=count).collect::<Vec<_>>(), "{settings}: {name}");
        assert_eq!(decision.internal, Route::Cluster, "{settings}: {name}");
        let by_policy = matches!(decision.origin, Origin::Policy { .. });
        assert_eq!(by_policy, name != "victim", "{settings}: {name}: {:?}", decision.origin);
    }
    failure.message.clone()
}

#[test]
fn a_trap() {
    only_the_victim_suffers(Limits::default(), guests::TRAP, "trap", FailureReason::Trap);
}

#[test]
fn an_endless_loop_ends_by_fuel() {
    only_the_victim_suffers(Limits::default(), guests::SPIN, "", FailureReason::Fuel);
}

#[test]
fn an_endless_loop_ends_by_the_clock_where_fuel_does_not_end_it() {
    let limits =
        Limits { fuel: u64::MAX / 2, fuel_per_endpoint: 0, deadline: Duration::from_millis(200), ..Limits::default() };
    let start = Instant::now();
    only_the_victim_suffers(limits, guests::SPIN, "", FailureReason::Deadline);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_memory_hog() {
    only_the_victim_suffers(Limits::default(), guests::MEMORY_HOG, "", FailureReason::Memory);
}

#[test]
fn a_declared_error_comes_with_the_words_of_the_policy() {
    let message = only_the_victim_suffers(
        Limits::default(),
        guests::DECLARED_ERROR,
        "not on Fridays",
        FailureReason::DeclaredError,
    );
    assert!(message.contains("not on Fridays"), "{message}");
}

#[test]
fn nonsense_of_every_kind() {
    let kinds: [(&str, &str); 15] = [
        // Of the traffic policy.
        ("no-eligibility", "0 answers to"),
        ("wrong-id", "answered for port"),
        ("unknown-endpoint", "names endpoint 3"),
        ("duplicate-endpoint", "twice"),
        ("route-to-empty-list", "internal clients to the local list"),
        ("external-route-to-empty-list", "external clients to the local list"),
        ("remote-in-local-list", "not on this node"),
        ("all-in-local-list", "not on this node"),
        ("nobody-serves", "although an endpoint"),
        // Of the balancer.
        ("one-spread-too-many", "2 answers to 1"),
        ("too-few-weights", "2 weights for 3"),
        ("drained", "every weight is 0"),
        ("no-slots", "0 slots"),
        ("unknown-slot", "endpoint 3"),
        ("too-many-slots", "65536 slots"),
    ];
    for (kind, words) in kinds {
        let message =
            only_the_victim_suffers(Limits::default(), guests::GARBAGE_ANSWER, kind, FailureReason::InvalidAnswer);
        assert!(message.contains(words), "{kind}: {message}");
    }
}

#[test]
fn an_answer_that_is_too_large_never_reaches_the_host() {
    // Writing that much takes more fuel than there is by default.
    let limits = Limits { fuel: 1_000_000_000, ..Limits::default() };
    only_the_victim_suffers(limits, guests::GARBAGE_ANSWER, "huge-reason", FailureReason::Answer);
}

#[test]
fn a_long_reason_is_cut_short() {
    let mut node = Node::new(Limits::default(), &[("wordy", guests::GARBAGE_ANSWER)]);
    node.set("web", "wordy", "long-reason", 1..=2);
    let decisions = node.decide();
    assert!(decisions.failures.is_empty(), "{:?}", decisions.failures);
    let reason = &node.decision(&decisions, "web").reason;
    assert!(reason.starts_with("because") && reason.len() <= 200, "{} bytes", reason.len());
}

#[test]
fn numbers_nobody_gave_out_get_an_empty_answer() {
    let mut node = Node::new(Limits::default(), &[("nosy", guests::GARBAGE_ANSWER)]);
    node.set("web", "nosy", "unknown-ring", 1..=2);
    let decisions = node.decide();
    assert!(decisions.failures.is_empty(), "{:?}", decisions.failures);
    assert_eq!(hosts(node.decision(&decisions, "web")), [1, 2]);
}

#[test]
fn one_poisonous_service_among_many_of_the_same_policy_fails_alone() {
    let mut node = Node::new(Limits::default(), &[("bad", guests::TRAP)]);
    for number in 0..100 {
        node.set(&format!("web-{number}"), "bad", if number == 42 { "trap" } else { "" }, 1..=2);
    }
    let decisions = node.decide();
    let failed: Vec<_> = decisions.failures.iter().map(|failure| failure.service.name.as_str()).collect();
    assert_eq!(failed, ["web-42"]);
    for number in (0..100).filter(|number| *number != 42) {
        let ring = node.decision(&decisions, &format!("web-{number}")).cluster.clone().expect("a ring");
        assert_eq!(*ring, Ring { index: IndexFunction::RoundRobin, slots: vec![0, 1], affinity_seconds: 0 });
    }
}

#[test]
fn the_last_good_answer_holds_while_its_endpoints_exist() {
    let mut node = Node::new(Limits::default(), &[("bad", guests::TRAP)]);
    node.set("web", "bad", "", 1..=3);
    let good = node.decide();
    assert!(matches!(node.decision(&good, "web").origin, Origin::Policy { .. }));

    // The third is gone, and a fourth is new: only the policy could say whether it may serve.
    node.set("web", "bad", "trap", [1, 2, 4]);
    let failed = node.decide();
    let kept = node.decision(&failed, "web");
    assert_eq!((kept.origin.clone(), hosts(kept)), (Origin::LastGood, vec![1, 2]));
    let index = kept.cluster.as_ref().map(|ring| ring.index);
    assert_eq!(index, Some(IndexFunction::RoundRobin), "the policy's own index function");

    node.set("web", "bad", "trap", 7..=8);
    let replaced = node.decide();
    let fallback = node.decision(&replaced, "web");
    assert!(matches!(fallback.origin, Origin::Fallback(_)), "{:?}", fallback.origin);
    assert_eq!(hosts(fallback), [7, 8]);

    node.set("web", "bad", "", 7..=8);
    let back = node.decide();
    assert!(back.failures.is_empty(), "{:?}", back.failures);
    assert!(matches!(node.decision(&back, "web").origin, Origin::Policy { .. }));
}

#[test]
fn the_last_good_answer_loses_who_cannot_serve_any_more() {
    let mut node = Node::new(Limits::default(), &[("bad", guests::TRAP)]);
    node.set("web", "bad", "", 1..=3);
    node.decide();
    node.set("web", "bad", "trap", 1..=3);
    node.endpoints("web", [(1, Conditions::ready()), (2, Conditions::TERMINATING), (3, Conditions::SERVING)]);
    let failed = node.decide();
    let kept = node.decision(&failed, "web");
    assert_eq!((kept.origin.clone(), hosts(kept)), (Origin::LastGood, vec![1, 3]));
}

#[test]
fn a_last_good_answer_that_turns_clients_away_holds_while_that_is_right() {
    let mut node = Node::new(Limits::default(), &[("bad", guests::TRAP)]);
    node.external = TrafficPolicy::Local;
    // Host 2 is not on this node.
    node.set("web", "bad", "", 2..=2);
    let good = node.decide();
    assert_eq!(node.decision(&good, "web").external, Route::Drop);
    node.set("web", "bad", "trap", 2..=3);
    let failed = node.decide();
    let kept = node.decision(&failed, "web");
    assert_eq!((kept.origin.clone(), kept.external, hosts(kept)), (Origin::LastGood, Route::Drop, vec![2]));
    node.set("web", "bad", "trap", 1..=3);
    let failed = node.decide();
    let replaced = node.decision(&failed, "web");
    assert_eq!((replaced.external, hosts(replaced)), (Route::Local, vec![1, 2, 3]), "somebody here is ready now");
}

#[test]
fn no_state_of_a_guest_reaches_its_next_call() {
    let mut node = Node::new(Limits::default(), &[("bad", guests::GARBAGE_ANSWER)]);
    for number in 0..60 {
        node.set(&format!("web-{number}"), "bad", "forgetful", 0..=255);
    }
    let decisions = node.decide();
    assert!(decisions.failures.is_empty(), "{:?}", decisions.failures.first());
    assert!(decisions.stats["bad"].calls >= 4, "both roles, in more than one batch: {:?}", decisions.stats);
}

#[test]
fn where_only_the_balancer_fails_the_traffic_policy_still_counts() {
    let mut node = Node::new(Limits::default(), &[("bad", guests::GARBAGE_ANSWER)]);
    node.set("web", "bad", "no-slots", 1..=2);
    // The fallback's traffic policy would leave the second one out.
    node.endpoints("web", [(1, Conditions::ready()), (2, Conditions::default())]);
    let decisions = node.decide();
    let decision = node.decision(&decisions, "web");
    assert_eq!((decision.origin.clone(), hosts(decision)), (Origin::Fallback("random".into()), vec![1, 2]));
}

#[test]
fn when_every_policy_fails_ready_endpoints_are_served_all_the_same() {
    // Enough to start on, too little for any answer.
    let limits = Limits { fuel: 1_000, fuel_per_endpoint: 0, ..Limits::default() };
    let mut node = Node::new(limits, &[]);
    node.set("web", "", "", 1..=3);
    node.set("idle", "", "", []);
    let decisions = node.decide();
    assert!(decisions.failures.iter().all(|failure| failure.reason == FailureReason::Fuel), "{:?}", decisions.failures);
    let web = node.decision(&decisions, "web");
    assert_eq!((web.origin.clone(), web.internal, hosts(web)), (Origin::LastResort, Route::Cluster, vec![1, 2, 3]));
    let idle = node.decision(&decisions, "idle");
    assert_eq!((idle.internal, idle.cluster.is_none()), (Route::Reject, true));
}

#[test]
fn components_that_are_no_policies_are_refused_with_a_sentence() {
    let refused = |limits: Limits, component: &[u8]| {
        let engine = Engine::new(limits).expect("an engine");
        let error = weir_policy::Policy::load(&engine, "bad", component).expect_err("it is no policy");
        (error.reason(), error.to_string())
    };
    let core_module = b"\0asm\x01\0\0\0";
    let truncated = &guests::TRAP[..guests::TRAP.len() / 2];
    let small = |component| Limits { component, ..Limits::default() };
    let poor = Limits { memory: 1 << 16, ..Limits::default() };
    let cases = [
        (refused(Limits::default(), guests::WASI_IMPORT), "imports-wasi", "wasi:clocks/monotonic-clock@0.2.3"),
        (refused(Limits::default(), guests::HOST_IMPORT), "unknown-import", "example:dialer/network@1.0.0"),
        (refused(Limits::default(), guests::WRONG_WORLD), "wrong-world", "greet"),
        (refused(Limits::default(), guests::NEXT_VERSION), "wrong-world", "weir:policy/balancer@0.3.0"),
        (refused(Limits::default(), core_module), "core-module", "weir policy component"),
        (refused(Limits::default(), truncated), "compile", "does not compile"),
        (refused(Limits::default(), b"#!/bin/sh"), "compile", "does not compile"),
        (refused(small(100), guests::TRAP), "too-large", "at most 100"),
        (refused(poor, guests::TRAP), "memory", "memory"),
    ];
    for ((reason, message), expected, words) in cases {
        assert_eq!(reason, expected, "{message}");
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
}
