//! The rules, one by one.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use weir_model::{
    Conditions, EndpointSpec, Protocol, ServiceKind, ServicePortSpec, ServiceSpec, SliceSpec, TrafficPolicy,
};

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Sets `value` at a JSON pointer, making the mappings on the way.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    for part in pointer.split('/').skip(1) {
        at = match part.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[part.replace("~1", "/")],
        };
    }
    *at = value;
}

fn service_json() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }] },
    })
}

fn slice_json() -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "web-1", "namespace": "shop", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": [{ "addresses": ["10.1.0.1", "10.1.0.2"] }, { "addresses": ["10.1.0.3"] }],
    })
}

fn read_service(changes: &[(&str, Value)]) -> (Result<Converted<ServiceSpec>, String>, Vec<String>) {
    let mut object = service_json();
    changes.iter().for_each(|(pointer, value)| set(&mut object, pointer, value.clone()));
    let mut warnings = Vec::new();
    let object: Service = serde_json::from_value(object).expect("a Service");
    let result = service(&object, &Selection::default(), &mut warnings).map_err(|problem| problem.to_string());
    (result, warnings.iter().map(ToString::to_string).collect())
}

/// A Service that is taken without a warning.
fn taken(changes: &[(&str, Value)]) -> ServiceSpec {
    match read_service(changes) {
        (Ok(Converted::Taken(spec)), warnings) if warnings.is_empty() => spec,
        other => panic!("{changes:?}: {other:?}"),
    }
}

fn read_slice(changes: &[(&str, Value)]) -> (Result<Converted<SliceSpec>, String>, Vec<String>) {
    let mut object = slice_json();
    changes.iter().for_each(|(pointer, value)| set(&mut object, pointer, value.clone()));
    let mut warnings = Vec::new();
    let object: EndpointSlice = serde_json::from_value(object).expect("an EndpointSlice");
    let result = slice(&object, &mut warnings).map_err(|problem| problem.to_string());
    (result, warnings.iter().map(ToString::to_string).collect())
}

fn taken_slice(changes: &[(&str, Value)]) -> SliceSpec {
    match read_slice(changes) {
        (Ok(Converted::Taken(spec)), warnings) if warnings.is_empty() => spec,
        other => panic!("{changes:?}: {other:?}"),
    }
}

#[test]
fn what_a_plain_service_means() {
    assert_eq!(
        taken(&[]),
        ServiceSpec {
            key: weir_model::ObjectKey { namespace: "default".to_owned(), name: "web".to_owned() },
            cluster_ips: vec![ip("10.0.0.1")],
            ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
            ..ServiceSpec::default()
        }
    );
}

