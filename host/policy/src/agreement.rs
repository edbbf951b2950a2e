//! One number for all decisions: nodes that agree have the same.

use std::collections::HashMap;
use std::sync::Arc;

use weir_model::{Decision, IndexFunction, ObjectKey, PortKey};

use crate::mix::Mix;

/// A digest of the decisions of all ports, kept up to date port by port; how they came about does not matter.
///
/// It covers the cluster-wide lists, by names that mean the same on every node: Service, port, protocol and family; how
/// a slot is picked, the affinity, and how many slots each endpoint has (where a slot is picked by a hash, also which).
/// What is a node's own is left out: the list of its own endpoints and where its clients are sent. A policy that looks
/// at the node, its zone or its connections still may decide differently on each, and so does one whose last good
/// answer stands in.
#[derive(Debug, Default)]
pub struct DecisionsDigest {
    parts: HashMap<PortKey, u64>,
    sum: u64,
}

impl DecisionsDigest {
    /// A port of `service` called `name` is decided like that from now on.
    pub fn set(&mut self, service: &ObjectKey, name: &str, port: PortKey, decision: &Arc<Decision>) {
        let part = part(service, name, &port, decision);
        let before = self.parts.insert(port, part).unwrap_or_default();
        self.sum = self.sum.wrapping_sub(before).wrapping_add(part);
    }

    /// A port is gone.
    pub fn remove(&mut self, port: &PortKey) {
        self.sum = self.sum.wrapping_sub(self.parts.remove(port).unwrap_or_default());
    }

    /// The digest. 0 where nothing is decided.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.sum
    }
}

/// What one port adds. Parts are summed up, so that their order does not matter.
fn part(service: &ObjectKey, name: &str, port: &PortKey, decision: &Decision) -> u64 {
    let mut hash = Mix::default();
    [&*service.namespace, &service.name, name].into_iter().for_each(|text| hash.eat_text(text));
    hash.eat((port.protocol as u64) << 8 | port.family as u64);
    let Some(ring) = &decision.cluster else { return hash.value() };
    hash.eat(u64::from(ring.affinity_seconds) << 8 | ring.index as u64);
    hash.eat(ring.slots.len() as u64);
    let ids = ring.slots.iter().map(|slot| u64::from(decision.backends[usize::from(*slot)].id));
    match ring.index {
        // A node may begin its round where it likes.
        IndexFunction::Random | IndexFunction::RoundRobin => {
            hash.eat(ids.fold(0, |sum: u64, id| {
                sum.wrapping_add((id + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ id)
            }));
        }
        IndexFunction::SourceHash | IndexFunction::FlowHash => ids.for_each(|id| hash.eat(id)),
    }
    hash.value()
}
