//! Shares that follow the connections endpoints have: least connections and its kin, as a control loop.
//!
//! IPVS looks at its counters for every connection. Here a share holds for some seconds, until the next look, so the
//! question is another: which shares, kept that long, bring the endpoints to the same level and neither overshoot
//! nor swing? The answer for an endpoint with weight `w` and level `l` (connections by weight), where the mean level
//! is `m`, is the share
//!
//! > w · (m / l)^g, limited to between 1/16 and 4 times its weight's.
//!
//! In the time `t` between two looks, what an endpoint has goes from `a` to `a·k + s·D·(1 - k)`, with `s` its share,
//! `D` a factor for traffic and duration `d` of connections, and `k = exp(-t/d)`. Close to the point of rest a
//! deviation is thus multiplied by `k - g·(1 - k)` from one look to the next. That is within -½ and 1, so that every
//! deviation dies out, for every `g` between 0 and `(½ + k) / (1 - k)`. The less connections end between two looks,
//! the more sharply the share may follow the level, and the closer it comes to what IPVS does; where all end, only
//! `g = ½` is left, and an endpoint that is ten times as slow gets about half of the others' share. `g` is therefore
//! `1 / (1/k - 1)`, which would hit the mark at once, between [`MILD`] and [`SHARP`], for the shortest duration any
//! endpoint shows.

use crate::share::{Choice, Share, apportion, living};

/// What counts as the level of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Its connections; weights do not count, but for 0. IPVS: lc.
    Connections,
    /// Its connections by weight. IPVS: wlc.
    ByWeight,
    /// What a connection more would make of it, by weight: (connections + 1) / weight. IPVS: sed.
    ExpectedDelay,
    /// The same, and those without a connection come first. IPVS: nq.
    NeverQueue,
}

/// How the shares follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    /// What is levelled.
    pub level: Level,
    /// Seconds between two looks.
    pub every_seconds: u32,
    /// Seconds until an endpoint that has just become ready gets its full share; 0: at once.
    pub slow_start_seconds: u32,
}

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its weight.
    pub weight: u32,
    /// Connections that are open.
    pub active: u32,
    /// New connections a minute.
    pub per_minute: u32,
    /// Seconds since it became ready.
    pub age: u32,
}

/// Exponent that is right whatever connections last.
pub const MILD: f64 = 0.5;

/// Largest exponent: sharper ones would answer to chance.
pub const SHARP: f64 = 4.0;

/// Most and least an endpoint gets, in terms of what its weight would give it. The upper bound keeps an empty endpoint
/// from being flooded until the next look; the lower one lets a full one show that it has recovered.
const BOUNDS: (f64, f64) = (1.0 / 16.0, 4.0);

/// Least part of its share that an endpoint gets when it has just become ready.
const FIRST_STEP: f64 = 0.1;

/// Slots an endpoint has on average: fine enough for shares, coarse enough to stay the same while little happens.
const GRAIN: u32 = 16;

/// Shares for those endpoints.
#[must_use]
pub fn choose(seen: &[Seen], follow: Follow) -> Choice {
    let flat = follow.level == Level::Connections;
    let weight = |seen: &Seen| if flat { u32::from(seen.weight > 0) } else { seen.weight };
    let (weights, drained) = living(seen.iter().map(weight).collect());
    let sharpness = exponent(seen, &weights, follow.every_seconds);
    let shares: Vec<f64> = levels(seen, &weights, follow.level)
        .zip(seen.iter().zip(&weights))
        .map(|(factor, (seen, weight))| {
            let followed = factor.powf(sharpness).clamp(BOUNDS.0, BOUNDS.1);
            f64::from(*weight) * followed * grown(seen.age, follow.slow_start_seconds)
        })
        .collect();
    let count = weights.iter().filter(|weight| **weight > 0).count();
    let parts = u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(GRAIN).min(MOST_PARTS);
    let young = seen.iter().filter(|seen| grown(seen.age, follow.slow_start_seconds) < 1.0).count();
    let starting =
        if young > 0 { format!("{young} of {} endpoints starting slowly", seen.len()) } else { String::new() };
    let reason: Vec<&str> = [&*drained, &*starting].into_iter().filter(|part| !part.is_empty()).collect();
    Choice { share: Share::Weights(apportion(&shares, parts)), reason: reason.join("; ") }
}

/// Most slots that are shared out.
const MOST_PARTS: u32 = 4096;

/// For each endpoint the mean level by its own: above 1 for one that should get more.
fn levels<'a>(seen: &'a [Seen], weights: &'a [u32], level: Level) -> impl Iterator<Item = f64> + 'a {
    let living = || seen.iter().zip(weights).filter(|(_, weight)| **weight > 0);
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let mean_weight = total / (living().count().max(1)) as f64;
    // One connection more for each, so that a single connection is no infinity of nothing. For `ExpectedDelay` that
    // is a whole connection for small and large alike; else it is in proportion to the weight.
    let more = move |weight: f64| match level {
        Level::Connections | Level::ByWeight => weight / mean_weight,
        Level::ExpectedDelay | Level::NeverQueue => 1.0,
    };
    let load = move |seen: &Seen, weight: f64| f64::from(seen.active) + more(weight);
    let mean = living().map(|(seen, weight)| load(seen, f64::from(*weight))).sum::<f64>() / total;
    seen.iter().zip(weights).map(move |(seen, weight)| match (level, f64::from(*weight)) {
        (_, 0.0) => 1.0,
        (Level::NeverQueue, _) if seen.active == 0 => f64::MAX,
        (_, weight) => mean / (load(seen, weight) / weight),
    })
}

/// How sharply shares may follow levels.
fn exponent(seen: &[Seen], weights: &[u32], every_seconds: u32) -> f64 {
    // Little's law: what is there, by what comes, is how long it stays. One more, lest an endpoint that is empty by
    // chance speak for all.
    let duration = |seen: &Seen| f64::from(seen.active + 1) * 60.0 / f64::from(seen.per_minute);
    let durations = seen.iter().zip(weights).filter(|(seen, weight)| **weight > 0 && seen.per_minute > 0);
    let shortest = durations.map(|(seen, _)| duration(seen)).fold(f64::INFINITY, f64::min);
    let exact = 1.0 / ((f64::from(every_seconds) / shortest).exp() - 1.0);
    exact.clamp(MILD, SHARP)
}

/// The part of its share that an endpoint of that age gets: it grows evenly from a tenth to the whole.
fn grown(age: u32, slow_start_seconds: u32) -> f64 {
    if age >= slow_start_seconds {
        return 1.0;
    }
    (f64::from(age) / f64::from(slow_start_seconds)).max(FIRST_STEP)
}
