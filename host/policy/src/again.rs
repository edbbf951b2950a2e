//! What time does to decisions: ages of endpoints, and policies that want another look after a while.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use weir_model::{ByNumber, Conditions, Decision, Endpoint, Loads, Port, PortKey, ServiceId};

use crate::walk::{Place, Walk};

/// The moment of a sync.
pub(crate) struct Present<'a> {
    pub(crate) now: Instant,
    pub(crate) loads: &'a dyn Loads,
    pub(crate) ages: &'a mut Ages,
    /// The last good decision of the port in hand.
    pub(crate) last: Option<Arc<Decision>>,
}

/// The ready endpoints of a port, since when they are; `None` for one that was there when the port was first looked at.
type Ready = Vec<(Place, Option<Instant>)>;

/// Since when endpoints have been ready, as far as this node saw it. Only ports are in here whose policies ask.
#[derive(Debug, Default)]
pub(crate) struct Ages(HashMap<ServiceId, Vec<(PortKey, Ready)>, ByNumber>);

impl Ages {
    /// Seconds since each endpoint of `port` became ready: the largest number for one that was there at the first
    /// look, 0 for one that is not ready.
    pub(crate) fn of(&mut self, port: &Port, now: Instant) -> Vec<u32> {
        let of_service = self.0.entry(port.key.service).or_default();
        let known = of_service.iter().position(|(key, _)| *key == port.key);
        let new = known.map(|_| now);
        let mut before = Walk::over(known.map(|at| std::mem::take(&mut of_service[at].1)).unwrap_or_default());
        let mut after = Vec::with_capacity(port.endpoints.len());
        let age = |endpoint: &Endpoint| {
            if !endpoint.conditions.has(Conditions::READY) {
                return 0;
            }
            let place = (endpoint.address, endpoint.port);
            let since = before.find(place).unwrap_or(new);
            after.push((place, since));
            let seconds = |since| u32::try_from(now.saturating_duration_since(since).as_secs());
            since.map_or(u32::MAX, |since| seconds(since).unwrap_or(u32::MAX))
        };
        let ages = port.endpoints.iter().map(age).collect();
        match known {
            Some(at) => of_service[at].1 = after,
            None => of_service.push((port.key, after)),
        }
        ages
    }

    /// Forgets the ports of a Service that `stays` does not hold for.
    pub(crate) fn forget(&mut self, service: ServiceId, stays: impl Fn(&PortKey) -> bool) {
        let Some(of_service) = self.0.get_mut(&service) else { return };
        of_service.retain(|(port, _)| stays(port));
        if of_service.is_empty() {
            self.0.remove(&service);
        }
    }
}

/// When Services are to be decided again although nothing changed.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    order: BTreeSet<(Instant, ServiceId)>,
    due: HashMap<ServiceId, Instant, ByNumber>,
}

impl Schedule {
    /// Has `service` decided again then, and not before; `None` means never.
    pub(crate) fn set(&mut self, service: ServiceId, due: Option<Instant>) {
        self.clear(service);
        if let Some(due) = due {
            self.order.insert((due, service));
            self.due.insert(service, due);
        }
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    fn clear(&mut self, service: ServiceId) {
        if let Some(due) = self.due.remove(&service) {
            self.order.remove(&(due, service));
        }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Those that are due, in order of number; they are not due any more.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<ServiceId> {
        let mut found = Vec::new();
        while let Some((due, service)) = self.order.first().copied().filter(|(due, _)| *due <= now) {
            self.order.remove(&(due, service));
            self.due.remove(&service);
            found.push(service);
        }
        found.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_model::{Family, NameId, Protocol, ServicePort};

    use super::*;

    fn port(endpoints: &[(u8, Conditions)]) -> Port {
        let name = NameId::default();
        let endpoint = |(number, conditions): &(u8, Conditions)| Endpoint {
            address: [10, 0, 0, *number].into(),
            port: 80,
            id: u32::from(*number),
            node: name,
            zone: name,
            conditions: *conditions,
            weight: 1,
        };
        Port {
            key: PortKey { service: ServiceId(1), name, protocol: Protocol::Tcp, family: Family::V4 },
            spec: ServicePort { name, protocol: Protocol::Tcp, port: 80, node_port: 0 },
            endpoints: endpoints.iter().map(endpoint).collect(),
        }
    }

    #[test]
    fn who_was_there_first_is_old_and_who_comes_later_grows_up() {
        let (ready, not) = (Conditions::ready(), Conditions::default());
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut ages = Ages::default();
        assert_eq!(ages.of(&port(&[(1, ready), (2, not)]), start), [u32::MAX, 0]);
        assert_eq!(ages.of(&port(&[(1, ready), (2, ready), (3, ready)]), after(5)), [u32::MAX, 0, 0]);
        assert_eq!(ages.of(&port(&[(1, ready), (2, ready), (3, not)]), after(12)), [u32::MAX, 7, 0]);
        assert_eq!(ages.of(&port(&[(2, ready), (3, ready)]), after(20)), [15, 0], "ready anew, young anew");
        assert_eq!(ages.of(&port(&[(1, ready)]), after(30)), [0], "who was away is not old any more");
        ages.forget(ServiceId(1), |_| false);
        assert_eq!(ages.of(&port(&[(1, ready)]), after(40)), [u32::MAX]);
    }

    #[test]
    fn each_service_is_due_once_and_at_its_last_word() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (one, two, three) = (ServiceId(1), ServiceId(2), ServiceId(3));
        let mut schedule = Schedule::default();
        schedule.set(three, Some(after(5)));
        schedule.set(two, Some(after(5)));
        schedule.set(one, Some(after(2)));
        schedule.set(one, Some(after(9)));
        assert_eq!((schedule.next(), schedule.take(after(4))), (Some(after(5)), vec![]));
        assert_eq!(schedule.take(after(5)), [two, three]);
        schedule.set(one, None);
        assert_eq!((schedule.next(), schedule.take(after(99))), (None, vec![]));
    }
}
