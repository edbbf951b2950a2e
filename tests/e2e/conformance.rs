use serde_json::{Value, json};
use weir_testbed::{Call, Listen, Server};

use crate::affinity;
use crate::cluster::{Cluster, clients, node_address, tcp, udp};
use crate::objects::{Object, Pod, http, http_and_udp, node_port, port};

const ALL: [&str; 3] = ["backend-1", "backend-2", "backend-3"];

/// An alias: no addresses, no ports, no selector.
fn external_name(name: &str) -> Object {
    Object::service(name, 10, json!({"ports": http()})).patched(into_external_name())
}

/// What `kubectl` sends to make any Service an alias.
fn into_external_name() -> Value {
    let nothing = Value::Null;
    json!({"spec": {
        "type": "ExternalName", "externalName": "foo.example.com",
        "clusterIP": nothing, "clusterIPs": nothing, "ports": nothing, "selector": nothing,
    }})
}

/// What `kubectl` sends to make the alias a Service of that type, with the addresses the API server gives it.
fn into_service(kind: &str, ports: &Value) -> Value {
    let plain = Object::service("any", 10, json!({"type": kind, "ports": ports}));
    let mut patch = json!({"spec": plain.spec()});
    patch["spec"]["externalName"] = Value::Null;
    patch
}

/// Endpoints come one by one and go one by one.
pub(crate) fn should_serve_a_basic_endpoint_from_pods() {
    let service = Object::service("endpoint-test2", 10, json!({"ports": http()}));
    let [first, second, _] = Pod::ALL;
    let mut cluster = Cluster::with(&service, &[]);
    let steps: [(&[Pod], &[&str]); 3] =
        [(&[first], &["backend-1"]), (&[first, second], &["backend-1", "backend-2"]), (&[second], &["backend-2"])];
    for (pods, backends) in steps {
        cluster.apply(&service, pods);
        for target in ["10.96.0.10:80", "[fd00:10:96::10]:80"] {
            cluster.serves("client", tcp(target), backends);
        }
    }
    cluster.apply(&service, &[]);
    cluster.refuses("client", tcp("10.96.0.10:80"));
}

/// Each port of the Service leads to its own port of the pod.
pub(crate) fn should_serve_multiport_endpoints_from_pods() {
    let ports = json!([
        {"name": "portname1", "protocol": "TCP", "port": 80, "targetPort": 8100},
        {"name": "portname2", "protocol": "TCP", "port": 81, "targetPort": 8101},
    ]);
    let service = Object::service("multi-endpoint-test", 10, json!({"ports": ports}));
    let mut cluster = Cluster::with(&service, &[Pod::ready("backend-1")]);
    // Only one of the two ports has a listener, so whoever reaches it by the other port of the Service is seen.
    let listener = Server::start(&cluster.host("backend-1"), Listen::Greeting(8100)).unwrap();
    cluster.serves("client", tcp("10.96.0.10:80"), &["backend-1"]);
    cluster.nobody_listens("client", tcp("10.96.0.10:81"));
    let _second = Server::start(&cluster.host("backend-1"), Listen::Greeting(8101)).unwrap();
    drop(listener);
    cluster.serves("client", tcp("10.96.0.10:81"), &["backend-1"]);
    cluster.nobody_listens("client", tcp("10.96.0.10:80"));
}

/// TCP and UDP share the number 80; taking one away leaves the other.
pub(crate) fn should_serve_endpoints_on_same_port_and_different_protocols() {
    let service = Object::service("multiprotocol-test", 10, json!({"ports": http_and_udp()}));
    let mut cluster = Cluster::with(&service, &Pod::ALL);
    let both = [tcp("10.96.0.10:80"), udp("10.96.0.10:80")];
    for call in both {
        cluster.serves("client", call, &ALL);
    }
    cluster.apply(&service.patched(json!({"spec": {"ports": [port("udp", "UDP", 80)]}})), &Pod::ALL);
    cluster.serves("client", both[1], &ALL);
    cluster.refuses("client", both[0]);
    cluster.apply(&service.patched(json!({"spec": {"ports": http()}})), &Pod::ALL);
    cluster.serves("client", both[0], &ALL);
    cluster.refuses("client", both[1]);
}