#[test]
fn schedulers_of_kube_router_become_policies() {
    let with = |annotations: serde_json::Value| {
        let (result, warnings) = read_service(&[("/metadata/annotations", annotations)]);
        let Ok(Converted::Taken(spec)) = result else { panic!("{result:?}") };
        (spec.policy, spec.policy_settings, warnings)
    };
    let some = |text: &str| Some(text.to_owned());
    let (scheduler, flags) = ("kube-router.io/service.scheduler", "kube-router.io/service.schedflags");
    assert_eq!(with(json!({ scheduler: "lc" })), (some("least-connections"), None, vec![]));
    let hashed = with(json!({ scheduler: "sh", flags: "flag-1, flag-2" }));
    assert_eq!(hashed, (some("source-hash"), some(r#"{"include-port": true}"#), vec![]));
    let own = with(json!({ scheduler: "sh", "weir.proxy/policy": "random" }));
    assert_eq!(own, (some("random"), None, vec![]), "Weir's own annotation wins");
    let (policy, _, warnings) = with(json!({ scheduler: "lblc" }));
    assert!(policy.is_none() && warnings[0].contains(scheduler) && warnings[0].contains("caches"), "{warnings:?}");
}

#[test]
fn what_policies_may_ask_for_is_kept() {
    let spec = taken(&[(
        "/metadata/annotations",
        json!({ "weir.proxy/policy": "mine", "weir.proxy/colour": "blue", "service.cilium.io/x": "1", "other.io/y": "2" }),
    )]);
    let kept: Vec<(&str, &str)> = spec.annotations.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(kept, [("service.cilium.io/x", "1"), ("weir.proxy/colour", "blue")]);
}

#[test]
fn everything_a_service_can_say() {
    let spec = taken(&[
        ("/metadata/namespace", json!("shop")),
        ("/metadata/creationTimestamp", json!("1970-01-02T00:00:00Z")),
        (
            "/metadata/annotations",
            json!({ "weir.proxy/policy": " weighted ", "weir.proxy/policy-settings": "{\"a\": 1}" }),
        ),
        ("/spec/type", json!("LoadBalancer")),
        ("/spec/clusterIPs", json!(["10.0.0.1", "fd00::1"])),
        ("/spec/externalIPs", json!(["192.0.2.1", "192.0.2.1"])),
        (
            "/spec/ports",
            json!([
                { "name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053 },
                { "name": "dns", "port": 53, "protocol": "TCP", "nodePort": 30053 },
                { "name": "diameter", "port": 3868, "protocol": "SCTP", "targetPort": "named" },
            ]),
        ),
        ("/spec/internalTrafficPolicy", json!("Local")),
        ("/spec/externalTrafficPolicy", json!("Local")),
        ("/spec/sessionAffinity", json!("ClientIP")),
        (
            "/status",
            json!({ "loadBalancer": { "ingress": [
            { "ip": "203.0.113.1", "ipMode": "VIP" }, { "ip": "203.0.113.2" },
            { "ip": "203.0.113.3", "ipMode": "Proxy" }, { "hostname": "lb.example" },
        ] } }),
        ),
    ]);
    assert_eq!((spec.key.to_string(), spec.created), ("shop/web".to_owned(), Some(86_400)));
    assert_eq!(spec.kind, ServiceKind::LoadBalancer);
    assert_eq!(spec.cluster_ips, [ip("10.0.0.1"), ip("fd00::1")]);
    assert_eq!(spec.external_ips, [ip("192.0.2.1")]);
    assert_eq!(spec.load_balancer_ips, [ip("203.0.113.1"), ip("203.0.113.2")]);
    let ports: Vec<_> =
        spec.ports.iter().map(|port| (port.name.as_str(), port.protocol, port.port, port.node_port)).collect();
    assert_eq!(
        ports,
        [("dns", Protocol::Udp, 53, 30053), ("dns", Protocol::Tcp, 53, 30053), ("diameter", Protocol::Sctp, 3868, 0),]
    );
    assert_eq!((spec.internal_policy, spec.external_policy), (TrafficPolicy::Local, TrafficPolicy::Local));
    assert_eq!(spec.affinity_seconds, 10_800);
    assert_eq!((spec.policy.as_deref(), spec.policy_settings.as_deref()), (Some("weighted"), Some("{\"a\": 1}")));
}

#[test]
fn affinity_has_a_time() {
    let timeout = "/spec/sessionAffinityConfig/clientIP/timeoutSeconds";
    let client_ip = ("/spec/sessionAffinity", json!("ClientIP"));
    assert_eq!(taken(&[client_ip.clone(), (timeout, json!(60))]).affinity_seconds, 60);
    assert_eq!(taken(&[(timeout, json!(60))]).affinity_seconds, 0, "a time without affinity means nothing");
}

/// Headless and ExternalName Services exist, without an address anything could be programmed for.
#[test]
fn some_services_have_no_address() {
    let external = ("/spec/externalIPs", json!(["192.0.2.1"]));
    for change in [
        ("/spec/clusterIP", json!("None")),
        ("/spec/clusterIPs", json!(["None"])),
        ("/spec/type", json!("ExternalName")),
    ] {
        let spec = taken(&[
            change,
            external.clone(),
            ("/status", json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.1" }] } })),
        ]);
        assert_eq!((spec.cluster_ips, spec.external_ips, spec.load_balancer_ips), (Vec::new(), Vec::new(), Vec::new()));
    }
    let (result, warnings) = read_service(&[("/spec/clusterIP", json!(""))]);
    assert!(matches!(result, Ok(Converted::Taken(spec)) if spec.cluster_ips.is_empty()));
    assert!(warnings[0].starts_with("spec.clusterIP: not set"), "{warnings:?}");
}

#[test]
fn addresses_are_read_leniently_and_kept_canonically() {
    for (text, expected) in [
        ("010.000.000.001", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:010.0.0.01", "10.0.0.1"),
        ("FD00:0:0::0001", "fd00::1"),
    ] {
        assert_eq!(taken(&[("/spec/clusterIP", json!(text))]).cluster_ips, [ip(expected)], "{text}");
    }
    for text in ["10.0.0", "10.0.0.256", "10.0.0.1.1", "10.0.0.0x1", "fd00::1%eth0", " 10.0.0.1", "10..0.1", "web"] {
        assert_eq!(address::parse(text), None, "{text}");
    }
}

#[test]
fn a_bad_field_is_named() {
    for (pointer, value, expected) in [
        ("/metadata/name", json!(""), "metadata.name: required"),
        (
            "/spec/type",
            json!("clusterip"),
            "spec.type: \"clusterip\" is none of ClusterIP, NodePort, LoadBalancer, ExternalName",
        ),
        ("/spec/clusterIP", json!("10.0.0"), "spec.clusterIP: \"10.0.0\" is not an IP address"),
        ("/spec/clusterIP", json!("0.0.0.0"), "spec.clusterIP: 0.0.0.0 cannot be the address of a Service"),
        ("/spec/clusterIPs", json!(["10.0.0.1", "::1%2"]), "spec.clusterIPs[1]: \"::1%2\" is not an IP address"),
        (
            "/spec/clusterIPs",
            json!(["10.0.0.1", "10.0.0.2"]),
            "spec.clusterIPs[1]: 10.0.0.2 is a second address of its IP family; one a family is allowed",
        ),
        (
            "/spec/externalIPs",
            json!(["127.0.0.1"]),
            "spec.externalIPs[0]: 127.0.0.1 is a loopback address, which is not allowed here",
        ),
        (
            "/spec/externalIPs",
            json!(["fe80::1"]),
            "spec.externalIPs[0]: fe80::1 is a link-local address, which is not allowed here",
        ),
        ("/spec/externalIPs", json!(["::"]), "spec.externalIPs[0]: :: cannot be the address of a Service"),
        ("/spec/ports/0/port", json!(0), "spec.ports[0].port: 0 is not in 1 to 65535"),
        ("/spec/ports/0/port", json!(65536), "spec.ports[0].port: 65536 is not in 1 to 65535"),
        ("/spec/ports/0/nodePort", json!(-1), "spec.ports[0].nodePort: -1 is not in 0 to 65535"),
        ("/spec/ports/0/protocol", json!("tcp"), "spec.ports[0].protocol: \"tcp\" is none of TCP, UDP, SCTP"),
        (
            "/spec/ports",
            json!([{ "name": "a", "port": 1 }, { "name": "a", "port": 2 }]),
            "spec.ports[1].name: \"a\" is taken by an earlier port of this Service with the same protocol",
        ),
        (
            "/spec/ports",
            json!([{ "name": "a", "port": 1 }, { "name": "b", "port": 1 }]),
            "spec.ports[1].port: 1 is taken by an earlier port of this Service with the same protocol",
        ),
        (
            "/spec/ports",
            json!([{ "name": "a", "port": 1, "nodePort": 3 }, { "name": "b", "port": 2, "nodePort": 3 }]),
            "spec.ports[1].nodePort: 3 is taken by an earlier port of this Service with the same protocol",
        ),
        (
            "/spec/internalTrafficPolicy",
            json!("local"),
            "spec.internalTrafficPolicy: \"local\" is neither Cluster nor Local",
        ),
        ("/spec/externalTrafficPolicy", json!("x"), "spec.externalTrafficPolicy: \"x\" is neither Cluster nor Local"),
        ("/spec/sessionAffinity", json!("Cookie"), "spec.sessionAffinity: \"Cookie\" is neither None nor ClientIP"),
    ] {
        let (result, warnings) = read_service(&[(pointer, value)]);
        assert_eq!((result, warnings), (Err(expected.to_owned()), Vec::new()));
    }
    let (result, _) = read_service(&[
        ("/spec/sessionAffinity", json!("ClientIP")),
        ("/spec/sessionAffinityConfig/clientIP/timeoutSeconds", json!(86_401)),
    ]);
    let expected = "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is not in 1 to 86400";
    assert_eq!(result, Err(expected.to_owned()));
}

#[test]
fn some_faults_cost_only_themselves() {
    for (pointer, value, expected) in [
        (
            "/metadata/annotations/weir.proxy~1policy-settings",
            json!("{a: 1}"),
            "metadata.annotations[weir.proxy/policy-settings]: not JSON, so the policy gets no settings: ",
        ),
        (
            "/status/loadBalancer/ingress",
            json!([{ "ip": "nowhere" }, { "ip": "203.0.113.1" }]),
            "status.loadBalancer.ingress[0].ip: \"nowhere\" is not an IP address",
        ),
    ] {
        let (result, warnings) = read_service(&[(pointer, value)]);
        assert!(
            matches!(result, Ok(Converted::Taken(spec)) if spec.policy_settings.is_none() && spec.cluster_ips.len() == 1)
        );
        assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{warnings:?}");
    }
}

#[test]
fn some_objects_are_not_ours() {
    let (result, _) = read_service(&[("/metadata/labels/service.kubernetes.io~1service-proxy-name", json!("other"))]);
    assert!(matches!(result, Ok(Converted::Ignored(why)) if why.contains("another proxy")));
    for (pointer, value, expected) in [
        ("/metadata/labels/service.kubernetes.io~1headless", json!(""), "headless"),
        ("/metadata/labels", json!({}), "kubernetes.io/service-name"),
        ("/addressType", json!("FQDN"), "FQDN"),
    ] {
        let (result, _) = read_slice(&[(pointer, value)]);
        assert!(matches!(result, Ok(Converted::Ignored(why)) if why.contains(expected)), "{pointer}");
    }
}

#[test]
fn what_a_plain_slice_means() {
    let spec = taken_slice(&[]);
    assert_eq!((spec.key.to_string(), spec.service.to_string()), ("shop/web-1".to_owned(), "shop/web".to_owned()));
    let endpoint = |address: &str| EndpointSpec::ready(ip(address));
    assert_eq!(spec.endpoints, [endpoint("10.1.0.1"), endpoint("10.1.0.3")], "first address only");
    assert_eq!(
        spec.ports.iter().map(|port| (port.name.as_str(), port.protocol, port.port)).collect::<Vec<_>>(),
        [("http", Protocol::Tcp, 8080)]
    );
}

#[test]
fn everything_an_endpoint_can_say() {
    let spec = taken_slice(&[
        ("/metadata/annotations/weir.proxy~1weight", json!("250")),
        ("/endpoints/0/nodeName", json!("node-a")),
        ("/endpoints/0/zone", json!("zone-1")),
        ("/endpoints/0/hints", json!({ "forZones": [{ "name": "zone-1" }], "forNodes": [{ "name": "node-a" }] })),
        ("/endpoints/0/conditions", json!({ "ready": false, "serving": true, "terminating": true })),
        ("/endpoints/1/conditions", json!({ "ready": null, "serving": false })),
    ]);
    let [first, second] = &spec.endpoints[..] else { panic!("{:?}", spec.endpoints) };
    assert_eq!((first.node.as_deref(), first.zone.as_deref()), (Some("node-a"), Some("zone-1")));
    assert_eq!(
        (&first.hint_zones[..], &first.hint_nodes[..]),
        (&["zone-1".to_owned()][..], &["node-a".to_owned()][..])
    );
    assert_eq!(first.conditions, Conditions::SERVING | Conditions::TERMINATING);
    assert_eq!(second.conditions, Conditions::READY);
    assert_eq!((first.weight, second.weight), (250, 250));
}

#[test]
fn slice_ports_without_a_number_are_left_out() {
    let ports = json!([{ "name": "every" }, { "name": "none", "port": 0 }, { "port": 53, "protocol": "UDP" }]);
    let spec = taken_slice(&[("/ports", ports)]);
    assert_eq!(
        spec.ports.iter().map(|port| (port.name.as_str(), port.protocol, port.port)).collect::<Vec<_>>(),
        [("", Protocol::Udp, 53)]
    );
    assert_eq!(taken_slice(&[("/endpoints", json!(null)), ("/ports", json!(null))]).endpoints, []);
}

#[test]
fn a_bad_endpoint_costs_only_itself() {
    for (addresses, expected) in [
        (json!(["fd00::1"]), "endpoints[0].addresses[0]: fd00::1 is not of the slice's addressType"),
        (json!(["10.1.0"]), "endpoints[0].addresses[0]: \"10.1.0\" is not an IP address"),
        (json!([]), "endpoints[0].addresses[0]: \"\" is not an IP address"),
        (
            json!(["169.254.1.1"]),
            "endpoints[0].addresses[0]: 169.254.1.1 is a link-local address, which is not allowed here",
        ),
    ] {
        let (result, warnings) = read_slice(&[("/endpoints/0/addresses", addresses)]);
        assert!(matches!(result, Ok(Converted::Taken(spec)) if spec.endpoints.len() == 1));
        assert_eq!(warnings, [expected]);
    }
    let (result, warnings) = read_slice(&[("/metadata/annotations/weir.proxy~1weight", json!("65536"))]);
    assert!(matches!(result, Ok(Converted::Taken(spec)) if spec.endpoints[0].weight == 1));
    assert_eq!(warnings, ["metadata.annotations[weir.proxy/weight]: \"65536\" is not in 0 to 65535; the weight is 1"]);
}

#[test]
fn a_bad_slice_field_is_named() {
    for (pointer, value, expected) in [
        ("/metadata/name", json!(null), "metadata.name: required"),
        ("/addressType", json!("IPv5"), "addressType: \"IPv5\" is none of IPv4, IPv6, FQDN"),
        ("/ports/0/port", json!(70_000), "ports[0].port: 70000 is not in 1 to 65535"),
        ("/ports/0/protocol", json!("QUIC"), "ports[0].protocol: \"QUIC\" is none of TCP, UDP, SCTP"),
    ] {
        assert_eq!(read_slice(&[(pointer, value)]).0, Err(expected.to_owned()));
    }
}

#[test]
fn a_slice_tells_when_its_change_began() {
    let at = |text: &str| {
        let annotations = json!({ "endpoints.kubernetes.io/last-change-trigger-time": text });
        taken_slice(&[("/metadata/annotations", annotations)]).triggered
    };
    assert_eq!(at("1970-01-01T00:00:01.5Z"), Some(1500));
    assert_eq!(at("2026-11-21T08:00:00+01:00"), Some(1_795_244_400_000));
    // A metric is no reason to complain about a slice.
    assert_eq!(at("yesterday"), None);
    assert_eq!(taken_slice(&[]).triggered, None);
}

#[test]
fn a_node_that_goes_away_says_so() {
    let leaving = |object: Value| {
        let object: k8s_openapi::api::core::v1::Node = serde_json::from_value(object).expect("a Node");
        node(&object).expect("a good Node").leaving
    };
    let taint = |key: &str| json!({ "spec": { "taints": [{ "key": key, "effect": "NoSchedule" }] } });
    assert!(!leaving(json!({})));
    assert!(!leaving(taint("node.kubernetes.io/unschedulable")));
    assert!(leaving(taint("ToBeDeletedByClusterAutoscaler")));
    assert!(leaving(json!({ "metadata": { "deletionTimestamp": "2026-11-21T08:00:00Z" } })));
}
