//! A node whose clock is the test's, and Services to decide.

use std::time::Instant;

use weir_model::{
    Conditions, Decision, EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, ServiceId, ServiceKind,
    ServicePortSpec, ServiceSpec, SlicePort, SliceSpec, Store, TrafficPolicy,
};
use weir_policy::{Artifact, BUILT_IN, Catalog, Decider, Decisions, Engine, Limits, Policy, Refused};

/// A store and a decider with policies of the test's own. The node is `n1`.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) decider: Decider,
    /// `externalTrafficPolicy` of the Services that are set from now on.
    pub(crate) external: TrafficPolicy,
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
        Self::with(engine, catalog)
    }

    /// A node with that default balancer, which may come later.
    pub(crate) fn awaiting(balancer: &str) -> Self {
        let engine = Engine::new(Limits::default()).expect("an engine");
        let catalog = Catalog::awaiting(&engine, "kubernetes", balancer).expect("the built-in policies");
        Self::with(&engine, catalog)
    }

    fn with(engine: &Engine, catalog: Catalog) -> Self {
        let node = NodeIdentity { name: "n1".to_owned(), zone: String::new() };
        let (engine, store, decider) = (engine.clone(), Store::new(node), Decider::new(catalog));
        Self { engine, store, decider, external: TrafficPolicy::Cluster }
    }

    /// A Service with ready endpoints 10.244.0.x. Without a policy it gets the node's default.
    pub(crate) fn set(&mut self, name: &str, policy: &str, settings: &str, hosts: impl IntoIterator<Item = u8>) {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        self.store.apply(Event::Service(ServiceSpec {
            key: key(name),
            kind: ServiceKind::NodePort,
            cluster_ips: vec![[10, 96, 0, 1].into()],
            ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 30_080 }],
            external_policy: self.external,
            policy: some(policy),
            policy_settings: some(settings),
            ..ServiceSpec::default()
        }));
        self.endpoints(name, hosts.into_iter().map(|host| (host, Conditions::ready())));
    }

    /// Gives a Service those endpoints: 10.244.0.x, which is on node `nx`.
    pub(crate) fn endpoints(&mut self, name: &str, endpoints: impl IntoIterator<Item = (u8, Conditions)>) {
        let endpoint = |(host, conditions): (u8, Conditions)| EndpointSpec {
            node: Some(format!("n{host}")),
            conditions,
            ..EndpointSpec::ready([10, 244, 0, host].into())
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
    pub(crate) fn decide(&mut self) -> Decisions {
        self.decide_at(Instant::now())
    }

    /// The same at that time.
    pub(crate) fn decide_at(&mut self, now: Instant) -> Decisions {
        let dirty = self.store.take_dirty();
        self.decider.decide_at(now, &self.store, &dirty)
    }

    /// Decides one Service although nothing changed.
    pub(crate) fn decide_again(&mut self, now: Instant, name: &str) -> Decisions {
        let id = self.id(name);
        self.decider.decide_at(now, &self.store, &[id])
    }

    /// Decides what is due.
    pub(crate) fn decide_due(&mut self, now: Instant) -> Decisions {
        let due = self.decider.take_due(now);
        self.decider.decide_at(now, &self.store, &due)
    }

    /// Delivers a policy. Returns the Services that use it.
    pub(crate) fn deliver(&mut self, artifact: &Artifact) -> Result<Vec<ServiceId>, Refused> {
        let policy = Policy::from_artifact(&self.engine, artifact, &[]).expect("a policy");
        self.decider.replace(&self.store, policy)
    }

    /// The decision about a Service's port.
    pub(crate) fn decision<'a>(&self, decisions: &'a Decisions, name: &str) -> &'a Decision {
        let id = self.id(name);
        let of_service = decisions.ports.iter().find(|(port, _)| port.service == id);
        &of_service.expect("every port has a decision").1
    }

    fn id(&self, name: &str) -> ServiceId {
        self.store.find(&key(name)).expect("the Service is there")
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// The component of a built-in policy.
pub(crate) fn built_in(name: &str) -> &'static [u8] {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).expect("built in").1
}

/// A policy `mine` as it is delivered.
pub(crate) fn artifact(component: &[u8], settings: &str) -> Artifact {
    Artifact {
        name: "mine".to_owned(),
        component: component.to_vec(),
        settings: settings.to_owned(),
        ..Artifact::default()
    }
}
