use serde_json::json;

use crate::cluster::{Cluster, clients, node_address, tcp, udp};
use crate::objects::{Object, Pod, http_and_udp};

const ALL: [&str; 3] = ["backend-1", "backend-2", "backend-3"];

/// Through the ClusterIP to itself, and it alone serves; the pod sees the node in place of itself, because it would
/// take a packet from its own address for a forgery.
pub(crate) fn should_allow_pods_to_hairpin_back_to_themselves_through_services() {
    let service = Object::service("hairpin-test", 10, json!({"ports": http_and_udp()}));
    let mut cluster = Cluster::with(&service, &[Pod::ready("backend-1")]);
    for target in ["10.96.0.10:80", "[fd00:10:96::10]:80"] {
        for call in [tcp(target), udp(target)] {
            let tally = cluster.serves("backend-1", call, &["backend-1"]);
            assert_eq!(clients(&tally), [node_address(call)].into(), "{call:?}");
        }
    }
}

/// To a pod of its own node and to one of another.
pub(crate) fn should_preserve_source_pod_ip_for_traffic_thru_service_cluster_ip() {
    let service = Object::service("sourceip-test", 10, json!({"ports": http_and_udp()}));
    let mut cluster = Cluster::with(&service, &Pod::ALL);
    for target in ["10.96.0.10:80", "[fd00:10:96::10]:80"] {
        for call in [tcp(target), udp(target)] {
            let tally = cluster.serves("client", call, &ALL);
            let own = cluster.host("client").address_towards(call.target.ip());
            assert_eq!(clients(&tally), [own].into(), "{call:?}");
        }
    }
}

/// From pods, from the node and from outside; packets to it that come here are taken although no interface has it.
pub(crate) fn should_be_possible_to_connect_to_a_service_via_external_ip_when_the_external_ip_is_not_assigned_to_a_node()
 {
    let external = ["198.51.100.7", "2001:db8:e::7"];
    let service = Object::service("externalip-test", 10, json!({"ports": http_and_udp(), "externalIPs": external}));
    let mut cluster = Cluster::with(&service, &Pod::ALL);
    let assigned = cluster.host("node").command("ip", &["address", "show"]).unwrap();
    assert!(external.iter().all(|address| !assigned.contains(address)), "{assigned}");
    for target in ["10.96.0.10:80", "198.51.100.7:80", "[2001:db8:e::7]:80"] {
        for call in [tcp(target), udp(target)] {
            for from in ["client", "node", "outside"] {
                cluster.serves(from, call, &ALL);
            }
        }
    }
    cluster.put(&service.patched(json!({"spec": {"externalIPs": null}})));
    cluster.not_ours("outside", tcp("198.51.100.7:80"));
}