pub(crate) fn should_be_able_to_create_a_functioning_node_port_service() {
    let spec = json!({"type": "NodePort", "ports": [node_port("http", "TCP", 80, 30_080)]});
    let mut cluster = Cluster::with(&Object::service("nodeport-test", 10, spec), &Pod::ALL);
    for target in ["192.168.0.2:30080", "[2001:db8::1]:30080"] {
        for from in ["client", "node", "outside"] {
            cluster.serves(from, tcp(target), &ALL);
        }
        let tally = cluster.serves("outside", tcp(target), &ALL);
        assert_eq!(clients(&tally), [node_address(tcp(target))].into());
    }
    cluster.serves("client", tcp("10.96.0.10:80"), &ALL);
}

pub(crate) fn should_be_able_to_change_the_type_from_external_name_to_cluster_ip() {
    let service = external_name("externalname-service");
    let mut cluster = Cluster::with(&service, &[]);
    cluster.drops("client", tcp("10.96.0.10:80"));
    let service = service.patched(into_service("ClusterIP", &http()));
    cluster.apply(&service, &Pod::ALL);
    for from in ["client", "node"] {
        cluster.serves(from, tcp("10.96.0.10:80"), &ALL);
    }
}

pub(crate) fn should_be_able_to_change_the_type_from_external_name_to_node_port() {
    let service = external_name("externalname-service");
    let mut cluster = Cluster::with(&service, &[]);
    cluster.nobody_listens("outside", tcp("192.168.0.2:30080"));
    let ports = json!([node_port("http", "TCP", 80, 30_080)]);
    cluster.apply(&service.patched(into_service("NodePort", &ports)), &Pod::ALL);
    cluster.serves("client", tcp("10.96.0.10:80"), &ALL);
    cluster.serves("outside", tcp("192.168.0.2:30080"), &ALL);
}

/// Its EndpointSlices stay for a while; they program nothing.
pub(crate) fn should_be_able_to_change_the_type_from_cluster_ip_to_external_name() {
    let service = Object::service("clusterip-service", 10, json!({"ports": http()}));
    let mut cluster = Cluster::with(&service, &Pod::ALL);
    cluster.serves("client", tcp("10.96.0.10:80"), &ALL);
    cluster.apply(&service.patched(into_external_name()), &Pod::ALL);
    cluster.drops("client", tcp("10.96.0.10:80"));
    // kube-proxy passes an ExternalName over even if it still has its ClusterIP.
    cluster.put(&service.patched(json!({"spec": {"type": "ExternalName", "externalName": "foo.example.com"}})));
    cluster.drops("client", tcp("10.96.0.10:80"));
}

pub(crate) fn should_be_able_to_change_the_type_from_node_port_to_external_name() {
    let spec = json!({"type": "NodePort", "ports": [node_port("http", "TCP", 80, 30_080)]});
    let service = Object::service("nodeport-service", 10, spec);
    let mut cluster = Cluster::with(&service, &Pod::ALL);
    cluster.serves("outside", tcp("192.168.0.2:30080"), &ALL);
    cluster.apply(&service.patched(into_external_name()), &Pod::ALL);
    cluster.drops("client", tcp("10.96.0.10:80"));
    cluster.nobody_listens("outside", tcp("192.168.0.2:30080"));
}

pub(crate) fn should_have_session_affinity_work_for_service_with_type_cluster_ip() {
    affinity_works("client", [tcp("10.96.0.10:80"), udp("10.96.0.10:80")]);
}

