//! WASI is not there; and where an operator lets a policy have it, nothing of it works.

use std::time::{Duration, Instant};

use weir_bad_guests as guests;
use weir_policy::{Artifact, Decisions, Engine, Limits, Policy, Wasi};

use super::support::{Node, artifact};

fn with_wasi(component: &[u8], wasi: Wasi) -> Artifact {
    Artifact { wasi, ..artifact(component, "") }
}

/// What a fresh node decides for Services of that policy.
fn decide(component: &[u8], services: usize) -> Decisions {
    let mut node = Node::new(Limits::default(), &[]);
    node.deliver(&with_wasi(component, Wasi::Inert)).expect("taken");
    for number in 0..services {
        node.set(&format!("web-{number}"), "mine", "", 1..=3);
    }
    node.decide()
}

#[test]
fn it_is_refused_with_a_word_on_how_to_get_it() {
    let engine = Engine::new(Limits::default()).expect("an engine");
    for component in [guests::WASI_IMPORT, guests::WASI_PROBE] {
        let why = Policy::from_artifact(&engine, &with_wasi(component, Wasi::Pure), &[]).expect_err("refused");
        assert!(why.reason() == "imports-wasi" && why.to_string().contains("`wasi: inert`"), "{why}");
    }
    // Whatever else it imports is refused all the same.
    let why = Policy::from_artifact(&engine, &with_wasi(guests::HOST_IMPORT, Wasi::Inert), &[]).expect_err("refused");
    assert_eq!(why.reason(), "unknown-import", "{why}");
}

#[test]
fn nothing_of_it_works_and_nobody_waits() {
    let start = Instant::now();
    let decisions = decide(guests::WASI_PROBE, 1);
    assert!(decisions.failures.is_empty(), "{:?}", decisions.failures);
    assert!(start.elapsed() < Duration::from_secs(60), "it slept for an hour: {:?}", start.elapsed());
    let reason = &decisions.ports[0].1.reason;
    let expected = "printed true, stdin closed, 0 variables, 0 arguments, 0 directories, tcp access-denied, names \
                    permanent-resolver-failure, clocks 0 0.0, random ";
    assert!(reason.starts_with(expected), "{reason}");
}

#[test]
fn equal_input_still_gets_an_equal_answer() {
    let (one, other, many) =
        (decide(guests::WASI_PROBE, 1), decide(guests::WASI_PROBE, 1), decide(guests::WASI_PROBE, 3));
    assert_eq!(one.ports, other.ports, "random numbers and all");
    assert_eq!(one.ports[0].1.reason, many.ports[0].1.reason, "whatever else is in the batch");
    assert_eq!(one.stats["mine"].fuel, other.stats["mine"].fuel);
    // The time of day by which this one spreads is always the same.
    let clocked = decide(guests::WASI_IMPORT, 2);
    assert!(clocked.failures.is_empty(), "{:?}", clocked.failures);
    let slots = clocked.ports.iter().map(|(_, decision)| decision.cluster.as_ref().map(|ring| ring.slots.clone()));
    assert_eq!(slots.collect::<Vec<_>>(), [Some(vec![0]), Some(vec![0])]);
}

/// The daemon's loop runs on a thread of Tokio's, where wasmtime's WASI must not wait.
#[test]
fn a_sync_inside_of_a_runtime_is_no_trouble() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let decisions = runtime.expect("a runtime").block_on(async { decide(guests::WASI_PROBE, 1) });
    assert!(decisions.failures.is_empty(), "{:?}", decisions.failures);
}
