//! A node whose clock is the test's.

use std::time::Instant;

use weir_model::{
    Conditions, EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, ServicePortSpec, ServiceSpec,
    SlicePort, SliceSpec, Store,
};
use weir_policy::{Artifact, Catalog, Decider, Decisions, Engine, Limits, Policy, Refused};

/// A store and a decider with policies of the test's own.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) decider: Decider,
}

impl Node {
    pub(crate) fn new(limits: Limits, policies: &[(&str, &[u8])]) -> Self {
        Self::of(&Engine::new(limits).expect("an engine"), policies)
    }

    /// The same with an engine that is there already.
    pub(crate) fn of(engine: &Engine, policies: &[(&str, &[u8])]) -> Self {
        let mut catalog = Catalog::new(engine, "kubernetes", "random").expect("the built-in policies");
        for (name, component) in policies {
            catalog.add(name, component).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let node = NodeIdentity { name: "here".to_owned(), zone: String::new() };
        Self { engine: engine.clone(), store: Store::new(node), decider: Decider::new(catalog) }
    }

    /// A Service with ready endpoints 10.244.0.x.
    pub(crate) fn set(&mut self, name: &str, policy: &str, settings: &str, hosts: impl IntoIterator<Item = u8>) {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        self.store.apply(Event::Service(ServiceSpec {
            key: key(name),
            cluster_ips: vec!["10.96.0.1".parse().expect("an address")],
            ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
            policy: some(policy),
            policy_settings: some(settings),
            ..ServiceSpec::default()
        }));
        self.endpoints(name, hosts.into_iter().map(|host| (host, Conditions::ready())));
    }

    /// Gives a Service those endpoints.
    pub(crate) fn endpoints(&mut self, name: &str, endpoints: impl IntoIterator<Item = (u8, Conditions)>) {
        let endpoint = |(host, conditions)| EndpointSpec {
            address: [10, 244, 0, host].into(),
            node: None,
            zone: None,
            conditions,
            hint_zones: Vec::new(),
            hint_nodes: Vec::new(),
            weight: 1,
            pod: None,
        };
        self.store.apply(Event::Slice(SliceSpec {
            key: key(&format!("{name}-1")),
            service: key(name),
            family: Family::V4,
            ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
            endpoints: endpoints.into_iter().map(endpoint).collect(),
            triggered: None,
        }));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.store.apply(Event::ServiceGone(key(name)));
    }

    /// Decides what changed.
    pub(crate) fn decide(&mut self, now: Instant) -> Decisions {
        let dirty = self.store.take_dirty();
        self.decider.decide_at(now, &self.store, &dirty)
    }

    /// Decides one Service although nothing changed.
    pub(crate) fn decide_again(&mut self, now: Instant, name: &str) -> Decisions {
        let id = self.store.find(&key(name)).expect("the Service is there");
        self.decider.decide_at(now, &self.store, &[id])
    }

    /// Decides what is due.
    pub(crate) fn decide_due(&mut self, now: Instant) -> Decisions {
        let due = self.decider.take_due(now);
        self.decider.decide_at(now, &self.store, &due)
    }

    /// Delivers a policy.
    pub(crate) fn deliver(&mut self, artifact: &Artifact) -> Result<usize, Refused> {
        let policy = Policy::from_artifact(&self.engine, artifact, &[]).expect("a policy");
        self.decider.replace(&self.store, policy).map(|users| users.len())
    }
}

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}
