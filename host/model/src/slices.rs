//! The slices of one Service, compact, and the endpoints they come to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::{Conditions, Endpoint, Family, NameId, Port, Protocol, ServicePort, SliceKey, backend_id};

/// A slice: names are numbers, and the ports are stored once for all endpoints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) family: Family,
    // Boxed slices: a vector collected in place from the much larger specs would keep their allocation.
    pub(crate) ports: Box<[(NameId, Protocol, u16)]>,
    pub(crate) endpoints: Box<[SliceEndpoint]>,
    /// Names of the pods behind the endpoints, in the same order; empty where there are none. Not interned: pods come
    /// and go for ever, and interned names stay.
    pub(crate) pods: Box<[Box<str>]>,
}

/// An endpoint of a slice; which ports it listens on is the slice's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceEndpoint {
    pub(crate) address: IpAddr,
    pub(crate) node: NameId,
    pub(crate) zone: NameId,
    pub(crate) weight: u32,
    pub(crate) conditions: Conditions,
}

/// The slices of a Service, ascending by name. A vector, because nearly every Service has one slice, or one a family,
/// and a tree takes room for eleven at once.
#[derive(Debug, Default)]
pub(crate) struct Slices(Vec<(Arc<SliceKey>, Slice)>);

impl Slices {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, key: &SliceKey) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(key))
    }

    /// Takes a slice in, in the place of the one of that name. Whether that changed anything.
    pub(crate) fn set(&mut self, key: Arc<SliceKey>, slice: Slice) -> bool {
        match self.place(&key) {
            Ok(at) if self.0[at].1 == slice => return false,
            Ok(at) => self.0[at].1 = slice,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (key, slice));
            }
        }
        true
    }

    /// Whether there was one of that name.
    pub(crate) fn remove(&mut self, key: &SliceKey) -> bool {
        self.place(key).map(|at| self.0.remove(at)).is_ok()
    }

    /// The slices, in the order of their names.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Slice> {
        self.0.iter().map(|(_, slice)| slice)
    }

    fn of(&self, family: Family) -> impl Iterator<Item = &Slice> {
        self.values().filter(move |slice| slice.family == family)
    }

    /// How many entries the slices of a family have.
    pub(crate) fn count(&self, family: Family) -> usize {
        self.of(family).map(|slice| slice.endpoints.len()).sum()
    }

    /// See [`crate::Store::pods`].
    pub(crate) fn pods(&self, port: &Port) -> Vec<&str> {
        // Usually one slice has them all, in order.
        let mut slices = self.of(port.key.family);
        if let (Some(only), None) = (slices.next(), slices.next()) {
            let addresses = only.endpoints.iter().map(|endpoint| endpoint.address);
            if addresses.eq(port.endpoints.iter().map(|endpoint| endpoint.address)) {
                return (0..port.endpoints.len()).map(|at| only.pods.get(at).map_or("", |pod| pod)).collect();
            }
        }
        let mut pods: BTreeMap<IpAddr, &str> = BTreeMap::new();
        for slice in self.of(port.key.family) {
            for (endpoint, pod) in slice.endpoints.iter().zip(&slice.pods).filter(|(_, pod)| !pod.is_empty()) {
                pods.entry(endpoint.address).or_insert(pod);
            }
        }
        port.endpoints.iter().map(|endpoint| pods.get(&endpoint.address).copied().unwrap_or_default()).collect()
    }

    /// Everybody any slice names for a port. An address and port in two slices counts once; of two entries the one
    /// on this node wins (as in kube-proxy), then the more usable one: ready before serving before neither. Other
    /// differences are settled by the smaller flags, weight and slice name, so that the order of events never matters.
    pub(crate) fn endpoints(&self, family: Family, spec: &ServicePort) -> Vec<Endpoint> {
        let mut found: Vec<Endpoint> = Vec::new();
        for slice in self.of(family) {
            let named =
                slice.ports.iter().filter(|(name, protocol, _)| (*name, *protocol) == (spec.name, spec.protocol));
            for (_, _, port) in named {
                found.extend(slice.endpoints.iter().map(|endpoint| Endpoint {
                    address: endpoint.address,
                    port: *port,
                    id: backend_id(endpoint.address, *port),
                    node: endpoint.node,
                    zone: endpoint.zone,
                    conditions: endpoint.conditions,
                    weight: endpoint.weight,
                }));
            }
        }
        // A single slice is often in order already.
        if !in_order(&found) {
            let place = |endpoint: &Endpoint| (endpoint.address, endpoint.port);
            let better_first = |endpoint: &Endpoint| {
                let lacks = |flag| !endpoint.conditions.has(flag);
                (
                    place(endpoint),
                    lacks(Conditions::LOCAL),
                    lacks(Conditions::READY),
                    lacks(Conditions::SERVING),
                    (endpoint.conditions, endpoint.weight),
                )
            };
            // Stable: where all else is equal, the slice that comes first by name wins.
            found.sort_by_key(better_first);
            found.dedup_by_key(|endpoint| place(endpoint));
        }
        tell_apart(&mut found);
        found
    }
}

/// Whether `endpoints` ascend by address and port, each its own place.
fn in_order(endpoints: &[Endpoint]) -> bool {
    endpoints.is_sorted_by(|one, next| match (one.address, next.address) {
        // As numbers, which compare several times as fast as addresses of any family do.
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a), one.port) < (u32::from(b), next.port),
        (a, b) => (a, one.port) < (b, next.port),
    })
}

/// Up to so many endpoints, a table of bits nearly always tells that no two numbers are equal.
const FEW: usize = 32;

/// Sees to it that no two endpoints have the same number; see [`backend_id`].
fn tell_apart(endpoints: &mut [Endpoint]) {
    // Numbers that differ in their last ten bits differ.
    let mut seen = [0_u64; 16];
    let is_new = |endpoint: &Endpoint| {
        let (word, bit) = (endpoint.id as usize / 64 % 16, 1 << (endpoint.id % 64));
        let new = seen[word] & bit == 0;
        seen[word] |= bit;
        new
    };
    let distinct = endpoints.len() <= FEW && endpoints.iter().all(is_new) || {
        let mut ids: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        ids.sort_unstable();
        ids.is_sorted_by(|one, next| one < next)
    };
    if distinct {
        return;
    }
    let mut order: Vec<(u32, usize)> = endpoints.iter().map(|endpoint| endpoint.id).zip(0..).collect();
    order.sort_unstable();
    let mut taken = BTreeSet::new();
    for (mut id, at) in order {
        while !taken.insert(id) {
            // All-ones is reserved, and bit 31 stays set.
            id = if id >= u32::MAX - 1 { 0x8000_0000 } else { id + 1 };
        }
        endpoints[at].id = id;
    }
}
