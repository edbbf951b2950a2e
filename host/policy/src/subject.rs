//! What is decided: ports, with all a policy may look up about them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use weir_model::{
    Conditions, Decision, Load, NameId, Names, NodeIdentity, ObjectKey, Port, Ring, Service, Store, TrafficPolicy,
};

use crate::again::Present;
use crate::catalog::Pair;
use crate::mix::Mix;
use crate::walk::Walk;

/// One port to decide.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) port: Port,
    pub(crate) service: Arc<ObjectKey>,
    /// The policies that are asked first.
    pub(crate) pair: Arc<Pair>,
    pub(crate) traffic_settings: NameId,
    pub(crate) balancer_settings: NameId,
    pub(crate) internal: TrafficPolicy,
    pub(crate) external: TrafficPolicy,
    pub(crate) has_external: bool,
    pub(crate) affinity_seconds: u32,
    /// Whether its Service names a policy.
    pub(crate) chosen: bool,
    /// See [`Fingerprint`].
    pub(crate) cluster: u64,
    /// See [`Fingerprint`].
    pub(crate) input: u64,
    /// What its policies asked for besides.
    pub(crate) extras: Option<Box<Extras>>,
}

/// Inputs that only those get who ask for them, for the endpoints of a port in their order; empty where nobody asked.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    pub(crate) loads: Vec<Load>,
    pub(crate) ages: Vec<u32>,
    /// Slots in the cluster ring and in the local one, as far as there is one in force.
    pub(crate) shares: [Vec<u32>; 2],
    pub(crate) pods: Texts,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Texts in a row, in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    text: String,
    ends: Vec<usize>,
}

impl Texts {
    pub(crate) fn get(&self, at: usize) -> Option<&str> {
        let begin = at.checked_sub(1).map_or(Some(&0), |before| self.ends.get(before))?;
        self.text.get(*begin..*self.ends.get(at)?)
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut all = Self::default();
        for text in texts {
            all.text.push_str(text);
            all.ends.push(all.text.len());
        }
        all
    }
}

impl Subject {
    pub(crate) fn new(
        store: &Store,
        service: &Service,
        pair: Arc<Pair>,
        port: Port,
        print: Fingerprint,
        present: &mut Present<'_>,
    ) -> Self {
        let extras = extras(store, service, &pair, &port, present);
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
            chosen: service.policy != NameId::default(),
            cluster: print.cluster,
            input: print.input,
            extras,
        }
    }

    /// Whether any endpoint is ready and has all flags of `also`.
    pub(crate) fn any_ready(&self, also: Conditions) -> bool {
        self.port.endpoints.iter().any(|endpoint| endpoint.conditions.has(Conditions::READY | also))
    }
}

fn extras(
    store: &Store,
    service: &Service,
    pair: &Pair,
    port: &Port,
    present: &mut Present<'_>,
) -> Option<Box<Extras>> {
    let wanted = pair.inputs();
    if !(wanted.loads || wanted.ages || wanted.shares || wanted.pods || wanted.annotations) {
        return None;
    }
    let mut extras = Extras::default();
    if wanted.loads {
        extras.loads = present.loads.of(port);
    }
    if wanted.ages {
        let (ages, ready) = present.ages.of(port, present.now);
        extras.ages = ages;
        present.ready.push((port.key, ready));
    }
    if let Some(last) = present.last.as_ref().filter(|_| wanted.shares) {
        extras.shares = [&last.cluster, &last.local]
            .map(|ring| ring.as_ref().map(|ring| shares(port, last, ring)).unwrap_or_default());
    }
    if wanted.pods {
        extras.pods = store.pods(port).into_iter().collect();
    }
    if wanted.annotations {
        extras.annotations = service.annotations.clone();
    }
    Some(Box::new(extras))
}

