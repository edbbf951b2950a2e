use super::*;

const STEADY: Pace = Pace { period_seconds: 5, slow_start_seconds: 0 };

/// Endpoints as a fluid: connections come at a steady rate, in proportion to shares, and end at a rate.
struct Fluid {
    /// Connections a second in all.
    rate: f64,
    /// By endpoint: weight, how many seconds connections last, how many there are.
    endpoints: Vec<(u32, f64, f64)>,
    shares: Vec<f64>,
    slots: Vec<u32>,
    /// Connections a minute each got in the last periods: the host tells the mean of half a minute.
    lately: Vec<Vec<f64>>,
    ages: Vec<u32>,
}

impl Fluid {
    fn new(rate: f64, endpoints: &[(u32, f64)]) -> Self {
        let endpoints: Vec<_> = endpoints.iter().map(|(weight, duration)| (*weight, *duration, 0.0)).collect();
        let total: u32 = endpoints.iter().map(|(weight, ..)| weight).sum();
        let shares = endpoints.iter().map(|(weight, ..)| f64::from(*weight) / f64::from(total)).collect();
        let slots = endpoints.iter().map(|(weight, ..)| *weight).collect();
        Self {
            rate,
            lately: vec![Vec::new(); endpoints.len()],
            ages: vec![u32::MAX; endpoints.len()],
            endpoints,
            shares,
            slots,
        }
    }

    /// One period, and then a look.
    fn step(&mut self, follow: Follow) {
        let period = f64::from(follow.pace.period_seconds);
        for ((_, duration, active), share) in self.endpoints.iter_mut().zip(&self.shares) {
            let stays = (-period / *duration).exp();
            *active = *active * stays + share * self.rate * *duration * (1.0 - stays);
        }
        let periods = (30.0 / period).ceil() as usize;
        for (lately, share) in self.lately.iter_mut().zip(&self.shares) {
            lately.insert(0, share * self.rate * 60.0);
            lately.truncate(periods);
        }
        let seen = |at: usize| {
            let (weight, _, active) = self.endpoints[at];
            let per_minute = (self.lately[at].iter().sum::<f64>() / periods as f64).round() as u32;
            Seen { weight, active: active.round() as u32, per_minute, age: self.ages[at], slots: self.slots[at] }
        };
        let seen: Vec<Seen> = (0..self.endpoints.len()).map(seen).collect();
        self.ages.iter_mut().for_each(|age| *age = age.saturating_add(follow.pace.period_seconds));
        let weights = slots(&seen, follow);
        let total: u32 = weights.iter().sum();
        self.shares = weights.iter().map(|weight| f64::from(*weight) / f64::from(total)).collect();
        self.slots = weights;
    }

    /// The largest level by the mean one.
    fn imbalance(&self) -> f64 {
        let levels = self.endpoints.iter().map(|(weight, _, active)| active / f64::from(*weight));
        let total: f64 = self.endpoints.iter().map(|(.., active)| active).sum();
        let weights: f64 = self.endpoints.iter().map(|(weight, ..)| f64::from(*weight)).sum();
        levels.fold(0.0, f64::max) / (total / weights)
    }
}

/// The next slots of each.
fn slots(seen: &[Seen], follow: Follow) -> Vec<u32> {
    match choose(seen.iter().copied(), follow).share {
        Share::Equal => vec![1; seen.len()],
        Share::Weights(weights) => weights,
        Share::Slots(slots) => panic!("{slots:?}"),
    }
}

fn weights(seen: &[Seen], level: Level) -> Vec<u32> {
    slots(seen, Follow { level, pace: STEADY })
}

fn seen(weight: u32, active: u32) -> Seen {
    Seen { weight, active, per_minute: 60, age: u32::MAX, slots: 32 }
}

#[test]
fn whatever_connections_last_a_slow_endpoint_comes_to_the_level_of_the_others_and_stays() {
    // From a fiftieth of the period to a hundred times as much, and one endpoint in ten is ten times slower.
    for duration in [0.1, 0.5, 2.0, 5.0, 20.0, 100.0, 500.0] {
        let mut endpoints = vec![(1, duration); 9];
        endpoints.push((1, 10.0 * duration));
        let mut fluid = Fluid::new(1000.0 / duration, &endpoints);
        let follow = Follow { level: Level::ByWeight, pace: STEADY };
        let settled = 40 + (100.0 * duration / 5.0) as usize;
        let mut imbalance = Vec::new();
        for _ in 0..settled + 40 {
            fluid.step(follow);
            imbalance.push(fluid.imbalance());
        }
        let late = &imbalance[settled..];
        let (least, most) =
            late.iter().fold((f64::MAX, 0.0_f64), |(least, most), now| (least.min(*now), most.max(*now)));
        let swing = most - least;
        assert!(most < 1.4, "{duration} s: at most {most:.2} times the mean; 5.25 times without feedback");
        assert!(swing < 0.2, "{duration} s: it swings between {least:.2} and {most:.2}");
    }
}

