//! Shares that follow the connections endpoints have: least connections and its kin, as a control loop.
//!
//! IPVS looks at its counters for every connection. Here a share holds for some seconds, until the next look, so the
//! question is another: which shares, kept that long, bring the endpoints to one level and neither overshoot nor swing?
//!
//! Let `q` be an endpoint's share in terms of what its weight alone would give it, `l` its level (connections by
//! weight) and `m` the mean level. The next share is
//!
//! > `q' = q^b · (m / l)^g`, between [`BOUNDS`].
//!
//! How far to go depends on how long connections last, `d`, in terms of the time `t` between two looks. Of what an
//! endpoint has, the part `k = exp(-t/d)` is still there at the next look. Close to the point of rest, deviations of the
//! level and of the share become, in logarithms, `k·l + (1-k)·q` and `b·q - g·l`. The product of that system's two
//! eigenvalues is `k·b`, and it is stable as long as `g < (1+k)(1+b) / (1-k)`.
//!
//! * Where connections are short (`k` near 0), the level shows what the last share did. Then the share has a memory, `b`
//!   near 1, and moves by the root of the deviation, `g = ½`: each look halves what is left, until the levels are equal,
//!   whatever the endpoints' speeds.
//! * Where they are long (`k` near 1), the level itself is a memory, and a second one would swing for long. So `k·b` is
//!   kept at [`SWING`] at most: what swings loses more than a third at each look. And `g = k / (1-k)`, which would reach
//!   the mark at the next look, up to [`SHARP`].

use crate::settings::{Fields, Settings};
use crate::share::{Choice, Share, apportion, living, weighted};

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

/// How fast the shares follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Seconds between two looks.
    pub period_seconds: u32,
    /// Seconds until an endpoint that has just become ready gets its full share; 0: at once.
    pub slow_start_seconds: u32,
}

impl Settings for Pace {
    fn read(fields: &mut Fields) -> Self {
        Self {
            period_seconds: fields.number("period-seconds", 1..=3600).unwrap_or(5),
            slow_start_seconds: fields.number("slow-start-seconds", 0..=3600).unwrap_or(30),
        }
    }
}

impl Pace {
    /// The part of its share that an endpoint of that age gets: it grows evenly from a tenth to the whole.
    fn grown(self, age: u32) -> f64 {
        if age >= self.slow_start_seconds {
            return 1.0;
        }
        (f64::from(age) / f64::from(self.slow_start_seconds)).max(FIRST_STEP)
    }
}

/// What is levelled, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    /// What is levelled.
    pub level: Level,
    /// How fast.
    pub pace: Pace,
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
    /// Slots it has; 0 when it is new.
    pub slots: u32,
}

/// Exponent of the deviation that is right whatever connections last.
pub const MILD: f64 = 0.5;

/// Largest exponent of the deviation: sharper ones would answer to chance.
pub const SHARP: f64 = 4.0;

/// Largest exponent of the share in force: what chance has done to it must be forgotten at some time.
pub const MEMORY: f64 = 0.97;

/// Largest product of the eigenvalues.
pub const SWING: f64 = 0.4;

/// Least and most an endpoint gets, in terms of what its weight would give it. The lower bound lets a full endpoint show
/// that it has recovered; the upper one keeps an empty endpoint from being flooded until the next look.
pub const BOUNDS: (f64, f64) = (1.0 / 16.0, 4.0);

/// Least part of its share that an endpoint gets when it has just become ready.
const FIRST_STEP: f64 = 0.1;

/// Seconds after which the rate of an endpoint's connections is known: the host tells the mean of half a minute.
const SETTLED: u32 = 30;

/// Slots an endpoint has on average: fine enough for shares, coarse enough to stay the same while little happens.
const GRAIN: u32 = 32;

/// Most slots that are shared out.
const MOST_PARTS: u32 = 4096;

impl Seen {
    fn serves(&self) -> bool {
        self.weight > 0
    }
}

/// The next shares of those endpoints.
#[must_use]
pub fn choose(seen: impl Iterator<Item = Seen> + Clone, follow: Follow) -> Choice {
    let flat = follow.level == Level::Connections;
    let weight = |seen: &Seen| if flat { u32::from(seen.weight > 0) } else { seen.weight };
    let seen = seen.map(|seen| Seen { weight: weight(&seen), ..seen });
    // Usually nobody has any connection, and nothing tells one from the other.
    let mut others = seen.clone();
    let first = others.next();
    let at_rest = |first: Seen| first.serves() && first.active == 0 && follow.pace.grown(first.age) >= 1.0;
    if first.is_none_or(at_rest) && others.all(|one| Some(one) == first) {
        return Choice::plain(Share::Equal);
    }
    let mut all: Vec<Seen> = seen.collect();
    let (weights, drained) = living(all.iter().map(|seen| seen.weight).collect());
    all.iter_mut().zip(&weights).for_each(|(seen, weight)| seen.weight = *weight);
    Choice { share: by_level(&all, weights, follow), reason: reason(&all, follow.pace, &drained) }
}

