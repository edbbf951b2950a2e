use std::time::{Duration, Instant};

use weir::policies::{Delivery, DigestPrefix, Offer, Rollout, State, Track};
use weir_bad_guests::TRAP;
use weir_model::IndexFunction::{Random, RoundRobin};
use weir_policy::{Artifact, Digest};

use crate::daemon::{Daemon, artifact, asking, built_in, stamped};

/// `mine` with those components and that rollout.
fn offer(stable: &[u8], canary: Option<&[u8]>, rollout: Rollout) -> Delivery {
    let artifact = Artifact { name: "mine".to_owned(), component: stable.to_vec(), ..Artifact::default() };
    Delivery::Set(Offer { artifact, canary: canary.map(<[u8]>::to_vec), rollout })
}

fn pinned(component: &[u8]) -> Rollout {
    let pin = DigestPrefix::read(&Digest::of(component).to_string()[..12]).expect("a prefix");
    Rollout { pin: Some(pin), ..Rollout::default() }
}

fn on(node: &str) -> Rollout {
    Rollout { canary_nodes: vec![node.to_owned()], ..Rollout::default() }
}

fn digest(component: &[u8]) -> String {
    Digest::of(component).to_string()
}

fn started() -> Daemon {
    let daemon = Daemon::start(1);
    daemon.deliver(Delivery::Listed);
    daemon.wait_for(Random);
    daemon
}

#[test]
fn versions_that_did_well_can_be_gone_back_to() {
    let daemon = started();
    let versions: Vec<Vec<u8>> = (0..5).map(|number| stamped(&built_in("round-robin"), number)).collect();
    let random = built_in("random");
    for version in &versions {
        daemon.deliver(offer(version, None, Rollout::default()));
        daemon.wait_for_status(|status| status.digest == digest(version));
    }
    daemon.deliver(offer(&random, None, Rollout::default()));
    daemon.wait_for(Random);
    let status = daemon.wait_for_status(|status| status.digest == digest(&random));
    let previous: Vec<&String> = status.previous.iter().map(|past| &past.digest).collect();
    let last: Vec<String> = versions.iter().rev().take(3).map(|version| digest(version)).collect();
    assert_eq!(previous, last.iter().collect::<Vec<_>>(), "three versions are kept");

    let start = Instant::now();
    daemon.deliver(offer(&random, None, pinned(&versions[2])));
    daemon.wait_for(RoundRobin);
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    let status = daemon.wait_for_status(|status| status.track == Some(Track::Pinned));
    assert_eq!(status.digest, digest(&versions[2]));
    assert!(daemon.metrics.encode().contains(&digest(&versions[2])), "{}", daemon.metrics.encode());
    assert!(!daemon.metrics.encode().contains(&digest(&random)), "only what decides is shown");

    // One that is not kept any more changes nothing.
    daemon.deliver(offer(&random, None, pinned(&versions[0])));
    let status = daemon.wait_for_status(|status| status.last != State::Active);
    assert!(matches!(&status.last, State::Refused { reason, .. } if reason == "unknown-version"), "{status:?}");
    assert_eq!(status.digest, digest(&versions[2]), "what decided still does");

    daemon.deliver(offer(&random, None, Rollout::default()));
    daemon.wait_for(Random);
}

