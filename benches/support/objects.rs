//! The objects of a cluster as an API server sends them.

use serde_json::{Value, json};

/// What a moved endpoint is away from where it was; more pods than any bench has.
const MOVED: usize = 2_000_000;

/// As the API server sends it, with the fields a controller leaves behind and nobody here needs.
#[must_use]
pub fn service(number: usize) -> Value {
    let address = format!("10.{}.{}.{}", 96 + number / 62_500, number / 250 % 250, number % 250 + 1);
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("service-{number}"), "namespace": format!("ns-{}", number % 50),
            "labels": {"app": format!("service-{number}")}, "managedFields": managed_fields()},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
            "selector": {"app": format!("service-{number}")}, "sessionAffinity": "None",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]},
        "status": {"loadBalancer": {}}})
}

/// The EndpointSlice of Service `number`. Each `generation` replaces its last endpoint by another.
#[must_use]
pub fn slice(number: usize, endpoints: usize, generation: usize) -> Value {
    let endpoint = |at: usize| {
        let moved = if at + 1 == endpoints { generation % 2 * MOVED } else { 0 };
        let pod = number * endpoints + at + moved;
        json!({"addresses": [format!("10.{}.{}.{}", 128 + pod / 62_500, pod / 250 % 250, pod % 250 + 1)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", pod % 100), "zone": format!("zone-{}", pod % 3),
            "targetRef": {"kind": "Pod", "namespace": format!("ns-{}", number % 50), "name": format!("pod-{pod}"),
                "uid": format!("00000000-0000-4000-8000-{pod:012}")}})
    };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("service-{number}-abcde"), "namespace": format!("ns-{}", number % 50),
            "labels": {"kubernetes.io/service-name": format!("service-{number}")}, "managedFields": managed_fields()},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>()})
}

fn managed_fields() -> Value {
    json!([{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "time": "2024-01-01T00:00:00Z",
        "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:ports": {}, "f:selector": {}}}}])
}
