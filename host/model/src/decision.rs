//! What policies decide for one port, in terms the plan understands.

use std::net::IpAddr;
use std::sync::Arc;

/// Where a class of clients is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the cluster-wide list.
    Cluster,
    /// To the list of endpoints on this node, source address kept.
    Local,
    /// Nowhere; the client is told so (ICMP port unreachable).
    Reject,
    /// Nowhere; the client hears nothing, so that a load balancer tries another node.
    Drop,
}

/// How a new connection picks its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexFunction {
    /// A random number.
    Random,
    /// The next number of a counter that belongs to this port alone.
    RoundRobin,
    /// A hash of the client's address.
    SourceHash,
    /// A hash of the client's address and port.
    FlowHash,
}

/// An endpoint as a decision keeps it: enough to write it into the kernel, and to do so again when the
/// policy fails later and this is the last good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Its number, see [`crate::Endpoint::id`].
    pub id: u32,
    /// Whether it runs on this node.
    pub local: bool,
}

/// Most slots a ring may have. It bounds what a policy can ask of the kernel, and leaves room for both rings
/// of a frontend in one number space (see the data plane's README).
pub const MAX_SLOTS: usize = 16_383;

/// A list of slots and how to pick one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// How a slot is picked.
    pub index: IndexFunction,
    /// Slot number → position in [`Decision::backends`]. Never empty.
    pub slots: Vec<u16>,
    /// Seconds a client keeps its endpoint; 0 means no affinity.
    pub affinity_seconds: u32,
}

/// Who made a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The policies that were asked for: traffic policy, then balancer.
    Policy {
        /// Name of the traffic policy.
        traffic: Arc<str>,
        /// Name of the balancer.
        balancer: Arc<str>,
    },
    /// A policy failed; this is its last good answer, less endpoints that are gone.
    LastGood,
    /// A policy failed and had no good answer yet; its fail strategy named this one.
    Fallback(Arc<str>),
    /// Everything failed: uniform random over ready endpoints.
    LastResort,
}

/// The answer for one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The endpoints the rings point at, sorted by address and port.
    pub backends: Vec<Backend>,
    /// The cluster-wide list; `None` when it is empty or nobody uses it. Ports that are alike hold one together.
    pub cluster: Option<Arc<Ring>>,
    /// The list of endpoints on this node; `None` when it is empty or nobody uses it.
    pub local: Option<Arc<Ring>>,
    /// What a client of the ClusterIP gets.
    pub internal: Route,
    /// What a client of a node port, external IP or load balancer IP gets.
    pub external: Route,
    /// Whether pods and this node itself reach the cluster-wide list through external addresses although
    /// `external` is `Local` or `Drop` (kube-proxy's "short-circuit").
    pub short_cut: bool,
    /// Why, in the policy's words; may be empty.
    pub reason: Arc<str>,
    /// Who said so.
    pub origin: Origin,
}
