//! Objects that make no sense, or want what others have: they cost themselves, and nobody else.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::net::IpAddr;

use ipnet::IpNet;
use weir::pipeline::{Outcome, Pipeline};
use weir_model::{
    EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, ServiceKind, ServicePortSpec, ServiceSpec,
    SlicePort, SliceSpec, Store,
};
use weir_nft::sim::Memory;
use weir_nft::{Installed, Op, SetName, text};
use weir_plan::{LocalPods, NodeFacts, NodePortAddresses};
use weir_policy::{Catalog, Decider, Engine, Limits};

struct Node(Pipeline<Memory>);

impl Node {
    fn new() -> Self {
        let engine = Engine::new(Limits::default()).expect("an engine");
        let catalog = Catalog::new(&engine, "kubernetes", "random").expect("built-in policies");
        let store = Store::new(NodeIdentity { name: "n1".to_owned(), zone: String::new() });
        let installed = Installed::new(NodeFacts::default());
        Self(Pipeline::new(store, Decider::new(catalog), installed, Memory::default()))
    }

    fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Outcome {
        events.into_iter().for_each(|event| self.0.apply(event));
        let outcome = self.0.sync().expect("a sync");
        let wanted = self.0.installed().ruleset();
        assert_eq!(*self.0.dataplane().ruleset(), wanted, "the transactions add up to the ruleset");
        outcome
    }

    fn rules(&mut self) -> String {
        text::ruleset(self.0.dataplane().ruleset())
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

fn service(name: &str, cluster_ip: &str) -> ServiceSpec {
    ServiceSpec {
        key: key(name),
        kind: ServiceKind::LoadBalancer,
        cluster_ips: vec![ip(cluster_ip)],
        ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
        ..ServiceSpec::default()
    }
}

fn slice(service: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Event {
    Event::Slice(SliceSpec {
        key: key(&format!("{service}-1")),
        service: key(service),
        family: Family::V4,
        ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: addresses.into_iter().map(EndpointSpec::ready).collect(),
        triggered: None,
    })
}

/// kubernetes#69599: whoever is handled last wins, so that nodes differ. Here the oldest wins on every node.
#[test]
fn an_address_two_services_want_goes_to_the_oldest() {
    let claimant = |name: &str, cluster_ip: &str, created| {
        let spec = ServiceSpec { created, external_ips: vec![ip("198.51.100.1")], ..service(name, cluster_ip) };
        [Event::Service(spec), slice(name, [ip(&cluster_ip.replace("10.0.", "10.1."))])]
    };
    let old = claimant("zeta", "10.0.0.1", Some(100));
    let new = claimant("alpha", "10.0.0.2", Some(200));
    let unknown = claimant("beta", "10.0.0.3", None);
    let shared = "198.51.100.1 . tcp . 80 . 0 : ";
    for order in [[&old, &new, &unknown], [&unknown, &new, &old], [&new, &old, &unknown]] {
        let mut node = Node::new();
        let outcomes: Vec<Outcome> = order.into_iter().map(|events| node.apply(events.clone())).collect();
        assert!(node.rules().contains(&format!("{shared}10.1.0.1 . 8080")), "{}", node.rules());
        for cluster_ip in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            assert!(node.rules().contains(&format!("{cluster_ip} . tcp . 80 . 0 : ")), "everybody has its ClusterIP");
        }
        let told: Vec<String> =
            outcomes.iter().flat_map(|outcome| &outcome.rejections).map(ToString::to_string).collect();
        let loss = "default/alpha:80 does not get external IP 198.51.100.1:80/tcp: default/zeta:80 is older or comes first by name";
        assert!(told.iter().any(|line| line == loss), "{told:?}");

        node.apply([Event::ServiceGone(key("zeta"))]);
        assert!(node.rules().contains(&format!("{shared}10.1.0.2 . 8080")), "the next in age takes over");
        node.apply([Event::ServiceGone(key("alpha"))]);
        assert!(node.rules().contains(&format!("{shared}10.1.0.3 . 8080")));
    }
}

#[test]
fn an_endpoint_that_is_the_services_own_address_stops_that_service_only() {
    let mut node = Node::new();
    let good = [Event::Service(service("good", "10.0.0.1")), slice("good", [ip("10.1.0.1")])];
    let bad = [Event::Service(service("bad", "10.0.0.2")), slice("bad", [ip("10.1.0.2"), ip("10.0.0.2")])];
    let outcome = node.apply(good.into_iter().chain(bad));
    let told: Vec<String> = outcome.rejections.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["default/bad:80 is left out: its endpoint 10.0.0.2 is the Service's own ClusterIP"]);
    assert!(node.rules().contains("10.0.0.1 . tcp . 80 . 0 : 10.1.0.1 . 8080"));
    assert!(!node.rules().contains("10.0.0.2"));
    let outcome = node.apply([slice("bad", [ip("10.1.0.2")])]);
    assert!(outcome.rejections.is_empty());
    assert!(node.rules().contains("10.0.0.2 . tcp . 80 . 0 : 10.1.0.2 . 8080"), "served as soon as it makes sense");
}

/// An endpoint that has a load balancer's or an external address may be a node's own: a pod on the host's network.
#[test]
fn an_endpoint_may_have_an_external_address_of_the_service() {
    let mut node = Node::new();
    let spec = ServiceSpec { external_ips: vec![ip("192.168.0.2")], ..service("host", "10.0.0.1") };
    let outcome = node.apply([Event::Service(spec), slice("host", [ip("192.168.0.2")])]);
    assert!(outcome.rejections.is_empty());
    assert!(node.rules().contains("192.168.0.2 . tcp . 80 . 0 : 192.168.0.2 . 8080"));
}

#[test]
fn more_endpoints_than_slots_are_served_in_part_and_told() {
    let mut node = Node::new();
    let many = (0..20_000_u32).map(|n| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a02_0000 + n)));
    let big = [Event::Service(service("big", "10.0.0.2")), slice("big", many)];
    let small = [Event::Service(service("small", "10.0.0.1")), slice("small", [ip("10.1.0.1")])];
    let outcome = node.apply(big.into_iter().chain(small));
    let told: Vec<&str> = outcome.failures.iter().map(|failure| failure.message.as_str()).collect();
    assert!(told.iter().any(|line| line.contains("16383 slots at most")), "{told:?}");
    assert!(outcome.failures.iter().all(|failure| failure.service.name == "big"));
    let rules = node.rules();
    assert!(rules.contains("10.0.0.1 . tcp . 80 . 0 : 10.1.0.1 . 8080") && rules.contains("random-16383"));
}

