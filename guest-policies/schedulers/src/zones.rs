//! The own zone first, and a spill-over to other zones where it has too few endpoints or too many connections.

use crate::settings::{Fields, Settings};
use crate::share::{Choice, Share, alone, grouped, living, weighted};

/// How much a zone may keep to itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Percent of all traffic that begins in this zone; `None`: as much as in every other zone that has endpoints.
    pub traffic_percent: Option<u32>,
    /// How many times the mean load an endpoint of this zone may get before traffic spills over; at least 1.
    pub overload: f64,
}

impl Settings for Limits {
    fn read(fields: &mut Fields) -> Self {
        Self {
            traffic_percent: fields.number("traffic-percent", 1..=100),
            overload: fields.decimal("overload", 1.0..=100.0).unwrap_or(1.5),
        }
    }
}

/// When endpoints of this zone are busy, and how much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Connections through this node that an endpoint of this zone may have for each unit of its weight.
    pub at: u32,
    /// Connections this node has with all endpoints together, those of other zones included. That figure does not
    /// change with the share that spills over, so this loop cannot swing.
    pub active: u64,
}

/// Parts a whole is measured in here.
const WHOLE: f64 = 10_000.0;

/// Shares of a list by zone.
///
/// `zones` are the numbers of the endpoints' zones, 0 where unknown, and `here` that of this node.
///
/// With `t` of all traffic and `w` of all weight, endpoints of the own zone would get `t / w` times the mean load. Up to
/// `overload` times it they do; of the rest, the zone keeps `overload * w / t`. What spills over goes to zones that have
/// more weight than traffic, in proportion to their surplus: the rule of Envoy's zone-aware routing.
#[must_use]
pub fn choose(zones: &[u32], here: u32, weights: &[u32], limits: Limits, busy: Option<Busy>) -> Choice {
    if here == 0 {
        return by_weight_alone(weights, "this node's zone is unknown");
    }
    let (alive, drained) = living(weights.to_vec());
    let totals = totals(zones, &alive);
    let Some(own) = totals.iter().find(|(zone, _)| *zone == here).map(|(_, weight)| *weight) else {
        return by_weight_alone(weights, "no endpoint in this zone");
    };
    let all: u64 = totals.iter().map(|(_, weight)| weight).sum();
    let others = totals.len() - 1;
    let traffic = match limits.traffic_percent {
        Some(percent) => f64::from(percent.clamp(1, 100)) / 100.0,
        None => 1.0 / totals.len() as f64,
    };
    let by_weight = own as f64 / all as f64 / traffic * limits.overload;
    let by_load = busy.filter(|busy| busy.active > 0);
    let by_load = by_load.map_or(1.0, |busy| f64::from(busy.at) * own as f64 / busy.active as f64);
    let kept = if others == 0 { 1.0 } else { by_weight.min(by_load).min(1.0) };
    let kept = (kept * WHOLE).round() as u32;
    let keeps_all = kept >= WHOLE as u32;
    // The usual case, and the cheapest.
    if keeps_all && let Some(weights) = alone(zones.iter().map(|zone| *zone == here), &alive, own) {
        return Choice { share: Share::Weights(weights), reason: drained };
    }
    // Who is in no zone of these is drained.
    let group: Vec<usize> = zones.iter().map(|zone| place(&totals, *zone).unwrap_or(0)).collect();
    let shares = shares(&totals, here, kept, traffic);
    let percent = f64::from(kept) / 100.0;
    let reason = match (keeps_all, by_load < by_weight) {
        (true, _) => String::new(),
        (false, true) => format!("own zone keeps {percent:.0} %: its endpoints are busy"),
        (false, false) => format!("own zone keeps {percent:.0} %: it has {own} of {all} of the weight"),
    };
    Choice { share: Share::Weights(grouped(&shares, &group, &alive)), reason: joined(&reason, &drained) }
}

/// As if there were no zones, and why.
fn by_weight_alone(weights: &[u32], why: &str) -> Choice {
    let Choice { share, reason } = weighted(weights.to_vec());
    Choice { share, reason: joined(why, &reason) }
}

/// Zones that have a weight, in their order, with it.
type Totals = Vec<(u32, u64)>;

fn place(totals: &Totals, zone: u32) -> Result<usize, usize> {
    totals.binary_search_by_key(&zone, |(zone, _)| *zone)
}

fn totals(zones: &[u32], weights: &[u32]) -> Totals {
    let mut totals = Totals::new();
    for (zone, weight) in zones.iter().zip(weights).filter(|(_, weight)| **weight > 0) {
        match place(&totals, *zone) {
            Ok(at) => totals[at].1 += u64::from(*weight),
            Err(at) => totals.insert(at, (*zone, u64::from(*weight))),
        }
    }
    totals
}

