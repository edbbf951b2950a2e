//! The state of the cluster, and what changed since the last look.

use std::collections::BTreeSet;
use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};
use ipnet::IpNet;

use crate::slices::{Slice, SliceEndpoint, Slices};
use crate::{
    ByNumber, Conditions, EndpointSpec, Event, Family, NameId, Names, NodeIdentity, NodeSpec, ObjectKey, Port, PortKey,
    Service, ServiceId, ServiceKind, ServicePort, ServiceSpec, SliceKey, SliceSpec,
};

/// Services and slices as of the last event.
///
/// A slice may come before its Service and outlive it; the entry of a Service exists as long as either does,
/// so its number is stable through any order of events.
#[derive(Debug)]
pub struct Store {
    names: Arc<Names>,
    node: NodeIdentity,
    // By hash: comparing names level by level was a third of what taking in a cluster costs.
    ids: IndexMap<Arc<ObjectKey>, ServiceId>,
    /// In no order, but neighbours mostly came one after the other.
    entries: IndexMap<ServiceId, Entry, ByNumber>,
    next_id: u32,
    /// Which Service a slice belongs to; a slice may change that.
    slice_owner: IndexMap<Arc<SliceKey>, ServiceId>,
    dirty: BTreeSet<ServiceId>,
    /// When what changed since the last look was triggered, where slices tell.
    triggers: Vec<Trigger>,
    /// Whether a complete list came.
    listed: bool,
    surroundings: Surroundings,
}

/// When a change of endpoints began in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Family of the slice that changed.
    pub family: Family,
    /// Milliseconds since 1970.
    pub at: i64,
}

/// What is known of the node and the cluster as such.
#[derive(Debug, Default)]
struct Surroundings {
    node: Option<NodeSpec>,
    service_cidrs: Vec<IpNet>,
    /// Whether the zone was given, so that the Node object has no say in it.
    zone_given: bool,
}

/// All that is known of one Service.
#[derive(Debug)]
struct Entry {
    key: Arc<ObjectKey>,
    service: Option<Service>,
    slices: Slices,
}

impl Store {
    /// An empty store for that node.
    #[must_use]
    pub fn new(node: NodeIdentity) -> Self {
        let zone_given = !node.zone.is_empty();
        Self {
            names: Arc::default(),
            node,
            ids: IndexMap::new(),
            entries: IndexMap::default(),
            next_id: 0,
            slice_owner: IndexMap::new(),
            dirty: BTreeSet::new(),
            triggers: Vec::new(),
            listed: false,
            surroundings: Surroundings { zone_given, ..Surroundings::default() },
        }
    }

