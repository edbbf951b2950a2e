//! Services and their endpoints, in a line.

use std::net::IpAddr;

use weir_model::{
    Conditions, EndpointSpec, Family, ObjectKey, Protocol, ServiceKind, ServicePortSpec, ServiceSpec, SlicePort,
    SliceSpec, TrafficPolicy,
};
use weir_testbed::Layout;

use super::{BACKEND_PORT, NODE_NAME, OTHER_NODE, address_of};

/// A pod that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// 1 to 3: the testbed's `backend-1` to `backend-3`.
    pub number: u8,
    /// Annotation `weir.proxy/weight` of its slice.
    pub weight: u32,
}

impl Backend {
    /// All three: two on this node, the third on another.
    pub const ALL: [Self; 3] = [Self::new(1), Self::new(2), Self::new(3)];

    /// One, of weight 1.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self { number, weight: 1 }
    }

    fn node(self) -> &'static str {
        if self.number == 3 { OTHER_NODE } else { NODE_NAME }
    }

    /// Its address of the family of `like`.
    fn address(self, like: IpAddr) -> IpAddr {
        address_of(Layout::pod(u8::from(self.number == 3), 10 + self.number), like)
    }
}

/// A Service with its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The Service.
    pub spec: ServiceSpec,
    /// Who serves it.
    pub backends: Vec<Backend>,
    /// In which state all of them are.
    pub conditions: Conditions,
    /// Where all of them listen.
    pub target_port: u16,
}

/// The Service most tests use: `default/web`, 10.96.0.10 and fd00:10:96::10, port 80 by TCP and UDP, all three
/// backends.
#[must_use]
pub fn web() -> Service {
    Service::new("web", ["10.96.0.10", "fd00:10:96::10"]).tcp(80).udp(80)
}

impl Service {
    /// A ClusterIP Service in namespace `default`, with all three backends and no ports.
    ///
    /// # Panics
    /// When an address is none.
    #[must_use]
    pub fn new<const N: usize>(name: &str, cluster_ips: [&str; N]) -> Self {
        let spec =
            ServiceSpec { key: key(name), cluster_ips: cluster_ips.map(address).to_vec(), ..ServiceSpec::default() };
        let (backends, conditions) = (Backend::ALL.to_vec(), Conditions::ready());
        Self { spec, backends, conditions, target_port: BACKEND_PORT }
    }

    /// One more port, by TCP.
    #[must_use]
    pub fn tcp(self, port: u16) -> Self {
        self.port(Protocol::Tcp, port)
    }

    /// One more port, by UDP.
    #[must_use]
    pub fn udp(self, port: u16) -> Self {
        self.port(Protocol::Udp, port)
    }

    fn port(mut self, protocol: Protocol, port: u16) -> Self {
        self.spec.ports.push(ServicePortSpec { name: format!("{protocol}-{port}"), protocol, port, node_port: 0 });
        self
    }

    /// Node ports: the same number for each port, which works for TCP and UDP at once.
    #[must_use]
    pub fn node_port(mut self, node_port: u16) -> Self {
        self.spec.kind = ServiceKind::NodePort;
        self.spec.ports.iter_mut().for_each(|port| port.node_port = node_port);
        self
    }

    /// External IPs.
    ///
    /// # Panics
    /// When an address is none.
    #[must_use]
    pub fn external<const N: usize>(mut self, addresses: [&str; N]) -> Self {
        self.spec.external_ips.extend(addresses.map(address));
        self
    }

    /// Addresses of a load balancer.
    ///
    /// # Panics
    /// When an address is none.
    #[must_use]
    pub fn load_balancer<const N: usize>(mut self, addresses: [&str; N]) -> Self {
        self.spec.kind = ServiceKind::LoadBalancer;
        self.spec.load_balancer_ips.extend(addresses.map(address));
        self
    }

    /// `externalTrafficPolicy: Local`.
    #[must_use]
    pub fn external_local(mut self) -> Self {
        self.spec.external_policy = TrafficPolicy::Local;
        self
    }

    /// `internalTrafficPolicy: Local`.
    #[must_use]
    pub fn internal_local(mut self) -> Self {
        self.spec.internal_policy = TrafficPolicy::Local;
        self
    }

    /// `sessionAffinity: ClientIP` with this timeout.
    #[must_use]
    pub fn affinity(mut self, seconds: u32) -> Self {
        self.spec.affinity_seconds = seconds;
        self
    }

    /// Annotation `weir.proxy/policy`.
    #[must_use]
    pub fn policy(mut self, name: &str) -> Self {
        self.spec.policy = Some(name.to_owned());
        self
    }

    /// These backends instead of all three.
    #[must_use]
    pub fn on(mut self, backends: &[Backend]) -> Self {
        self.backends = backends.to_vec();
        self
    }

    /// All its backends in this state instead of ready.
    #[must_use]
    pub fn in_state(self, conditions: Conditions) -> Self {
        Self { conditions, ..self }
    }

    /// All its backends listen here instead of on [`BACKEND_PORT`].
    #[must_use]
    pub fn target_port(self, port: u16) -> Self {
        Self { target_port: port, ..self }
    }

    /// Its EndpointSlices: one for each family it has, and for each weight, since the weight belongs to the slice.
    #[must_use]
    pub fn slices(&self) -> Vec<SliceSpec> {
        let mut weights: Vec<u32> = self.backends.iter().map(|backend| backend.weight).collect();
        weights.sort_unstable();
        weights.dedup();
        let slices = self.spec.cluster_ips.iter().flat_map(|ip| weights.iter().map(|weight| self.slice(*ip, *weight)));
        slices.collect()
    }

    fn slice(&self, like: IpAddr, weight: u32) -> SliceSpec {
        let family = Family::of(like);
        let port = |port: &ServicePortSpec| SlicePort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: self.target_port,
        };
        let endpoint = |backend: &Backend| EndpointSpec {
            node: Some(backend.node().to_owned()),
            conditions: self.conditions,
            weight,
            ..EndpointSpec::ready(backend.address(like))
        };
        SliceSpec {
            key: key(&format!("{}-{family:?}-{weight}", self.spec.key.name).to_lowercase()),
            service: self.spec.key.clone(),
            family,
            ports: self.spec.ports.iter().map(port).collect(),
            endpoints: self.backends.iter().filter(|backend| backend.weight == weight).map(endpoint).collect(),
            triggered: None,
        }
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address"))
}