/// What was refused is not what can be gone back to, and what is gone back to has the settings it did well with.
#[test]
fn a_version_comes_back_as_it_was() {
    let daemon = started();
    let weighted = |settings: &str, rollout| {
        let (name, settings) = ("mine".to_owned(), settings.to_owned());
        let artifact = Artifact { name, component: built_in("weighted"), settings, ..Artifact::default() };
        Delivery::Set(Offer { artifact, canary: None, rollout })
    };
    daemon.deliver(artifact("mine", built_in("round-robin")));
    daemon.wait_for(RoundRobin);
    daemon.deliver(weighted(r#"{"by-planet": {}}"#, Rollout::default()));
    let status = daemon.wait_for_status(|status| status.refused == 1);
    assert_eq!(status.refused_digest, Some(digest(&built_in("weighted"))));
    assert_eq!((status.digest, status.previous.len()), (digest(&built_in("round-robin")), 0));
    // The bad settings stand beside the pin, and do not count for the other version.
    daemon.deliver(weighted(r#"{"by-planet": {}}"#, pinned(&built_in("round-robin"))));
    daemon.wait_for_status(|status| status.track == Some(Track::Pinned) && status.last == State::Active);
}

#[test]
fn a_canary_runs_on_its_nodes_only() {
    let daemon = started();
    let (stable, canary) = (built_in("random"), built_in("round-robin"));
    daemon.deliver(offer(&stable, Some(&canary), on("n2")));
    let status = daemon.wait_for_status(|status| status.last == State::Active);
    assert_eq!((status.digest, status.track), (digest(&stable), Some(Track::Stable)));
    daemon.deliver(offer(&stable, Some(&canary), on("n1")));
    daemon.wait_for(RoundRobin);
    let status = daemon.wait_for_status(|status| status.track == Some(Track::Canary));
    assert_eq!(status.digest, digest(&canary));
    daemon.deliver(offer(&stable, Some(b"nothing of the kind"), on("n1")));
    daemon.wait_for(Random);
    let status = daemon.wait_for_status(|status| status.track == Some(Track::Stable));
    assert!(status.canary_problem.is_some_and(|why| why.contains("does not compile")));
    daemon.deliver(offer(&stable, Some(&canary), Rollout { canary_percent: 100, ..Rollout::default() }));
    daemon.wait_for(RoundRobin);
    daemon.deliver(artifact("mine", stable));
    daemon.wait_for(Random);
}

/// A canary that did well when it came, and fails from then on.
#[test]
fn a_canary_that_fails_is_halted() {
    let daemon = started();
    let stable = built_in("random");
    daemon.deliver(offer(&stable, Some(TRAP), on("n1")));
    daemon.wait_for(RoundRobin);
    let mut number = 0;
    let start = Instant::now();
    // Settings it traps on: its last good answer, and then the stable version, serve.
    while daemon.board.snapshot()["mine"].track != Some(Track::Stable) {
        number += 1;
        daemon.events.blocking_send(asking("trap", number)).expect("the loop runs");
        std::thread::sleep(Duration::from_millis(30));
        assert!(start.elapsed() < crate::daemon::PATIENCE, "{:?}", daemon.board.snapshot());
    }
    daemon.wait_for(Random);
    let status = daemon.wait_for_status(|status| status.canary_problem.is_some());
    let why = status.canary_problem.expect("a reason");
    assert!(why.contains(&digest(TRAP)) && why.contains("failed in 3 syncs") && why.contains("default/web"), "{why}");
    let metrics = daemon.metrics.encode();
    assert!(metrics.contains(r#"weir_policy_canary_halts_total{policy="mine"} 1"#), "{metrics}");

    // The same one is not tried again; another one is.
    daemon.deliver(offer(&stable, Some(TRAP), on("n1")));
    let status = daemon.wait_for_status(|status| status.accepted == 3);
    assert_eq!(status.track, Some(Track::Stable));
    daemon.deliver(offer(&stable, Some(&built_in("round-robin")), on("n1")));
    daemon.wait_for(RoundRobin);
}

#[test]
fn a_policy_or_all_of_them_can_be_switched_off() {
    let daemon = started();
    let mine = built_in("round-robin");
    daemon.deliver(artifact("mine", mine.clone()));
    daemon.wait_for(RoundRobin);
    daemon.deliver(offer(&mine, None, Rollout { off: true, ..Rollout::default() }));
    daemon.wait_for(Random);
    assert_eq!(daemon.wait_for_status(|status| status.last == State::Off).digest, "");
    daemon.deliver(artifact("mine", mine.clone()));
    daemon.wait_for(RoundRobin);

    daemon.deliver(Delivery::Switch(true));
    daemon.wait_for(Random);
    assert!(daemon.metrics.encode().contains("weir_policies_off 1"));
    // What comes meanwhile waits.
    daemon.deliver(artifact("mine", stamped(&mine, 1)));
    daemon.deliver(artifact("other", mine.clone()));
    daemon.wait_for_status(|status| status.last == State::Off);
    let start = Instant::now();
    while !daemon.board.snapshot().contains_key("other") {
        assert!(start.elapsed() < crate::daemon::PATIENCE);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(daemon.spread.try_iter().all(|spread| spread == [Random]));
    // Once, before it came.
    let missing = r#"weir_policy_failures_total{policy="mine",reason="unknown-policy"} 1"#;
    assert!(daemon.metrics.encode().contains(missing), "{}", daemon.metrics.encode());
    daemon.deliver(Delivery::Switch(false));
    daemon.wait_for(RoundRobin);
    assert_eq!(daemon.wait_for_status(|status| status.last == State::Active).digest, digest(&stamped(&mine, 1)));
}

#[test]
fn by_configuration_no_policy_from_outside_is_even_looked_at() {
    let daemon = Daemon::start_with(1, false, weir::policies::compiler::Aside::Never);
    daemon.deliver(artifact("mine", built_in("round-robin")));
    daemon.deliver(artifact("other", b"nothing of the kind".to_vec()));
    daemon.deliver(Delivery::Listed);
    assert_eq!(daemon.spread.recv_timeout(crate::daemon::PATIENCE), Ok(vec![Random]));
    assert!(daemon.board.snapshot().values().all(|status| status.last == State::Off), "{:?}", daemon.board.snapshot());
    assert_eq!(daemon.board.snapshot().len(), 2);
}
