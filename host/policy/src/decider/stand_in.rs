//! Decisions put together: from answers, and where there is none.

use std::sync::Arc;

use weir_model::{
    Backend, Conditions, Decision, Endpoint, IndexFunction, MAX_SLOTS, Origin, Port, Ring, Route, TrafficPolicy,
};

use super::ask::Rings;
use crate::answer::Eligible;
use crate::subject::Subject;

/// Seconds until the first of those who decided a port wants another look; 0 for never.
pub(super) fn again(eligible: &Eligible, rings: &Rings) -> u32 {
    let all = rings.iter().flatten().map(|spread| spread.again).chain([eligible.again]);
    all.filter(|seconds| *seconds > 0).min().unwrap_or(0)
}

/// The reasons of all who decided a port, each once.
fn reasons(eligible: &Eligible, rings: &Rings) -> Arc<str> {
    let mut reasons: Vec<&Arc<str>> = Vec::new();
    for reason in [&eligible.reason].into_iter().chain(rings.iter().flatten().map(|spread| &spread.reason)) {
        if !reason.is_empty() && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    match reasons[..] {
        [] => Arc::default(),
        [one] => one.clone(),
        _ => reasons.iter().map(|reason| &***reason).collect::<Vec<_>>().join("; ").into(),
    }
}

/// The decision that these answers come to.
pub(super) fn assemble(subject: &Subject, eligible: &Eligible, rings: Rings, origin: Origin) -> Decision {
    let reason = reasons(eligible, &rings);
    let [cluster, local] = rings.map(|spread| spread.map(|spread| spread.ring.clone()));
    Decision {
        backends: subject.port.endpoints.iter().map(backend).collect(),
        cluster,
        local,
        internal: eligible.internal,
        external: eligible.external,
        short_cut: eligible.short_cut,
        reason,
        origin,
    }
}

/// The last good answer less the endpoints that cannot serve any more. `None` when that leaves a list empty that
/// clients are sent to, or when it turns clients away who could be served by now.
pub(super) fn last_good(last: &Decision, subject: &Subject) -> Option<Decision> {
    let endpoints = &subject.port.endpoints;
    let any_ready = subject.any_ready(Conditions::default());
    let usable = |endpoint: &Endpoint| {
        !any_ready || [Conditions::READY, Conditions::SERVING].iter().any(|flag| endpoint.conditions.has(*flag))
    };
    let can_serve = |backend: &Backend| {
        let place = |endpoint: &Endpoint| (endpoint.address, endpoint.port);
        let found = endpoints.binary_search_by_key(&(backend.address, backend.port), place);
        found.is_ok_and(|at| usable(&endpoints[at]))
    };
    let alive: Vec<bool> = last.backends.iter().map(can_serve).collect();
    let thin = |ring: &Arc<Ring>| {
        let slots: Vec<u16> = ring.slots.iter().copied().filter(|slot| alive[usize::from(*slot)]).collect();
        (!slots.is_empty())
            .then(|| Arc::new(Ring { slots, index: ring.index, affinity_seconds: ring.affinity_seconds }))
    };
    let (cluster, local) = (last.cluster.as_ref().and_then(thin), last.local.as_ref().and_then(thin));
    let justified = |route, scope| match route {
        Route::Cluster => cluster.is_some(),
        Route::Local => local.is_some(),
        Route::Reject => !any_ready,
        Route::Drop => scope == TrafficPolicy::Local && !subject.any_ready(Conditions::LOCAL),
    };
    // Where there is no way in from outside, the external route repeats the internal one.
    let external = if subject.has_external { subject.external } else { subject.internal };
    (justified(last.internal, subject.internal) && justified(last.external, external)).then(|| Decision {
        cluster,
        local,
        origin: Origin::LastGood,
        ..last.clone()
    })
}

/// Uniform random over ready endpoints: the one algorithm the host has itself.
pub(super) fn last_resort(port: &Port) -> Decision {
    let ready: Vec<Backend> = port
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.conditions.has(Conditions::READY))
        .take(MAX_SLOTS)
        .map(backend)
        .collect();
    let slots: Vec<u16> = (0..).take(ready.len()).collect();
    let ring = Ring { index: IndexFunction::Random, slots, affinity_seconds: 0 };
    let route = if ready.is_empty() { Route::Reject } else { Route::Cluster };
    Decision {
        cluster: (!ready.is_empty()).then(|| Arc::new(ring)),
        backends: ready,
        local: None,
        internal: route,
        external: route,
        short_cut: false,
        reason: Arc::from("every policy failed"),
        origin: Origin::LastResort,
    }
}

fn backend(endpoint: &Endpoint) -> Backend {
    Backend {
        address: endpoint.address,
        port: endpoint.port,
        id: endpoint.id,
        local: endpoint.conditions.has(Conditions::LOCAL),
    }
}
