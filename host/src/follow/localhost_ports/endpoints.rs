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