pub(crate) fn should_have_session_affinity_work_for_node_port_service() {
    affinity_works("outside", [tcp("192.168.0.2:30080"), udp("192.168.0.2:30080")]);
}

fn affinity_works(from: &str, calls: [Call; 2]) {
    let service = affinity::service();
    affinity::stays(Cluster::with(&service, &Pod::ALL), &service, from, &calls);
}

pub(crate) fn should_be_able_to_switch_session_affinity_for_service_with_type_cluster_ip() {
    affinity::switches("client", [tcp("10.96.0.10:80"), udp("10.96.0.10:80")]);
}

pub(crate) fn should_be_able_to_switch_session_affinity_for_node_port_service() {
    affinity::switches("outside", [tcp("192.168.0.2:30080"), udp("192.168.0.2:30080")]);
}

/// Services of one name in three namespaces are three Services.
pub(crate) fn should_find_a_service_from_listing_all_namespaces() {
    let mut cluster = Cluster::up();
    let pods = ["backend-1", "backend-2", "backend-3"];
    for ((number, namespace), pod) in (10..).zip(["default", "kube-system", "team-a"]).zip(pods) {
        let service = Object::service("same-name", number, json!({"ports": http()}));
        cluster.apply(&service.patched(json!({"metadata": {"namespace": namespace}})), &[Pod::ready(pod)]);
    }
    for (number, pod) in (10..).zip(pods) {
        cluster.serves("client", tcp(&format!("10.96.0.{number}:80")), &[pod]);
    }
}

/// A cloud controller writes, changes and removes the load balancer's address.
pub(crate) fn should_complete_a_service_status_lifecycle() {
    let spec = json!({"type": "LoadBalancer", "ports": http()});
    let service = Object::service("test-service", 10, spec);
    let with_status = |ips: Value| service.patched(json!({"status": {"loadBalancer": {"ingress": ips}}}));
    let [old, new] = [tcp("192.0.2.5:80"), tcp("192.0.2.6:80")];
    let mut cluster = Cluster::with(&service, &Pod::ALL);
    cluster.not_ours("outside", old);
    cluster.put(&with_status(json!([{"ip": "192.0.2.5"}])));
    cluster.serves("outside", old, &ALL);
    cluster.put(&with_status(json!([{"ip": "192.0.2.6", "ipMode": "VIP"}])));
    cluster.serves("outside", new, &ALL);
    cluster.not_ours("outside", old);
    // With this mode the traffic is to leave the node, for the load balancer itself.
    cluster.put(&with_status(json!([{"ip": "192.0.2.6", "ipMode": "Proxy"}])));
    cluster.not_ours("outside", new);
    cluster.put(&with_status(json!([])));
    cluster.not_ours("outside", new);
    cluster.serves("client", tcp("10.96.0.10:80"), &ALL);
}

/// Everything they programmed goes with them; the Service that is not of the collection stays.
pub(crate) fn should_delete_a_collection_of_services() {
    let stays = Object::service("stays", 10, json!({"ports": http()}));
    let mut cluster = Cluster::with(&stays, &Pod::ALL);
    let before = cluster.rules();
    let collection: Vec<Object> = (20..23)
        .map(|number| {
            let ports = json!([node_port("http", "TCP", 80, 30_000 + u16::from(number))]);
            Object::service(&format!("e2e-svc-{number}"), number, json!({"type": "NodePort", "ports": ports}))
        })
        .collect();
    collection.iter().for_each(|service| drop(cluster.apply(service, &Pod::ALL)));
    cluster.serves("client", tcp("10.96.0.21:80"), &ALL);
    cluster.delete_all(&collection);
    assert!(cluster.rules() == before, "{}", cluster.rules());
    for number in 20..23 {
        cluster.drops("client", tcp(&format!("10.96.0.{number}:80")));
        cluster.nobody_listens("outside", tcp(&format!("192.168.0.2:{}", 30_000 + number)));
    }
    cluster.serves("client", tcp("10.96.0.10:80"), &ALL);
}

