use serde_json::{Value, json};

use crate::cluster::{Cluster, tcp, udp};
use crate::objects::{Object, Pod, http, node_port, port};

const ALL: [&str; 3] = ["backend-1", "backend-2", "backend-3"];

/// Service number N at 10.96.0.N.
fn numbered(number: u8) -> Object {
    Object::service(&format!("up-down-{number}"), number, json!({"ports": http()}))
}

/// Two are up, one of them goes, a third comes.
pub(crate) fn should_be_able_to_up_and_down_services() {
    let [first, second, third] = [numbered(11), numbered(12), numbered(13)];
    let [call_first, call_second, call_third] = [11, 12, 13].map(|number| tcp(&format!("10.96.0.{number}:80")));
    let mut cluster = Cluster::with(&first, &Pod::ALL);
    cluster.apply(&second, &Pod::ALL);
    for from in ["client", "node"] {
        cluster.serves(from, call_first, &ALL);
        cluster.serves(from, call_second, &ALL);
    }
    cluster.delete(&first);
    cluster.drops("client", call_first);
    cluster.serves("client", call_second, &ALL);
    cluster.apply(&third, &Pod::ALL);
    for from in ["client", "node"] {
        cluster.serves(from, call_second, &ALL);
        cluster.serves(from, call_third, &ALL);
    }
}

/// Deleted, and made again under its name with another address.
pub(crate) fn should_work_after_the_service_has_been_recreated() {
    let old = Object::service("e2e-svc", 11, json!({"ports": http()}));
    let new = Object::service("e2e-svc", 12, json!({"ports": http()}));
    let mut cluster = Cluster::with(&old, &Pod::ALL);
    cluster.serves("client", tcp("10.96.0.11:80"), &ALL);
    cluster.delete(&old);
    cluster.drops("client", tcp("10.96.0.11:80"));
    cluster.apply(&new, &Pod::ALL);
    cluster.serves("client", tcp("10.96.0.12:80"), &ALL);
    cluster.drops("client", tcp("10.96.0.11:80"));
    // At once, between two looks at the directory, and back to the first address.
    cluster.apply(&old, &Pod::ALL);
    cluster.serves("client", tcp("10.96.0.11:80"), &ALL);
    cluster.drops("client", tcp("10.96.0.12:80"));
}

pub(crate) fn should_be_updated_after_adding_or_deleting_ports() {
    let with_ports = |ports: Value| Object::service("edit-port-test", 10, json!({"ports": ports}));
    let [first, second] = [tcp("10.96.0.10:80"), tcp("10.96.0.10:81")];
    let mut cluster = Cluster::with(&with_ports(http()), &Pod::ALL);
    cluster.serves("client", first, &ALL);
    cluster.refuses("client", second);
    cluster.apply(&with_ports(json!([port("http", "TCP", 80), port("added", "TCP", 81)])), &Pod::ALL);
    cluster.serves("client", first, &ALL);
    cluster.serves("client", second, &ALL);
    cluster.apply(&with_ports(json!([port("added", "TCP", 81)])), &Pod::ALL);
    cluster.serves("client", second, &ALL);
    cluster.refuses("client", first);
    // Another number, and another name, for the same port of the pods.
    cluster.apply(&with_ports(json!([port("renamed", "TCP", 80)])), &Pod::ALL);
    cluster.serves("client", first, &ALL);
    cluster.refuses("client", second);
}

pub(crate) fn should_be_able_to_update_service_type_to_node_port_listening_on_same_port_number_but_different_protocols()
{
    let service = Object::service("nodeport-update-service", 10, json!({"ports": http()}));
    let mut cluster = Cluster::with(&service, &Pod::ALL);
    cluster.serves("client", tcp("10.96.0.10:80"), &ALL);
    let ports = json!([node_port("tcp-port", "TCP", 80, 30_080), node_port("udp-port", "UDP", 80, 30_080)]);
    cluster.apply(&service.patched(json!({"spec": {"type": "NodePort", "ports": ports}})), &Pod::ALL);
    for call in [tcp("10.96.0.10:80"), udp("10.96.0.10:80")] {
        cluster.serves("client", call, &ALL);
    }
    for call in [tcp("192.168.0.2:30080"), udp("192.168.0.2:30080")] {
        for from in ["client", "outside"] {
            cluster.serves(from, call, &ALL);
        }
    }
}

/// After the Service is gone nobody holds its node port, and the next Service can have it.
pub(crate) fn should_release_node_ports_on_delete() {
    let with_port = |number: u8| {
        let ports = json!([node_port("http", "TCP", 80, 30_080)]);
        Object::service(&format!("nodeports-{number}"), number, json!({"type": "NodePort", "ports": ports}))
    };
    let (call, last) = (tcp("192.168.0.2:30080"), Pod::ready("backend-3"));
    let mut cluster = Cluster::with(&with_port(11), &Pod::ALL);
    cluster.serves("outside", call, &ALL);
    cluster.delete(&with_port(11));
    cluster.nobody_listens("outside", call);
    let listener = cluster.host("node").run(|| std::net::TcpListener::bind("192.168.0.2:30080"));
    assert!(listener.is_ok(), "{listener:?}");
    drop(listener);
    let outcome = cluster.apply(&with_port(12), &[last]);
    assert!(outcome.rejections.is_empty(), "{:?}", outcome.rejections);
    cluster.serves("outside", call, &["backend-3"]);
}

/// The API server gives no node port to two Services. Should it happen all the same (two API servers, a restored
/// backup), the older Service has it on every node, whatever the order of arrival and however often Weir restarts; the
/// younger one is told, keeps what else it has, and gets the port when the older one goes.
pub(crate) fn should_prevent_node_port_collisions() {
    let claiming = |name: &str, number: u8, year: u16| {
        let ports = json!([node_port("http", "TCP", 80, 30_080)]);
        let service = Object::service(name, number, json!({"type": "NodePort", "ports": ports}));
        service.patched(json!({"metadata": {"creationTimestamp": format!("{year}-01-01T00:00:00Z")}}))
    };
    // The younger one comes first by name.
    let (older, younger) = (claiming("b-older", 11, 2020), claiming("a-younger", 12, 2021));
    let (older_pods, younger_pods) = ([Pod::ready("backend-1")], [Pod::ready("backend-2")]);
    let contested = tcp("192.168.0.2:30080");
    let settled = |cluster: &mut Cluster| {
        cluster.serves("outside", contested, &["backend-1"]);
        cluster.serves("client", tcp("10.96.0.11:80"), &["backend-1"]);
        cluster.serves("client", tcp("10.96.0.12:80"), &["backend-2"]);
    };
    let mut cluster = Cluster::with(&younger, &younger_pods);
    cluster.serves("outside", contested, &["backend-2"]);
    cluster.apply(&older, &older_pods);
    settled(&mut cluster);
    cluster.crash();
    let outcome = cluster.restart();
    assert!(outcome.transaction.is_empty(), "{:?}", outcome.transaction);
    let told: Vec<&str> = outcome.rejections.iter().map(|rejection| &**rejection.port()).collect();
    // Once for each IP family.
    assert_eq!(told, ["default/a-younger:http"; 2], "{:?}", outcome.rejections);
    settled(&mut cluster);
    cluster.delete(&older);
    cluster.serves("outside", contested, &["backend-2"]);
    cluster.apply(&older, &older_pods);
    settled(&mut cluster);
}
