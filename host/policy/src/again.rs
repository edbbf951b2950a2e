//! What time does to decisions: ages of endpoints, and policies that want another look after a while.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use weir_model::{ByNumber, Conditions, Decision, Endpoint, Loads, Port, PortKey, ServiceId};

use crate::walk::{Place, Walk};

/// What is known besides the cluster, at the moment of a sync.
pub(crate) struct Present<'a> {
    pub(crate) now: Instant,
    pub(crate) loads: &'a dyn Loads,
    pub(crate) ages: &'a Ages,
    /// The last good decision of the port in hand.
    pub(crate) last: Option<Arc<Decision>>,
    /// What `ages` is to know from now on of the ports that were looked at.
    pub(crate) ready: Vec<(PortKey, Ready)>,
}

/// The ready endpoints of a port, since when they are; `None` for one that was there when the port was first looked at.
pub(crate) type Ready = Vec<(Place, Option<Instant>)>;

/// Since when endpoints have been ready, as far as this node saw it. Only ports are in here whose policies ask.
#[derive(Debug, Default)]
pub(crate) struct Ages(HashMap<ServiceId, Vec<(PortKey, Ready)>, ByNumber>);

impl Ages {
    /// Seconds since each endpoint of `port` became ready: the largest number for one that was there at the first
    /// look, 0 for one that is not ready. And what is to be known of it from now on.
    pub(crate) fn of(&self, port: &Port, now: Instant) -> (Vec<u32>, Ready) {
        let of_service = self.0.get(&port.key.service).map_or(&[][..], Vec::as_slice);
        let known = of_service.iter().find(|(key, _)| *key == port.key).map(|(_, ready)| ready);
        let mut before = known.map(|ready| Walk::over(ready.iter().copied()));
        let mut after = Vec::with_capacity(port.endpoints.len());
        let age = |endpoint: &Endpoint| {
            if !endpoint.conditions.has(Conditions::READY) {
                return 0;
            }
            let place = (endpoint.address, endpoint.port);
            let since = before.as_mut().and_then(|before| before.find(place).unwrap_or(Some(now)));
            after.push((place, since));
            let seconds = |since| u32::try_from(now.saturating_duration_since(since).as_secs());
            since.map_or(u32::MAX, |since| seconds(since).unwrap_or(u32::MAX))
        };
        (port.endpoints.iter().map(age).collect(), after)
    }

    /// Whether anything is known of a Service.
    pub(crate) fn knows(&self, service: ServiceId) -> bool {
        self.0.contains_key(&service)
    }

    /// Makes room for so many Services in all.
    pub(crate) fn reserve(&mut self, services: usize) {
        self.0.reserve(services.saturating_sub(self.0.len()));
    }

    /// Keeps what is known of a Service now, and nothing else of it.
    pub(crate) fn set(&mut self, service: ServiceId, ready: Vec<(PortKey, Ready)>) {
        if ready.is_empty() {
            self.0.remove(&service);
        } else {
            self.0.insert(service, ready);
        }
    }
}

/// When Services are to be decided again although nothing changed.
///
/// Services of one sync mostly share a moment, so there is a list a moment. Who is due at another moment by now stays in
/// the old list until somebody gets there: what counts is `due`.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    due: HashMap<ServiceId, Instant, ByNumber>,
    order: BTreeMap<Instant, Vec<ServiceId>>,
    /// Entries of `order` that do not count.
    stale: usize,
}

/// So many entries that do not count are no matter.
const FEW: usize = 1024;

impl Schedule {
    /// Makes room for so many Services in all.
    pub(crate) fn reserve(&mut self, services: usize) {
        self.due.reserve(services.saturating_sub(self.due.len()));
    }

    /// Has `service` decided again then, and not before; `None` means never.
    pub(crate) fn set(&mut self, service: ServiceId, due: Option<Instant>) {
        let before = match due {
            Some(due) => self.due.insert(service, due),
            None => self.due.remove(&service),
        };
        if before == due {
            return;
        }
        if let Some(due) = due {
            self.order.entry(due).or_default().push(service);
        }
        self.stale += usize::from(before.is_some());
        if self.stale > FEW + self.due.len() {
            let due = &self.due;
            self.order.retain(|moment, services| {
                services.retain(|service| due.get(service) == Some(moment));
                !services.is_empty()
            });
            self.stale = 0;
        }
        // Nobody is to wake up for an entry that does not count.
        while let Some(mut first) = self.order.first_entry() {
            match first.get().last() {
                Some(service) if self.due.get(service) == Some(first.key()) => break,
                Some(_) => {
                    first.get_mut().pop();
                    self.stale = self.stale.saturating_sub(1);
                }
                None => drop(first.remove()),
            }
        }
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first_key_value().map(|(due, _)| *due)
    }

    /// Those that are due, in order of number; they are not due any more.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<ServiceId> {
        let mut found = Vec::new();
        while let Some(first) = self.order.first_entry().filter(|first| *first.key() <= now) {
            let (moment, services) = first.remove_entry();
            for service in services {
                // One that was put off and back again is in here twice.
                if self.due.get(&service) == Some(&moment) {
                    self.due.remove(&service);
                    found.push(service);
                } else {
                    self.stale = self.stale.saturating_sub(1);
                }
            }
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
        let mut look = |endpoints: &[(u8, Conditions)], now| {
            let port = port(endpoints);
            let (seconds, ready) = ages.of(&port, now);
            ages.set(port.key.service, vec![(port.key, ready)]);
            seconds
        };
        assert_eq!(look(&[(1, ready), (2, not)], start), [u32::MAX, 0]);
        assert_eq!(look(&[(1, ready), (2, ready), (3, ready)], after(5)), [u32::MAX, 0, 0]);
        assert_eq!(look(&[(1, ready), (2, ready), (3, not)], after(12)), [u32::MAX, 7, 0]);
        assert_eq!(look(&[(2, ready), (3, ready)], after(20)), [15, 0], "ready anew, young anew");
        assert_eq!(look(&[(1, ready)], after(30)), [0], "who was away is not old any more");
        ages.set(ServiceId(1), Vec::new());
        assert!(!ages.knows(ServiceId(1)));
        assert_eq!(ages.of(&port(&[(1, ready)]), after(40)).0, [u32::MAX]);
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
        assert_eq!(schedule.next(), Some(after(9)));
        schedule.set(one, None);
        assert_eq!((schedule.next(), schedule.take(after(99))), (None, vec![]));
        assert!(schedule.is_empty());
    }

    #[test]
    fn who_is_put_off_and_back_again_is_due_once() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (one, two) = (ServiceId(1), ServiceId(2));
        let mut schedule = Schedule::default();
        for seconds in [3, 8, 3, 8, 3] {
            schedule.set(one, Some(after(seconds)));
        }
        schedule.set(two, Some(after(8)));
        assert_eq!((schedule.next(), schedule.take(after(3))), (Some(after(3)), vec![one]));
        assert_eq!((schedule.next(), schedule.take(after(8))), (Some(after(8)), vec![two]));
        assert_eq!((schedule.next(), schedule.is_empty()), (None, true));
    }

    #[test]
    fn what_does_not_count_any_more_does_not_pile_up() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.set(ServiceId(1), Some(start));
        for round in 0..100_000 {
            schedule.set(ServiceId(round % 10 + 2), Some(start + Duration::from_secs(u64::from(round) + 1)));
        }
        let entries: usize = schedule.order.values().map(Vec::len).sum();
        assert!(entries <= 2 * (FEW + 11), "{entries} entries for 11 Services");
        assert_eq!(schedule.take(start + Duration::from_secs(1_000_000)).len(), 11);
    }
}
