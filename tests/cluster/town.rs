use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, Receiver};
use weir_model::Event;
use weir_source::Selection;
use weir_source::kubernetes::{Access, Options, SourceHealth, Timing, watch};
use weir_testbed::{Call, Failure, Host, Layout, Listen, Node, Probe, Server, Tally};
use weir_tests::api_server::{ApiServer, Cluster, Kubeconfig};

use crate::daemon::Daemon;

/// How long anything may take: a sync is done within milliseconds, the API server is found back within seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The Service every test has.
pub(crate) const WEB: &str = "10.96.0.10:80";
/// Where the API server listens: outside of the node.
const API_PORT: u16 = 6443;
/// The same by TLS.
const TLS_PORT: u16 = 6444;
const BACKEND_PORT: u16 = 8080;
const NODE: &str = "node";
/// Connections per second of a probe.
const RATE: u32 = 100;
/// A probe's patience. Less than the second after which a lost SYN is sent again, so that one counts as a failure.
const PROBE_PATIENCE: Duration = Duration::from_millis(900);

/// A node with a daemon, a cluster with an API server.
pub(crate) struct Town {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) node: Node,
    pub(crate) kubeconfig: Kubeconfig,
    server: Option<ApiServer>,
    daemon: Option<Daemon>,
    _backends: Vec<Server>,
}

impl Town {
    /// Everything up, and `web` reachable.
    pub(crate) fn up() -> Self {
        let node = Node::up(&Layout::default()).unwrap();
        let backends = node.pods().iter().filter(|pod| pod.name() != "client");
        let backends = backends.map(|pod| Server::start(pod, Listen::Greeting(BACKEND_PORT)).unwrap()).collect();
        let cluster = Cluster::new();
        cluster.apply([
            json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": NODE}, "spec": {}}),
            json!({"kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "kubernetes"},
                "spec": {"cidrs": ["10.96.0.0/16"]}}),
            service("web", "10.96.0.10"),
            slice("web", &[1, 2]),
        ]);
        let server = serve(&cluster, node.outside());
        let kubeconfig = server.kubeconfig(None).unwrap();
        let daemon = Some(Daemon::start(node.kernel(), "--kubeconfig", kubeconfig.path(), NODE));
        let town = Self { cluster, node, kubeconfig, server: Some(server), daemon, _backends: backends };
        town.reaches(WEB, &["backend-1", "backend-2"]);
        town
    }

    /// Ends the API server; every connection to it is cut.
    pub(crate) fn stop_api_server(&mut self) {
        self.server.take().unwrap().stop();
    }

    /// Starts it again where it was.
    pub(crate) fn start_api_server(&mut self) {
        self.server = Some(serve(&self.cluster, self.node.outside()));
    }

    /// Ends the daemon.
    pub(crate) fn end_daemon(&mut self, signal: Signal) {
        self.daemon.take().unwrap().end(signal);
    }

    /// Starts one that follows a directory instead of the cluster.
    pub(crate) fn start_daemon_on_files(&mut self, directory: &Path) {
        self.daemon = Some(Daemon::start(self.node.kernel(), "--manifests", directory, NODE));
    }

    /// Starts one with the service account of a pod and no flags, and gives it an API server by TLS that wants `token`.
    pub(crate) fn start_daemon_as_pod(&mut self, account: &Path, token: &str) {
        let address = SocketAddr::new(self.node.outside().v4().into(), TLS_PORT);
        let listener = self.node.outside().run(|| TcpListener::bind(address)).unwrap();
        let server = ApiServer::listen_tls(&self.cluster, listener).unwrap();
        self.cluster.fault(|faults| faults.token = Some(token.to_owned()));
        for (file, text) in [("token", token), ("namespace", "weir-system"), ("ca.crt", server.certificate().unwrap())]
        {
            std::fs::write(account.join(file), text).unwrap();
        }
        self.server = Some(server);
        self.daemon = Some(Daemon::start_as_pod(self.node.kernel(), account, address, NODE));
    }

    /// Starts one that is told no more than where the API server is.
    pub(crate) fn start_daemon_by_master(&mut self) {
        let url = self.server.as_ref().unwrap().url();
        self.daemon = Some(Daemon::start(self.node.kernel(), "--master", Path::new(&url), NODE));
    }

    /// From the next start on the daemon shows the token in this file.
    pub(crate) fn use_token(&mut self, file: &Path) {
        self.kubeconfig = self.server.as_ref().unwrap().kubeconfig(Some(file)).unwrap();
    }

    /// Sends the daemon `signal`.
    pub(crate) fn signal(&self, signal: Signal) {
        self.daemon.as_ref().unwrap().signal(signal);
    }

    /// Starts another one.
    pub(crate) fn start_daemon(&mut self) {
        self.daemon = Some(Daemon::start(self.node.kernel(), "--kubeconfig", self.kubeconfig.path(), NODE));
    }

