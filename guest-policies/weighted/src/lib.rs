//! Balancer: in proportion to weights, at random or in turn.
//!
//! Without settings an endpoint has the weight its EndpointSlice names (annotation `weir.proxy/weight` or
//! `service.cilium.io/weight`, else 1). Settings, all of them optional:
//!
//! ```json
//! {
//!   "by-address": { "10.244.1.17": 0 },
//!   "by-pod-prefix": { "web-large-": 8 },
//!   "by-node": { "worker-big": 4 },
//!   "by-zone": { "zone-a": 3, "zone-b": 1 },
//!   "default": 1,
//!   "index": "random"
//! }
//! ```
//!
//! The first table that names the endpoint counts, in that order; then `default`; then the slice. Of prefixes the
//! longest that fits counts. Weights go from 0, which drains an endpoint, to 65535. `index` is `random` or
//! `round-robin`.

use std::collections::BTreeMap;

use kit::schedulers::settings::{Fields, Settings};
use kit::schedulers::share::{self, Choice, Share};
use kit::schedulers::table::{begin_elsewhere, interleaved};
use kit::{Balancer, IndexFunction, Inputs, Label, List, Spread, View, label};

/// Weights by some name.
type Table = BTreeMap<String, u32>;

/// Most slots that are handed over as such, to begin elsewhere on every node. Above, Weir makes them of the weights.
const MOST_SLOTS: usize = 4096;

struct Weights {
    by_address: Table,
    by_pod_prefix: Table,
    by_node: Table,
    by_zone: Table,
    default: Option<u32>,
    index: Option<IndexFunction>,
}

impl Settings for Weights {
    fn read(fields: &mut Fields) -> Self {
        let weight = 0..=65_535;
        Self {
            by_address: fields.table("by-address", weight.clone()),
            by_pod_prefix: fields.table("by-pod-prefix", weight.clone()),
            by_node: fields.table("by-node", weight.clone()),
            by_zone: fields.table("by-zone", weight.clone()),
            default: fields.number("default", weight),
            index: fields
                .choice("index", &[("random", IndexFunction::Random), ("round-robin", IndexFunction::RoundRobin)]),
        }
    }
}

impl Weights {
    /// The weight of every member. Names are asked for only where a table could know them: each costs a call.
    fn of(&self, list: &List<'_>) -> Vec<u32> {
        let named = [&self.by_address, &self.by_pod_prefix, &self.by_node, &self.by_zone];
        if named.iter().all(|table| table.is_empty()) {
            return match self.default {
                Some(weight) => vec![weight; list.weights().len()],
                None => list.weights().to_vec(),
            };
        }
        let mut zones = Zones { weights: Vec::new() };
        let weight = |(endpoint, by_slice): (u32, &u32)| {
            let find = |table: &Table, name: fn(&View, u32, u32) -> String| {
                if table.is_empty() { None } else { table.get(&name(list.view, list.ring.id, endpoint)).copied() }
            };
            find(&self.by_address, View::endpoint_address)
                .or_else(|| self.by_pod(list, endpoint))
                .or_else(|| find(&self.by_node, View::endpoint_node))
                .or_else(|| if self.by_zone.is_empty() { None } else { zones.weight(&self.by_zone, list, endpoint) })
                .or(self.default)
                .unwrap_or(*by_slice)
        };
        (0..).zip(list.weights()).map(weight).collect()
    }

    fn by_pod(&self, list: &List<'_>, endpoint: u32) -> Option<u32> {
        if self.by_pod_prefix.is_empty() {
            return None;
        }
        let pod = list.view.endpoint_pod(list.ring.id, endpoint);
        let fitting = self.by_pod_prefix.iter().filter(|(prefix, _)| pod.starts_with(&***prefix));
        fitting.max_by_key(|(prefix, _)| prefix.len()).map(|(_, weight)| *weight)
    }
}

/// Weights by the numbers of zones: there are few, so each name is asked for once.
struct Zones {
    weights: Vec<(u32, Option<u32>)>,
}

impl Zones {
    fn weight(&mut self, table: &Table, list: &List<'_>, endpoint: u32) -> Option<u32> {
        let zone = list.zones()[endpoint as usize];
        if let Some((_, weight)) = self.weights.iter().find(|(known, _)| *known == zone) {
            return *weight;
        }
        let weight = table.get(&list.view.endpoint_zone(list.ring.id, endpoint)).copied();
        self.weights.push((zone, weight));
        weight
    }
}

struct Weighted;

impl Balancer for Weighted {
    type Settings = Weights;

    const LABEL: Label = label!(
        "In proportion to weights, at random or in turn.",
        Inputs::NAMES.union(Inputs::ZONES).union(Inputs::PODS)
    );

    fn spread(settings: &Weights, list: &List<'_>) -> Spread {
        let Choice { share, reason } = share::weighted(settings.of(list));
        if settings.index != Some(IndexFunction::RoundRobin) {
            return Spread::new(IndexFunction::Random, Choice { share, reason });
        }
        let slots = match &share {
            Share::Weights(weights) => interleaved(weights, MOST_SLOTS),
            _ => Some((0..list.ring.count).collect()),
        };
        let share = match slots {
            Some(mut slots) => {
                begin_elsewhere(&mut slots, list.node());
                Share::Slots(slots)
            }
            None => share,
        };
        Spread::new(IndexFunction::RoundRobin, Choice { share, reason })
    }
}

kit::export!(Weighted);