/// The share of every zone, in their order: `kept` for this one, the rest by surplus.
fn shares(totals: &Totals, here: u32, kept: u32, traffic: f64) -> Vec<u32> {
    let all: u64 = totals.iter().map(|(_, weight)| weight).sum();
    let elsewhere = (1.0 - traffic) / (totals.len() - 1).max(1) as f64;
    let surplus = |zone: u32, weight: u64| {
        if zone == here { 0.0 } else { (weight as f64 / all as f64 - elsewhere).max(0.0) }
    };
    let surplus: Vec<f64> = totals.iter().map(|(zone, weight)| surplus(*zone, *weight)).collect();
    let total: f64 = surplus.iter().sum();
    let by_weight = |zone: u32, weight: u64| if zone == here { 0.0 } else { weight as f64 };
    let others: f64 = totals.iter().map(|(zone, weight)| by_weight(*zone, *weight)).sum();
    let spilled = WHOLE - f64::from(kept);
    let share = |((zone, weight), surplus): (&(u32, u64), &f64)| match (*zone == here, total > 0.0) {
        (true, _) => kept,
        // Nobody has more than its traffic needs when it is load that spills over: then weight counts.
        (false, false) if others > 0.0 => (spilled * by_weight(*zone, *weight) / others).round() as u32,
        (false, false) => 0,
        (false, true) => (spilled * surplus / total).round() as u32,
    };
    totals.iter().zip(&surplus).map(share).collect()
}

fn joined(one: &str, other: &str) -> String {
    let between = if one.is_empty() || other.is_empty() { "" } else { "; " };
    [one, between, other].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { traffic_percent: None, overload: 1.0 };

    /// The share of each endpoint, in percent of all.
    fn percent(choice: &Choice) -> Vec<f64> {
        let Share::Weights(weights) = &choice.share else { panic!("{choice:?}") };
        let all: u32 = weights.iter().sum();
        weights.iter().map(|weight| (f64::from(*weight) / f64::from(all) * 1000.0).round() / 10.0).collect()
    }

    #[test]
    fn a_zone_with_its_share_keeps_its_traffic() {
        let choice = choose(&[1, 1, 2, 2], 1, &[1; 4], LIMITS, None);
        assert_eq!((percent(&choice), &*choice.reason), (vec![50.0, 50.0, 0.0, 0.0], ""));
        let more = choose(&[1, 1, 1, 2], 1, &[1; 4], LIMITS, None);
        assert_eq!(percent(&more), [33.3, 33.3, 33.3, 0.0]);
        let alone = choose(&[1, 1], 1, &[1; 2], LIMITS, Some(Busy { at: 1, active: 9_999 }));
        assert_eq!(percent(&alone), [50.0, 50.0], "there is nowhere to go");
    }

    #[test]
    fn a_zone_with_too_few_endpoints_spills_the_rest_so_that_all_are_loaded_alike() {
        let zones = [1, 2, 2, 2];
        let here = choose(&zones, 1, &[1; 4], LIMITS, None);
        assert_eq!(percent(&here), [50.0, 16.7, 16.7, 16.7]);
        assert_eq!(here.reason, "own zone keeps 50 %: it has 1 of 4 of the weight");
        let there = choose(&zones, 2, &[1; 4], LIMITS, None);
        assert_eq!(percent(&there), [0.0, 33.3, 33.3, 33.3]);
        // Half of all traffic begins in each zone: the endpoints together get 25 percent each.
        let sum: Vec<f64> = percent(&here).iter().zip(percent(&there)).map(|(a, b)| (a + b) / 2.0).collect();
        assert!(sum.iter().all(|share| (share - 25.0).abs() < 0.1), "{sum:?}");
    }

    #[test]
    fn only_zones_with_a_surplus_take_what_spills_over() {
        let choice = choose(&[1, 2, 2, 3, 3, 3], 1, &[1; 6], LIMITS, None);
        assert_eq!(percent(&choice), [50.0, 0.0, 0.0, 16.7, 16.7, 16.7], "zone 2 has just its third");
    }

    #[test]
    fn settings_say_how_much_traffic_there_is_and_how_much_is_tolerated() {
        let zones = [1, 2, 2, 2];
        let tolerant = choose(&zones, 1, &[1; 4], Limits { overload: 1.5, ..LIMITS }, None);
        assert_eq!(percent(&tolerant)[0], 75.0);
        let quiet = choose(&zones, 1, &[1; 4], Limits { traffic_percent: Some(20), ..LIMITS }, None);
        assert_eq!(percent(&quiet)[0], 100.0);
    }

    #[test]
    fn busy_endpoints_spill_what_is_too_much() {
        let busy = |active| Some(Busy { at: 10, active });
        assert_eq!(percent(&choose(&[1, 2], 1, &[1; 2], LIMITS, busy(10))), [100.0, 0.0]);
        let spilled = choose(&[1, 2], 1, &[1; 2], LIMITS, busy(40));
        assert_eq!(
            (percent(&spilled), &*spilled.reason),
            (vec![25.0, 75.0], "own zone keeps 25 %: its endpoints are busy")
        );
    }

    #[test]
    fn without_a_zone_all_serve() {
        let unknown = choose(&[1, 2], 0, &[1, 3], LIMITS, None);
        assert_eq!((unknown.share, &*unknown.reason), (Share::Weights(vec![1, 3]), "this node's zone is unknown"));
        let none = choose(&[2, 2], 1, &[1, 0], LIMITS, None);
        assert_eq!(
            (percent(&none), &*none.reason),
            (vec![100.0, 0.0], "no endpoint in this zone; 1 of 2 endpoints drained")
        );
    }
}