    /// Takes one event in. Only Services whose content really changes become dirty.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Service(spec) => self.set_service(spec),
            Event::ServiceGone(key) => self.drop_service(&key),
            Event::Slice(spec) => self.set_slice(spec),
            Event::SliceGone(key) => self.drop_slice(&key),
            Event::Node(spec) => self.set_node(spec),
            Event::ServiceCidrs(cidrs) => self.surroundings.service_cidrs = cidrs,
            Event::Replace { services, slices } => self.replace(services, slices),
            Event::Listed => self.listed = true,
        }
    }

    /// The Services touched since the last call, in ascending order, those that are gone included.
    pub fn take_dirty(&mut self) -> Vec<ServiceId> {
        std::mem::take(&mut self.dirty).into_iter().collect()
    }

    /// What triggered the changes since the last call, one for each changed slice that tells.
    pub fn take_triggers(&mut self) -> Vec<Trigger> {
        std::mem::take(&mut self.triggers)
    }

    /// How many Services changed since [`Self::take_dirty`] was called.
    #[must_use]
    pub fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// Every Service there is, in ascending order of number.
    pub fn service_ids(&self) -> impl Iterator<Item = ServiceId> + use<> {
        let there = self.entries.iter().filter(|(_, entry)| entry.service.is_some()).map(|(id, _)| *id);
        let mut ids: Vec<ServiceId> = there.collect();
        ids.sort_unstable();
        ids.into_iter()
    }

    /// The Service with that number; `None` once it is gone.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.entries.get(&id)?.service.as_ref()
    }

    /// The number of the Service with that name.
    #[must_use]
    pub fn find(&self, key: &ObjectKey) -> Option<ServiceId> {
        self.ids.get(key).copied().filter(|id| self.service(*id).is_some())
    }

    /// The ports a Service programs, one a family it has a ClusterIP of, with their endpoints. Empty for
    /// headless Services, ExternalName and Services that are gone.
    #[must_use]
    pub fn ports(&self, id: ServiceId) -> Vec<Port> {
        let Some(entry) = self.entries.get(&id) else { return Vec::new() };
        let Some(service) = entry.service.as_ref().filter(|service| service.kind != ServiceKind::ExternalName) else {
            return Vec::new();
        };
        let mut ports = Vec::with_capacity(service.ports.len() * service.cluster_ips.len());
        for cluster_ip in &service.cluster_ips {
            let family = Family::of(*cluster_ip);
            for spec in &service.ports {
                let key = PortKey { service: id, name: spec.name, protocol: spec.protocol, family };
                ports.push(Port { key, spec: *spec, endpoints: entry.slices.endpoints(family, spec) });
            }
        }
        ports
    }

    /// How much there is to say about a Service: its ports in each family, and an entry in a slice as often as it is a
    /// port's. Counts at once what [`Store::ports`] goes through, and what is in several slices several times.
    #[must_use]
    pub fn size(&self, id: ServiceId) -> usize {
        let Some(entry) = self.entries.get(&id) else { return 0 };
        let Some(service) = &entry.service else { return 0 };
        let of_family = |family| 1 + entry.slices.count(family);
        service.ports.len() * service.cluster_ips.iter().map(|ip| of_family(Family::of(*ip))).sum::<usize>()
    }

    /// Names of the pods behind the endpoints of `port`, in their order; empty ones where there is none. Of two slices
    /// that name an address, the first by name that knows its pod counts.
    #[must_use]
    pub fn pods(&self, port: &Port) -> Vec<&str> {
        match self.entries.get(&port.key.service) {
            Some(entry) => entry.slices.pods(port),
            None => vec![""; port.endpoints.len()],
        }
    }

    /// The interned names. Whoever keeps a clone keeps the names as they are now; the next new name then
    /// costs a copy of the table, so let go of it before the next event.
    #[must_use]
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Who this node is.
    #[must_use]
    pub fn node(&self) -> &NodeIdentity {
        &self.node
    }

    /// Whether a complete list came yet. Before that, what is missing here may well exist.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// What the cluster knows of this node.
    #[must_use]
    pub fn node_object(&self) -> Option<&NodeSpec> {
        self.surroundings.node.as_ref()
    }

    /// The ranges ClusterIPs come from, as far as the cluster told.
    #[must_use]
    pub fn service_cidrs(&self) -> &[IpNet] {
        &self.surroundings.service_cidrs
    }

    fn set_node(&mut self, spec: Option<NodeSpec>) {
        if !self.surroundings.zone_given {
            self.node.zone = spec.as_ref().map(|node| node.zone.clone()).unwrap_or_default();
        }
        self.surroundings.node = spec;
    }

    fn set_service(&mut self, spec: ServiceSpec) {
        let id = self.id_of(&spec.key);
        let Some(entry) = self.entries.get(&id) else { return };
        let service = compact(&mut self.names, entry.key.clone(), spec);
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.service.as_ref() != Some(&service)
        {
            entry.service = Some(service);
            self.dirty.insert(id);
        }
    }

    fn drop_service(&mut self, key: &ObjectKey) {
        let Some(id) = self.ids.get(key).copied() else { return };
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.service.take().is_some()
        {
            self.dirty.insert(id);
        }
        self.forget_if_empty(id);
    }

    fn set_slice(&mut self, spec: SliceSpec) {
        let id = self.id_of(&spec.service);
        if self.slice_owner.get(&spec.key).is_some_and(|owner| *owner != id) {
            self.drop_slice(&spec.key);
        }
        let SliceSpec { key, family, ports, endpoints, triggered, .. } = spec;
        let names = &mut self.names;
        let ports = ports.into_iter().map(|port| (intern(names, &port.name), port.protocol, port.port)).collect();
        let pods = if endpoints.iter().any(|endpoint| endpoint.pod.is_some()) {
            endpoints.iter().map(|endpoint| endpoint.pod.as_deref().unwrap_or_default().into()).collect()
        } else {
            Box::default()
        };
        let endpoints = endpoints.into_iter().map(|endpoint| self.compact_endpoint(&endpoint)).collect();
        let slice = Slice { family, ports, endpoints, pods };
        let key = Arc::new(key);
        self.slice_owner.insert(key.clone(), id);
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.slices.set(key, slice)
        {
            self.dirty.insert(id);
            self.triggers.extend(triggered.map(|at| Trigger { family, at }));
        }
    }

    fn drop_slice(&mut self, key: &SliceKey) {
        let Some(id) = self.slice_owner.swap_remove(key) else { return };
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.slices.remove(key)
        {
            self.dirty.insert(id);
        }
        self.forget_if_empty(id);
    }

    fn replace(&mut self, services: Vec<ServiceSpec>, slices: Vec<SliceSpec>) {
        let gone = missing(&self.ids, services.iter().map(|spec| &spec.key));
        let gone_slices = missing(&self.slice_owner, slices.iter().map(|spec| &spec.key));
        self.listed = true;
        // New ones first: a Service that stays keeps its entry, and with it its number.
        services.into_iter().for_each(|spec| self.set_service(spec));
        slices.into_iter().for_each(|spec| self.set_slice(spec));
        gone.iter().for_each(|key| self.drop_service(key));
        gone_slices.iter().for_each(|key| self.drop_slice(key));
    }

    fn id_of(&mut self, key: &ObjectKey) -> ServiceId {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let id = ServiceId(self.next_id);
        self.next_id += 1;
        let key = Arc::new(key.clone());
        self.ids.insert(key.clone(), id);
        self.entries.insert(id, Entry { key, service: None, slices: Slices::default() });
        id
    }

    fn forget_if_empty(&mut self, id: ServiceId) {
        if let Some(entry) = self.entries.get(&id)
            && entry.service.is_none()
            && entry.slices.is_empty()
        {
            self.ids.swap_remove(&entry.key);
            self.entries.swap_remove(&id);
        }
    }

    fn compact_endpoint(&mut self, spec: &EndpointSpec) -> SliceEndpoint {
        let mut conditions = spec.conditions;
        let node = spec.node.as_deref().unwrap_or("");
        if !node.is_empty() && node == self.node.name {
            conditions |= Conditions::LOCAL;
        }
        for (hints, own, any, here) in [
            (&spec.hint_zones, &self.node.zone, Conditions::ZONE_HINTS, Conditions::HINTS_THIS_ZONE),
            (&spec.hint_nodes, &self.node.name, Conditions::NODE_HINTS, Conditions::HINTS_THIS_NODE),
        ] {
            if !hints.is_empty() {
                conditions |= any;
            }
            if !own.is_empty() && hints.contains(own) {
                conditions |= here;
            }
        }
        SliceEndpoint {
            address: spec.address,
            node: intern(&mut self.names, node),
            zone: intern(&mut self.names, spec.zone.as_deref().unwrap_or("")),
            weight: spec.weight,
            conditions,
        }
    }
}

