//! All files together: who wins where two define the same object, and what changed since the last time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use weir_model::{Event, NodeSpec, ObjectKey, ServiceSpec, SliceKey, SliceSpec};

use super::object::{Located, Object};
use super::problem::{Place, Problem, Severity};
use super::tree::Tree;
use crate::{ConfigMapEvent, ConfigMapSpec};

/// What the files say together.
#[derive(Debug, Default)]
pub(super) struct Union {
    pub(super) services: BTreeMap<ObjectKey, Arc<ServiceSpec>>,
    pub(super) slices: BTreeMap<SliceKey, Arc<SliceSpec>>,
    pub(super) config_maps: BTreeMap<ObjectKey, Arc<ConfigMapSpec>>,
    pub(super) node: Option<Arc<NodeSpec>>,
    /// Those of all ServiceCIDRs, in order of name.
    pub(super) service_cidrs: BTreeMap<ObjectKey, Arc<Vec<IpNet>>>,
    /// Objects that lost against an earlier one of the same name.
    pub(super) duplicates: Vec<Problem>,
}

impl Union {
    /// Brings the objects of all files together; the first by file and document wins.
    pub(super) fn of(tree: &Tree) -> Self {
        let mut union = Self::default();
        let mut first: BTreeMap<(&str, &ObjectKey), (&Path, usize)> = BTreeMap::new();
        for (file, located) in tree.objects() {
            match first.entry(located.object.identity()) {
                Entry::Vacant(entry) => {
                    entry.insert((file, located.document));
                    union.add(&located.object);
                }
                Entry::Occupied(winner) => union.duplicates.push(duplicate(file, located, *winner.get())),
            }
        }
        union
    }

    /// Everything. What tells the meaning of slices comes before them.
    pub(super) fn complete(&self) -> Vec<Event> {
        let mut events = Vec::new();
        events.extend(self.node.as_ref().map(|node| Event::Node(Some((**node).clone()))));
        if !self.service_cidrs.is_empty() {
            events.push(Event::ServiceCidrs(self.ranges()));
        }
        events.push(self.list());
        events
    }

    /// The ranges of all ServiceCIDRs.
    pub(super) fn ranges(&self) -> Vec<IpNet> {
        self.service_cidrs.values().flat_map(|ranges| ranges.iter().copied()).collect()
    }

    fn list(&self) -> Event {
        Event::Replace {
            services: self.services.values().map(|spec| (**spec).clone()).collect(),
            slices: self.slices.values().map(|spec| (**spec).clone()).collect(),
        }
    }

    /// What happened on the way from `self` to `new`. What appears comes first, so that an object that moves
    /// from one name to another is never missing.
    pub(super) fn changes_to(&self, new: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.ranges() != new.ranges() {
            events.push(Event::ServiceCidrs(new.ranges()));
        }
        if self.node != new.node {
            events.push(Event::Node(new.node.as_deref().cloned()));
            let zone = |union: &Self| union.node.as_ref().map(|node| node.zone.clone()).unwrap_or_default();
            if zone(self) != zone(new) {
                events.push(new.list());
                return events;
            }
        }
        events.extend(changed(&self.services, &new.services).map(|spec| Event::Service(spec.clone())));
        events.extend(changed(&self.slices, &new.slices).map(|spec| Event::Slice(spec.clone())));
        events.extend(gone(&self.slices, &new.slices).map(|key| Event::SliceGone(key.clone())));
        events.extend(gone(&self.services, &new.services).map(|key| Event::ServiceGone(key.clone())));
        events
    }

    /// The same for ConfigMaps that carry policies.
    pub(super) fn policy_changes_to(&self, new: &Self) -> Vec<ConfigMapEvent> {
        let policies = |union: &Self| -> BTreeMap<ObjectKey, Arc<ConfigMapSpec>> {
            let carry = union.config_maps.iter().filter(|(_, spec)| spec.is_policy());
            carry.map(|(key, spec)| (key.clone(), spec.clone())).collect()
        };
        let (old, new) = (policies(self), policies(new));
        let applied = changed(&old, &new).map(|spec| ConfigMapEvent::Applied(spec.clone()));
        applied.chain(gone(&old, &new).map(|key| ConfigMapEvent::Gone(key.clone()))).collect()
    }

    fn add(&mut self, object: &Object) {
        match object {
            Object::Service(spec) => drop(self.services.insert(spec.key.clone(), spec.clone())),
            Object::Slice(spec) => drop(self.slices.insert(spec.key.clone(), spec.clone())),
            Object::ConfigMap(spec) => drop(self.config_maps.insert(spec.key.clone(), spec.clone())),
            Object::Node(_, spec) => self.node = Some(spec.clone()),
            Object::ServiceCidr(key, ranges) => drop(self.service_cidrs.insert((**key).clone(), ranges.clone())),
        }
    }
}

/// The objects of `new` that are not the same in `old`.
fn changed<'a, T: PartialEq>(
    old: &'a BTreeMap<ObjectKey, Arc<T>>,
    new: &'a BTreeMap<ObjectKey, Arc<T>>,
) -> impl Iterator<Item = &'a T> {
    new.iter()
        .filter(|(key, spec)| old.get(*key).is_none_or(|was| !Arc::ptr_eq(was, spec) && was != *spec))
        .map(|(_, spec)| &**spec)
}

/// The objects of `old` that are not in `new`.
fn gone<'a, T>(
    old: &'a BTreeMap<ObjectKey, T>,
    new: &'a BTreeMap<ObjectKey, T>,
) -> impl Iterator<Item = &'a ObjectKey> {
    old.keys().filter(|key| !new.contains_key(*key))
}

fn duplicate(file: &Path, loser: &Located, (winner, document): (&Path, usize)) -> Problem {
    let (kind, key) = loser.object.identity();
    let place =
        Place { file: file.to_owned(), document: loser.document, object: Some(format!("{kind} {key}")), item: None };
    let message = format!("ignored: {}, document {document} defines it already", winner.display());
    place.problem(Severity::Error, message)
}
