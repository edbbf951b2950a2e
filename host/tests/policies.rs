//! Policies that come, change and go while the daemon runs: from ConfigMaps and from a directory.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use weir::config::Config;
use weir::follow::{Follower, Synced};
use weir::health::ProxyHealth;
use weir::metrics::{Metrics, Sources};
use weir::node::Surroundings;
use weir::notices::Notices;
use weir::pipeline::Pipeline;
use weir::policies::{Board, Deliveries, Delivery, Policies, State, directory};
use weir::runner::{LEAST_INTERVAL, Runner};
use weir::serve::Inspector;
use weir_model::{
    Conditions, EndpointSpec, Event, Family, IndexFunction, NodeIdentity, ObjectKey, Protocol, ServicePortSpec,
    ServiceSpec, SlicePort, SliceSpec, Store,
};
use weir_nft::Installed;
use weir_nft::sim::Memory;
use weir_plan::NodeFacts;
use weir_policy::{Artifact, BUILT_IN, Catalog, Decider, Engine, Limits};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn built_in(name: &str) -> Vec<u8> {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).expect("built in").1.to_vec()
}

fn artifact(name: &str, component: Vec<u8>) -> Delivery {
    Delivery::Set(Artifact { name: name.to_owned(), component, ..Artifact::default() })
}

/// Tells how the connections of each programmed port spread, after each sync.
struct Spy(Sender<Vec<IndexFunction>>);

impl Follower for Spy {
    fn synced(&mut self, synced: &Synced<'_>) {
        let spread = synced.installed.plans().filter_map(|plan| plan.cluster.as_ref().map(|ring| ring.index));
        // The test may be over.
        let _ = self.0.send(spread.collect());
    }
}

/// A daemon's loop on a thread of its own, over a kernel in memory.
struct Daemon {
    events: tokio::sync::mpsc::Sender<Event>,
    deliveries: Deliveries,
    spread: Receiver<Vec<IndexFunction>>,
    board: Board,
}

impl Daemon {
    /// One whose Services, all of which ask for `mine`, are told at once; `sources` of policies are awaited.
    fn start(sources: usize) -> Self {
        let engine = Engine::new(Limits::default()).expect("an engine");
        let catalog = Catalog::awaiting(&engine, "kubernetes", "random").expect("the built-in policies");
        let (policies, deliveries) = Policies::start(engine, sources).expect("a thread");
        let board = policies.board.clone();
        let (spy, spread) = channel();
        let (events, received) = tokio::sync::mpsc::channel(16);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let store = Store::new(NodeIdentity { name: "n1".to_owned(), zone: String::new() });
                let installed = Installed::new(NodeFacts::default());
                let mut pipeline = Pipeline::new(store, Decider::new(catalog), installed, Memory::default());
                let surroundings = Surroundings::open(Config::default()).expect("this machine's addresses");
                let (followers, health) = (vec![Box::new(Spy(spy)) as Box<dyn Follower>], ProxyHealth::default());
                let notices = Notices::nowhere();
                let metrics = Arc::new(Metrics::new(Sources::default(), false));
                let inspector = Inspector::unasked();
                let least_interval = LEAST_INTERVAL;
                let runner = Runner {
                    least_interval,
                    surroundings,
                    policies,
                    notices,
                    followers,
                    loads: Arc::default(),
                    health,
                    metrics,
                    inspector,
                };
                runner.run(&mut pipeline, received, std::future::pending()).await;
            });
        });
        let daemon = Self { events, deliveries, spread, board };
        daemon.events.blocking_send(cluster()).expect("the loop runs");
        daemon
    }

    fn deliver(&self, delivery: Delivery) {
        self.deliveries.send(delivery).expect("the loader runs");
    }

    /// Waits until connections spread that way.
    fn wait_for(&self, expected: IndexFunction) {
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let seen = self.spread.recv_timeout(left).unwrap_or_else(|_| panic!("never spread by {expected:?}"));
            if seen == [expected] {
                return;
            }
        }
    }

    /// Waits until the last delivery of `name` ended in that way.
    fn wait_for_refusal(&self, name: &str) -> (String, String) {
        let start = Instant::now();
        loop {
            if let Some(State::Refused { reason, message }) =
                self.board.snapshot().remove(name).map(|status| status.last)
            {
                return (reason, message);
            }
            assert!(start.elapsed() < PATIENCE, "{name} was never refused: {:?}", self.board.snapshot());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

fn cluster() -> Event {
    let endpoint = |n: u8| EndpointSpec {
        address: [10, 1, 0, n].into(),
        node: None,
        zone: None,
        conditions: Conditions::ready(),
        hint_zones: Vec::new(),
        hint_nodes: Vec::new(),
        weight: 1,
        pod: None,
    };
    Event::Replace {
        services: vec![ServiceSpec {
            key: key("web"),
            cluster_ips: vec![[10, 0, 0, 1].into()],
            ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
            policy: Some("mine".to_owned()),
            ..ServiceSpec::default()
        }],
        slices: vec![SliceSpec {
            key: key("web-1"),
            service: key("web"),
            family: Family::V4,
            ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
            endpoints: vec![endpoint(1), endpoint(2)],
            triggered: None,
        }],
    }
}

use IndexFunction::{Random, RoundRobin};

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
    daemon.deliver(Delivery::Set(Artifact { name: "mine".to_owned(), component, settings, ..Artifact::default() }));
    let start = Instant::now();
    while daemon.board.snapshot()["mine"].refused < 2 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = daemon.board.snapshot().remove("mine").expect("known");
    assert!(matches!(&status.last, State::Refused { message, .. } if message.contains("default/web:80")), "{status:?}");
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
    let mut told: Vec<String> = directory::read(&policies.0)
        .expect("readable")
        .into_iter()
        .map(|delivery| match delivery {
            Delivery::Set(artifact) => {
                format!("{} {:?} {:?}", artifact.name, artifact.settings, artifact.fail_strategy)
            }
            Delivery::Bad { name, why } => format!("{name} bad: {why}"),
            other => format!("{other:?}"),
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
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
