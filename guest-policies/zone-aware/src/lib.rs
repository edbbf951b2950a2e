//! Balancer: endpoints of this node's zone first; what they could not bear spills over to other zones.
//!
//! ```json
//! { "overload": 1.5 }
//! ```
//!
//! Clients are taken to be spread evenly over the zones the endpoints are in. If a zone has fewer endpoints than others,
//! each of them would get more than a fair share of all connections. Up to `overload` times (1 to 100) the fair share
//! they get it; what is beyond goes to the endpoints of the other zones. So no zone with one endpoint left is run over by
//! a zone full of clients. Where this node's zone is unknown, or has no endpoint, all endpoints are equal. Endpoints of
//! weight 0 are drained.

use kit::{Answer, Balancer, IndexFunction, Inputs, Members, Problem, Settings, Share};
use serde::Deserialize;

/// Parts a whole is divided into when it becomes weights.
const WHOLE: f64 = 10_000.0;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Limit {
    overload: f64,
}

impl Default for Limit {
    fn default() -> Self {
        Self { overload: 1.5 }
    }
}

impl Settings for Limit {
    fn problem(&self) -> Option<Problem> {
        let overload = self.overload;
        if (1.0..=100.0).contains(&overload) {
            None
        } else {
            Self::at("overload", format!("{overload} is not within 1 to 100"))
        }
    }
}

struct ZoneAware;

impl Balancer for ZoneAware {
    type Settings = Limit;

    const NAME: &str = "zone-aware";
    const SUMMARY: &str = "Connections stay in the zone as far as its endpoints can bear them.";
    const INPUTS: Inputs = Inputs::ZONES;

    fn spread(settings: &Limit, members: &Members<'_>) -> Answer {
        let equal = |why: &str| Answer::new(IndexFunction::Random, Share::Equal).because(why);
        let here = members.here();
        let serving: Vec<Option<u32>> = members
            .zones()
            .iter()
            .zip(members.weights())
            .map(|(zone, weight)| (*weight > 0).then_some(*zone))
            .collect();
        let all = serving.iter().flatten().count();
        let own = serving.iter().flatten().filter(|zone| **zone == here).count();
        if here == 0 || own == 0 || all == 0 {
            return equal(if here == 0 { "the zone of this node is unknown" } else { "no endpoint in this zone" });
        }
        let mut zones: Vec<u32> = serving.iter().flatten().copied().filter(|zone| *zone != 0).collect();
        zones.sort_unstable();
        zones.dedup();
        // The share of all connections that arises here, over the share of all endpoints that is here.
        let strain = all as f64 / (zones.len() * own) as f64;
        let kept = if own == all { 1.0 } else { (settings.overload / strain).min(1.0) };
        let others = (all - own).max(1) as f64;
        // At most WHOLE.
        let (near, far) = ((WHOLE * kept / own as f64) as u32, (WHOLE * (1.0 - kept) / others) as u32);
        let weight = |zone: &Option<u32>| match zone {
            None => 0,
            Some(zone) if *zone == here => near.max(1),
            Some(_) => far,
        };
        let weights = serving.iter().map(weight).collect();
        let reason = match own == all {
            true => "all endpoints are in this zone".to_owned(),
            false => format!("{own} of {all} endpoints in this zone keep {:.0} %", kept * 100.0),
        };
        Answer::new(IndexFunction::Random, Share::Weights(weights)).because(reason)
    }
}

kit::policy!(ZoneAware);
