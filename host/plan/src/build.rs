//! From a decision to the plan of one port.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weir_model::{Backend, Decision, Family, PortKey, Ring, Route, Service, ServicePort, Store};

use crate::claims::is_served;
use crate::{
    Claims, Frontend, FrontendAddress, FrontendKey, FrontendKind, NodeFacts, PlanRing, PortPlan, Target, Treatment,
};

/// Something a Service wanted and did not get.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// An address and port that another Service has.
    #[error("{port} does not get {kind} {key}: {winner} is older or comes first by name")]
    Claimed {
        /// `namespace/name:port` of the port that lost.
        port: Arc<str>,
        /// `namespace/name:port` of the port that keeps it.
        winner: Arc<str>,
        /// What it is about.
        key: FrontendKey,
        /// What the address is to the loser.
        kind: FrontendKind,
    },
    /// To be served at all: connections would be sent back to where they came from.
    #[error("{port} is left out: its endpoint {endpoint} is the Service's own ClusterIP")]
    EndpointIsClusterIp {
        /// `namespace/name:port`.
        port: Arc<str>,
        /// The address.
        endpoint: IpAddr,
    },
}

impl Rejection {
    /// `namespace/name:port` of the port it is about.
    #[must_use]
    pub fn port(&self) -> &Arc<str> {
        match self {
            Self::Claimed { port, .. } | Self::EndpointIsClusterIp { port, .. } => port,
        }
    }
}

/// Plans one port. `None` when its Service is gone or programs nothing; what it cannot have is left out and told in
/// `rejections`.
#[must_use]
pub fn build(
    store: &Store,
    claims: &Claims,
    node: &NodeFacts,
    port: PortKey,
    decision: &Decision,
    rejections: &mut Vec<Rejection>,
) -> Option<PortPlan> {
    let service = store.service(port.service)?;
    let spec = service.ports.iter().find(|spec| (spec.name, spec.protocol) == (port.name, port.protocol))?;
    let source_ranges = source_ranges(service, node, port.family);
    let guarded = |address| match address {
        FrontendAddress::Ip(ip) => !source_ranges.is_empty() && service.load_balancer_ips.contains(&ip),
        FrontendAddress::NodePort => false,
    };
    let mut frontends: Vec<Frontend> = Vec::with_capacity(1);
    for (address, number, kind) in addresses(service, spec, port.family) {
        let key = FrontendKey { family: port.family, address, protocol: port.protocol, port: number };
        match claims.owner(store, &key) {
            Some(owner) if owner != port => {
                let (port, winner) = (port_name(store, port), port_name(store, owner));
                rejections.push(Rejection::Claimed { port, winner, key, kind });
            }
            _ if frontends.iter().any(|other| (other.address, other.port) == (address, number)) => {}
            _ => {
                let (treatment, guarded) = (treatment(kind, decision), guarded(address));
                frontends.push(Frontend { address, port: number, kind, treatment, guarded });
            }
        }
    }
    if frontends.is_empty() {
        return None;
    }
    if let Some(backend) = decision.backends.iter().find(|backend| service.cluster_ips.contains(&backend.address)) {
        let port = port_name(store, port);
        rejections.push(Rejection::EndpointIsClusterIp { port, endpoint: backend.address });
        return None;
    }
    frontends.sort_unstable();
    let cluster_used = frontends.iter().any(|frontend| frontend.treatment.uses_cluster());
    let local_used = frontends.iter().any(|frontend| frontend.treatment.uses_local());
    let cluster = decision.cluster.as_deref().filter(|_| cluster_used);
    let local = decision.local.as_deref().filter(|_| local_used);
    let targets = Targets::of(&decision.backends, [cluster, local]);
    Some(PortPlan {
        key: port,
        name: port_name(store, port),
        cluster: cluster.map(|ring| targets.ring(ring)),
        local: local.map(|ring| targets.ring(ring)),
        targets: targets.list,
        frontends,
        source_ranges,
    })
}

/// Who may use the load balancer addresses. Where the node itself may, the load balancer addresses may too: with
/// one of them as its destination, a packet of the node often has it as its source (kube-proxy: `usesFWChain`).
/// Like there, a family without a range of its own is open.
fn source_ranges(service: &Service, node: &NodeFacts, family: Family) -> Vec<IpNet> {
    let of_family = |address: IpAddr| Family::of(address) == family;
    let mut ranges: Vec<IpNet> =
        service.source_ranges.iter().map(IpNet::trunc).filter(|net| of_family(net.addr())).collect();
    if ranges.iter().any(|net| node.addresses.iter().any(|address| net.contains(address))) {
        ranges.extend(service.load_balancer_ips.iter().copied().filter(|ip| of_family(*ip)).map(IpNet::from));
    }
    // The kernel refuses networks that overlap.
    let mut ranges = IpNet::aggregate(&ranges);
    ranges.sort_unstable();
    ranges
}

