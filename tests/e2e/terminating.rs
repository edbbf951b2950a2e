use serde_json::{Value, json};
use weir_tests::lab::{NODE_NAME, OTHER_NODE};

use crate::cluster::{Cluster, clients, tcp};
use crate::objects::{Object, Pod, http, node_port};

/// The pod that shuts down on node `node`, its readiness probe still succeeding.
const STOPPING: Pod = Pod::ready("backend-1").terminating();

fn internal(policy: &str) -> Object {
    Object::service("svc-proxy-terminating", 10, json!({"ports": http(), "internalTrafficPolicy": policy}))
}

fn external(policy: &str) -> Object {
    let ports = json!([node_port("http", "TCP", 80, 30_080)]);
    let spec: Value = json!({"type": "NodePort", "ports": ports, "externalTrafficPolicy": policy});
    Object::service("svc-proxy-terminating", 10, spec)
}

/// The cluster as the proxy of one of its nodes sees it.
fn on(node: &str, service: &Object, pods: &[Pod]) -> Cluster {
    let mut cluster = Cluster::seen_from(node);
    cluster.apply(service, pods);
    cluster
}

/// From both nodes; as soon as a pod is ready somewhere, the one that stops gets nothing new.
pub(crate) fn should_fallback_to_terminating_endpoints_when_there_are_no_ready_endpoints_with_internal_traffic_policy_cluster()
 {
    let (service, call) = (internal("Cluster"), tcp("10.96.0.10:80"));
    for node in [NODE_NAME, OTHER_NODE] {
        let mut cluster = on(node, &service, &[STOPPING]);
        cluster.serves("client", call, &["backend-1"]);
        // Not ready and not terminating is no way to serve, nor is terminating without being ready.
        cluster.apply(&service, &[STOPPING, Pod::ready("backend-2").unready(), Pod::ready("backend-3").unready()]);
        cluster.serves("client", call, &["backend-1"]);
        cluster.apply(&service, &[STOPPING, Pod::ready("backend-3")]);
        cluster.serves("client", call, &["backend-3"]);
        cluster.apply(&service, &[STOPPING.unready()]);
        cluster.refuses("client", call);
    }
}

/// On its own node the stopping pod serves; on the other there is no local one, and traffic is dropped.
pub(crate) fn should_fallback_to_local_terminating_endpoints_when_there_are_no_ready_endpoints_with_internal_traffic_policy_local()
 {
    let (service, call) = (internal("Local"), tcp("10.96.0.10:80"));
    let mut cluster = on(NODE_NAME, &service, &[STOPPING]);
    cluster.serves("client", call, &["backend-1"]);
    // A ready pod elsewhere is no local one, a ready pod here is.
    cluster.apply(&service, &[STOPPING, Pod::ready("backend-3")]);
    cluster.serves("client", call, &["backend-1"]);
    cluster.apply(&service, &[STOPPING, Pod::ready("backend-2")]);
    cluster.serves("client", call, &["backend-2"]);
    on(OTHER_NODE, &service, &[STOPPING]).drops("client", call);
}

pub(crate) fn should_fallback_to_terminating_endpoints_when_there_are_no_ready_endpoints_with_external_traffic_policy_cluster()
 {
    let (service, call) = (external("Cluster"), tcp("192.168.0.2:30080"));
    for node in [NODE_NAME, OTHER_NODE] {
        let mut cluster = on(node, &service, &[STOPPING]);
        for from in ["client", "outside"] {
            cluster.serves(from, call, &["backend-1"]);
        }
        cluster.apply(&service, &[STOPPING, Pod::ready("backend-3")]);
        cluster.serves("outside", call, &["backend-3"]);
    }
}

/// Clients from outside keep their address on the way to the stopping pod, and are dropped on the other node. Pods are
/// no outside clients: they get through from there as well.
pub(crate) fn should_fallback_to_local_terminating_endpoints_when_there_are_no_ready_endpoints_with_external_traffic_policy_local()
 {
    let (service, call) = (external("Local"), tcp("192.168.0.2:30080"));
    let mut cluster = on(NODE_NAME, &service, &[STOPPING]);
    let tally = cluster.serves("outside", call, &["backend-1"]);
    assert_eq!(clients(&tally), [cluster.host("outside").v4().into()].into());
    cluster.serves("client", call, &["backend-1"]);
    cluster.apply(&service, &[STOPPING, Pod::ready("backend-3")]);
    cluster.serves("outside", call, &["backend-1"]);
    cluster.apply(&service, &[STOPPING, Pod::ready("backend-2")]);
    cluster.serves("outside", call, &["backend-2"]);
    let mut cluster = on(OTHER_NODE, &service, &[STOPPING]);
    cluster.drops("outside", call);
    cluster.serves("client", call, &["backend-1"]);
}
