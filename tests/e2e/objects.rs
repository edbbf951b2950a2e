//! Kubernetes objects as users and controllers write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};
use weir_testbed::Layout;
use weir_tests::lab::{BACKEND_PORT, NODE_NAME, OTHER_NODE, address_of};

/// An object of the Kubernetes API.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object(Value);

impl Object {
    /// A dual-stack Service of namespace `default` with the ClusterIPs 10.96.0.`number` and fd00:10:96::`number` (in
    /// decimal digits). `spec` has at least `ports`, and whatever else differs from a plain ClusterIP Service.
    pub(crate) fn service(name: &str, number: u8, spec: Value) -> Self {
        let ips = [format!("10.96.0.{number}"), format!("fd00:10:96::{number}")];
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": "default", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": ["IPv4", "IPv6"],
                "selector": {"app": name},
            },
        });
        merge(&mut service["spec"], spec);
        Self(service)
    }

    /// The object after a JSON merge patch, as `kubectl patch --type merge` applies it: `null` removes.
    pub(crate) fn patched(&self, patch: Value) -> Self {
        let mut object = self.0.clone();
        merge(&mut object, patch);
        Self(object)
    }

    /// The object as a manifest.
    pub(crate) fn text(&self) -> String {
        self.0.to_string()
    }

    /// Its `spec`.
    pub(crate) fn spec(&self) -> &Value {
        &self.0["spec"]
    }

    /// A name for its file, its own as long as its kind, namespace and name are.
    pub(crate) fn file(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let meta = &self.0["metadata"];
        format!("{}-{}-{}.json", text(&self.0["kind"]), text(&meta["namespace"]), text(&meta["name"]))
    }

    /// The EndpointSlices the EndpointSlice controller keeps for this Service while those pods match its selector: one
    /// for each IP family. `None` where it leaves alone what there is: it does not look at ExternalName Services.
    pub(crate) fn slices(&self, pods: &[Pod]) -> Option<Vec<Self>> {
        let (meta, spec) = (&self.0["metadata"], &self.0["spec"]);
        if spec["type"] == "ExternalName" {
            return None;
        }
        let headless = spec["clusterIP"] == "None";
        let publish = spec["publishNotReadyAddresses"] == true;
        // `podEndpointChanged` and `EndpointSlice` of k8s.io/endpointslice: labels of the Service go along.
        let mut labels = meta["labels"].clone();
        merge(&mut labels, json!({"kubernetes.io/service-name": meta["name"]}));
        if headless {
            merge(&mut labels, json!({"service.kubernetes.io/headless": ""}));
        }
        let target = |port: &Value| {
            let number = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
            json!({"name": port["name"], "protocol": port["protocol"], "port": number})
        };
        let ports: Vec<Value> = spec["ports"].as_array().into_iter().flatten().map(target).collect();
        let slice = |family: &str| {
            let like = if family == "IPv4" { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let name = format!("{}-{}", meta["name"].as_str().unwrap_or_default(), family.to_lowercase());
            Self(json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"namespace": meta["namespace"], "name": name, "labels": labels},
                "addressType": family,
                "ports": ports,
                "endpoints": pods.iter().map(|pod| pod.endpoint(like, publish)).collect::<Vec<_>>(),
            }))
        };
        let families = spec["ipFamilies"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Some(families.map(slice).collect())
    }
}

/// A pod that matches a Service's selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    /// `backend-1` to `backend-3` on the testbed; `node` for one that uses its node's own network.
    host: &'static str,
    /// Its readiness probe succeeds.
    ready: bool,
    /// It has a deletion timestamp.
    terminating: bool,
}

impl Pod {
    /// Pods on every backend: two on this node, one on another.
    pub(crate) const ALL: [Self; 3] = [Self::ready("backend-1"), Self::ready("backend-2"), Self::ready("backend-3")];

    /// One that runs.
    pub(crate) const fn ready(host: &'static str) -> Self {
        Self { host, ready: true, terminating: false }
    }

    /// Where it runs.
    pub(crate) const fn host(self) -> &'static str {
        self.host
    }

    /// The same pod, its readiness probe failing.
    pub(crate) const fn unready(self) -> Self {
        Self { ready: false, ..self }
    }

    /// The same pod, deleted and in its grace period.
    pub(crate) const fn terminating(self) -> Self {
        Self { terminating: true, ..self }
    }

    /// Its endpoint of the family of `like`, as the controller writes it (`podToEndpoint` of k8s.io/endpointslice).
    fn endpoint(self, like: IpAddr, publish_not_ready: bool) -> Value {
        let layout = Layout::default();
        let pod = layout.pods.iter().find(|pod| pod.name == self.host);
        assert!(pod.is_some() || self.host == "node", "no pod {} on the testbed", self.host);
        json!({
            "addresses": [address_of(pod.map_or(Layout::NODE, |pod| pod.addresses), like)],
            "nodeName": if self.host == "backend-3" { OTHER_NODE } else { NODE_NAME },
            "conditions": {
                "ready": publish_not_ready || (self.ready && !self.terminating),
                "serving": self.ready,
                "terminating": self.terminating,
            },
        })
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(&name);
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}

/// One port, `http`: 80 by TCP, where the testbed's pods serve it.
pub(crate) fn http() -> Value {
    json!([port("http", "TCP", 80)])
}

/// Two ports of one number: 80 by TCP and by UDP.
pub(crate) fn http_and_udp() -> Value {
    json!([port("http", "TCP", 80), port("udp", "UDP", 80)])
}

/// A port that leads to where the testbed's pods serve.
pub(crate) fn port(name: &str, protocol: &str, number: u16) -> Value {
    json!({"name": name, "protocol": protocol, "port": number, "targetPort": BACKEND_PORT})
}

/// The same with a node port.
pub(crate) fn node_port(name: &str, protocol: &str, number: u16, node_port: u16) -> Value {
    json!({
        "name": name, "protocol": protocol, "port": number, "targetPort": BACKEND_PORT, "nodePort": node_port,
    })
}
