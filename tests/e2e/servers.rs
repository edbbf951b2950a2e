//! Servers and clients that other people wrote, behind the Services of `examples/`: nginx asked by curl, dnsmasq asked
//! over UDP and TCP.

mod dnsmasq;
mod nginx;
mod program;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use weir_testbed::{Host, Layout};
use weir_tests::trials::trial;

use self::dnsmasq::{Dnsmasq, Question};
use self::nginx::{Certificate, Nginx};
use crate::cluster::{Cluster, Directory, socket};
use crate::objects::{Object, Pod};

/// Connections to tell who serves. That one of three backends gets none of them happens once in 10⁶ times.
const CONNECTIONS: usize = 36;
/// How long a client may wait for the new pod, each question of which is given up after a while. The stale flow ends
/// within milliseconds; the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the tests run, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 4] =
    [("nginx", "nginx-light"), ("dnsmasq", "dnsmasq-base"), ("openssl", "openssl"), ("curl", "curl")];

/// The trials of this module. Without one of [`PROGRAMS`] there are none and the reason is told loudly; with
/// `REQUIRE_NETNS=1` the process ends with an error instead, as it does without namespaces.
pub(crate) fn trials() -> Vec<Trial> {
    if let Some((program, package)) = PROGRAMS.into_iter().find(|(name, _)| program::find(name).is_none()) {
        let reason = format!("{program} is not installed; `make setup-tests` does that (Debian's package {package})");
        if std::env::var("REQUIRE_NETNS").is_ok_and(|value| value == "1") {
            eprintln!("e2e: FAILED, REQUIRE_NETNS=1 is set: {reason}");
            std::process::exit(1);
        }
        eprintln!("\n*** e2e: REAL SERVERS SKIPPED: {reason}\n*** REQUIRE_NETNS=1 turns this into a failure.\n");
        return Vec::new();
    }
    let tests: [(&str, fn()); 5] = [
        ("nginx_through_a_cluster_ip", nginx_through_a_cluster_ip),
        ("nginx_through_node_ports", nginx_through_node_ports),
        ("nginx_through_a_load_balancer_sees_its_clients", nginx_through_a_load_balancer_sees_its_clients),
        ("dns_by_udp_and_tcp", dns_by_udp_and_tcp),
        ("dns_while_its_pod_is_replaced", dns_while_its_pod_is_replaced),
    ];
    tests.map(|(name, test)| trial(&format!("servers::{name}"), test)).into()
}

/// A cluster whose three backends run nginx.
struct WebCluster {
    cluster: Cluster,
    certificate: Certificate,
    servers: Vec<Nginx>,
}

impl WebCluster {
    fn with_example(file: &str) -> Self {
        let mut cluster = Cluster::up();
        cluster.put_example(file);
        let certificate = Certificate::of("my-nginx");
        let backends = ["backend-1", "backend-2", "backend-3"].map(|name| cluster.host(name));
        let servers = backends.iter().map(|pod| Nginx::start(pod, &certificate)).collect();
        Self { cluster, certificate, servers }
    }

    /// Asks for the page from that host, by http or https, each time on a connection of its own. Checks that these
    /// backends answer, and that in their logs all requests come from `client`.
    fn serves(&mut self, from: &str, scheme: &str, target: SocketAddr, backends: &[&str], client: IpAddr) {
        let host = self.cluster.host(from);
        // A mark by which the logs tell these requests from others.
        let mark = format!("{from}-{scheme}-{}", target.port());
        let bodies = self.fetch(&host, scheme, "my-nginx", target, &mark).unwrap();
        let lines: Vec<&str> = bodies.lines().collect();
        assert_eq!(lines.len(), CONNECTIONS, "{bodies}");
        let seen: BTreeSet<&str> = lines.iter().copied().collect();
        assert_eq!(seen, backends.iter().copied().collect(), "{mark}");
        for server in &self.servers {
            let expected = lines.iter().filter(|line| **line == server.name()).count();
            let requests = server.requests(&mark, expected);
            let clients: BTreeSet<IpAddr> = requests.iter().map(|request| request.client).collect();
            let only: BTreeSet<IpAddr> = [client].into_iter().filter(|_| expected > 0).collect();
            assert_eq!(clients, only, "{mark} at {}", server.name());
            assert!(requests.iter().all(|request| request.scheme == scheme), "{requests:?}");
        }
    }

    /// What curl gets when it asks for the host of that name at that address. The name must be the certificate's.
    fn fetch(&self, from: &Host, scheme: &str, name: &str, target: SocketAddr, mark: &str) -> anyhow::Result<String> {
        let (address, port) = (target.ip(), target.port());
        let arguments = [
            "--disable".to_owned(), // no .curlrc, which must be the first word
            "--noproxy".to_owned(),
            "*".to_owned(),
            "--silent".to_owned(),
            "--show-error".to_owned(),
            "--fail".to_owned(),
            "--max-time".to_owned(),
            "10".to_owned(),
            "--cacert".to_owned(),
            self.certificate.path(),
            "--resolve".to_owned(),
            format!("{name}:{port}:{address}"),
            format!("{scheme}://{name}:{port}/{mark}?[1-{CONNECTIONS}]"),
        ];
        from.command("curl", &arguments)
    }
}

