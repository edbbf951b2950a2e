//! Facts about this node that shape the rules, not the Services.

use std::net::IpAddr;

use ipnet::IpNet;
use weir_model::Family;

/// Which addresses of this node accept node port connections, in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// These.
    Listed(Vec<IpAddr>),
    /// Every address of this node except loopback (kube-proxy: a CIDR that matches everything).
    All,
}

/// How pods of this node are told from other clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalPods {
    /// Not at all: ClusterIP traffic is masqueraded only with `masquerade_all`, and pods get no short cuts.
    #[default]
    Unknown,
    /// By their address (kube-proxy's modes `ClusterCIDR` and `NodeCIDR`). A family without a network counts as
    /// unknown.
    Networks(Vec<IpNet>),
    /// By the bridge they hang on (`BridgeInterface`).
    Interface(String),
    /// By how their links' names begin (`InterfaceNamePrefix`).
    InterfacePrefix(String),
}

/// What the data plane must know of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// IPv4 addresses that accept node port connections.
    pub node_ports_v4: NodePortAddresses,
    /// IPv6 addresses that accept node port connections.
    pub node_ports_v6: NodePortAddresses,
    /// The addresses this node is known by, at most one a family. A load balancer's source ranges that contain one
    /// let in what the node itself sends.
    pub addresses: Vec<IpAddr>,
    /// Tells pods from other clients.
    pub local_pods: LocalPods,
    /// Ranges ClusterIPs come from; an address in them that no Service has is dropped. Empty: not known.
    pub service_cidrs: Vec<IpNet>,
    /// Masquerade all ClusterIP traffic.
    pub masquerade_all: bool,
    /// The mark bit (0 to 31) that asks for masquerading; 14 as in kube-proxy.
    pub masquerade_bit: u8,
    /// Reject what goes to ports of load balancer and external IPs that no Service has. kube-proxy lets it pass.
    pub reject_unused_external_ports: bool,
}

impl Default for NodeFacts {
    fn default() -> Self {
        Self {
            node_ports_v4: NodePortAddresses::Listed(Vec::new()),
            node_ports_v6: NodePortAddresses::Listed(Vec::new()),
            addresses: Vec::new(),
            local_pods: LocalPods::default(),
            service_cidrs: Vec::new(),
            masquerade_all: false,
            masquerade_bit: 14,
            reject_unused_external_ports: false,
        }
    }
}

impl NodeFacts {
    /// The mark that asks for masquerading.
    #[must_use]
    pub fn masquerade_mark(&self) -> u32 {
        1 << self.masquerade_bit
    }

    /// The addresses of one family that accept node ports.
    #[must_use]
    pub fn node_ports(&self, family: Family) -> &NodePortAddresses {
        match family {
            Family::V4 => &self.node_ports_v4,
            Family::V6 => &self.node_ports_v6,
        }
    }

    /// The Service ranges of one family.
    pub fn service_cidrs(&self, family: Family) -> impl Iterator<Item = IpNet> + '_ {
        self.service_cidrs.iter().copied().filter(move |net| Family::of(net.addr()) == family)
    }
}

impl LocalPods {
    /// The pods' networks of one family; none where pods are told otherwise, or not at all.
    pub fn networks(&self, family: Family) -> impl Iterator<Item = IpNet> + '_ {
        let networks = if let Self::Networks(networks) = self { networks.as_slice() } else { &[] };
        networks.iter().copied().filter(move |net| Family::of(net.addr()) == family)
    }
}