/// How many slots of `ring`, of the decision `last`, each endpoint of `port` has.
fn shares(port: &Port, last: &Decision, ring: &Ring) -> Vec<u32> {
    let mut slots = vec![0_u32; last.backends.len()];
    ring.slots.iter().for_each(|slot| slots[usize::from(*slot)] += 1);
    let known = last.backends.iter().zip(slots).map(|(backend, slots)| ((backend.address, backend.port), slots));
    let mut known = Walk::over(known);
    port.endpoints.iter().map(|endpoint| known.find((endpoint.address, endpoint.port)).unwrap_or(0)).collect()
}

/// Ports that are decided together, and the names behind their numbers.
#[derive(Debug)]
pub(crate) struct Subjects {
    pub(crate) list: Vec<Subject>,
    pub(crate) names: Arc<Names>,
    pub(crate) node: NodeIdentity,
    /// The number of this node's zone; 0 when unknown.
    pub(crate) zone: NameId,
}

impl Subjects {
    /// None yet, with room for some.
    pub(crate) fn new(store: &Store, room: usize) -> Self {
        let (names, node) = (store.names().clone(), store.node().clone());
        let zone = names.find(&node.zone).unwrap_or_default();
        Self { list: Vec::with_capacity(room), names, node, zone }
    }

    /// None, of no cluster.
    pub(crate) fn none() -> Self {
        Self { list: Vec::new(), names: Arc::default(), node: NodeIdentity::default(), zone: NameId::default() }
    }
}

/// Hashes of what the answer for a port can depend on. Not for enemies: they only save calls, and a collision would
/// repeat the port's own last answer.
///
/// What changes while the cluster does not, loads and ages, is left out: where a policy asks for those, nothing is
/// saved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprint {
    /// Of the Service and its endpoints.
    pub(crate) cluster: u64,
    /// Of everything, the policies included.
    pub(crate) input: u64,
}

impl Fingerprint {
    /// Hashes what `pair` would be asked.
    pub(crate) fn of(store: &Store, service: &Service, pair: &Pair, port: &Port) -> Self {
        let mut hash = Mix::default();
        hash.eat(u64::from(service.policy_settings.0) << 32 | u64::from(service.affinity_seconds));
        let flags = [
            service.internal_policy == TrafficPolicy::Local,
            service.external_policy == TrafficPolicy::Local,
            service.is_external(&port.spec),
        ];
        let flags = flags.into_iter().fold(0, |flags, flag| flags << 1 | u64::from(flag));
        hash.eat(u64::from(service.policy.0) << 32 | u64::from(port.spec.port) << 8 | flags);
        for endpoint in &port.endpoints {
            let address = match endpoint.address {
                IpAddr::V4(v4) => u64::from(u32::from(v4)),
                IpAddr::V6(v6) => {
                    let halves = [u128::from(v6) >> 64, u128::from(v6) & u128::from(u64::MAX)];
                    let [high, low] = halves.map(|half| u64::try_from(half).unwrap_or_default());
                    hash.eat(high);
                    low
                }
            };
            let state = u64::from(endpoint.conditions.0) << 32 | u64::from(endpoint.weight);
            hash.eat_both(address, u64::from(endpoint.port) << 48 | state);
            hash.eat(u64::from(endpoint.node.0) << 32 | u64::from(endpoint.zone.0));
        }
        hash.eat(port.endpoints.len() as u64);
        let cluster = hash.value();
        hash.eat(pair.traffic.version());
        hash.eat(pair.balancer.version());
        hash.eat(u64::from(pair.traffic_has_settings) << 1 | u64::from(pair.balancer_has_settings));
        let wanted = pair.inputs();
        if wanted.pods {
            store.pods(port).into_iter().for_each(|pod| hash.eat_text(pod));
        }
        if wanted.annotations {
            service.annotations.iter().flat_map(|(name, value)| [name, value]).for_each(|text| hash.eat_text(text));
        }
        Self { cluster, input: hash.value() }
    }
}
