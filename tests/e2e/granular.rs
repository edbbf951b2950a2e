//! "Granular Checks: Services": every path by every protocol in both IP families. What upstream calls http and tests with
//! HTTP requests is HTTP here as well; the IPv6 trials are those it repeats for the secondary IP family. SCTP is tested
//! where upstream does, and in two rows more.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use weir_model::Family;
use weir_testbed::{Call, Layout, Listen, Server, Transport};
use weir_tests::lab::{BACKEND_PORT, address_of};
use weir_tests::trials::trial;

use crate::cluster::{Cluster, clients};
use crate::objects::{Object, Pod};
use crate::{affinity, sctp};

const ALL: [&str; 3] = ["backend-1", "backend-2", "backend-3"];
/// Where pods serve HTTP.
const HTTP_PORT: u16 = 8083;
/// Where pods send back whatever they get.
const ECHO_PORT: u16 = 8084;
/// The node ports of the Service, and another one for each.
const NODE_PORTS: [u16; 2] = [30_080, 30_090];
/// Patience with large requests.
const PATIENCE: Duration = Duration::from_secs(5);

/// One column of the matrix.
#[derive(Clone, Copy)]
struct Way {
    family: Family,
    transport: Transport,
}

/// A test of one path, by name.
type Row<T> = (&'static str, fn(T));

/// The rows that exist for each way; those for SCTP come first.
const ROWS: [Row<Way>; 7] = [
    ("should_function_for_pod_service", pod_service),
    ("should_function_for_node_service", node_service),
    ("should_function_for_endpoint_service", endpoint_service),
    ("should_update_endpoints", update_endpoints),
    ("should_function_for_client_ip_based_session_affinity", client_ip_affinity),
    ("should_update_node_port", update_node_port),
    ("should_be_able_to_handle_large_requests", large_requests),
];
/// How many rows there are for SCTP. The others need a listening socket.
const SCTP_ROWS: usize = 5;

/// Every trial of the matrix, named `granular::FAMILY::ROW_PROTOCOL`.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
        for (transport, protocol, rows) in [
            (Transport::Http, "http", &ROWS[..]),
            (Transport::Udp, "udp", &ROWS),
            (Transport::Sctp, "sctp", &ROWS[..SCTP_ROWS]),
        ] {
            let way = Way { family, transport };
            trials.extend(rows.iter().map(|&(row, test)| {
                let trial = trial(&format!("granular::{name}::{row}_{protocol}"), move || test(way));
                if transport == Transport::Sctp { sctp::if_tracked(trial) } else { trial }
            }));
        }
        let shared: [Row<Family>; 2] = [
            ("should_function_for_multiple_endpoint_services_with_same_selector", same_selector),
            ("should_function_for_service_endpoints_using_host_network", host_network),
        ];
        trials.extend(shared.map(|(row, test)| trial(&format!("granular::{name}::{row}"), move || test(family))));
    }
    trials
}

impl Way {
    fn call(self, target: SocketAddr) -> Call {
        Call { transport: self.transport, ..Call::tcp(target) }
    }

    /// Through the ClusterIP of Service `number`.
    fn cluster_ip(self, number: u8) -> Call {
        let text = match self.family {
            Family::V4 => format!("10.96.0.{number}"),
            Family::V6 => format!("fd00:10:96::{number}"),
        };
        let port = match self.transport {
            Transport::Tcp | Transport::Http => 80,
            Transport::Udp => 90,
            Transport::Sctp => 95,
        };
        self.call(SocketAddr::new(text.parse().unwrap(), port))
    }

