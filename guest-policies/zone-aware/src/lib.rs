//! Balancer: endpoints of this node's zone first; what they could not bear spills over to other zones.
//!
//! ```json
//! { "overload": 1.5, "traffic-percent": 33 }
//! ```
//!
//! Clients are taken to be spread evenly over the zones the endpoints are in; `traffic-percent` (1 to 100) says how much
//! of all traffic begins in this node's zone where that is not so. If a zone has too few endpoints for that, each of
//! them would get more than the mean: up to `overload` times (1 to 100) as much it may, and what is beyond goes to zones
//! that have more endpoints than their traffic needs. Weights of EndpointSlices count; 0 drains. Where this node's zone
//! is unknown or has no endpoint, all serve.

use kit::schedulers::settings::{Fields, Settings};
use kit::schedulers::zones::{self, Limits};
use kit::{Balancer, IndexFunction, Inputs, Label, List, Spread, label};

struct Zones(Limits);

impl Settings for Zones {
    fn read(fields: &mut Fields) -> Self {
        Self(Limits::read(fields))
    }
}

struct ZoneAware;

impl Balancer for ZoneAware {
    type Settings = Zones;

    const LABEL: Label =
        label!("Connections stay in the zone as far as its share of the endpoints goes.", Inputs::ZONES);

    fn spread(settings: &Zones, list: &List<'_>) -> Spread {
        let choice = zones::choose(list.zones(), list.here(), list.weights(), settings.0, None);
        Spread::new(IndexFunction::Random, choice)
    }
}

kit::export!(ZoneAware);
