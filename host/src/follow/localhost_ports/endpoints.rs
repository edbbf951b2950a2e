//! Which endpoint the next connection goes to.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_model::IndexFunction;
use weir_plan::{PortPlan, Treatment};

/// The slots of a node port. Every client of loopback has the same address, so whoever wants a client to stay with
/// its endpoint gets one endpoint for all of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoints {
    targets: Vec<SocketAddr>,
    /// Positions in `targets`, as the ring has them: more slots mean more connections. Never empty.
    slots: Vec<u16>,
    /// How long an endpoint keeps the clients after the last connection; `None` means that each connection is on
    /// its own.
    sticky: Option<Duration>,
    pinned: Option<(SocketAddr, Instant)>,
}

impl Endpoints {
    /// The endpoints a node port with that `treatment` leads to; `None` if to nobody. With `externalTrafficPolicy:
    /// Local` these are the ones of this node (KEP-6032: no short cut).
    pub(super) fn of(plan: &PortPlan, treatment: Treatment) -> Option<Self> {
        let ring = match treatment {
            Treatment::Cluster | Treatment::ExternalCluster => plan.cluster.as_ref()?,
            Treatment::Local | Treatment::ExternalLocal { .. } => plan.local.as_ref()?,
            Treatment::Drop { .. } | Treatment::Reject => return None,
        };
        let sticky = match (ring.affinity_seconds, ring.index) {
            (0, IndexFunction::SourceHash) => Some(Duration::MAX),
            (0, _) => None,
            (seconds, _) => Some(Duration::from_secs(seconds.into())),
        };
        let targets = plan.targets.iter().map(|target| SocketAddr::new(target.address, target.port)).collect();
        let in_range = |slot: &u16| usize::from(*slot) < plan.targets.len();
        let slots: Vec<u16> = ring.slots.iter().copied().filter(in_range).collect();
        (!slots.is_empty()).then_some(Self { targets, slots, sticky, pinned: None })
    }

    /// Takes new endpoints over; clients stay where they are while that still serves and stickiness is the same.
    pub(super) fn replace(&mut self, next: Self) {
        let pinned = self.pinned.filter(|(target, _)| {
            self.sticky == next.sticky && next.slots.iter().any(|slot| next.target(*slot) == *target)
        });
        *self = Self { pinned, ..next };
    }

    /// The endpoint of a connection that comes at `now`.
    pub(super) fn pick(&mut self, now: Instant) -> SocketAddr {
        let kept = self
            .pinned
            .filter(|(_, last)| self.sticky.is_some_and(|sticky| now.saturating_duration_since(*last) <= sticky));
        let target = kept.map_or_else(|| self.target(self.slots[fastrand::usize(..self.slots.len())]), |kept| kept.0);
        self.pin(target, now);
        target
    }

    /// Another one than `refused`, if there is one.
    pub(super) fn pick_instead_of(&mut self, refused: SocketAddr, now: Instant) -> Option<SocketAddr> {
        let others: Vec<u16> = self.slots.iter().copied().filter(|slot| self.target(*slot) != refused).collect();
        let target = self.target(fastrand::choice(others)?);
        self.pin(target, now);
        Some(target)
    }

    fn pin(&mut self, target: SocketAddr, now: Instant) {
        self.pinned = self.sticky.map(|_| (target, now));
    }

    fn target(&self, slot: u16) -> SocketAddr {
        self.targets[usize::from(slot)]
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use weir_model::{Family, NameId, PortKey, Protocol, ServiceId};
    use weir_plan::{PlanRing, Target};

    use super::*;

    /// A plan with three targets, 10.1.0.1 to 10.1.0.3, all in the cluster's ring and the first in that of this node.
    fn plan(index: IndexFunction, affinity_seconds: u32) -> PortPlan {
        let address = |n: u8| IpAddr::from([10, 1, 0, n]);
        let ring = |slots: Vec<u16>| Some(PlanRing { index, slots, affinity_seconds });
        PortPlan {
            key: PortKey { service: ServiceId(0), name: NameId(0), protocol: Protocol::Tcp, family: Family::V4 },
            name: "default/web:80".into(),
            frontends: Vec::new(),
            targets: (1..=3).map(|n| Target { address: address(n), port: 80, id: n.into(), local: n == 1 }).collect(),
            source_ranges: Vec::new(),
            cluster: ring(vec![0, 1, 2]),
            local: ring(vec![0]),
        }
    }

    fn endpoints(index: IndexFunction, affinity_seconds: u32) -> Endpoints {
        Endpoints::of(&plan(index, affinity_seconds), Treatment::ExternalCluster).expect("endpoints")
    }

    /// How many different endpoints a hundred connections at `now` get.
    fn spread(endpoints: &mut Endpoints, now: Instant) -> usize {
        let mut seen: Vec<SocketAddr> = (0..100).map(|_| endpoints.pick(now)).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.len()
    }

    #[test]
    fn the_treatment_says_which_ring() {
        let plan = plan(IndexFunction::Random, 0);
        let reach =
            |treatment| Endpoints::of(&plan, treatment).map(|mut endpoints| spread(&mut endpoints, Instant::now()));
        assert_eq!(reach(Treatment::ExternalCluster), Some(3));
        assert_eq!(reach(Treatment::ExternalLocal { short_cut: true }), Some(1));
        assert_eq!(reach(Treatment::Drop { short_cut: true }), None);
        assert_eq!(reach(Treatment::Reject), None);
    }

    #[test]
    fn affinity_lasts_from_the_last_connection() {
        let mut endpoints = endpoints(IndexFunction::Random, 60);
        let start = Instant::now();
        let first = endpoints.pick(start);
        // Each connection starts the time anew.
        for minute in 1..=100 {
            assert_eq!(endpoints.pick(start + Duration::from_secs(60) * minute), first);
        }
        let long_after = |round: u32| start + Duration::from_secs(61) * (1000 + round);
        assert!((0..100).any(|round| endpoints.pick(long_after(round)) != first), "it never ends");
    }

    #[test]
    fn whoever_hashes_the_client_finds_one_client() {
        let now = Instant::now();
        assert_eq!(spread(&mut endpoints(IndexFunction::SourceHash, 0), now), 1);
        assert_eq!(spread(&mut endpoints(IndexFunction::RoundRobin, 0), now), 3);
    }

    #[test]
    fn a_new_stickiness_begins_anew() {
        let now = Instant::now();
        let mut sticky = endpoints(IndexFunction::Random, 60);
        let first = sticky.pick(now);
        sticky.replace(endpoints(IndexFunction::Random, 60));
        assert_eq!(sticky.pinned.map(|(target, _)| target), Some(first));
        sticky.replace(endpoints(IndexFunction::Random, 30));
        assert_eq!(sticky.pinned, None);
    }

    #[test]
    fn a_refusal_moves_everybody_to_another_one() {
        let now = Instant::now();
        let mut sticky = endpoints(IndexFunction::Random, 60);
        let first = sticky.pick(now);
        let second = sticky.pick_instead_of(first, now).expect("two more");
        assert_ne!(first, second);
        assert_eq!(sticky.pick(now), second);
        let mut only = Endpoints::of(&plan(IndexFunction::Random, 0), Treatment::Local).expect("one");
        let alone = only.pick(now);
        assert_eq!(only.pick_instead_of(alone, now), None);
    }
}