    /// Through a port of the node.
    fn node_port(self, number: u16) -> Call {
        let like: IpAddr = match self.family {
            Family::V4 => [0; 4].into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        self.call(SocketAddr::new(address_of(Layout::NODE, like), number))
    }
}

/// Service `number`: http on 80, UDP on 90 and SCTP on 95, all with this node port.
fn service(number: u8, node_port: u16) -> Object {
    let ports = json!([
        {"name": "http", "protocol": "TCP", "port": 80, "targetPort": HTTP_PORT, "nodePort": node_port},
        {"name": "udp", "protocol": "UDP", "port": 90, "targetPort": BACKEND_PORT, "nodePort": node_port},
        {"name": "sctp", "protocol": "SCTP", "port": 95, "targetPort": BACKEND_PORT, "nodePort": node_port},
    ]);
    Object::service(&format!("node-port-service-{number}"), number, json!({"type": "NodePort", "ports": ports}))
}

/// The cluster with the pods' HTTP and SCTP servers.
fn cluster(service: &Object, pods: &[Pod]) -> (Cluster, Vec<Server>) {
    let cluster = Cluster::with(service, pods);
    let listen = [Listen::Http(HTTP_PORT), Listen::Sctp(BACKEND_PORT)];
    let servers = ALL.iter().flat_map(|name| Server::start_all(&cluster.host(name), &listen).unwrap()).collect();
    (cluster, servers)
}

fn both(way: Way) -> [Call; 2] {
    [way.cluster_ip(10), way.node_port(NODE_PORTS[0])]
}

fn pod_service(way: Way) {
    let (mut cluster, _servers) = cluster(&service(10, NODE_PORTS[0]), &Pod::ALL);
    for call in both(way) {
        let tally = cluster.serves("client", call, &ALL);
        let own = cluster.host("client").address_towards(call.target.ip());
        let node = address_of(Layout::NODE, call.target.ip());
        // Through a node port a pod counts as a client from outside: kube-proxy masquerades it as well.
        let expected = if call == way.cluster_ip(10) { own } else { node };
        assert_eq!(clients(&tally), [expected].into(), "{call:?}");
    }
}

fn node_service(way: Way) {
    let (mut cluster, _servers) = cluster(&service(10, NODE_PORTS[0]), &Pod::ALL);
    for call in both(way) {
        cluster.serves("node", call, &ALL);
    }
}

/// A pod of the Service asks the Service, and gets others and itself.
fn endpoint_service(way: Way) {
    let (mut cluster, _servers) = cluster(&service(10, NODE_PORTS[0]), &Pod::ALL);
    for call in both(way) {
        cluster.serves("backend-1", call, &ALL);
        cluster.serves("backend-2", call, &ALL);
    }
}

fn update_endpoints(way: Way) {
    let (service, [first, second, third]) = (service(10, NODE_PORTS[0]), Pod::ALL);
    let (mut cluster, _servers) = cluster(&service, &Pod::ALL);
    let steps: [(&[Pod], &[&str]); 4] = [
        (&Pod::ALL, &ALL),
        (&[second, third], &["backend-2", "backend-3"]),
        (&[first], &["backend-1"]),
        (&[first, third], &["backend-1", "backend-3"]),
    ];
    for (pods, answering) in steps {
        cluster.apply(&service, pods);
        for call in both(way) {
            cluster.serves("client", call, answering);
        }
    }
}

/// The old node port is free, the new one serves, and so does the ClusterIP throughout.
fn update_node_port(way: Way) {
    let [old, new] = NODE_PORTS;
    let (mut cluster, _servers) = cluster(&service(10, old), &Pod::ALL);
    cluster.serves("outside", way.node_port(old), &ALL);
    cluster.apply(&service(10, new), &Pod::ALL);
    cluster.serves("outside", way.node_port(new), &ALL);
    cluster.nobody_listens("outside", way.node_port(old));
    // And away with it: the Service becomes a ClusterIP one.
    let ports: Vec<Value> =
        service(10, new).spec()["ports"].as_array().unwrap().iter().map(without_node_port).collect();
    cluster.put(&service(10, new).patched(json!({"spec": {"type": "ClusterIP", "ports": ports}})));
    cluster.nobody_listens("outside", way.node_port(new));
    cluster.serves("client", way.cluster_ip(10), &ALL);
}

fn without_node_port(port: &Value) -> Value {
    let mut port = port.clone();
    port.as_object_mut().unwrap().remove("nodePort");
    port
}

fn client_ip_affinity(way: Way) {
    let service = service(10, NODE_PORTS[0]).patched(json!({"spec": {"sessionAffinity": "ClientIP"}}));
    let (cluster, _servers) = cluster(&service, &Pod::ALL);
    affinity::stays(cluster, &service, "client", &[way.cluster_ip(10)]);
}

/// 64 kB by TCP; by UDP a datagram that just fits into a packet, and upstream's, which does not.
fn large_requests(way: Way) {
    let ports = json!([
        {"name": "http", "protocol": "TCP", "port": 80, "targetPort": ECHO_PORT},
        {"name": "udp", "protocol": "UDP", "port": 90, "targetPort": ECHO_PORT},
    ]);
    let cluster = Cluster::with(&Object::service("large", 10, json!({"ports": ports})), &[Pod::ready("backend-1")]);
    let target = way.cluster_ip(10).target;
    let _echo = echo(&cluster, way.transport);
    let sizes: &[usize] = if way.transport == Transport::Udp { &[1400, 2000] } else { &[64 << 10] };
    for size in sizes {
        let request: Vec<u8> = (0..*size).map(|at| b"42-"[at % 3]).collect();
        let answer = cluster.host("client").run(|| match way.transport {
            Transport::Udp => by_datagram(target, &request),
            Transport::Tcp | Transport::Http => by_stream(target, &request),
            Transport::Sctp => unreachable!("there is no such row"),
        });
        assert!(answer.unwrap() == request, "what came back is not what was sent: {size} bytes to {target}");
    }
}

/// Two Services for the same pods; deleting one leaves the other.
fn same_selector(family: Family) {
    let [first, second] = [service(10, NODE_PORTS[0]), service(11, NODE_PORTS[1])];
    let (mut cluster, _servers) = cluster(&first, &Pod::ALL);
    cluster.apply(&second, &Pod::ALL);
    let ways = [Transport::Http, Transport::Udp].map(|transport| Way { family, transport });
    for way in ways {
        for call in [way.cluster_ip(10), way.cluster_ip(11), way.node_port(NODE_PORTS[0]), way.node_port(NODE_PORTS[1])]
        {
            cluster.serves("client", call, &ALL);
        }
    }
    cluster.delete(&first);
    for way in ways {
        cluster.drops("client", way.cluster_ip(10));
        cluster.nobody_listens("client", way.node_port(NODE_PORTS[0]));
        cluster.serves("client", way.cluster_ip(11), &ALL);
        cluster.serves("client", way.node_port(NODE_PORTS[1]), &ALL);
    }
}

/// A pod of the node's own network beside one with its own: asked by pods, by the node itself and from outside.
fn host_network(family: Family) {
    let (mut cluster, _servers) = cluster(&service(10, NODE_PORTS[0]), &[Pod::ready("node"), Pod::ready("backend-3")]);
    let node = cluster.host("node");
    let _host_network = Server::start_all(&node, &[Listen::Http(HTTP_PORT), Listen::Udp(BACKEND_PORT)]).unwrap();
    for transport in [Transport::Http, Transport::Udp] {
        let way = Way { family, transport };
        for (from, call) in [
            ("client", way.cluster_ip(10)),
            ("client", way.node_port(NODE_PORTS[0])),
            ("node", way.cluster_ip(10)),
            ("node", way.node_port(NODE_PORTS[0])),
            ("outside", way.node_port(NODE_PORTS[0])),
        ] {
            cluster.serves(from, call, &["backend-3", "node"]);
        }
    }
}

/// A server in `backend-1` that sends one request back, and ends with it or when nothing comes any more.
fn echo(cluster: &Cluster, transport: Transport) -> thread::JoinHandle<()> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, ECHO_PORT));
    let pod = cluster.host("backend-1");
    if transport == Transport::Udp {
        let socket = pod.run(|| UdpSocket::bind(any)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        return thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..length], peer).unwrap();
            }
        });
    }
    let listener = pod.run(|| TcpListener::bind(any)).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(&request).unwrap();
    })
}

fn by_datagram(target: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(target)?;
    socket.send(request)?;
    let mut buffer = vec![0; 4096];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn by_stream(target: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