    /// What the daemon said so far.
    pub(crate) fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// Waits until the daemon has said all of these words in one line.
    pub(crate) fn says(&self, words: &[&str]) {
        let start = Instant::now();
        while !self.log().lines().any(|line| words.iter().all(|word| line.contains(word))) {
            assert!(start.elapsed() < PATIENCE, "never told {words:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A source of its own beside the daemon's, on the node.
    pub(crate) fn follow(&self, timing: Timing) -> (Runtime, Receiver<Event>) {
        let (sender, events) = mpsc::channel(1024);
        let (config_maps, _) = mpsc::channel(1);
        let selection = Selection { node: NODE.to_owned(), ..Selection::default() };
        let options =
            Options { selection, namespace: "weir-system".to_owned(), timing, health: SourceHealth::default() };
        let access = Access { kubeconfig: Some(self.kubeconfig.path().to_owned()), server: None };
        // Its threads, and with them its sockets, are the node's.
        let runtime = self.node.kernel().run(|| Builder::new_multi_thread().worker_threads(1).enable_all().build());
        let runtime = runtime.unwrap();
        runtime.spawn(watch(access, options, sender, config_maps));
        (runtime, events)
    }

    /// Drops every packet of the connections the node has to the API server now.
    pub(crate) fn drop_api_connections(&self) {
        let sockets = self.node.kernel().run(|| std::fs::read_to_string("/proc/thread-self/net/tcp")).unwrap();
        let api = format!(":{API_PORT:04X}");
        let ports: Vec<String> = sockets
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace().skip(1);
                let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
                let (_, port) = local.split_once(':')?;
                // 01: established.
                let port = u16::from_str_radix(port, 16).ok()?;
                (remote.ends_with(&api) && state == "01").then(|| port.to_string())
            })
            .collect();
        assert!(ports.len() >= 10, "a daemon and a source with five watches each: {sockets}");
        let ports = ports.join(", ");
        let rules = format!(
            "table ip broken {{\n\
             chain out {{ type filter hook output priority 0; tcp dport {API_PORT} tcp sport {{ {ports} }} drop; }}\n\
             chain in {{ type filter hook input priority 0; tcp sport {API_PORT} tcp dport {{ {ports} }} drop; }}\n}}\n"
        );
        self.node.kernel().command_with_input("nft", &["-f", "-"], &rules).unwrap();
    }

    /// New connections to `web` from now on, from a pod.
    pub(crate) fn probe(&self) -> Probe {
        self.probe_of(WEB)
    }

    /// The same to another address and port.
    pub(crate) fn probe_of(&self, text: &str) -> Probe {
        Probe::connections(self.client(), Call::tcp(target(text)).within(PROBE_PATIENCE), RATE)
    }

    /// Waits until connections to `text` are answered by exactly these backends.
    pub(crate) fn reaches(&self, text: &str, backends: &[&str]) {
        self.eventually(text, |tally| tally.failed() == 0 && tally.answers.keys().eq(backends));
    }

    /// Waits until connections to `text` fail, each in that way.
    pub(crate) fn fails(&self, text: &str, how: &Failure) {
        self.eventually(text, |tally| tally.answered() == 0 && tally.failures.keys().eq([how]));
    }

    fn eventually(&self, text: &str, holds: impl Fn(&Tally) -> bool) {
        let start = Instant::now();
        loop {
            // That none of three backends gets any of 60 connections happens once in 10^10 times.
            let call = Call::tcp(target(text)).within(Duration::from_millis(100));
            let first = Tally::repeat(self.client(), 1, call);
            let tally = if first.failed() == 0 { Tally::repeat(self.client(), 60, call) } else { first };
            if holds(&tally) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{text}: {tally:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn client(&self) -> &Host {
        self.node.pod("client")
    }
}

/// Ends a probe, which must not have seen a failure. Returns how many connections it made.
pub(crate) fn assert_unharmed(probe: Probe) -> u64 {
    let report = probe.stop();
    assert_eq!(report.tally.failed(), 0, "{:?}", report.failures());
    assert!(report.tally.answered() >= 10, "the probe did not run: {} answers", report.tally.answered());
    report.tally.answered()
}

fn serve(cluster: &Arc<Cluster>, host: &Host) -> ApiServer {
    let address = SocketAddr::new(host.v4().into(), API_PORT);
    let start = Instant::now();
    loop {
        match host.run(|| TcpListener::bind(address)) {
            Ok(listener) => return ApiServer::listen(cluster, listener).unwrap(),
            // The last one's listener may need a moment to go.
            Err(error) => assert!(start.elapsed() < PATIENCE, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn target(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A Service on port 80.
pub(crate) fn service(name: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
            "ports": [{"port": 80, "protocol": "TCP"}]}})
}

/// Its slice, with those backends of the testbed.
pub(crate) fn slice(service: &str, backends: &[u8]) -> Value {
    let endpoint = |number: &u8| {
        let address = if *number == 3 { "10.244.1.13".to_owned() } else { format!("10.244.0.1{number}") };
        json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": NODE})
    };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"port": BACKEND_PORT, "protocol": "TCP"}],
        "endpoints": backends.iter().map(endpoint).collect::<Vec<_>>()})
}
