//! Discrete events: connections come, wait for a worker, are served, and go.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use fastrand::Rng;

use crate::scenario::{CHANGE, END, Lengths, MEASURED_FROM, Scenario};

/// Clients, each with an address.
pub(crate) const CLIENTS: u32 = 5_000;

/// Seconds between two looks at the clock, for those that decide by it.
const TICK: f64 = 0.1;

/// Looks that make two seconds.
const WINDOW: usize = 20;

/// Picks backends for the connections of one node.
pub(crate) trait Scheduler {
    /// The backend for a new connection of `client`, as its position. `active` are this node's open connections by
    /// backend, `there` the backends that are there.
    fn pick(&mut self, client: u32, active: &[u32], there: &[bool], rng: &mut Rng) -> usize;

    /// Called every [`TICK`]. `begun` are this node's connections by backend since the start.
    fn look(&mut self, now: f64, active: &[u32], begun: &[u32], there: &[bool]);
}

/// What came of it.
pub(crate) struct Outcome {
    /// Connections by weight the busiest backend got, in terms of the mean of all.
    pub(crate) busiest: f64,
    /// Standard deviation of the connections by weight, in terms of their mean.
    pub(crate) deviation: f64,
    /// Seconds from connecting until served, for half of all and for 99 of 100. Whoever still waits at the end counts
    /// with what he has waited.
    pub(crate) median: f64,
    pub(crate) p99: f64,
    /// Share of all connections the last backend got.
    pub(crate) last: f64,
    /// Of a backend that came later: its share of new connections in its busiest two seconds, and its most open
    /// connections in terms of what the others had on the average just then. Zero where all were there from the start.
    pub(crate) newcomer: (f64, f64),
}

impl Outcome {
    /// The mean of each figure.
    pub(crate) fn mean(outcomes: &[Self]) -> Self {
        let mean = |figure: fn(&Self) -> f64| outcomes.iter().map(figure).sum::<f64>() / outcomes.len() as f64;
        Self {
            busiest: mean(|outcome| outcome.busiest),
            deviation: mean(|outcome| outcome.deviation),
            median: mean(|outcome| outcome.median),
            p99: mean(|outcome| outcome.p99),
            last: mean(|outcome| outcome.last),
            newcomer: (mean(|outcome| outcome.newcomer.0), mean(|outcome| outcome.newcomer.1)),
        }
    }
}

/// In the order in which they happen at one time: whoever picks knows who is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A connection is done: backend, node.
    Done(usize, usize),
    Look,
    Arrival,
}

#[derive(Default)]
struct Server {
    active: u32,
    busy: u32,
    /// Who waits: since when, and from which node.
    queue: VecDeque<(u64, usize)>,
    /// Connections it got in the time measured.
    begun: u32,
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn exponential(mean: f64, rng: &mut Rng) -> f64 {
    -mean * (1.0 - rng.f64()).ln()
}

/// Pareto with exponent 3/2, whose mean is three times its minimum.
fn heavy_tailed(mean: f64, rng: &mut Rng) -> f64 {
    (mean / 3.0 * (1.0 - rng.f64()).powf(-2.0 / 3.0)).min(1000.0 * mean)
}

struct Run<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    events: BinaryHeap<Reverse<(u64, Happening)>>,
    servers: Vec<Server>,
    there: Vec<bool>,
    /// By node and backend.
    active: Vec<Vec<u32>>,
    begun: Vec<Vec<u32>>,
    /// Seconds from connecting until served.
    responses: Vec<f64>,
    now: u64,
}