/// `namespace/name:port`, the port's number where it has no name.
fn port_name(store: &Store, key: PortKey) -> Arc<str> {
    let Some(service) = store.service(key.service) else { return Arc::from("") };
    let name = store.names().get(key.name);
    if name.is_empty() {
        let number = service.ports.iter().find(|port| port.name == key.name && port.protocol == key.protocol);
        return Arc::from(format!("{}:{}", service.key, number.map_or(0, |port| port.port)));
    }
    Arc::from(format!("{}:{name}", service.key))
}

/// Every address and port a Service port is reached at in one family. A Service without a ClusterIP of that
/// family has none there (kube-proxy: one proxier a family).
#[must_use]
pub fn addresses(service: &Service, port: &ServicePort, family: Family) -> Vec<(FrontendAddress, u16, FrontendKind)> {
    let mut found = Vec::with_capacity(1);
    let Some(cluster_ip) = service.cluster_ips.iter().find(|ip| Family::of(**ip) == family) else { return found };
    if !is_served(service, port) {
        return found;
    }
    found.push((FrontendAddress::Ip(*cluster_ip), port.port, FrontendKind::ClusterIp));
    // An address that is several of these is the first: no Service's node port or balancer takes its ClusterIP away.
    let groups =
        [(&service.load_balancer_ips, FrontendKind::LoadBalancer), (&service.external_ips, FrontendKind::ExternalIp)];
    for (ips, kind) in groups {
        for ip in ips.iter().filter(|ip| Family::of(**ip) == family) {
            if !found.iter().any(|(address, _, _)| *address == FrontendAddress::Ip(*ip)) {
                found.push((FrontendAddress::Ip(*ip), port.port, kind));
            }
        }
    }
    if port.node_port != 0 {
        found.push((FrontendAddress::NodePort, port.node_port, FrontendKind::NodePort));
    }
    found
}

/// The rows of kube-proxy's decision table (reference: kube-proxy 1.37, `syncProxyRules`).
fn treatment(kind: FrontendKind, decision: &Decision) -> Treatment {
    let short_cut = decision.short_cut && decision.cluster.is_some();
    match kind {
        FrontendKind::ClusterIp => match decision.internal {
            Route::Cluster => Treatment::Cluster,
            Route::Local => Treatment::Local,
            Route::Reject => Treatment::Reject,
            Route::Drop => Treatment::Drop { short_cut: false },
        },
        FrontendKind::ExternalIp | FrontendKind::LoadBalancer | FrontendKind::NodePort => match decision.external {
            Route::Cluster => Treatment::ExternalCluster,
            Route::Local => Treatment::ExternalLocal { short_cut },
            Route::Reject => Treatment::Reject,
            Route::Drop => Treatment::Drop { short_cut },
        },
    }
}

impl Treatment {
    /// Whether some client of it goes to the cluster-wide list.
    #[must_use]
    pub fn uses_cluster(self) -> bool {
        matches!(
            self,
            Self::Cluster
                | Self::ExternalCluster
                | Self::ExternalLocal { short_cut: true }
                | Self::Drop { short_cut: true }
        )
    }

    /// Whether some client of it goes to the list of this node.
    #[must_use]
    pub fn uses_local(self) -> bool {
        matches!(self, Self::Local | Self::ExternalLocal { .. })
    }
}

/// The backends that rings really point at, in a fixed order.
struct Targets {
    list: Vec<Target>,
    /// Position among the decision's backends → position in `list`, of those that are in it.
    moved: Vec<u16>,
}

impl Targets {
    fn of(backends: &[Backend], rings: [Option<&Ring>; 2]) -> Self {
        let mut used: Vec<(Target, u16)> = Vec::with_capacity(backends.len());
        let mut seen = vec![false; backends.len()];
        for slot in rings.into_iter().flatten().flat_map(|ring| &ring.slots) {
            let Some(backend) = backends.get(usize::from(*slot)) else { continue };
            if !std::mem::replace(&mut seen[usize::from(*slot)], true) {
                let Backend { address, port, id, local } = *backend;
                used.push((Target { address, port, id, local }, *slot));
            }
        }
        used.sort_unstable();
        let mut moved = vec![0; backends.len()];
        (0_u16..).zip(&used).for_each(|(new, (_, old))| moved[usize::from(*old)] = new);
        Self { list: used.into_iter().map(|(target, _)| target).collect(), moved }
    }

    fn ring(&self, ring: &Ring) -> PlanRing {
        let slots = ring.slots.iter().filter_map(|slot| self.moved.get(usize::from(*slot)).copied()).collect();
        PlanRing { index: ring.index, slots, affinity_seconds: ring.affinity_seconds }
    }
}