/// What is sent when only the node changes is the difference, and ports are planned on the new facts.
#[test]
fn new_facts_of_the_node_cost_only_what_differs() {
    let mut node = Node::new();
    let ranges: Vec<IpNet> = vec!["203.0.113.0/24".parse().expect("a network"), "192.168.0.0/16".parse().expect("one")];
    let spec = ServiceSpec {
        load_balancer_ips: vec![ip("192.0.2.1")],
        source_ranges: ranges,
        ..service("guarded", "10.0.0.1")
    };
    node.apply([Event::Service(spec), slice("guarded", [ip("10.1.0.1")])]);
    assert!(node.rules().contains("192.0.2.1 . tcp . 80 . 203.0.113.0/24"));
    assert!(!node.rules().contains("80 . 192.0.2.1"));

    let facts = NodeFacts {
        addresses: vec![ip("192.168.0.2")],
        node_ports_v4: NodePortAddresses::Listed(vec![ip("192.168.0.2")]),
        local_pods: LocalPods::Interface("cni0".to_owned()),
        ..NodeFacts::default()
    };
    node.0.set_facts(facts.clone());
    let outcome = node.apply([]);
    assert!(
        node.rules().contains("192.0.2.1 . tcp . 80 . 192.0.2.1"),
        "the node is in a range, so its address is a source"
    );
    assert!(node.rules().contains("iifname \"cni0\"") && node.rules().contains("elements = { 192.168.0.2 }"));
    let slots = |op: &Op| {
        let set = match op {
            Op::AddElements(_, set, _) | Op::DelElements(_, set, _) => *set,
            _ => return false,
        };
        [SetName::Slots, SetName::Frontends].contains(&set)
    };
    assert!(!outcome.transaction.ops.iter().any(slots), "{}", text::transaction(&outcome.transaction));

    node.0.set_facts(facts);
    assert!(node.apply([]).transaction.is_empty(), "the same facts again change nothing");
    node.0.set_facts(NodeFacts::default());
    node.apply([]);
    assert!(!node.rules().contains("80 . 192.0.2.1") && !node.rules().contains("cni0"));
}