/// The Service of the Kubernetes tutorial, from a pod, which nginx sees as itself.
fn nginx_through_a_cluster_ip() {
    let mut web = WebCluster::with_example("my-nginx.yaml");
    let pod = web.cluster.host("client").v4().into();
    web.serves("client", "http", socket("10.0.162.149:80"), &["backend-1", "backend-3"], pod);
}

/// http on 8080 and https on 443 inside the cluster, on two node ports outside; from outside nginx sees the node.
fn nginx_through_node_ports() {
    let mut web = WebCluster::with_example("my-nginx-nodeport.yaml");
    let pod = web.cluster.host("client").v4().into();
    let node = Layout::NODE.v4.into();
    let backends = ["backend-1", "backend-3"];
    web.serves("client", "http", socket("10.0.162.150:8080"), &backends, pod);
    web.serves("client", "https", socket("10.0.162.150:443"), &backends, pod);
    web.serves("outside", "http", socket("192.168.0.2:31704"), &backends, node);
    web.serves("outside", "https", socket("192.168.0.2:32453"), &backends, node);
    // The certificate is checked: under another name nobody is answered.
    let outside = web.cluster.host("outside");
    let error = web.fetch(&outside, "https", "other", socket("192.168.0.2:32453"), "other").unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}

/// `externalTrafficPolicy: Local`: this node's pods, and their logs have the client's own address.
fn nginx_through_a_load_balancer_sees_its_clients() {
    let mut web = WebCluster::with_example("my-nginx-loadbalancer.yaml");
    let ports = json!([{"name": "https", "protocol": "TCP", "port": 443}]);
    let https = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": ports});
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.11"}]}}});
    web.cluster.apply(&Object::service("my-nginx-https", 10, https).patched(status), &Pod::ALL);
    let outside = web.cluster.host("outside").v4().into();
    let local = ["backend-1", "backend-2"];
    web.serves("outside", "http", socket("192.0.2.10:80"), &local, outside);
    web.serves("outside", "https", socket("192.0.2.11:443"), &local, outside);
    // For a pod it is a way into its own cluster: all pods serve, and see it.
    let pod = web.cluster.host("client").v4().into();
    web.serves("client", "https", socket("192.0.2.11:443"), &["backend-1", "backend-2", "backend-3"], pod);
}

/// Cluster DNS as in the example: one address and one port for both protocols.
fn dns_by_udp_and_tcp() {
    let mut cluster = Cluster::up();
    cluster.put_example("dns.yaml");
    let _servers = ["backend-1", "backend-3"].map(|name| Dnsmasq::start(&cluster.host(name)));
    let (client, server) = (cluster.host("client"), socket("10.0.0.10:53"));
    let both: BTreeSet<IpAddr> = ["backend-1", "backend-3"].map(|name| cluster.host(name).v4().into()).into();
    for question in [Question::by_udp(server), Question::by_tcp(server)] {
        let answers: BTreeSet<IpAddr> = (0..CONNECTIONS).map(|_| question.ask(&client).unwrap()).collect();
        assert_eq!(answers, both, "{question:?}");
    }
}

/// The only DNS pod goes and another takes its place. Whoever asks from a new port or on a new connection gets there,
/// and so does the client whose port has a conversation with the old pod: resolvers do ask from a fixed port.
fn dns_while_its_pod_is_replaced() {
    let ports: Value = json!([
        {"name": "dns", "protocol": "UDP", "port": 53},
        {"name": "dns-tcp", "protocol": "TCP", "port": 53},
    ]);
    let service = Object::service("dns", 10, json!({"ports": ports}));
    let mut cluster = Cluster::with(&service, &[Pod::ready("backend-1")]);
    let (client, server) = (cluster.host("client"), socket("10.96.0.10:53"));
    let [old_pod, new_pod] = ["backend-1", "backend-2"].map(|name| cluster.host(name));
    let (old, _new) = (Dnsmasq::start(&old_pod), Dnsmasq::start(&new_pod));
    let questions = |port: u16| [Question::by_udp(server).at_port(port), Question::by_tcp(server)];
    for question in questions(5353) {
        assert_eq!(question.ask(&client).unwrap(), old_pod.v4(), "{question:?}");
    }
    cluster.apply(&service, &[Pod::ready("backend-2")]);
    drop(old);
    for question in questions(5354) {
        assert_eq!(question.ask(&client).unwrap(), new_pod.v4(), "{question:?}");
    }
    let start = Instant::now();
    let [same_port, _] = questions(5353);
    let answer = loop {
        match same_port.ask(&client) {
            Ok(answer) => break answer,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{same_port:?} after {:?}: {error}", start.elapsed()),
        }
    };
    assert_eq!(answer, new_pod.v4(), "{same_port:?}");
}
