//! Balancer: every connection goes to a random endpoint, all of them equally likely.
//!
//! What kube-proxy does. It takes no settings, and keeps the affinity a Service asks for. Endpoints whose EndpointSlice
//! gives them weight 0 are drained.

use kit::schedulers::share;
use kit::{Balancer, IndexFunction, Inputs, Label, List, Spread, label};
use lol_alloc::{LeakingAllocator, LockedAllocator};

/// An instance lives for one call and keeps nearly all it allocates until the end, so there is nothing to gain from an
/// allocator that takes memory back; one that does is a third of such a component's code, compiled at each start.
#[global_allocator]
static MEMORY: LockedAllocator<LeakingAllocator> = LockedAllocator::new(LeakingAllocator::new());

struct Random;

impl Balancer for Random {
    type Settings = ();

    const LABEL: Label = label!("Every connection goes to a random endpoint.", Inputs::empty());

    const HAS_SETTINGS: bool = false;

    fn spread((): &(), list: &List<'_>) -> Spread {
        Spread::new(IndexFunction::Random, share::equal(list.weights()))
    }
}

kit::export!(Random);
