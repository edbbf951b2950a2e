//! What is decided: ports, with all a policy may look up about them.

use std::sync::Arc;

use weir_model::{NameId, Names, NodeIdentity, ObjectKey, Port, Store, TrafficPolicy};

/// One port to decide.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) port: Port,
    pub(crate) service: Arc<ObjectKey>,
    pub(crate) settings: NameId,
    pub(crate) internal: TrafficPolicy,
    pub(crate) external: TrafficPolicy,
    pub(crate) has_external: bool,
    pub(crate) affinity_seconds: u32,
}

/// Ports that are decided together, and the names behind their numbers.
#[derive(Debug)]
pub(crate) struct Subjects {
    pub(crate) list: Vec<Subject>,
    pub(crate) names: Arc<Names>,
    pub(crate) node: NodeIdentity,
}

impl Subjects {
    /// None yet.
    pub(crate) fn new(store: &Store) -> Self {
        Self { list: Vec::new(), names: store.names().clone(), node: store.node().clone() }
    }
}

/// A hash of everything the answer for a subject can depend on, besides the policies. Not for enemies: it only
/// saves calls, and a collision would repeat the port's own last answer.
pub(crate) fn fingerprint(subject: &Subject) -> u64 {
    let mut hash = Mix(0x9e37_79b9_7f4a_7c15);
    let Subject { port, settings, internal, external, has_external, affinity_seconds, .. } = subject;
    hash.eat(u64::from(settings.0) << 32 | u64::from(*affinity_seconds));
    let flags = u64::from(*internal == TrafficPolicy::Local) << 1 | u64::from(*external == TrafficPolicy::Local) << 2;
    hash.eat(u64::from(port.spec.port) << 16 | flags | u64::from(*has_external));
    for endpoint in &port.endpoints {
        match endpoint.address {
            std::net::IpAddr::V4(v4) => hash.eat(u64::from(u32::from(v4))),
            std::net::IpAddr::V6(v6) => {
                let [high, low] = [u128::from(v6) >> 64, u128::from(v6) & u128::from(u64::MAX)];
                [high, low].into_iter().for_each(|half| hash.eat(u64::try_from(half).unwrap_or_default()));
            }
        }
        hash.eat(u64::from(endpoint.port) << 48 | u64::from(endpoint.conditions.0) << 32 | u64::from(endpoint.weight));
        hash.eat(u64::from(endpoint.node.0) << 32 | u64::from(endpoint.zone.0));
    }
    hash.eat(port.endpoints.len() as u64);
    hash.0
}

/// Multiply and fold, eight bytes at a time.
struct Mix(u64);

impl Mix {
    fn eat(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value).wrapping_mul(0xd6e8_feb8_6659_fd93_a076_1d64_78bd_642f);
        self.0 =
            u64::try_from(product >> 64 & u128::from(u64::MAX)).unwrap_or_default() ^ self.0.rotate_left(23) ^ value;
    }
}
