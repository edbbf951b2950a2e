//! Policies that fail are left alone for a while, and one that fails for good costs a node next to nothing.

use std::time::{Duration, Instant};

use weir_bad_guests as guests;
use weir_model::Origin;
use weir_policy::{Attempt, FailureReason, Limits};

use super::support::Node;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_port_whose_policy_failed_rests_twice_as_long_each_time() {
    let mut node = Node::new(Limits::default(), &[("bad", guests::TRAP)]);
    node.set("web", "bad", "trap", 1..=3);
    let start = Instant::now();
    let first = node.decide_at(start);
    assert_eq!((first.failures.len(), first.failures[0].attempt), (1, Attempt::First), "{:?}", first.failures);
    let mut waits = Vec::new();
    let mut now = start;
    for _ in 0..10 {
        // The same Service, asked about in between for whatever reason, does not wake the policy.
        let early = node.decide_again(now + Duration::from_millis(500), "web");
        assert!(!early.stats.contains_key("bad") || early.stats["bad"].calls == 0, "{:?}", early.stats);
        assert_eq!(early.failures[0].attempt, Attempt::None);
        assert!(matches!(early.ports[0].1.origin, Origin::Fallback(_)), "the stand-in decides all the same");
        let due = node.decider.next_due().expect("it is to be tried again");
        waits.push((due - now).as_secs());
        now = due;
        let services = node.decider.take_due(now);
        let again = node.decider.decide_at(now, &node.store, &services);
        assert_eq!((again.stats["bad"].calls, again.failures[0].attempt), (1, Attempt::Repeated));
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);

    // What is new is asked about at once, and what does well rests no more.
    assert_eq!(node.decider.resting_ports()["bad"], 1);
    node.set("web", "bad", "", 1..=3);
    let well = node.decide_at(now);
    assert!(well.failures.is_empty() && matches!(well.ports[0].1.origin, Origin::Policy { .. }), "{well:?}");
    assert!(node.decider.resting_ports().is_empty() && node.decider.next_due().is_none());
}

#[test]
fn a_service_that_goes_takes_its_rest_along() {
    let mut node = Node::new(Limits::default(), &[("bad", guests::TRAP)]);
    node.set("web", "bad", "trap", 1..=3);
    let now = Instant::now();
    node.decide_at(now);
    node.remove("web");
    node.decide_at(now);
    assert!(node.decider.resting_ports().is_empty() && node.decider.next_due().is_none());
}

#[test]
fn good_services_of_a_policy_do_not_wait_for_the_bad_one() {
    let mut node = Node::new(Limits::default(), &[("bad", guests::TRAP)]);
    let start = Instant::now();
    for number in 0..20 {
        node.set(&format!("web-{number}"), "bad", if number < 10 { "trap" } else { "" }, 1..=2);
    }
    assert_eq!(node.decide_at(start).failures.len(), 10);
    for second in 1..5 {
        for number in 10..20 {
            node.set(&format!("web-{number}"), "bad", "", 1..=(2 + second));
        }
        let decisions = node.decide_at(start + seconds(second.into()) / 10);
        assert!(decisions.failures.is_empty(), "{:?}", decisions.failures);
        assert_eq!(decisions.stats["bad"].calls, 1, "they share one call");
    }
}

/// The promise: next to nothing. An hour of a policy that never ends, for two hundred Services whose endpoints change all
/// the time, is gone through in simulated time; what the policy really took is summed up.
#[test]
fn a_policy_that_never_ends_costs_less_than_a_hundredth_of_the_time() {
    let limits = Limits { fuel: 1_000_000, fuel_per_endpoint: 1_000, ..Limits::default() };
    let mut node = Node::new(limits, &[("spin", guests::SPIN)]);
    for number in 0..200 {
        node.set(&format!("web-{number}"), "spin", "", 1..=10);
    }
    let start = Instant::now();
    let first = node.decide_at(start);
    assert_eq!(first.failures.len(), 200);
    let [rest] = &first.rests[..] else { panic!("it rests as a whole, and that is told once: {:?}", first.rests) };
    assert_eq!((&*rest.policy, rest.reason, &rest.port), ("spin", FailureReason::Fuel, &None));
    let news = first.failures.iter().filter(|failure| failure.attempt == Attempt::First).count();
    assert_eq!(news, 8, "each port it was asked about is told of once");

    let (mut spent, mut told, hour) = (first.stats["spin"].time, 0, seconds(3600));
    let mut now = start;
    for step in 0_u32.. {
        let due = node.decider.next_due().unwrap_or(now + hour);
        now = due.min(now + seconds(2));
        if now - start > hour {
            break;
        }
        // One Service changes every two seconds.
        let name = format!("web-{}", step % 200);
        node.set(&name, "spin", "", 1..=(1 + u8::try_from(step % 9).expect("small")));
        let mut services = node.store.take_dirty();
        services.extend(node.decider.take_due(now));
        services.sort_unstable();
        services.dedup();
        let decisions = node.decider.decide_at(now, &node.store, &services);
        spent += decisions.stats.get("spin").map(|stats| stats.time).unwrap_or_default();
        told += decisions.rests.len();
        assert!(decisions.ports.iter().all(|(_, decision)| matches!(decision.origin, Origin::Fallback(_))));
    }
    assert!(spent < hour / 100, "{spent:?} of an hour");
    assert_eq!(told, 0, "it has been told");
    println!("a policy that never ends took {spent:?} of an hour");
}
