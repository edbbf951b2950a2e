//! Balancer: endpoints of this node's zone first; where they are too few or too busy, the rest spills over.
//!
//! ```json
//! { "busy-at": 100, "overload": 1.5, "traffic-percent": 33, "period-seconds": 5 }
//! ```
//!
//! `zone-aware`, and besides: an endpoint of the own zone may have `busy-at` (1 to 1000000) connections through this node
//! for each unit of its weight, 100 without the setting; what is beyond goes to other zones. It is a policy of its own
//! because the node must count connections for it, every `period-seconds` (1 to 3600).
//!
//! Clients are taken to be spread evenly over the zones the endpoints are in; `traffic-percent` (1 to 100) says how much
//! of all traffic begins in this node's zone where that is not so. If a zone has too few endpoints for that, each of
//! them would get more than the mean: up to `overload` times (1 to 100) as much it may, and what is beyond goes to zones
//! that have more endpoints than their traffic needs. Weights of EndpointSlices count; 0 drains. Where this node's zone
//! is unknown or has no endpoint, all serve.

use kit::schedulers::settings::{Fields, Settings};
use kit::schedulers::zones::{self, Limits};
use kit::{Balancer, IndexFunction, Inputs, Label, List, Spread, label};

struct Busy {
    limits: Limits,
    busy_at: u32,
    period_seconds: u32,
}

impl Settings for Busy {
    fn read(fields: &mut Fields) -> Self {
        Self {
            limits: Limits::read(fields),
            busy_at: fields.number("busy-at", 1..=1_000_000).unwrap_or(100),
            period_seconds: fields.number("period-seconds", 1..=3600).unwrap_or(5),
        }
    }
}

struct ZoneAwareByLoad;

impl Balancer for ZoneAwareByLoad {
    type Settings = Busy;

    const LABEL: Label = label!(
        "Connections stay in the zone until its endpoints are too few or too busy.",
        Inputs::ZONES.union(Inputs::LOADS)
    );

    fn spread(settings: &Busy, list: &List<'_>) -> Spread {
        let active = list.active().iter().map(|active| u64::from(*active)).sum();
        let busy = zones::Busy { at: settings.busy_at, active };
        let choice = zones::choose(list.zones(), list.here(), list.weights(), settings.limits, Some(busy));
        Spread { again_seconds: settings.period_seconds, ..Spread::new(IndexFunction::Random, choice) }
    }
}

kit::export!(ZoneAwareByLoad);
