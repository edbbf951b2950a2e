//! Balancer: random, in proportion to weights.
//!
//! Without settings an endpoint has the weight its EndpointSlice names (annotation `weir.proxy/weight`, else 1).
//! Settings, all of them optional:
//!
//! ```json
//! {
//!   "by-address": { "10.244.1.17": 0 },
//!   "by-node": { "worker-big": 4 },
//!   "by-zone": { "zone-a": 3, "zone-b": 1 },
//!   "default": 1
//! }
//! ```
//!
//! The first table that names the endpoint counts, in that order; then `default`; then the slice. Weights go from 0,
//! which drains an endpoint, to 65535.

wit_bindgen::generate!({ path: "../../wit/v0.1", world: "balancer-only" });

use std::collections::BTreeMap;

use exports::weir::policy::balancer::{Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use serde::Deserialize;
use weir::policy::snapshot::View;

/// Weights by some name.
type Table = BTreeMap<String, u16>;

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Settings {
    by_address: Table,
    by_node: Table,
    by_zone: Table,
    default: Option<u16>,
}

impl Settings {
    fn parse(json: &str) -> Result<Self, PolicyError> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json))
            .map_err(|error| PolicyError::InvalidSettings(error.to_string()))
    }

    /// The weight of an endpoint. Names are asked for only where a table could know them: each costs a call.
    fn weight(&self, view: &View, ring: u32, endpoint: u32, by_slice: u32) -> u32 {
        let find = |table: &Table, name: fn(&View, u32, u32) -> String| {
            if table.is_empty() { None } else { table.get(&name(view, ring, endpoint)).copied() }
        };
        find(&self.by_address, View::endpoint_address)
            .or_else(|| find(&self.by_node, View::endpoint_node))
            .or_else(|| find(&self.by_zone, View::endpoint_zone))
            .or(self.default)
            .map_or(by_slice, u32::from)
    }
}

struct Weighted;

impl Guest for Weighted {
    fn balance(view: &View, rings: Vec<Ring>, _ids: Vec<u32>, weights: Vec<u32>) -> Result<Vec<Spread>, PolicyError> {
        // Neighbours often share their settings; reading them costs more than the rest.
        let (mut json, mut settings) = (String::new(), Settings::default());
        let mut spreads = Vec::with_capacity(rings.len());
        for ring in &rings {
            let of_ring = view.settings(ring.id);
            if of_ring != json {
                settings = Settings::parse(&of_ring)?;
                json = of_ring;
            }
            spreads.push(spread(view, ring, &settings, &weights[ring.first as usize..][..ring.count as usize]));
        }
        Ok(spreads)
    }
}

fn spread(view: &View, ring: &Ring, settings: &Settings, by_slice: &[u32]) -> Spread {
    let weights = (0..).zip(by_slice).map(|(endpoint, by_slice)| settings.weight(view, ring.id, endpoint, *by_slice));
    Spread {
        id: ring.id,
        index: IndexFunction::Random,
        share: Share::Weights(weights.collect()),
        affinity_seconds: ring.affinity_seconds,
    }
}

export!(Weighted);
