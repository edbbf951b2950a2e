//! Inner state as text and JSON, sorted, so that two answers can be compared.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use weir_model::{Conditions, Names, Port, Service};
use weir_nft::{Ruleset, text};
use weir_plan::{Frontend, FrontendAddress, PlanRing, PortPlan, Target};
use weir_policy::Record;

use super::super::http::Page;
use super::super::question::{Decided, LastTransaction, Snapshot};
use crate::metrics::ip_family;
use crate::policies::Board;

fn json_page(value: &impl Serialize) -> Page {
    match serde_json::to_string_pretty(value) {
        Ok(body) => Page::json(StatusCode::OK, body),
        Err(error) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// The cluster as the store has it, by namespace and name.
pub(super) fn services(snapshot: &Snapshot) -> Page {
    let mut services: Vec<_> = snapshot.services.iter().collect();
    services.sort_by(|(one, _), (next, _)| one.key.cmp(&next.key));
    let shown: Vec<Value> = services.into_iter().map(|(one, ports)| service(one, ports, &snapshot.names)).collect();
    json_page(&shown)
}

/// Calls to policies as they can be repeated by `weir policy run --replay`.
pub(super) fn records(records: &[Record]) -> Page {
    if records.is_empty() {
        return Page::text(StatusCode::NOT_FOUND, "no policy is asked about such a Service\n");
    }
    json_page(&records)
}

fn service(service: &Service, ports: &[Port], names: &Names) -> Value {
    let port = |port: &Port| {
        let endpoints = port.endpoints.iter().map(|endpoint| {
            let Conditions(flags) = endpoint.conditions;
            json!({
                "address": std::net::SocketAddr::new(endpoint.address, endpoint.port).to_string(),
                "node": names.get(endpoint.node),
                "zone": names.get(endpoint.zone),
                "ready": endpoint.conditions.has(Conditions::READY),
                "serving": endpoint.conditions.has(Conditions::SERVING),
                "terminating": endpoint.conditions.has(Conditions::TERMINATING),
                "local": endpoint.conditions.has(Conditions::LOCAL),
                "conditions": flags,
                "weight": endpoint.weight,
            })
        });
        json!({
            "name": names.get(port.spec.name),
            "protocol": port.spec.protocol.to_string(),
            "family": ip_family(port.key.family),
            "port": port.spec.port,
            "nodePort": port.spec.node_port,
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    };
    json!({
        "namespace": service.key.namespace,
        "name": service.key.name,
        "type": format!("{:?}", service.kind),
        "clusterIPs": service.cluster_ips,
        "externalIPs": service.external_ips,
        "loadBalancerIPs": service.load_balancer_ips,
        "sourceRanges": service.source_ranges,
        "internalTrafficPolicy": format!("{:?}", service.internal_policy),
        "externalTrafficPolicy": format!("{:?}", service.external_policy),
        "healthCheckNodePort": service.health_check_node_port,
        "affinitySeconds": service.affinity_seconds,
        "policy": names.get(service.policy),
        "ports": ports.iter().map(port).collect::<Vec<_>>(),
    })
}

/// Every port's plan, by name and family.
pub(super) fn plan(plans: &[PortPlan]) -> Page {
    let mut plans: Vec<_> = plans.iter().collect();
    plans.sort_by(|one, next| {
        (&one.name, one.key.protocol, one.key.family).cmp(&(&next.name, next.key.protocol, next.key.family))
    });
    json_page(&plans.into_iter().map(port_plan).collect::<Vec<_>>())
}

fn port_plan(plan: &PortPlan) -> Value {
    let frontend = |frontend: &Frontend| {
        let address = match frontend.address {
            FrontendAddress::Ip(ip) => std::net::SocketAddr::new(ip, frontend.port).to_string(),
            FrontendAddress::NodePort => format!("node:{}", frontend.port),
        };
        json!({"address": address, "kind": frontend.kind.to_string(), "treatment": format!("{:?}", frontend.treatment)})
    };
    json!({
        "port": &*plan.name,
        "protocol": plan.key.protocol.to_string(),
        "family": ip_family(plan.key.family),
        "frontends": plan.frontends.iter().map(frontend).collect::<Vec<_>>(),
        "cluster": plan.cluster.as_ref().map(|list| ring(list, &plan.targets)),
        "local": plan.local.as_ref().map(|list| ring(list, &plan.targets)),
        "sourceRanges": plan.source_ranges,
    })
}

/// A list: how a slot is picked, and how many of the slots each endpoint has.
fn ring(ring: &PlanRing, targets: &[Target]) -> Value {
    let mut slots: BTreeMap<String, u32> = BTreeMap::new();
    for target in ring.slots.iter().filter_map(|slot| targets.get(usize::from(*slot))) {
        *slots.entry(std::net::SocketAddr::new(target.address, target.port).to_string()).or_default() += 1;
    }
    json!({"index": format!("{:?}", ring.index), "slots": slots, "affinitySeconds": ring.affinity_seconds})
}

/// The rules, in nft syntax.
pub(super) fn rules(rules: &Ruleset) -> Page {
    Page::text(StatusCode::OK, text::ruleset(rules))
}

/// What was last sent, in nft syntax.
pub(super) fn transaction(last: &LastTransaction) -> Page {
    let body = match last {
        LastTransaction::None => "# nothing was sent yet\n".to_owned(),
        LastTransaction::Kept(transaction) => text::transaction(transaction),
        LastTransaction::Shortened(text) => text.to_string(),
    };
    Page::text(StatusCode::OK, body)
}

/// The policies from outside, how ports are decided, and which ports are left out.
pub(super) fn policies(decided: &Decided, board: &Board) -> Page {
    let left_out = decided.quarantined.iter().map(|(port, why)| json!({"port": port, "why": why}));
    let now = std::time::Instant::now();
    let resting = decided.resting.iter().map(|(port, rest)| {
        json!({
            "policy": &*rest.policy,
            "port": port,
            "reason": rest.reason.as_str(),
            "message": rest.message,
            "failures": rest.failures,
            "secondsLeft": rest.until.saturating_duration_since(now).as_secs(),
        })
    });
    json_page(&json!({
        "policies": board.snapshot(),
        "portsByDecision": decided.ports,
        "decisionsDigest": format!("{:016x}", decided.digest),
        "resting": resting.collect::<Vec<_>>(),
        "quarantined": left_out.collect::<Vec<_>>(),
    }))
}
