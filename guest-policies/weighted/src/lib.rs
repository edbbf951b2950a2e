//! Balancer: in proportion to weights.
//!
//! Without settings an endpoint has the weight its EndpointSlice names (annotation `weir.proxy/weight` or
//! `service.cilium.io/weight`, else 1). Settings, all of them optional:
//!
//! ```json
//! {
//!   "by-address": { "10.244.1.17": 0 },
//!   "by-pod-prefix": { "web-canary-": 1 },
//!   "by-node": { "worker-big": 4 },
//!   "by-zone": { "zone-a": 3, "zone-b": 1 },
//!   "default": 1,
//!   "index": "round-robin"
//! }
//! ```
//!
//! The first table that names the endpoint counts, in that order, and of several prefixes the longest; then `default`;
//! then the slice. Weights go from 0, which drains an endpoint, to 65535. `index` is `random`, the default, or
//! `round-robin`.

use std::collections::BTreeMap;

use kit::{Answer, Balancer, IndexFunction, Inputs, Members, Settings, Share};
use serde::Deserialize;

/// Weights by some name.
type Table = BTreeMap<String, u16>;

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Weights {
    by_address: Table,
    by_pod_prefix: Table,
    by_node: Table,
    by_zone: Table,
    default: Option<u16>,
    index: Index,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Index {
    #[default]
    Random,
    RoundRobin,
}

impl Settings for Weights {}

impl Weights {
    /// Whether only the slices have a say.
    fn are_by_slice(&self) -> bool {
        let tables = [&self.by_address, &self.by_pod_prefix, &self.by_node, &self.by_zone];
        self.default.is_none() && tables.iter().all(|table| table.is_empty())
    }

    /// The weight of an endpoint. Names are asked for only where a table could know them: each costs a call.
    fn weight(&self, members: &Members<'_>, at: u32, by_slice: u32) -> u32 {
        let find = |table: &Table, name: &dyn Fn() -> String| {
            if table.is_empty() { None } else { table.get(&name()).copied() }
        };
        find(&self.by_address, &|| members.address(at))
            .or_else(|| self.by_prefix(members, at))
            .or_else(|| find(&self.by_node, &|| members.node(at)))
            .or_else(|| find(&self.by_zone, &|| members.zone(at)))
            .or(self.default)
            .map_or(by_slice, u32::from)
    }

    fn by_prefix(&self, members: &Members<'_>, at: u32) -> Option<u16> {
        if self.by_pod_prefix.is_empty() {
            return None;
        }
        let pod = members.pod(at);
        let fits = self.by_pod_prefix.iter().filter(|(prefix, _)| pod.starts_with(prefix.as_str()));
        fits.max_by_key(|(prefix, _)| prefix.len()).map(|(_, weight)| *weight)
    }
}

struct Weighted;

impl Balancer for Weighted {
    type Settings = Weights;

    const NAME: &str = "weighted";
    const SUMMARY: &str = "Connections in proportion to weights, of EndpointSlices or by address, pod, node or zone.";
    const INPUTS: Inputs = Inputs::PODS;

    fn spread(settings: &Weights, members: &Members<'_>) -> Answer {
        let by_slice = members.weights();
        let weights: Vec<u32> = if settings.are_by_slice() {
            by_slice.to_vec()
        } else {
            (0..).zip(by_slice).map(|(at, by_slice)| settings.weight(members, at, *by_slice)).collect()
        };
        let drained = weights.iter().filter(|weight| **weight == 0).count();
        let index = match settings.index {
            Index::Random => IndexFunction::Random,
            Index::RoundRobin => IndexFunction::RoundRobin,
        };
        let answer = Answer::new(index, Share::Weights(weights));
        if drained == 0 { answer } else { answer.because(format!("{drained} of {} drained", members.count())) }
    }
}

kit::policy!(Weighted);
