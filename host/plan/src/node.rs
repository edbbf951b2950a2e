//! Facts about this node that shape the rules, not the Services.

use std::net::IpAddr;

use ipnet::IpNet;
use weir_model::Family;

/// Which addresses of this node accept node port connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// These, both families mixed.
    Listed(Vec<IpAddr>),
    /// Every address of this node except loopback (kube-proxy: a CIDR that matches everything).
    All,
}

/// What the data plane must know of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Addresses that accept node port connections.
    pub node_port_addresses: NodePortAddresses,
    /// Where this node's pods live; tells pods from other clients. Empty: no local detection, so ClusterIP
    /// traffic is masqueraded only with `masquerade_all` and pods get no short cuts.
    pub pod_cidrs: Vec<IpNet>,
    /// Ranges ClusterIPs come from; an address in them that no Service has is dropped. Empty: not known.
    pub service_cidrs: Vec<IpNet>,
    /// Masquerade all ClusterIP traffic.
    pub masquerade_all: bool,
    /// The mark bit (0 to 31) that asks for masquerading; 14 as in kube-proxy.
    pub masquerade_bit: u8,
}

impl Default for NodeFacts {
    fn default() -> Self {
        Self {
            node_port_addresses: NodePortAddresses::Listed(Vec::new()),
            pod_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            masquerade_all: false,
            masquerade_bit: 14,
        }
    }
}

impl NodeFacts {
    /// The mark that asks for masquerading.
    #[must_use]
    pub fn masquerade_mark(&self) -> u32 {
        1 << self.masquerade_bit
    }

    /// The pod ranges of one family.
    pub fn pod_cidrs(&self, family: Family) -> impl Iterator<Item = IpNet> + '_ {
        self.pod_cidrs.iter().copied().filter(move |net| Family::of(net.addr()) == family)
    }

    /// The Service ranges of one family.
    pub fn service_cidrs(&self, family: Family) -> impl Iterator<Item = IpNet> + '_ {
        self.service_cidrs.iter().copied().filter(move |net| Family::of(net.addr()) == family)
    }
}
