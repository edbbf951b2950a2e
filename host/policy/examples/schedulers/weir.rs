//! Weir's schedulers: the built-in policies in the policy host, as on a node, with made-up counters.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use weir_model::{
    EndpointSpec, Event, Family, IndexFunction, Load, Loads, NodeIdentity, ObjectKey, Protocol, ServicePortSpec,
    ServiceSpec, SlicePort, SliceSpec, Store,
};
use weir_policy::{Catalog, Decider, Engine, Limits};

use crate::ipvs::hash;
use crate::simulation::Scheduler;

/// One catalog for all, so that each policy is compiled once.
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let engine = Engine::new(Limits::default()).expect("an engine");
    Catalog::new(&engine, "kubernetes", "random").expect("the built-in policies")
});

/// Seconds that count for the rate of connections, as on a node.
const RATE_WINDOW: f64 = 30.0;

/// The load of each backend.
#[derive(Default)]
struct Counted(Mutex<BTreeMap<IpAddr, Load>>);

impl Loads for Counted {
    fn load(&self, _: Protocol, address: IpAddr, _: u16) -> Load {
        self.0.lock().expect("no one panicked").get(&address).copied().unwrap_or_default()
    }
}

/// A node: what it knows, and the ring that is in force.
pub(crate) struct Weir {
    store: Store,
    decider: Decider,
    counted: Arc<Counted>,
    start: Instant,
    weights: Vec<u32>,
    there: Vec<bool>,
    /// Connections by backend at past looks, the oldest first.
    past: VecDeque<(f64, Vec<u32>)>,
    index: IndexFunction,
    /// Backends by slot.
    ring: Vec<usize>,
    turn: usize,
}

fn key() -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: "web".to_owned() }
}

/// Backend `at`; several hundred have an address each.
fn address(at: usize) -> IpAddr {
    let [.., high, low] = u32::try_from(at).expect("few").to_be_bytes();
    Ipv4Addr::new(10, 245, high, low).into()
}

impl Weir {
    /// Node number `node`, with a Service of that policy and those settings (empty for none).
    pub(crate) fn new(node: usize, policy: &str, settings: &str, weights: Vec<u32>) -> Self {
        let mut store = Store::new(NodeIdentity { name: format!("node-{node}"), zone: String::new() });
        store.apply(Event::Service(ServiceSpec {
            key: key(),
            cluster_ips: vec![[10, 96, 0, 10].into()],
            ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
            policy: Some(policy.to_owned()),
            policy_settings: Some(settings.to_owned()).filter(|settings| !settings.is_empty()),
            ..ServiceSpec::default()
        }));
        let counted = Arc::new(Counted::default());
        let mut decider = Decider::new(CATALOG.clone());
        decider.set_loads(counted.clone());
        let (there, past, ring) = (Vec::new(), VecDeque::new(), Vec::new());
        let (start, index) = (Instant::now(), IndexFunction::Random);
        Self { store, decider, counted, start, weights, there, past, index, ring, turn: 0 }
    }

    /// The backends by slot.
    pub(crate) fn ring(&self) -> &[usize] {
        &self.ring
    }

    fn set_endpoints(&mut self, there: &[bool]) {
        let endpoint = |at: usize| EndpointSpec { weight: self.weights[at], ..EndpointSpec::ready(address(at)) };
        self.store.apply(Event::Slice(SliceSpec {
            key: key(),
            service: key(),
            family: Family::V4,
            ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
            endpoints: (0..there.len()).filter(|at| there[*at]).map(endpoint).collect(),
            triggered: None,
        }));
        self.there = there.to_vec();
    }

    fn set_loads(&mut self, now: f64, active: &[u32], begun: &[u32]) {
        self.past.push_back((now, begun.to_vec()));
        while self.past.front().is_some_and(|(then, _)| *then < now - RATE_WINDOW) {
            self.past.pop_front();
        }
        let (_, before) = self.past.front().expect("this look at least");
        let load = |at: usize| {
            let per_minute = f64::from(begun[at] - before[at]) * 60.0 / RATE_WINDOW;
            Load { active: active[at], begun: begun[at], per_minute: per_minute as u32 }
        };
        *self.counted.0.lock().expect("no one panicked") =
            (0..active.len()).map(|at| (address(at), load(at))).collect();
    }
}

impl Scheduler for Weir {
    fn pick(&mut self, client: u32, _: &[u32], _: &[bool], rng: &mut Rng) -> usize {
        let slots = self.ring.len();
        let slot = match self.index {
            IndexFunction::Random => rng.usize(..slots),
            IndexFunction::RoundRobin => {
                self.turn += 1;
                self.turn % slots
            }
            // The same hash of the client on every node; with its port, every connection is another.
            IndexFunction::SourceHash => (hash(u64::from(client)) % slots as u64) as usize,
            IndexFunction::FlowHash => (hash(rng.u64(..)) % slots as u64) as usize,
        };
        self.ring[slot]
    }

    fn look(&mut self, now: f64, active: &[u32], begun: &[u32], there: &[bool]) {
        if self.there != there {
            self.set_endpoints(there);
        }
        self.set_loads(now, active, begun);
        let present = self.start + Duration::from_secs_f64(now);
        let mut services = self.store.take_dirty();
        services.extend(self.decider.take_due(present));
        services.sort_unstable();
        services.dedup();
        let decisions = self.decider.decide_at(present, &self.store, &services);
        assert!(decisions.failures.is_empty(), "{:?}", decisions.failures);
        let Some((_, decision)) = decisions.ports.last() else { return };
        let ring = decision.cluster.as_ref().expect("the backends are ready");
        let backend = |slot: &u16| {
            let wanted = decision.backends[usize::from(*slot)].address;
            (0..there.len()).find(|at| address(*at) == wanted).expect("a backend")
        };
        self.ring = ring.slots.iter().map(backend).collect();
        self.index = ring.index;
    }
}
