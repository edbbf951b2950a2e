//! Answers that are fine one by one, and an outage all together.

use std::time::{Duration, Instant};

use weir_bad_guests as guests;
use weir_model::{Conditions, Origin};
use weir_policy::{Artifact, Decisions, Limits};

use super::support::{Node, artifact, built_in};

/// The policy `weighted` as `mine`.
fn weighted(settings: &str, max_removed_percent: Option<u8>) -> Artifact {
    Artifact { max_removed_percent, ..artifact(built_in("weighted"), settings) }
}

/// Weights by address that leave the first of `of` endpoints.
fn only_the_first(of: u8) -> String {
    let zero: Vec<String> = (2..=of).map(|host| format!("\"10.244.0.{host}\": 0")).collect();
    format!("{{\"by-address\": {{{}}}}}", zero.join(", "))
}

fn serving(decisions: &Decisions) -> usize {
    let slots = decisions.ports.iter().filter_map(|(_, decision)| decision.cluster.as_ref());
    slots.map(|ring| ring.slots.len()).sum()
}

/// Five Services with so many endpoints each, all served by `mine`.
fn node(endpoints: u8) -> Node {
    let mut node = Node::new(Limits::default(), &[]);
    node.deliver(&weighted("", None)).expect("taken");
    for number in 0..5 {
        node.set(&format!("web-{number}"), "mine", "", 1..=endpoints);
    }
    let decisions = node.decide();
    assert_eq!((decisions.failures.len(), serving(&decisions)), (0, 5 * usize::from(endpoints)));
    node
}

fn served_now(node: &mut Node) -> usize {
    let all: Vec<_> = node.store.service_ids().collect();
    serving(&node.decider.decide(&node.store, &all))
}

#[test]
fn a_version_that_takes_most_endpoints_away_is_refused_as_a_whole() {
    let mut node = node(10);
    let refused = node.deliver(&weighted(&only_the_first(10), None)).expect_err("too much");
    assert_eq!((refused.reason, refused.failed), ("budget", 5));
    assert!(refused.message.contains("45 of 50") && refused.message.contains("at most 50 %"), "{refused}");
    assert_eq!(served_now(&mut node), 50, "the version before decides on");

    // Forced, it is taken; and giving back is never too much.
    node.deliver(&weighted(&only_the_first(10), Some(100))).expect("forced");
    assert_eq!(served_now(&mut node), 5);
    node.deliver(&weighted("", None)).expect("it gives back");
    assert_eq!(served_now(&mut node), 50);
    // The node's word counts where the policy has none of its own.
    node.decider.set_max_removed_percent(90);
    node.deliver(&weighted(&only_the_first(10), None)).expect("allowed");
    assert_eq!(served_now(&mut node), 5);
}

#[test]
fn a_handful_of_endpoints_may_always_go() {
    let mut node = node(3);
    node.deliver(&weighted(&only_the_first(3), None)).expect("10 of 15 is a handful");
    assert_eq!(served_now(&mut node), 5);
}

/// All of it at once, and nothing of it the policy's doing.
#[test]
fn what_the_cluster_takes_away_is_no_matter_of_the_budget() {
    let mut node = node(10);
    let now = Instant::now();
    for number in 0..5 {
        let name = format!("web-{number}");
        match number {
            // Endpoints go, stop being ready, are drained by weights of the Service's own.
            0 | 1 => node.set(&name, "mine", "", 1..=1),
            2 | 3 => {
                let ready = |host| if host == 1 { Conditions::ready() } else { Conditions::default() };
                node.endpoints(&name, (1..=10).map(|host| (host, ready(host))));
            }
            _ => node.set(&name, "mine", &only_the_first(10), 1..=10),
        }
    }
    let decisions = node.decide_at(now);
    assert!(decisions.failures.is_empty() && decisions.rests.is_empty(), "{:?}", decisions.failures);
    assert_eq!(serving(&decisions), 5);
}

#[test]
fn the_first_decision_never_counts() {
    let mut node = Node::new(Limits::default(), &[]);
    for number in 0..5 {
        node.set(&format!("web-{number}"), "mine", "", 1..=10);
    }
    // Until the policy comes, the node's default serves all of them.
    assert_eq!(serving(&node.decide()), 50);
    node.deliver(&weighted(&only_the_first(10), None)).expect("these Services chose it");
    assert_eq!(served_now(&mut node), 5);
}

/// A policy that sees what changes by itself may take away without a new version.
#[test]
fn one_that_changes_its_mind_is_held_back_and_tried_again() {
    let mut node = Node::new(Limits::default(), &[("fickle", guests::FICKLE)]);
    for number in 0..5 {
        node.set(&format!("web-{number}"), "fickle", "", 1..=10);
    }
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(serving(&node.decide_at(start)), 50);
    // Young endpoints serve alone from now on: the eleventh is the only young one.
    for number in 0..5 {
        node.set(&format!("web-{number}"), "fickle", "", 1..=11);
    }
    let changed = node.decide_at(at(1));
    assert_eq!((serving(&changed), changed.failures.len()), (55, 0), "nothing is young enough to change its mind");
    let due = node.decider.next_due().expect("it wants another look");
    let held = node.decide_due(due.max(at(20)));
    assert_eq!(serving(&held), 55, "{:?}", held.failures);
    assert!(held.ports.iter().all(|(_, decision)| decision.origin == Origin::LastGood));
    assert!(held.failures.iter().all(|failure| failure.reason.as_str() == "budget") && held.failures.len() == 5);
    let [rest] = &held.rests[..] else { panic!("told once: {:?}", held.rests) };
    assert_eq!((&*rest.policy, rest.reason.as_str()), ("fickle", "budget"));

    // Asked again, it takes away as much again, and rests for longer; one Service at a time does not creep through.
    let again = node.decide_again(at(20) + Duration::from_millis(100), "web-0");
    assert_eq!(serving(&again), 11);
    let due = node.decider.next_due().expect("it is tried again");
    let held = node.decide_due(due);
    assert_eq!((serving(&held), held.ports.len(), held.rests.len()), (55, 5, 0), "{held:?}");
    assert!(node.decider.next_due().expect("once more") >= due + Duration::from_secs(2));
}
