//! The plan of one port.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weir_model::{Family, IndexFunction, PortKey, Protocol};

/// Everything the data plane does for one Service port in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// Which port.
    pub key: PortKey,
    /// `namespace/name:port`, for names of chains and for explanations.
    pub name: Arc<str>,
    /// Where it is reached, and what happens there. Sorted, without duplicates.
    pub frontends: Vec<Frontend>,
    /// Endpoints the rings and hairpins point at, sorted by address and port.
    pub targets: Vec<Target>,
    /// The cluster-wide list.
    pub cluster: Option<PlanRing>,
    /// The list of endpoints on this node.
    pub local: Option<PlanRing>,
    /// Who may use the guarded frontends, sorted, no network inside another.
    pub source_ranges: Vec<IpNet>,
}

impl PortPlan {
    /// Its family.
    #[must_use]
    pub fn family(&self) -> Family {
        self.key.family
    }

    /// Its protocol.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.key.protocol
    }
}

/// An endpoint connections go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Its number in affinity maps.
    pub id: u32,
    /// On this node: its connections to itself need a masquerade (hairpin).
    pub local: bool,
}

/// Slots, and how one is picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRing {
    /// How a slot is picked.
    pub index: IndexFunction,
    /// Slot → position in [`PortPlan::targets`]. Never empty.
    pub slots: Vec<u16>,
    /// Seconds of client affinity; 0 means none.
    pub affinity_seconds: u32,
}

/// An address and port clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frontend {
    /// Its address.
    pub address: FrontendAddress,
    /// Its port.
    pub port: u16,
    /// What it is, for explanations and for the set of ClusterIPs.
    pub kind: FrontendKind,
    /// What happens to a connection.
    pub treatment: Treatment,
    /// Whether only [`PortPlan::source_ranges`] may use it: an address of a load balancer, whatever else it is.
    pub guarded: bool,
}

/// The address of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrontendAddress {
    /// This one.
    Ip(IpAddr),
    /// Any address of this node that accepts node ports.
    NodePort,
}

/// What a frontend is in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrontendKind {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// `spec.externalIPs`.
    ExternalIp,
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// `spec.ports[].nodePort`.
    NodePort,
}

impl fmt::Display for FrontendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::ExternalIp => "external IP",
            Self::LoadBalancer => "load balancer IP",
            Self::NodePort => "node port",
        })
    }
}

/// What happens to a connection that reaches a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Treatment {
    /// To the cluster-wide list (ClusterIP).
    Cluster,
    /// To the local list (ClusterIP with `internalTrafficPolicy: Local`).
    Local,
    /// Masqueraded, to the cluster-wide list (external, `externalTrafficPolicy: Cluster`).
    ExternalCluster,
    /// Source kept, to the local list; pods and this node take the short cut to the cluster-wide list if
    /// `short_cut` (external, `externalTrafficPolicy: Local`).
    ExternalLocal {
        /// Whether there is a short cut.
        short_cut: bool,
    },
    /// Dropped: endpoints exist, but none here. With `short_cut`, pods and this node still get through.
    Drop {
        /// Whether there is a short cut.
        short_cut: bool,
    },
    /// Rejected: there is no endpoint.
    Reject,
}
