use std::time::Instant;

use serde_json::json;
use weir_testbed::Call;
use weir_tests::lab::DROPPED;

use crate::cluster::{Cluster, tcp, udp};
use crate::objects::{Object, Pod, http_and_udp, node_port};

/// The only pod of a Service.
const POD: Pod = Pod::ready("backend-1");

/// A NodePort Service by TCP and UDP.
fn service() -> Object {
    let ports = json!([node_port("http", "TCP", 80, 30_080), node_port("udp", "UDP", 80, 30_080)]);
    Object::service("endpoints", 10, json!({"type": "NodePort", "ports": ports}))
}

/// Every way in, with who takes it.
fn ways() -> [(&'static str, Call); 5] {
    [
        ("client", tcp("10.96.0.10:80")),
        ("client", udp("[fd00:10:96::10]:80")),
        ("node", tcp("10.96.0.10:80")),
        ("outside", tcp("192.168.0.2:30080")),
        ("outside", udp("[2001:db8::1]:30080")),
    ]
}

fn all_serve(cluster: &mut Cluster) {
    ways().into_iter().for_each(|(from, call)| drop(cluster.serves(from, call, &["backend-1"])));
}

fn all_refuse(cluster: &mut Cluster) {
    ways().into_iter().for_each(|(from, call)| cluster.refuses(from, call));
}

/// Refused, not dropped: a client of UDP hears of it at once.
pub(crate) fn should_be_rejected_when_no_endpoints_exist() {
    let mut cluster = Cluster::with(&service(), &[]);
    all_refuse(&mut cluster);
    let client = cluster.host("client");
    let start = Instant::now();
    assert!(udp("10.96.0.10:80").make_on(&client).is_err());
    assert!(start.elapsed() < DROPPED, "{:?}", start.elapsed());
    cluster.apply(&service(), &[POD]);
    all_serve(&mut cluster);
}

/// The controller takes an evicted pod out of its slice while the pod object stays.
pub(crate) fn should_be_rejected_for_evicted_pods() {
    let mut cluster = Cluster::with(&service(), &[POD]);
    all_serve(&mut cluster);
    cluster.apply(&service(), &[]);
    all_refuse(&mut cluster);
}

/// With `publishNotReadyAddresses` the controller writes `ready: true` whatever the pod's state; the proxy believes it.
pub(crate) fn should_be_able_to_connect_to_terminating_and_unready_endpoints_if_publish_not_ready_addresses_is_true() {
    let service = service().patched(json!({"spec": {"publishNotReadyAddresses": true}}));
    let mut cluster = Cluster::with(&service, &[POD]);
    all_serve(&mut cluster);
    cluster.apply(&service, &[POD.unready()]);
    all_serve(&mut cluster);
    cluster.apply(&service, &[POD.unready().terminating()]);
    all_serve(&mut cluster);
    // It counts as much as a pod that runs.
    cluster.apply(&service, &[POD.unready().terminating(), Pod::ready("backend-3")]);
    cluster.serves("client", tcp("10.96.0.10:80"), &["backend-1", "backend-3"]);
}

pub(crate) fn should_not_be_able_to_connect_to_terminating_and_unready_endpoints_if_publish_not_ready_addresses_is_false()
 {
    let service = service().patched(json!({"spec": {"publishNotReadyAddresses": false}}));
    let mut cluster = Cluster::with(&service, &[POD]);
    all_serve(&mut cluster);
    cluster.apply(&service, &[POD.unready().terminating()]);
    all_refuse(&mut cluster);
    cluster.apply(&service, &[POD.unready().terminating(), Pod::ready("backend-3")]);
    cluster.serves("client", tcp("10.96.0.10:80"), &["backend-3"]);
}

/// Tolerated, not tolerated, and tolerated again while its pod is unready from the start and terminates at the end.
pub(crate) fn should_create_endpoints_for_unready_pods() {
    let strict = Object::service("tolerate-unready", 10, json!({"ports": http_and_udp()}));
    let tolerant = strict.patched(json!({"spec": {"publishNotReadyAddresses": true}}));
    let calls = [tcp("10.96.0.10:80"), udp("10.96.0.10:80")];
    let unready = POD.unready();
    let mut cluster = Cluster::with(&tolerant, &[unready]);
    calls.into_iter().for_each(|call| drop(cluster.serves("client", call, &["backend-1"])));
    cluster.apply(&strict, &[unready.terminating()]);
    calls.into_iter().for_each(|call| cluster.refuses("client", call));
    cluster.apply(&tolerant, &[unready.terminating()]);
    calls.into_iter().for_each(|call| drop(cluster.serves("client", call, &["backend-1"])));
}