/// The known objects a complete list does not name.
fn missing<'a>(
    known: &IndexMap<Arc<ObjectKey>, ServiceId>,
    listed: impl Iterator<Item = &'a ObjectKey>,
) -> Vec<Arc<ObjectKey>> {
    if known.is_empty() {
        return Vec::new();
    }
    let listed: IndexSet<&ObjectKey> = listed.collect();
    known.keys().filter(|key| !listed.contains(&***key)).cloned().collect()
}

/// The number of `name`. Only a new name touches the table, so that a clone somebody holds costs nothing
/// while the same names come and go.
fn intern(names: &mut Arc<Names>, name: &str) -> NameId {
    match names.find(name) {
        Some(id) => id,
        None => Arc::make_mut(names).intern(name),
    }
}

fn compact(names: &mut Arc<Names>, key: Arc<ObjectKey>, spec: ServiceSpec) -> Service {
    let ServiceSpec { kind, created, cluster_ips, external_ips, load_balancer_ips, source_ranges, ports, .. } = spec;
    let ports = ports
        .into_iter()
        .map(|port| ServicePort {
            name: intern(names, &port.name),
            protocol: port.protocol,
            port: port.port,
            node_port: port.node_port,
        })
        .collect();
    Service {
        key,
        kind,
        created,
        cluster_ips,
        external_ips,
        load_balancer_ips,
        source_ranges,
        health_check_node_port: spec.health_check_node_port,
        ports,
        internal_policy: spec.internal_policy,
        external_policy: spec.external_policy,
        affinity_seconds: spec.affinity_seconds,
        policy: intern(names, spec.policy.as_deref().unwrap_or("")),
        policy_settings: intern(names, spec.policy_settings.as_deref().unwrap_or("")),
        annotations: spec.annotations,
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
