use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use weir::policies::{Delivery, State, directory};
use weir_model::IndexFunction::{Random, RoundRobin};
use weir_policy::Artifact;

use crate::daemon::{Daemon, PATIENCE, artifact, built_in};

/// A Service that asks for a policy must not be given another one at start, only because the policy takes a second to
/// compile.
#[test]
fn nothing_is_decided_before_every_policy_is_there() {
    let daemon = Daemon::start(2);
    daemon.deliver(Delivery::Listed);
    daemon.deliver(artifact("mine", built_in("round-robin")));
    assert!(daemon.spread.recv_timeout(Duration::from_millis(300)).is_err(), "one source has not told all yet");
    daemon.deliver(Delivery::Listed);
    assert_eq!(daemon.spread.recv_timeout(PATIENCE), Ok(vec![RoundRobin]), "the first sync has it right");
}

#[test]
fn versions_are_swapped_live_and_bad_ones_change_nothing() {
    let daemon = Daemon::start(1);
    daemon.deliver(Delivery::Listed);
    daemon.wait_for(Random);
    daemon.deliver(artifact("mine", built_in("round-robin")));
    daemon.wait_for(RoundRobin);

    daemon.deliver(artifact("mine", b"not a component".to_vec()));
    let (reason, _) = daemon.wait_for_refusal("mine");
    assert_eq!(reason, "compile");
    let settings = r#"{"by-planet": {}}"#.to_owned();
    let component = built_in("weighted");
    let changed = Artifact { name: "mine".to_owned(), component, settings, ..Artifact::default() };
    daemon.deliver(Delivery::Set(changed.into()));
    let start = Instant::now();
    while daemon.board.snapshot()["mine"].refused < 2 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = daemon.board.snapshot().remove("mine").expect("known");
    assert!(matches!(&status.last, State::Refused { message, .. } if message.contains("by-planet")), "{status:?}");
    assert_eq!(
        status.digest,
        weir_policy::Digest::of(&built_in("round-robin")).to_string(),
        "the good one still decides"
    );
    let last = daemon.spread.try_iter().last();
    assert!(last.is_none_or(|spread| spread == [RoundRobin]));

    daemon.deliver(artifact("mine", built_in("random")));
    daemon.wait_for(Random);
    daemon.deliver(artifact("mine", built_in("round-robin")));
    daemon.wait_for(RoundRobin);
    daemon.deliver(Delivery::Gone("mine".to_owned()));
    daemon.wait_for(Random);
    assert!(daemon.board.snapshot().is_empty());
}

/// A directory that vanishes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-policies-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_directory_is_read_like_mounted_config_maps() {
    let policies = Directory::new("read");
    policies.put("plain.wasm", b"component");
    policies.put("mounted/policy.wasm", b"component");
    policies.put("mounted/settings", b"{\"a\": 1}\n");
    policies.put("mounted/fail-strategy", b"random");
    policies.put("mounted/..data/policy.wasm", b"hidden");
    policies.put("broken/settings", b"{}");
    policies.put(".hidden/policy.wasm", b"hidden");
    policies.put("README.md", b"not a policy");
    policies.put("weir-policies-off", b"");
    let mut told: Vec<String> = directory::read(&policies.0)
        .expect("readable")
        .into_iter()
        .map(|delivery| match delivery {
            Delivery::Set(offer) => {
                let Artifact { name, settings, fail_strategy, .. } = offer.artifact;
                format!("{name} {settings:?} {fail_strategy:?}")
            }
            Delivery::Bad { name, why } => format!("{name} bad: {why}"),
            other => format!("{other:?}"),
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "Switch(true)",
            "broken bad: binaryData: holds no component; one entry such as policy.wasm is needed",
            r#"mounted "{\"a\": 1}" "random""#,
            r#"plain "" """#,
        ]
    );
}

#[test]
fn a_directory_is_followed() {
    let policies = Directory::new("follow");
    policies.put("mine.wasm", &built_in("round-robin"));
    let daemon = Daemon::start(1);
    directory::watch(policies.0.clone(), daemon.deliveries.clone()).expect("a thread");
    assert_eq!(daemon.spread.recv_timeout(PATIENCE), Ok(vec![RoundRobin]));
    policies.put("mine.wasm", &built_in("random"));
    daemon.wait_for(Random);
    fs::remove_file(policies.0.join("mine.wasm")).expect("removed");
    policies.put("mine/policy.wasm", &built_in("round-robin"));
    daemon.wait_for(RoundRobin);
}