#[test]
fn a_new_endpoint_is_filled_without_being_flooded() {
    for duration in [0.5, 5.0, 50.0, 500.0] {
        let mut fluid = Fluid::new(1000.0 / duration, &[(1, duration); 10]);
        // At rest, but for the last, which has just come.
        fluid.endpoints.iter_mut().take(9).for_each(|(.., active)| *active = 1000.0 / 9.0);
        fluid.lately.iter_mut().take(9).for_each(|lately| *lately = vec![60.0 * 1000.0 / duration / 9.0; 6]);
        (fluid.slots[9], fluid.shares[9], fluid.ages[9]) = (0, 0.0, 0);
        let follow = Follow { level: Level::Connections, pace: STEADY };
        let most = (0..200).fold(0.0_f64, |most, _| {
            fluid.step(follow);
            most.max(fluid.endpoints[9].2)
        });
        assert!((95.0..125.0).contains(&most), "{duration} s: it had {most:.0} connections at once; 100 are its share");
    }
}

#[test]
fn levels_are_what_they_are_called() {
    let pair = [seen(1, 10), seen(3, 10)];
    assert_eq!(weights(&pair, Level::Connections), [1, 1]);
    let by_weight = weights(&pair, Level::ByWeight);
    assert!(by_weight[1] > 3 * by_weight[0], "the large one has less than its share: {by_weight:?}");
    let idle = [Seen { slots: 1, ..seen(1, 0) }, Seen { slots: 3, ..seen(3, 0) }];
    assert_eq!(weights(&idle, Level::ByWeight), [1, 3], "nothing to level");
    let expected = weights(&idle, Level::ExpectedDelay);
    assert!(expected[1] > 3 * expected[0], "the next one waits less at the large one: {expected:?}");
    let one_idle = [seen(1, 0), seen(1, 1), seen(1, 1)];
    let (sed, nq) = (weights(&one_idle, Level::ExpectedDelay), weights(&one_idle, Level::NeverQueue));
    assert!(nq[0] > sed[0] && sed[0] > sed[1], "{sed:?} {nq:?}");
}

#[test]
fn equal_endpoints_without_load_stay_equal_and_so_the_kernel_is_left_alone() {
    let idle = vec![Seen { per_minute: 0, ..seen(1, 0) }; 5];
    assert_eq!(weights(&idle, Level::ByWeight), [1; 5]);
    let mut slots = vec![8, 32, 64];
    for _ in 0..6 {
        let uneven: Vec<Seen> = slots.iter().map(|slots| Seen { slots: *slots, ..idle[0] }).collect();
        slots = weights(&uneven, Level::ByWeight);
    }
    assert_eq!(slots, [1; 3], "what was learnt under load is forgotten without");
}

#[test]
fn new_endpoints_start_slowly_and_drained_ones_get_nothing() {
    let pace = Pace { slow_start_seconds: 30, ..STEADY };
    let at = |age| {
        let seen = [seen(1, 4), Seen { age, slots: 0, active: 4, ..seen(1, 4) }, seen(0, 4)];
        choose(seen.into_iter(), Follow { level: Level::ByWeight, pace })
    };
    let share = |age| {
        let Share::Weights(weights) = at(age).share else { panic!("weights") };
        assert_eq!(weights[2], 0);
        f64::from(weights[1]) / f64::from(weights[0])
    };
    let grown: Vec<f64> = [0, 3, 10, 15, 30, u32::MAX].into_iter().map(share).collect();
    assert!(grown[0] < 0.15 && (0.3..0.37).contains(&grown[2]) && (0.45..0.55).contains(&grown[3]), "{grown:?}");
    assert!(grown.is_sorted() && grown[4] > 0.9, "{grown:?}");
    assert_eq!(at(3).reason, "4 to 4 connections an endpoint; 1 starting slowly; 1 of 3 endpoints drained");
}

#[test]
fn settings_have_defaults_and_bounds() {
    assert_eq!(Pace::parse(""), Ok(Pace { period_seconds: 5, slow_start_seconds: 30 }));
    let problems =
        Pace::parse(r#"{"period-seconds": 0, "slow-start-seconds": 9999}"#).expect_err("both are out of bounds");
    let fields: Vec<&str> = problems.iter().map(|problem| &*problem.path).collect();
    assert_eq!(fields, ["period-seconds", "slow-start-seconds"]);
}