/// A slice written by hand for a Service without selector: created, patched, replaced, deleted.
pub(crate) fn should_test_the_lifecycle_of_an_endpoint() {
    let nothing = Value::Null;
    let service = Object::service("testservice", 10, json!({"ports": http(), "selector": nothing}));
    let slice = service.slices(&[Pod::ready("backend-1")]).unwrap().remove(0);
    let mut cluster = Cluster::up();
    cluster.put(&service);
    cluster.refuses("client", tcp("10.96.0.10:80"));
    cluster.put(&slice);
    cluster.serves("client", tcp("10.96.0.10:80"), &["backend-1"]);
    let endpoints = json!([{"addresses": ["10.244.0.11"]}, {"addresses": ["10.244.1.13"]}]);
    let slice = slice.patched(json!({"endpoints": endpoints}));
    cluster.put(&slice);
    cluster.serves("client", tcp("10.96.0.10:80"), &["backend-1", "backend-3"]);
    let _other = Server::start(&cluster.host("backend-1"), Listen::Greeting(9000)).unwrap();
    let ports = json!([{"name": "http", "protocol": "TCP", "port": 9000}]);
    cluster.put(&slice.patched(json!({"ports": ports, "endpoints": [{"addresses": ["10.244.0.11"]}]})));
    cluster.serves("client", tcp("10.96.0.10:80"), &["backend-1"]);
    cluster.take(&slice);
    cluster.refuses("client", tcp("10.96.0.10:80"));
}

/// Service `kubernetes`: its slice is written by the API server itself and names the node the API server runs on.
pub(crate) fn should_provide_secure_master_service() {
    let ports = json!([{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}]);
    let service = Object::service("kubernetes", 1, json!({"ports": ports}));
    let mut cluster = Cluster::with(&service, &[Pod::ready("node")]);
    let _api_server = Server::start(&cluster.host("node"), Listen::Greeting(6443)).unwrap();
    for target in ["10.96.0.1:443", "[fd00:10:96::1]:443"] {
        for from in ["client", "node"] {
            cluster.serves(from, tcp(target), &["node"]);
        }
        let tally = cluster.serves("client", tcp(target), &["node"]);
        assert_eq!(clients(&tally), [cluster.host("client").address_towards(tcp(target).target.ip())].into());
    }
}

/// Upstream's limits: half of the Services within 20 s, nine of ten within 50 s. A hundred Services are made one after
/// the other; each counts from the moment its files are written to the first answer through its ClusterIP.
pub(crate) fn service_endpoints_latency_should_not_be_very_high() {
    use std::time::{Duration, Instant};
    const RUNS: usize = 100;
    /// When to give up on one.
    const LIMIT: Duration = Duration::from_secs(50);
    let mut cluster = Cluster::up();
    let client = cluster.host("client");
    let mut latencies: Vec<Duration> = (0..RUNS)
        .map(|run| {
            let number = 100 + u8::try_from(run).unwrap();
            let service = Object::service(&format!("latency-svc-{run}"), number, json!({"ports": http()}));
            let call = tcp(&format!("10.96.0.{number}:80")).within(Duration::from_millis(100));
            let start = Instant::now();
            cluster.apply(&service, &Pod::ALL);
            while call.make_on(&client).is_err() {
                assert!(start.elapsed() < LIMIT, "Service {run} does not answer");
            }
            start.elapsed()
        })
        .collect();
    latencies.sort_unstable();
    let percentile = |percent: usize| latencies[(RUNS * percent).div_ceil(100) - 1];
    let [half, most, nearly_all] = [50, 90, 99].map(percentile);
    println!("service endpoints latency over {RUNS} Services: p50 {half:.1?}, p90 {most:.1?}, p99 {nearly_all:.1?}");
    assert!(half <= Duration::from_secs(20) && most <= LIMIT, "p50 {half:?}, p90 {most:?}");
}
