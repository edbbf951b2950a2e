//! What the benches share: clusters of any size, as the model takes them and ([`objects`]) as an API server tells them;
//! the [`peer`], and [`memory`].

pub mod memory;
pub mod objects;
pub mod peer;

use std::net::{IpAddr, Ipv4Addr};

use weir_model::{
    EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec,
    Store,
};
use weir_nft::{Dataplane, Installed};
use weir_plan::{LocalPods, NodeFacts};
use weir_policy::{Catalog, Decider, Engine, Limits};

/// Name of the node the benches run as.
pub const NODE: &str = "node-0";

/// Where the pods of [`cluster`] live.
pub const POD_NETWORK: &str = "11.0.0.0/8";

/// Nodes the endpoints are spread over; one of them is ours.
const NODES: usize = 100;

/// The complete list of a cluster: `services` ClusterIP Services with one TCP port and `endpoints` endpoints each.
#[must_use]
pub fn cluster(services: usize, endpoints: usize) -> Event {
    Event::Replace {
        services: (0..services).map(service).collect(),
        slices: (0..services).map(|service| slice(service, endpoints, 0)).collect(),
    }
}

fn key(prefix: &str, number: usize) -> ObjectKey {
    ObjectKey { namespace: format!("ns-{}", number % 50), name: format!("{prefix}-{number}") }
}

fn address(base: u32, number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(base + u32::try_from(number).expect("few enough for IPv4")))
}

/// Service `number`: one ClusterIP, one TCP port.
#[must_use]
pub fn service(number: usize) -> ServiceSpec {
    ServiceSpec {
        key: key("service", number),
        cluster_ips: vec![address(0x0a60_0000, number)],
        ports: vec![ServicePortSpec { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
        ..ServiceSpec::default()
    }
}

/// The slice of Service `number`. Each `generation` replaces its last endpoint by another.
#[must_use]
pub fn slice(number: usize, endpoints: usize, generation: usize) -> SliceSpec {
    partial_slice(number, endpoints, endpoints, generation)
}

/// The first `live` endpoints of [`slice`].
#[must_use]
pub fn partial_slice(number: usize, endpoints: usize, live: usize, generation: usize) -> SliceSpec {
    let endpoint = |at: usize| {
        let moved = if at + 1 == endpoints { generation % 2 * endpoints } else { 0 };
        EndpointSpec {
            node: Some(format!("node-{}", (number + at) % NODES)),
            ..EndpointSpec::ready(address(0x0b00_0000, number * endpoints * 2 + at + moved))
        }
    };
    SliceSpec {
        key: key("slice", number),
        service: key("service", number),
        family: Family::V4,
        ports: vec![SlicePort { name: "http".to_owned(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: (0..live).map(endpoint).collect(),
        triggered: None,
    }
}

/// An empty store of the benches' node.
#[must_use]
pub fn store() -> Store {
    Store::new(NodeIdentity { name: NODE.to_owned(), zone: String::new() })
}

/// The built-in policies.
///
/// # Panics
/// When they do not load.
#[must_use]
pub fn catalog() -> Catalog {
    let engine = Engine::new(Limits::default()).expect("an engine");
    Catalog::new(&engine, "kubernetes", "random").expect("the built-in policies")
}

/// A pipeline that has seen nothing.
#[must_use]
pub fn pipeline<D: Dataplane>(catalog: &Catalog, dataplane: D) -> weir::pipeline::Pipeline<D> {
    pipeline_among(POD_NETWORK, catalog, dataplane)
}

/// The same on a node whose pods live in `pods`.
///
/// # Panics
/// When `pods` is no network.
#[must_use]
pub fn pipeline_among<D: Dataplane>(pods: &str, catalog: &Catalog, dataplane: D) -> weir::pipeline::Pipeline<D> {
    let local_pods = LocalPods::Networks(vec![pods.parse().expect("a network")]);
    let facts = NodeFacts { local_pods, ..NodeFacts::default() };
    weir::pipeline::Pipeline::new(store(), Decider::new(catalog.clone()), Installed::new(facts), dataplane)
}
