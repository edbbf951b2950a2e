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
use weir::policies::compiler::{Aside, Compiler};
use weir::policies::{Board, Deliveries, Delivery, Loading, Policies, State, Status};
use weir::runner::{LEAST_INTERVAL, Runner};
use weir::serve::Inspector;
use weir_model::{
    EndpointSpec, Event, Family, IndexFunction, NodeIdentity, ObjectKey, Protocol, ServicePortSpec, ServiceSpec,
    SlicePort, SliceSpec, Store,
};
use weir_nft::Installed;
use weir_nft::sim::Memory;
use weir_plan::NodeFacts;
use weir_policy::{Artifact, BUILT_IN, Catalog, Decider, Engine, Limits};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn built_in(name: &str) -> Vec<u8> {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).expect("built in").1.to_vec()
}

pub(crate) fn artifact(name: &str, component: Vec<u8>) -> Delivery {
    Delivery::Set(Artifact { name: name.to_owned(), component, ..Artifact::default() }.into())
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
pub(crate) struct Daemon {
    pub(crate) events: tokio::sync::mpsc::Sender<Event>,
    pub(crate) deliveries: Deliveries,
    pub(crate) spread: Receiver<Vec<IndexFunction>>,
    pub(crate) board: Board,
    pub(crate) metrics: Arc<Metrics>,
}

impl Daemon {
    /// One whose Services, all of which ask for `mine`, are told at once; `sources` of policies are awaited.
    pub(crate) fn start(sources: usize) -> Self {
        Self::start_with(sources, true, Aside::Never)
    }

    /// One that uses policies from outside or not, and compiles large ones there.
    pub(crate) fn start_with(sources: usize, enabled: bool, aside: Aside) -> Self {
        let engine = Engine::new(Limits::default()).expect("an engine");
        let catalog = Catalog::awaiting(&engine, "kubernetes", "random").expect("the built-in policies");
        let compiler = Compiler::new(engine, None, aside);
        let loading = Loading { compiler, node: "n1".to_owned(), enabled };
        let (policies, deliveries) = Policies::start(loading, sources).expect("a thread");
        let metrics = Arc::new(Metrics::new(Sources::default(), false));
        let counted = metrics.clone();
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
                let inspector = Inspector::unasked();
                let least_interval = LEAST_INTERVAL;
                let loads = Arc::default();
                let runner = Runner {
                    least_interval,
                    surroundings,
                    policies,
                    notices,
                    followers,
                    loads,
                    health,
                    metrics,
                    inspector,
                };
                runner.run(&mut pipeline, received, std::future::pending()).await;
            });
        });
        let daemon = Self { events, deliveries, spread, board, metrics: counted };
        daemon.events.blocking_send(cluster()).expect("the loop runs");
        daemon
    }

    pub(crate) fn deliver(&self, delivery: Delivery) {
        self.deliveries.send(delivery).expect("the loader runs");
    }

    /// Waits until connections spread that way.
    pub(crate) fn wait_for(&self, expected: IndexFunction) {
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let seen = self.spread.recv_timeout(left).unwrap_or_else(|_| panic!("never spread by {expected:?}"));
            if seen == [expected] {
                return;
            }
        }
    }

    /// Waits until the status of `mine` is as `holds` says.
    pub(crate) fn wait_for_status(&self, holds: impl Fn(&Status) -> bool) -> Status {
        let start = Instant::now();
        loop {
            let status = self.board.snapshot().remove("mine");
            if let Some(status) = status.clone().filter(|status| holds(status)) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{status:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the last delivery of `name` ended in that way.
    pub(crate) fn wait_for_refusal(&self, name: &str) -> (String, String) {
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

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// A Service with two endpoints that asks for the policy `mine`.
pub(crate) fn cluster() -> Event {
    let endpoint = |n: u8| EndpointSpec::ready([10, 1, 0, n].into());
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

/// The Service of [`cluster`], which asks for `mine` with those settings and, so that it is asked about again, has
/// changed in something else.
pub(crate) fn asking(settings: &str, number: u16) -> Event {
    let Event::Replace { mut services, .. } = cluster() else { panic!("a whole cluster") };
    let mut web = services.remove(0);
    web.policy_settings = Some(settings.to_owned());
    web.ports[0].port = 1000 + number;
    Event::Service(web)
}

/// The same component with another digest: it carries `number` in a custom section.
pub(crate) fn stamped(component: &[u8], number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    // Section 0, its size, the length of its name, the name, and two bytes.
    [component, &[0, 8, 5, b's', b't', b'a', b'm', b'p', high, low]].concat()
}
