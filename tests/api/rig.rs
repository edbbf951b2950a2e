use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use weir_model::{Event, NodeIdentity, Store};
use weir_source::ConfigMapEvent;
use weir_source::Selection;
use weir_source::kubernetes::{Access, Options, SourceHealth, Timing, watch};
use weir_tests::api_server::{ApiServer, Cluster, Kubeconfig};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// What slices call this node.
pub(crate) const NODE: &str = "n1";
/// Where policies are looked for.
pub(crate) const NAMESPACE: &str = "weir-system";

/// A source that follows a server.
pub(crate) struct Rig {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) server: Option<ApiServer>,
    pub(crate) health: SourceHealth,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) config_maps: mpsc::Receiver<ConfigMapEvent>,
    /// Fed with every event that was taken.
    pub(crate) store: Store,
    _kubeconfig: Kubeconfig,
    // Dropped last: the source lives on it.
    _runtime: Runtime,
}

/// Deadlines a test can wait for.
pub(crate) fn quick() -> Timing {
    Timing {
        answer: Duration::from_millis(500),
        silence: Duration::from_secs(2),
        first_wait: Duration::from_millis(20),
        longest_wait_unreachable: Duration::from_millis(100),
        longest_wait_refused: Duration::from_millis(200),
        absent: Duration::from_millis(300),
        ..Timing::default()
    }
}

/// Who is asked for.
pub(crate) fn selection() -> Selection {
    Selection { node: NODE.to_owned(), ..Selection::default() }
}

impl Rig {
    /// A source on `cluster`.
    pub(crate) fn start(cluster: &Arc<Cluster>, timing: Timing) -> Self {
        Self::start_as(cluster, timing, selection(), None)
    }

    /// A source on `cluster` that takes what `selection` says and shows the token in `token_file`.
    pub(crate) fn start_as(
        cluster: &Arc<Cluster>,
        timing: Timing,
        selection: Selection,
        token_file: Option<&Path>,
    ) -> Self {
        let server = ApiServer::start(cluster).unwrap();
        Self::start_on(cluster, server, timing, selection, token_file)
    }

    /// The same on a server that is there.
    pub(crate) fn start_on(
        cluster: &Arc<Cluster>,
        server: ApiServer,
        timing: Timing,
        selection: Selection,
        token_file: Option<&Path>,
    ) -> Self {
        let kubeconfig = server.kubeconfig(token_file).unwrap();
        Self::start_by(cluster, server, kubeconfig, timing, selection)
    }

    /// The same by that kubeconfig.
    pub(crate) fn start_by(
        cluster: &Arc<Cluster>,
        server: ApiServer,
        kubeconfig: Kubeconfig,
        timing: Timing,
        selection: Selection,
    ) -> Self {
        let access = Access { kubeconfig: Some(kubeconfig.path().to_owned()), server: None };
        let health = SourceHealth::default();
        let node = NodeIdentity { name: selection.node.clone(), ..NodeIdentity::default() };
        let options = Options { selection, namespace: NAMESPACE.to_owned(), timing, health: health.clone() };
        let (sender, events) = mpsc::channel(1024);
        let (config_sender, config_maps) = mpsc::channel(1024);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(watch(access, options, sender, config_sender));
        Self {
            cluster: cluster.clone(),
            server: Some(server),
            health,
            events,
            config_maps,
            store: Store::new(node),
            _kubeconfig: kubeconfig,
            _runtime: runtime,
        }
    }

    /// The next event, which also goes to the store.
    pub(crate) fn event(&mut self) -> Event {
        let start = Instant::now();
        loop {
            if let Ok(event) = self.events.try_recv() {
                self.store.apply(event.clone());
                return event;
            }
            assert!(start.elapsed() < PATIENCE, "no event comes; asked: {:#?}", self.cluster.asked());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The next event about the ConfigMaps.
    pub(crate) fn config_map(&mut self) -> ConfigMapEvent {
        let start = Instant::now();
        loop {
            if let Ok(event) = self.config_maps.try_recv() {
                return event;
            }
            assert!(start.elapsed() < PATIENCE, "no ConfigMap comes; asked: {:#?}", self.cluster.asked());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes what has come, and tells whether all is there.
    pub(crate) fn is_listed(&mut self) -> bool {
        while let Ok(event) = self.events.try_recv() {
            self.store.apply(event);
        }
        self.store.is_listed()
    }

    /// Takes events until the store has been listed.
    pub(crate) fn listed(&mut self) {
        while !self.store.is_listed() {
            self.event();
        }
    }

    /// Takes events until the store holds exactly these Services (all in `default`) with these endpoints.
    pub(crate) fn converges_on(&mut self, expected: &[(&str, &[&str])]) {
        let expected: BTreeMap<String, BTreeSet<String>> = expected
            .iter()
            .map(|(name, addresses)| ((*name).to_owned(), addresses.iter().map(|one| (*one).to_owned()).collect()))
            .collect();
        let start = Instant::now();
        while self.services() != expected || !self.store.is_listed() {
            match self.events.try_recv() {
                Ok(event) => self.store.apply(event),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
            let seen = self.services();
            assert!(start.elapsed() < PATIENCE, "still {seen:?}, not {expected:?}; {:#?}", self.cluster.asked());
        }
    }

    /// Waits until `holds` says so.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Cluster) -> bool) {
        let start = Instant::now();
        while !holds(&self.cluster) {
            assert!(start.elapsed() < PATIENCE, "never: {what}; asked: {:#?}", self.cluster.asked());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until every kind is watched.
    pub(crate) fn watched(&self) {
        self.until("every kind is watched", |cluster| cluster.watches() >= 5);
    }

    /// How often a verb was used on a resource.
    pub(crate) fn count(&self, verb: &str, resource: &str) -> usize {
        self.cluster.asked().iter().filter(|asked| (asked.verb, asked.resource.as_str()) == (verb, resource)).count()
    }

    /// The Services of the namespace `default` and their endpoints.
    fn services(&self) -> BTreeMap<String, BTreeSet<String>> {
        let ids = self.store.service_ids();
        ids.filter_map(|id| {
            let name = self.store.service(id)?.key.name.clone();
            let endpoints = self.store.ports(id).into_iter().flat_map(|port| port.endpoints);
            Some((name, endpoints.map(|endpoint| endpoint.address.to_string()).collect()))
        })
        .collect()
    }
}

/// A Service on port 80.
pub(crate) fn service(name: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
            "ports": [{"port": 80, "protocol": "TCP"}]}})
}

/// The only slice of that Service.
pub(crate) fn slice(service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": NODE}))
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"port": 8080, "protocol": "TCP"}], "endpoints": endpoints})
}

/// This node.
pub(crate) fn node(zone: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDRs": ["10.244.0.0/24"]}})
}

/// A cluster with `web`, one endpoint, and this node.
pub(crate) fn cluster() -> Arc<Cluster> {
    let cluster = Cluster::new();
    cluster.apply([service("web", "10.0.0.1"), slice("web", &["10.1.0.1"]), node("eu-1a")]);
    cluster
}
