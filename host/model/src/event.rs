//! What a source tells the model: objects in our own terms, already checked for shape.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Conditions, Family, ObjectKey, Protocol, ServiceKind, TrafficPolicy};

/// One change of the cluster, or a complete list of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A Service appeared or changed.
    Service(ServiceSpec),
    /// A Service went away.
    ServiceGone(ObjectKey),
    /// An EndpointSlice appeared or changed.
    Slice(SliceSpec),
    /// An EndpointSlice went away.
    SliceGone(SliceKey),
    /// This node's own object appeared or changed; `None` when it is gone. After a change of its zone every slice
    /// must come again, because what its hints mean here has changed.
    Node(Option<NodeSpec>),
    /// The ranges ClusterIPs come from, all of them.
    ServiceCidrs(Vec<IpNet>),
    /// A complete list of Services and slices: whatever it does not name is gone.
    Replace {
        /// All Services.
        services: Vec<ServiceSpec>,
        /// All EndpointSlices.
        slices: Vec<SliceSpec>,
    },
    /// What was told since the beginning is all there is: a complete list that came piece by piece. Before this, or a
    /// [`Event::Replace`], what is missing may well exist.
    Listed,
}

/// A Service as it stands in the cluster, cut down to what a proxy needs. The default is what the Kubernetes API
/// defaults to: a ClusterIP Service without address, ports or affinity, open to the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `spec.type`.
    pub kind: ServiceKind,
    /// `metadata.creationTimestamp` in seconds since 1970; decides who keeps an address two Services claim.
    pub created: Option<i64>,
    /// `spec.clusterIPs`, at most one a family; empty for headless Services and for ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` whose `ipMode` is `VIP` or unset.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`: who may use the load balancer addresses; empty means everybody.
    pub source_ranges: Vec<IpNet>,
    /// `spec.healthCheckNodePort`: where load balancers ask whether this node has endpoints; 0 means nowhere.
    pub health_check_node_port: u16,
    /// `spec.ports`.
    pub ports: Vec<ServicePortSpec>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// Seconds a client stays with its endpoint (`sessionAffinity: ClientIP`); 0 means no affinity.
    pub affinity_seconds: u32,
    /// Annotation `weir.proxy/policy`: the policy this Service asks for.
    pub policy: Option<String>,
    /// Annotation `weir.proxy/policy-settings`: JSON that goes to that policy.
    pub policy_settings: Option<String>,
    /// Other annotations that policies may ask for: those under `weir.proxy/`, `service.cilium.io/` and
    /// `kube-router.io/`.
    pub annotations: BTreeMap<String, String>,
}

/// This node as the cluster knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSpec {
    /// Label `topology.kubernetes.io/zone`; empty when unknown.
    pub zone: String,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// `status.addresses`: internal ones first, then external ones.
    pub addresses: Vec<IpAddr>,
    /// Whether it is on its way out: `metadata.deletionTimestamp` is set, or it has the taint
    /// `ToBeDeletedByClusterAutoscaler` (KEP-3836). Load balancers should send it nothing new.
    pub leaving: bool,
}

/// One entry of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePortSpec {
    /// Port name; empty when the Service has a single unnamed port.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port on the Service's own addresses.
    pub port: u16,
    /// Port on the node's addresses; 0 means none.
    pub node_port: u16,
}

/// Identity of an EndpointSlice.
pub type SliceKey = ObjectKey;

/// An EndpointSlice that belongs to a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceSpec {
    /// Namespace and name of the slice.
    pub key: SliceKey,
    /// The Service named by its label `kubernetes.io/service-name`.
    pub service: ObjectKey,
    /// `addressType`; FQDN slices never get this far.
    pub family: Family,
    /// Ports with a number; ports without one are dropped by the source, as kube-proxy does.
    pub ports: Vec<SlicePort>,
    /// Endpoints, first address only, as kube-proxy does.
    pub endpoints: Vec<EndpointSpec>,
    /// Annotation `endpoints.kubernetes.io/last-change-trigger-time`, in milliseconds since 1970: when the pod or
    /// Service changed that made the controller write this version. For metrics only: slices that differ in nothing
    /// else are the same.
    pub triggered: Option<i64>,
}

/// A port of a slice. A Service port finds its endpoints by equal name and protocol; the target port of the
/// Service is never used (kube-proxy: `servicechangetracker.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Port name; empty when unnamed.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port the endpoint listens on, 1 to 65535.
    pub port: u16,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Its address, of the slice's family.
    pub address: IpAddr,
    /// `nodeName`.
    pub node: Option<String>,
    /// `zone`.
    pub zone: Option<String>,
    /// Ready, serving and terminating only; the store adds what depends on this node.
    pub conditions: Conditions,
    /// `hints.forZones[].name`.
    pub hint_zones: Vec<String>,
    /// `hints.forNodes[].name`.
    pub hint_nodes: Vec<String>,
    /// Slice annotation `weir.proxy/weight`, else `service.cilium.io/weight` (0 to 65535, 0 drains); 1 when there is
    /// none.
    pub weight: u32,
    /// `targetRef.name`, if that is a Pod.
    pub pod: Option<String>,
}

impl EndpointSpec {
    /// A ready endpoint of which only the address is known: on no node, in no zone, without hints, with weight 1.
    #[must_use]
    pub fn ready(address: IpAddr) -> Self {
        Self {
            address,
            node: None,
            zone: None,
            conditions: Conditions::ready(),
            hint_zones: Vec::new(),
            hint_nodes: Vec::new(),
            weight: 1,
            pod: None,
        }
    }
}
