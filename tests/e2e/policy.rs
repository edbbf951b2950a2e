use serde_json::json;
use weir_testbed::{Listen, Server};
use weir_tests::lab::{BACKEND_PORT, NODE_NAME, OTHER_NODE};

use crate::cluster::{Cluster, clients, tcp, udp};
use crate::objects::{Object, Pod, http, http_and_udp, port};

const CLUSTER_IPS: [&str; 2] = ["10.96.0.10:80", "[fd00:10:96::10]:80"];
const ALL: [&str; 3] = ["backend-1", "backend-2", "backend-3"];

fn local() -> Object {
    Object::service("svc-itp", 10, json!({"ports": http(), "internalTrafficPolicy": "Local"}))
}

/// A client beside the Service's pod reaches it, and pods elsewhere change nothing for him.
fn reached_on_its_node(client: &str, pod: Pod) {
    let mut beside = Cluster::seen_from(NODE_NAME);
    let _host_network = Server::start(&beside.host("node"), Listen::Greeting(BACKEND_PORT)).unwrap();
    for pods in [&[pod][..], &[pod, Pod::ready("backend-3")]] {
        beside.apply(&local(), pods);
        for target in CLUSTER_IPS {
            beside.serves(client, tcp(target), &[pod.host()]);
        }
    }
}

/// A client on the other node is dropped until that node has a pod of its own.
fn not_reached_from_elsewhere(client: &str, pod: Pod) {
    let mut elsewhere = Cluster::seen_from(OTHER_NODE);
    elsewhere.apply(&local(), &[pod]);
    for target in CLUSTER_IPS {
        elsewhere.drops(client, tcp(target));
    }
    elsewhere.apply(&local(), &[pod, Pod::ready("backend-3")]);
    for target in CLUSTER_IPS {
        elsewhere.serves(client, tcp(target), &["backend-3"]);
    }
}

pub(crate) fn should_respect_internal_traffic_policy_local_pod_to_pod() {
    reached_on_its_node("client", Pod::ready("backend-1"));
    not_reached_from_elsewhere("client", Pod::ready("backend-1"));
}

pub(crate) fn should_respect_internal_traffic_policy_local_pod_host_network_to_pod() {
    reached_on_its_node("node", Pod::ready("backend-1"));
    not_reached_from_elsewhere("node", Pod::ready("backend-1"));
}

pub(crate) fn should_respect_internal_traffic_policy_local_pod_and_node_to_pod_host_network() {
    for client in ["client", "node"] {
        reached_on_its_node(client, Pod::ready("node"));
        not_reached_from_elsewhere(client, Pod::ready("node"));
    }
}

/// Pods use the ClusterIP of a load balancer by TCP and by UDP; taking one protocol away leaves the other.
pub(crate) fn should_serve_endpoints_on_same_port_and_different_protocol_for_internal_traffic_on_type_load_balancer() {
    let service =
        Object::service("multiprotocol-lb-test", 10, json!({"type": "LoadBalancer", "ports": http_and_udp()}));
    let service = service.patched(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.5"}]}}}));
    let mut cluster = Cluster::with(&service, &Pod::ALL);
    let internal = [tcp("10.96.0.10:80"), udp("10.96.0.10:80")];
    // Pods that use the load balancer's address do not leave the cluster, and keep their own.
    for call in internal.into_iter().chain([tcp("192.0.2.5:80"), udp("192.0.2.5:80")]) {
        cluster.serves("client", call, &ALL);
    }
    let tally = cluster.serves("client", internal[0], &ALL);
    assert_eq!(clients(&tally), [cluster.host("client").v4().into()].into());
    cluster.apply(&service.patched(json!({"spec": {"ports": http()}})), &Pod::ALL);
    cluster.serves("client", internal[0], &ALL);
    cluster.refuses("client", internal[1]);
    cluster.apply(&service.patched(json!({"spec": {"ports": [port("udp", "UDP", 80)]}})), &Pod::ALL);
    cluster.serves("client", internal[1], &ALL);
    cluster.refuses("client", internal[0]);
}