/// What the slots hold where endpoints differ.
fn by_level(all: &[Seen], weights: Vec<u32>, follow: Follow) -> Share {
    let serving = all.iter().filter(|one| one.serves()).count();
    let parts = u32::try_from(serving).unwrap_or(u32::MAX).saturating_mul(GRAIN).min(MOST_PARTS);
    let factors = factors(all, follow);
    let mut of_serving = all.iter().zip(&factors).filter(|(one, _)| one.serves()).map(|(_, factor)| *factor);
    let first = of_serving.next();
    let level = of_serving.all(|factor| Some(factor) == first);
    // As they are, weights need fewer slots, and never others while nothing happens.
    if level && weights.iter().map(|weight| u64::from(*weight)).sum::<u64>() <= u64::from(parts) {
        return weighted(weights).share;
    }
    let shares: Vec<f64> = all.iter().zip(factors).map(|(one, factor)| f64::from(one.weight) * factor).collect();
    Share::Weights(apportion(&shares, parts))
}

/// By what each endpoint's weight is multiplied to make its share; 0 for those that are drained.
fn factors(all: &[Seen], follow: Follow) -> Vec<f64> {
    let Follow { level, pace } = follow;
    let total: f64 = all.iter().map(|one| f64::from(one.weight)).sum();
    let slots: f64 = all.iter().map(|one| f64::from(one.slots)).sum();
    let serving = || all.iter().filter(|one| one.serves());
    let (count, active) =
        serving().fold((0.0, 0.0), |(count, active), one| (count + 1.0, active + f64::from(one.active)));
    let mean = (active + count) / total;
    // What is known of all together stands for those of whom little is known. One connection more for each, lest one
    // that is empty by chance seem fast.
    let sum = |figure: fn(&Seen) -> u32| all.iter().map(figure).fold(0, u32::saturating_add);
    let usual = duration(sum(|seen| seen.active.saturating_add(1)), sum(|seen| seen.per_minute));
    // Neighbours often have the same.
    let mut last = (f64::NAN, 0.0);
    let factor = |seen: &Seen| {
        if !seen.serves() {
            return 0.0;
        }
        let weight = f64::from(seen.weight);
        // One connection more for each, so that a single one is not infinitely more than none. By the definition of
        // `sed` that is a whole one for large and small alike; else it goes by weight.
        let one_more = match level {
            Level::Connections | Level::ByWeight => count / total,
            Level::ExpectedDelay | Level::NeverQueue => 1.0 / weight,
        };
        let above = (f64::from(seen.active) / weight + one_more) / mean;
        let grown = pace.grown(seen.age);
        let known = seen.slots > 0 && grown >= 1.0;
        // Products of whole numbers are exact, so who has just what its weight would give it has 1.
        let in_force = if known { f64::from(seen.slots) * total / (slots * weight) } else { 1.0 };
        let duration =
            if seen.age < SETTLED { usual } else { duration(seen.active.saturating_add(1), seen.per_minute) };
        if last.0 != duration {
            last = (duration, (-f64::from(pace.period_seconds) / duration).exp());
        }
        // Of its connections, the part that is still there at the next look.
        let stays = last.1;
        let memory = (SWING / stays).min(MEMORY);
        let sharpness = (stays / (1.0 - stays)).clamp(MILD, SHARP);
        let next = (memory * logarithm(in_force) - sharpness * logarithm(above)).exp();
        let idle = level == Level::NeverQueue && seen.active == 0;
        let next = if idle { next * room(above, stays) } else { next };
        let most = if seen.age < SETTLED { room(above, stays) } else { BOUNDS.1 };
        next.clamp(BOUNDS.0, most) * grown
    };
    all.iter().map(factor).collect()
}

/// The natural logarithm; that of 1, which is usual here, takes no time.
fn logarithm(number: f64) -> f64 {
    if number == 1.0 { 0.0 } else { number.ln() }
}

/// The share of an endpoint, as fast as the others, that brings it from `level` a fifth above the mean by the next look.
/// For those that are empty because they are new or because nothing came just now, neither of which says what they can
/// take: where connections are short and few, everybody is empty at times, and more would be a queue and not its end.
fn room(level: f64, stays: f64) -> f64 {
    let ends = (1.0 - stays).max(f64::EPSILON);
    ((1.2 - level * stays) / ends).clamp(1.0, BOUNDS.1)
}

/// Seconds that connections last, by Little's law: as long as there are some, divided by how many come in a second.
fn duration(active: u32, per_minute: u32) -> f64 {
    f64::from(active) * 60.0 / f64::from(per_minute)
}

/// Who is drained, who is starting, and how far apart the others are.
fn reason(all: &[Seen], pace: Pace, drained: &str) -> String {
    let serving = || all.iter().filter(|seen| seen.serves());
    let starting = serving().filter(|seen| pace.grown(seen.age) < 1.0).count();
    let starting = if starting > 0 { format!("{starting} starting slowly") } else { String::new() };
    let levels = match (serving().map(|seen| seen.active).min(), serving().map(|seen| seen.active).max()) {
        (Some(least), Some(most)) if most > 0 => format!("{least} to {most} connections an endpoint"),
        _ => String::new(),
    };
    let parts: Vec<&str> = [&*levels, &*starting, drained].into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests;
