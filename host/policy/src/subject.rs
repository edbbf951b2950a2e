//! What is decided: ports, with all a policy may look up about them.

use std::sync::Arc;

use weir_model::{Conditions, NameId, Names, NodeIdentity, ObjectKey, Port, Service, Store, TrafficPolicy};

use crate::catalog::Pair;

/// One port to decide.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) port: Port,
    pub(crate) service: Arc<ObjectKey>,
    /// The policies that are asked first.
    pub(crate) pair: Pair,
    pub(crate) traffic_settings: NameId,
    pub(crate) balancer_settings: NameId,
    pub(crate) internal: TrafficPolicy,
    pub(crate) external: TrafficPolicy,
    pub(crate) has_external: bool,
    pub(crate) affinity_seconds: u32,
    /// Its [`fingerprint`].
    pub(crate) input: u64,
}

impl Subject {
    pub(crate) fn new(service: &Service, pair: Pair, port: Port, input: u64) -> Self {
        let settings = |has| if has { service.policy_settings } else { NameId::default() };
        Self {
            service: service.key.clone(),
            traffic_settings: settings(pair.traffic_has_settings),
            balancer_settings: settings(pair.balancer_has_settings),
            pair,
            internal: service.internal_policy,
            external: service.external_policy,
            has_external: service.is_external(&port.spec),
            affinity_seconds: service.affinity_seconds,
            port,
            input,
        }
    }

    /// Whether any endpoint is ready and has all flags of `also`.
    pub(crate) fn any_ready(&self, also: Conditions) -> bool {
        self.port.endpoints.iter().any(|endpoint| endpoint.conditions.has(Conditions::READY | also))
    }
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

/// A hash of everything the answer for a port can depend on, the policies included. Not for enemies: it only
/// saves calls, and a collision would repeat the port's own last answer.
pub(crate) fn fingerprint(service: &Service, pair: &Pair, port: &Port) -> u64 {
    let mut hash = Mix(0x9e37_79b9_7f4a_7c15);
    hash.eat(pair.traffic.version());
    hash.eat(pair.balancer.version());
    hash.eat(u64::from(service.policy_settings.0) << 32 | u64::from(service.affinity_seconds));
    let flags = [
        service.internal_policy == TrafficPolicy::Local,
        service.external_policy == TrafficPolicy::Local,
        service.is_external(&port.spec),
        pair.traffic_has_settings,
        pair.balancer_has_settings,
    ];
    let flags = flags.into_iter().fold(0, |flags, flag| flags << 1 | u64::from(flag));
    hash.eat(u64::from(port.spec.port) << 16 | flags);
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
