//! Questions and answers of contract 0.1, put into the words of the present one.

use crate::bindings::exports::weir::policy::{balancer, traffic_policy};
use crate::bindings::v0_1::exports::weir::policy as old;
use crate::bindings::v0_1::weir::policy::types as old_types;
use crate::bindings::weir::policy::types;

/// The ports and endpoints of a question.
pub(super) fn ports(
    ports: &[traffic_policy::Port],
    endpoints: &types::Columns,
) -> (Vec<old::traffic_policy::Port>, Vec<old::traffic_policy::Endpoint>) {
    let port = |port: &traffic_policy::Port| old::traffic_policy::Port {
        id: port.id,
        number: port.number,
        protocol: protocol(port.protocol),
        internal: scope(port.internal),
        external: scope(port.external),
        has_external: port.has_external,
        first: port.first,
        count: port.count,
    };
    let endpoint = |(id, bits): (&u32, &u8)| old::traffic_policy::Endpoint { id: *id, conditions: conditions(*bits) };
    (ports.iter().map(port).collect(), endpoints.ids.iter().zip(&endpoints.conditions).map(endpoint).collect())
}

/// The rings of a question.
pub(super) fn rings(rings: &[balancer::Ring]) -> Vec<old::balancer::Ring> {
    let ring = |ring: &balancer::Ring| old::balancer::Ring {
        id: ring.id,
        protocol: protocol(ring.protocol),
        affinity_seconds: ring.affinity_seconds,
        first: ring.first,
        count: ring.count,
    };
    rings.iter().map(ring).collect()
}

/// The answer of a traffic policy.
pub(super) fn eligibility(answer: old::traffic_policy::Eligibility) -> traffic_policy::Eligibility {
    traffic_policy::Eligibility {
        id: answer.id,
        cluster: traffic_policy::Selection::Only(answer.cluster),
        local: traffic_policy::Selection::Only(answer.local),
        internal: route(answer.internal),
        external: route(answer.external),
        short_cut: answer.short_cut,
        again_seconds: 0,
        reason: answer.reason,
    }
}

/// The answer of a balancer.
pub(super) fn spread(answer: old::balancer::Spread) -> balancer::Spread {
    balancer::Spread {
        id: answer.id,
        index: match answer.index {
            old::balancer::IndexFunction::Random => balancer::IndexFunction::Random,
            old::balancer::IndexFunction::RoundRobin => balancer::IndexFunction::RoundRobin,
            old::balancer::IndexFunction::SourceHash => balancer::IndexFunction::SourceHash,
            old::balancer::IndexFunction::FlowHash => balancer::IndexFunction::FlowHash,
        },
        share: match answer.share {
            old::balancer::Share::Equal => balancer::Share::Equal,
            old::balancer::Share::Weights(weights) => balancer::Share::Weights(weights),
            old::balancer::Share::Slots(slots) => balancer::Share::Slots(slots),
        },
        affinity_seconds: answer.affinity_seconds,
        again_seconds: 0,
        reason: String::new(),
    }
}

/// Why there is no answer.
pub(super) fn error(error: old_types::PolicyError) -> types::PolicyError {
    match error {
        old_types::PolicyError::InvalidSettings(text) => types::PolicyError::InvalidSettings(text),
        old_types::PolicyError::Unsupported(text) => types::PolicyError::Unsupported(text),
        old_types::PolicyError::Internal(text) => types::PolicyError::Internal(text),
    }
}

fn protocol(protocol: types::Protocol) -> old_types::Protocol {
    match protocol {
        types::Protocol::Tcp => old_types::Protocol::Tcp,
        types::Protocol::Udp => old_types::Protocol::Udp,
        types::Protocol::Sctp => old_types::Protocol::Sctp,
    }
}

fn scope(scope: types::Scope) -> old_types::Scope {
    match scope {
        types::Scope::Cluster => old_types::Scope::Cluster,
        types::Scope::Local => old_types::Scope::Local,
    }
}

fn route(route: old::traffic_policy::Route) -> traffic_policy::Route {
    match route {
        old::traffic_policy::Route::Cluster => traffic_policy::Route::Cluster,
        old::traffic_policy::Route::Local => traffic_policy::Route::Local,
        old::traffic_policy::Route::Reject => traffic_policy::Route::Reject,
        old::traffic_policy::Route::Drop => traffic_policy::Route::Drop,
    }
}

fn conditions(bits: u8) -> old_types::Conditions {
    use old_types::Conditions as Old;
    // In the order of their bits, which both contracts share.
    let flags = [
        Old::READY,
        Old::SERVING,
        Old::TERMINATING,
        Old::LOCAL,
        Old::ZONE_HINTS,
        Old::HINTS_THIS_ZONE,
        Old::NODE_HINTS,
        Old::HINTS_THIS_NODE,
    ];
    (0..).zip(flags).filter(|(bit, _)| bits >> bit & 1 == 1).fold(Old::empty(), |all, (_, flag)| all | flag)
}