impl Run<'_> {
    fn at(&mut self, delay: f64, event: Happening) {
        self.events.push(Reverse((self.now + micros(delay), event)));
    }

    fn serve(&mut self, backend: usize, node: usize, since: u64) {
        let mean = self.scenario.backends[backend].service;
        let service = match self.scenario.lengths {
            Lengths::Exponential => exponential(mean, &mut self.rng),
            Lengths::HeavyTailed => heavy_tailed(mean, &mut self.rng),
        };
        if seconds(since) >= MEASURED_FROM {
            self.responses.push(seconds(self.now - since) + service);
        }
        self.servers[backend].busy += 1;
        self.at(service, Happening::Done(backend, node));
    }

    fn arrival(&mut self, schedulers: &mut [Box<dyn Scheduler>]) {
        let node = self.rng.usize(..schedulers.len());
        let client = self.rng.u32(..CLIENTS);
        let backend = schedulers[node].pick(client, &self.active[node], &self.there, &mut self.rng);
        assert!(self.there[backend], "it is not there");
        self.active[node][backend] += 1;
        self.begun[node][backend] += 1;
        let server = &mut self.servers[backend];
        server.active += 1;
        server.begun += u32::from(seconds(self.now) >= MEASURED_FROM);
        if server.busy < self.scenario.backends[backend].workers {
            self.serve(backend, node, self.now);
        } else {
            server.queue.push_back((self.now, node));
        }
        let pause = exponential(1.0 / self.scenario.rate, &mut self.rng);
        self.at(pause, Happening::Arrival);
    }

    fn done(&mut self, backend: usize, node: usize) {
        self.active[node][backend] -= 1;
        self.servers[backend].active -= 1;
        self.servers[backend].busy -= 1;
        if let Some((since, node)) = self.servers[backend].queue.pop_front() {
            self.serve(backend, node, since);
        }
    }

    fn look(&mut self, schedulers: &mut [Box<dyn Scheduler>]) {
        let now = seconds(self.now);
        self.there = self.scenario.backends.iter().map(|backend| backend.since <= now).collect();
        for (node, scheduler) in schedulers.iter_mut().enumerate() {
            scheduler.look(now, &self.active[node], &self.begun[node], &self.there);
        }
        self.at(TICK, Happening::Look);
    }

    /// Connections so far: of one backend, of all.
    fn begun(&self, backend: usize) -> (u32, u32) {
        let of_nodes = |pick: &dyn Fn(&Vec<u32>) -> u32| self.begun.iter().map(pick).sum();
        (of_nodes(&|begun| begun[backend]), of_nodes(&|begun| begun.iter().sum()))
    }

    /// Open connections of one backend in terms of the mean of the others.
    fn level(&self, backend: usize) -> f64 {
        let all: f64 = self.servers.iter().map(|server| f64::from(server.active)).sum();
        let own = f64::from(self.servers[backend].active);
        own * (self.servers.len() - 1) as f64 / (all - own).max(1.0)
    }
}

/// Plays `scenario` with a scheduler a node; another `seed` is another course of events of the same kind.
pub(crate) fn simulate(scenario: &Scenario, seed: u64, mut schedulers: Vec<Box<dyn Scheduler>>) -> Outcome {
    let (nodes, count) = (schedulers.len(), scenario.backends.len());
    let mut run = Run {
        scenario,
        rng: Rng::with_seed(seed),
        events: BinaryHeap::new(),
        servers: (0..count).map(|_| Server::default()).collect(),
        there: vec![false; count],
        active: vec![vec![0; count]; nodes],
        begun: vec![vec![0; count]; nodes],
        responses: Vec::new(),
        now: 0,
    };
    run.at(0.0, Happening::Look);
    run.at(0.001, Happening::Arrival);
    let late = scenario.backends.iter().position(|backend| backend.since > 0.0);
    let (mut newcomer, mut past) = ((0.0_f64, 0.0_f64), VecDeque::from([(0, 0); WINDOW]));
    while let Some(Reverse((time, event))) = run.events.pop().filter(|Reverse((time, _))| *time < micros(END)) {
        run.now = time;
        match event {
            Happening::Done(backend, node) => run.done(backend, node),
            Happening::Look => {
                run.look(&mut schedulers);
                if let Some(late) = late {
                    let begun = run.begun(late);
                    past.push_back(begun);
                    let before = past.pop_front().expect("a window full");
                    let share = f64::from(begun.0 - before.0) / f64::from((begun.1 - before.1).max(1));
                    newcomer = (newcomer.0.max(share), newcomer.1.max(run.level(late)));
                }
            }
            Happening::Arrival => run.arrival(&mut schedulers),
        }
    }
    let waiting = run.servers.iter().flat_map(|server| &server.queue).map(|(since, _)| seconds(*since));
    run.responses.extend(waiting.filter(|since| *since >= MEASURED_FROM).map(|since| END - since));
    run.responses.sort_by(f64::total_cmp);
    let at = |percent: usize| run.responses[run.responses.len() * percent / 100];
    let (busiest, deviation) = spread(scenario, &run.servers);
    let all: u32 = run.servers.iter().map(|server| server.begun).sum();
    let last = f64::from(run.servers[count - 1].begun) / f64::from(all);
    Outcome { busiest, deviation, median: at(50), p99: at(99), last, newcomer }
}

/// How evenly connections went, by weight, over the backends that were there all the time: the most and the standard
/// deviation, both in terms of the mean.
fn spread(scenario: &Scenario, servers: &[Server]) -> (f64, f64) {
    let all = scenario.backends.iter().zip(servers).filter(|(backend, _)| backend.since == 0.0);
    let levels: Vec<f64> = all.map(|(backend, server)| f64::from(server.begun) / f64::from(backend.weight)).collect();
    let mean = levels.iter().sum::<f64>() / levels.len() as f64;
    let variance = levels.iter().map(|level| (level - mean).powi(2)).sum::<f64>() / levels.len() as f64;
    (levels.iter().copied().fold(0.0, f64::max) / mean, variance.sqrt() / mean)
}

/// A change of endpoints is seen at once.
const _: () = assert!(CHANGE > MEASURED_FROM && CHANGE < END);
