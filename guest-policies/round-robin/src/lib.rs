//! Balancer: connections go to the endpoints in turn.
//!
//! Fairer than random where connections are few or long-lived. The counter belongs to one port on one node, so nodes
//! do not take turns with each other; but each begins elsewhere, at a place that its name says, so that nodes which
//! begin at the same moment do not send their first connections to the same endpoint. It takes no settings, and keeps
//! the affinity a Service asks for: then only a client's first connection takes a turn. Endpoints whose EndpointSlice
//! gives them weight 0 are drained.

use kit::schedulers::share::{self, Choice, Share};
use kit::schedulers::table::begin_elsewhere;
use kit::{Balancer, IndexFunction, Inputs, Label, List, Spread, label};
use lol_alloc::{LeakingAllocator, LockedAllocator};

/// An instance lives for one call and keeps nearly all it allocates until the end, so there is nothing to gain from an
/// allocator that takes memory back; one that does is a third of such a component's code, compiled at each start.
#[global_allocator]
static MEMORY: LockedAllocator<LeakingAllocator> = LockedAllocator::new(LeakingAllocator::new());

struct RoundRobin;

impl Balancer for RoundRobin {
    type Settings = ();

    const LABEL: Label = label!("Connections go to the endpoints in turn.", Inputs::empty());

    const HAS_SETTINGS: bool = false;

    fn spread((): &(), list: &List<'_>) -> Spread {
        let Choice { share, reason } = share::equal(list.weights());
        let mut slots: Vec<u32> = match share {
            Share::Weights(weights) => (0..).zip(weights).filter(|(_, weight)| *weight > 0).map(|(at, _)| at).collect(),
            _ => (0..list.ring.count).collect(),
        };
        begin_elsewhere(&mut slots, list.node());
        Spread::new(IndexFunction::RoundRobin, Choice { share: Share::Slots(slots), reason })
    }
}

kit::export!(RoundRobin);
