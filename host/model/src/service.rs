//! Services and their ports as the store keeps them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Endpoint, NameId, ServiceId};

/// Namespace and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Who this node is: decides what "local" and "same zone" mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The name EndpointSlices use in `nodeName`.
    pub name: String,
    /// Label `topology.kubernetes.io/zone`; empty when unknown.
    pub zone: String,
}

/// IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order everything is printed in.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of `address`.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The IP protocol number (IANA): what `meta l4proto` compares with.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with that IP protocol number, if a Service can have it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// `spec.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceKind {
    /// Cluster-internal address only.
    #[default]
    ClusterIp,
    /// Also a port on every node.
    NodePort,
    /// Also addresses of a load balancer.
    LoadBalancer,
    /// A DNS alias; programs nothing.
    ExternalName,
}

/// `internalTrafficPolicy` and `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Endpoints of the whole cluster.
    #[default]
    Cluster,
    /// Endpoints on this node only.
    Local,
}

/// A Service in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: Arc<ObjectKey>,
    /// `spec.type`.
    pub kind: ServiceKind,
    /// Creation time in seconds since 1970, if known.
    pub created: Option<i64>,
    /// At most one address a family.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of the load balancer that this node must accept.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer addresses; empty means everybody.
    pub source_ranges: Vec<IpNet>,
    /// Where load balancers ask whether this node has endpoints; 0 means nowhere.
    pub health_check_node_port: u16,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// Seconds of client affinity; 0 means none.
    pub affinity_seconds: u32,
    /// The policy it asks for; the empty name means the node's default.
    pub policy: NameId,
    /// Settings (JSON) for that policy; the empty name means none.
    pub policy_settings: NameId,
    /// Other annotations that policies may ask for.
    pub annotations: BTreeMap<String, String>,
}

impl Service {
    /// Whether clients outside the cluster can reach it: a node port, an external IP or a load balancer IP
    /// (kube-proxy: `ExternallyAccessible`).
    #[must_use]
    pub fn is_external(&self, port: &ServicePort) -> bool {
        port.node_port != 0 || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }
}

/// One port of a stored Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name.
    pub name: NameId,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port on the Service's addresses.
    pub port: u16,
    /// Port on the node's addresses; 0 means none.
    pub node_port: u16,
}

/// The unit of work: one port of one Service in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// The Service.
    pub service: ServiceId,
    /// Name of the port.
    pub name: NameId,
    /// Transport protocol.
    pub protocol: Protocol,
    /// IP family.
    pub family: Family,
}

impl PortKey {
    /// The least key a port of `service` can have: where its ports begin in an ordered map.
    #[must_use]
    pub fn first_of(service: ServiceId) -> Self {
        Self { service, name: NameId(0), protocol: Protocol::Tcp, family: Family::V4 }
    }
}

/// A Service port with the endpoints that could serve it, sorted by address and port, without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// What it is.
    pub key: PortKey,
    /// The Service's entry for it.
    pub spec: ServicePort,
    /// Every endpoint any slice has for it, ready or not, on any node.
    pub endpoints: Vec<Endpoint>,
}
