//! The built-in policy `kubernetes` against the rules it implements, written down a second time.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::cell::RefCell;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use weir_model::{
    Conditions, Decision, Endpoint, EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, Ring, Route,
    ServiceKind, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec, Store, TrafficPolicy,
};
use weir_policy::{Catalog, Decider, Engine, Limits};

/// What `CategorizeEndpoints` of Kubernetes' pkg/proxy/topology.go and the verdicts built on it come to: positions
/// of the cluster list, of the local list, the two routes, and the short cut.
type Verdict = (Vec<usize>, Vec<usize>, Route, Option<Route>, bool);

fn reference(internal: TrafficPolicy, external: TrafficPolicy, has_external: bool, endpoints: &[Endpoint]) -> Verdict {
    let has = |at: usize, flags| endpoints[at].conditions.has(flags);
    let use_cluster = internal != TrafficPolicy::Local || has_external;
    let use_local = internal == TrafficPolicy::Local || (external == TrafficPolicy::Local && has_external);
    let ready: Vec<usize> = (0..endpoints.len()).filter(|at| has(*at, Conditions::READY)).collect();
    let stopping: Vec<usize> = (0..endpoints.len())
        .filter(|at| !has(*at, Conditions::READY) && has(*at, Conditions::SERVING | Conditions::TERMINATING))
        .collect();
    let hinted = |any, here| ready.iter().all(|at| has(*at, any)) && ready.iter().any(|at| has(*at, here));
    let close = if hinted(Conditions::NODE_HINTS, Conditions::HINTS_THIS_NODE) {
        Conditions::HINTS_THIS_NODE
    } else if hinted(Conditions::ZONE_HINTS, Conditions::HINTS_THIS_ZONE) {
        Conditions::HINTS_THIS_ZONE
    } else {
        Conditions::default()
    };
    let that_are = |list: &[usize], flags| list.iter().copied().filter(|at| has(*at, flags)).collect::<Vec<_>>();
    let or = |list: Vec<usize>, other: Vec<usize>| if list.is_empty() { other } else { list };
    let cluster = if use_cluster { or(that_are(&ready, close), stopping.clone()) } else { Vec::new() };
    let local = if use_local {
        or(that_are(&ready, Conditions::LOCAL), that_are(&stopping, Conditions::LOCAL))
    } else {
        Vec::new()
    };
    let any = !cluster.is_empty() || (use_local && !(ready.is_empty() && stopping.is_empty()));
    let route = |policy| match policy {
        _ if !any => Route::Reject,
        TrafficPolicy::Cluster => Route::Cluster,
        TrafficPolicy::Local if local.is_empty() => Route::Drop,
        TrafficPolicy::Local => Route::Local,
    };
    let short_cut = has_external && external == TrafficPolicy::Local && !cluster.is_empty();
    let routes = (route(internal), has_external.then(|| route(external)));
    (cluster, local, routes.0, routes.1, short_cut)
}

fn seen(decision: &Decision, endpoints: &[Endpoint], has_external: bool) -> Verdict {
    let position = |slot: &u16| {
        let backend = decision.backends[usize::from(*slot)];
        endpoints.iter().position(|endpoint| endpoint.id == backend.id).expect("a backend is one of the endpoints")
    };
    let list = |ring: &Option<Arc<Ring>>| ring.iter().flat_map(|ring| &ring.slots).map(position).collect();
    let external = has_external.then_some(decision.external);
    (list(&decision.cluster), list(&decision.local), decision.internal, external, decision.short_cut)
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)]
}

/// An endpoint without its address. Few nodes and zones, so that hints often agree.
fn endpoint() -> impl Strategy<Value = EndpointSpec> {
    let conditions = prop_oneof![
        4 => Just(Conditions::ready()),
        2 => Just(Conditions::SERVING | Conditions::TERMINATING),
        1 => Just(Conditions::SERVING),
        1 => Just(Conditions::TERMINATING),
        1 => Just(Conditions::ready() | Conditions::TERMINATING),
    ];
    let node = prop::option::of(prop_oneof![Just("here"), Just("there")]);
    let zones = prop_oneof![2 => Just(vec!["zone-a"]), 1 => Just(vec!["zone-b"]), 1 => Just(vec![])];
    let nodes = prop_oneof![3 => Just(vec!["here"]), 1 => Just(vec!["there"]), 1 => Just(vec![])];
    (conditions, node, zones, nodes).prop_map(|(conditions, node, zones, nodes)| EndpointSpec {
        address: [0, 0, 0, 0].into(),
        node: node.map(str::to_owned),
        zone: None,
        conditions,
        hint_zones: zones.into_iter().map(str::to_owned).collect(),
        hint_nodes: nodes.into_iter().map(str::to_owned).collect(),
        weight: 1,
        pod: None,
    })
}

fn service() -> impl Strategy<Value = (TrafficPolicy, TrafficPolicy, bool, Vec<EndpointSpec>)> {
    (policy(), policy(), any::<bool>(), prop::collection::vec(endpoint(), 0..6))
}

fn list(services: Vec<(TrafficPolicy, TrafficPolicy, bool, Vec<EndpointSpec>)>) -> Event {
    let key = |at: usize| ObjectKey { namespace: "default".to_owned(), name: format!("service-{at}") };
    let (mut specs, mut slices) = (Vec::new(), Vec::new());
    for (at, (internal_policy, external_policy, external, mut endpoints)) in services.into_iter().enumerate() {
        specs.push(ServiceSpec {
            key: key(at),
            kind: ServiceKind::NodePort,
            cluster_ips: vec!["10.96.0.1".parse().expect("an address")],
            ports: vec![ServicePortSpec {
                name: String::new(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: if external { 30_080 } else { 0 },
            }],
            internal_policy,
            external_policy,
            ..ServiceSpec::default()
        });
        for (endpoint, host) in endpoints.iter_mut().zip(1..) {
            endpoint.address = [10, 244, 0, host].into();
        }
        slices.push(SliceSpec {
            key: key(at),
            service: key(at),
            family: Family::V4,
            ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
            endpoints,
            triggered: None,
        });
    }
    Event::Replace { services: specs, slices }
}

#[test]
fn the_guest_agrees_with_the_rules() {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let catalog = Catalog::new(&engine, "kubernetes", "random").expect("the built-in policies");
    let node = NodeIdentity { name: "here".to_owned(), zone: "zone-a".to_owned() };
    // One store and one decider for all cases: so memory of earlier ones is under test, too.
    let state = RefCell::new((Store::new(node), Decider::new(catalog)));
    let services = prop::collection::vec(service(), 1..30);
    let agrees = TestRunner::new(Config::with_cases(200)).run(&services, |services| {
        let (store, decider) = &mut *state.borrow_mut();
        store.apply(list(services));
        store.take_dirty();
        let ids: Vec<_> = store.service_ids().collect();
        let decisions = decider.decide(store, &ids);
        prop_assert!(decisions.failures.is_empty(), "{:?}", decisions.failures);
        prop_assert_eq!(decisions.ports.len(), ids.len());
        for (key, decision) in &decisions.ports {
            let service = store.service(key.service).expect("the Service is there");
            let port = store.ports(key.service).pop().expect("it has one port");
            let external = service.is_external(&port.spec);
            let expected = reference(service.internal_policy, service.external_policy, external, &port.endpoints);
            prop_assert_eq!(seen(decision, &port.endpoints, external), expected, "{:?}", port.endpoints);
        }
        Ok(())
    });
    agrees.unwrap_or_else(|error| panic!("{error}"));
}
