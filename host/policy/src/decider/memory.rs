//! The last good answers, by Service.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;
use weir_model::{ByNumber, Decision, Port, PortKey, ServiceId};

/// What a port's policies last said, and of what.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub(super) port: PortKey,
    /// See [`crate::subject::Fingerprint`].
    pub(super) cluster: u64,
    /// See [`crate::subject::Fingerprint`].
    pub(super) input: u64,
    pub(super) decision: Arc<Decision>,
    /// Seconds until they want another look; 0 for never.
    pub(super) again: u32,
}

/// Every port's last good answer.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Most Services have one port.
    services: HashMap<ServiceId, SmallVec<[Remembered; 1]>, ByNumber>,
    /// Whether any answer ever wanted another look: on most nodes none does, and nobody need search for them.
    looked: bool,
}

impl Memory {
    /// What is known of the ports of a Service.
    pub(super) fn of_service(&self, id: ServiceId) -> &[Remembered] {
        self.services.get(&id).map_or(&[], SmallVec::as_slice)
    }

    /// What is known of a port.
    pub(super) fn of_port(&self, port: &PortKey) -> Option<&Remembered> {
        self.of_service(port.service).iter().find(|known| known.port == *port)
    }

    /// What is known of every port, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Remembered> + Clone {
        self.services.values().flatten()
    }

    /// Whether there can be an answer that wants another look.
    pub(super) fn may_want_looks(&self) -> bool {
        self.looked
    }

    /// Makes room for so many Services more.
    pub(super) fn reserve(&mut self, services: usize) {
        // A Service that is known needs none, and usually all are known, or none.
        self.services.reserve(services.saturating_sub(self.services.len()));
    }

    /// Keeps an answer in the place of the one before.
    pub(super) fn set(&mut self, new: Remembered) {
        self.looked |= new.again > 0;
        let of_service = self.services.entry(new.port.service).or_default();
        match of_service.iter_mut().find(|known| known.port == new.port) {
            Some(known) => *known = new,
            None => of_service.push(new),
        }
    }

    /// The ports of a Service that are known and not among `ports`.
    pub(super) fn others(&self, id: ServiceId, ports: &[Port]) -> impl Iterator<Item = PortKey> {
        let known = self.of_service(id).iter().map(|known| known.port);
        known.filter(|known| !ports.iter().any(|port| port.key == *known))
    }

    /// Forgets a port.
    pub(super) fn forget(&mut self, port: &PortKey) {
        let Some(of_service) = self.services.get_mut(&port.service) else { return };
        of_service.retain(|known| known.port != *port);
        if of_service.is_empty() {
            self.services.remove(&port.service);
        }
    }

    /// Forgets those Services.
    pub(super) fn forget_services(&mut self, services: &[ServiceId]) {
        services.iter().for_each(|id| drop(self.services.remove(id)));
    }

    /// A copy of what is known of those Services.
    pub(super) fn copy(&self, services: &[ServiceId]) -> Self {
        let known = |id: &ServiceId| Some((*id, self.services.get(id)?.clone()));
        Self { services: services.iter().filter_map(known).collect(), looked: self.looked }
    }

    /// Takes in all that `other` knows, in the place of what is known of the same Services.
    pub(super) fn extend(&mut self, other: Self) {
        self.looked |= other.looked;
        self.services.extend(other.services);
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{Family, IndexFunction, NameId, Origin, Protocol, Ring, Route, ServicePort};

    use super::*;

    fn key(service: u32, name: u32) -> PortKey {
        PortKey { service: ServiceId(service), name: NameId(name), protocol: Protocol::Tcp, family: Family::V4 }
    }

    fn port(key: PortKey) -> Port {
        let spec = ServicePort { name: key.name, protocol: key.protocol, port: 80, node_port: 0 };
        Port { key, spec, endpoints: Vec::new() }
    }

    fn remembered(port: PortKey, again: u32) -> Remembered {
        let ring = Ring { index: IndexFunction::Random, slots: vec![0], affinity_seconds: 0 };
        let decision = Decision {
            backends: Vec::new(),
            cluster: Some(Arc::new(ring)),
            local: None,
            internal: Route::Cluster,
            external: Route::Cluster,
            short_cut: false,
            reason: Arc::default(),
            origin: Origin::LastResort,
        };
        Remembered { port, cluster: 0, input: 0, decision: Arc::new(decision), again }
    }

    #[test]
    fn ports_that_are_gone_are_forgotten_and_others_kept() {
        let mut memory = Memory::default();
        for (service, name) in [(1, 1), (1, 2), (2, 1)] {
            memory.set(remembered(key(service, name), 0));
        }
        let forget = |memory: &mut Memory, id, ports: &[Port]| {
            let gone: Vec<PortKey> = memory.others(id, ports).collect();
            gone.iter().for_each(|port| memory.forget(port));
        };
        forget(&mut memory, ServiceId(1), &[port(key(1, 2))]);
        let left: Vec<PortKey> = memory.of_service(ServiceId(1)).iter().map(|one| one.port).collect();
        assert_eq!(left, [key(1, 2)]);
        assert!(memory.of_port(&key(1, 1)).is_none() && memory.of_port(&key(2, 1)).is_some());
        forget(&mut memory, ServiceId(2), &[]);
        assert_eq!(memory.all().count(), 1);
    }

    #[test]
    fn whoever_wanted_another_look_is_found_wherever_the_answer_went() {
        let mut memory = Memory::default();
        memory.set(remembered(key(1, 1), 0));
        assert!(!memory.may_want_looks());
        let mut trial = memory.copy(&[ServiceId(1), ServiceId(7)]);
        trial.set(remembered(key(1, 1), 5));
        memory.extend(trial);
        assert!(memory.may_want_looks());
        assert_eq!(memory.of_port(&key(1, 1)).map(|known| known.again), Some(5));
        memory.forget_services(&[ServiceId(1)]);
        assert!(memory.of_service(ServiceId(1)).is_empty());
    }
}
