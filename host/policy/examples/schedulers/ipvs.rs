//! The schedulers of IPVS, after their sources in the Linux kernel (net/netfilter/ipvs/ip_vs_*.c): each connection is a
//! decision of its own, with the counters of its node as they are just then. They see open connections only; closed
//! ones that IPVS still remembers count little there, and nothing here.

use fastrand::Rng;

use crate::simulation::Scheduler;

/// How a scheduler of IPVS picks.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// `rr`: the next one.
    RoundRobin,
    /// `wrr`: the next one, interleaved by weight.
    WeightedRoundRobin,
    /// `lc`: the fewest connections.
    LeastConnections,
    /// `wlc`: the fewest connections by weight.
    WeightedLeastConnections,
    /// `sed`: the least (connections + 1) / weight.
    ShortestExpectedDelay,
    /// `nq`: one without connections, else as `sed`.
    NeverQueue,
    /// `sh`: a table of 256 by a hash of the client.
    SourceHash,
    /// `mh`: a Maglev table of 4093 by a hash of the client.
    Maglev,
}

/// Buckets of `sh` (IP_VS_SH_TAB_BITS) as a number of bits.
const SH_BITS: u32 = 8;

/// Places of `mh` by default (IP_VS_MH_TAB_INDEX=12).
const MH_SIZE: usize = 4093;

/// The factor of the kernel's `hash_32`.
const GOLDEN_RATIO_32: u32 = 0x61c8_8647;

struct Ipvs {
    kind: Kind,
    weights: Vec<u32>,
    /// Where `rr` and `wrr` stand in the list.
    at: Option<usize>,
    /// The weight `wrr` asks for in this turn.
    level: u32,
    /// The table of a hash, and for whom it was made.
    table: Vec<usize>,
    made_for: Vec<bool>,
}

/// The scheduler of that kind, for backends of those weights.
pub(crate) fn scheduler(kind: Kind, weights: Vec<u32>) -> Box<dyn Scheduler> {
    Box::new(Ipvs { kind, weights, at: None, level: 0, table: Vec::new(), made_for: Vec::new() })
}

impl Scheduler for Ipvs {
    fn pick(&mut self, client: u32, active: &[u32], there: &[bool], _: &mut Rng) -> usize {
        let active = |at: usize, more: u32| f64::from(active[at] + more);
        let weight = |at: usize| f64::from(self.weights[at]);
        match self.kind {
            Kind::RoundRobin => self.next(there),
            Kind::WeightedRoundRobin => self.next_by_weight(there),
            Kind::LeastConnections => least(there, |at| active(at, 0)),
            Kind::WeightedLeastConnections => least(there, |at| active(at, 0) / weight(at)),
            Kind::ShortestExpectedDelay => least(there, |at| active(at, 1) / weight(at)),
            Kind::NeverQueue => present(there)
                .find(|at| active(*at, 0) == 0.0)
                .unwrap_or_else(|| least(there, |at| active(at, 1) / weight(at))),
            Kind::SourceHash | Kind::Maglev => self.hashed(client, there),
        }
    }

    fn look(&mut self, _: f64, _: &[u32], _: &[u32], _: &[bool]) {}
}

fn present(there: &[bool]) -> impl Iterator<Item = usize> + '_ {
    (0..there.len()).filter(|at| there[*at])
}

/// The first of those with the least `overhead`, as IPVS walks its list.
fn least(there: &[bool], overhead: impl Fn(usize) -> f64) -> usize {
    present(there).min_by(|a, b| overhead(*a).total_cmp(&overhead(*b))).expect("somebody is there")
}

impl Ipvs {
    fn next(&mut self, there: &[bool]) -> usize {
        loop {
            let at = self.at.map_or(0, |at| (at + 1) % there.len());
            self.at = Some(at);
            if there[at] {
                return at;
            }
        }
    }

    /// Walks the list again and again, each time for those whose weight is at least `level`, which falls by the
    /// greatest common divisor of all weights from the largest to nothing.
    fn next_by_weight(&mut self, there: &[bool]) -> usize {
        let most = present(there).map(|at| self.weights[at]).max().expect("somebody is there");
        let step = present(there).map(|at| self.weights[at]).fold(0, divisor);
        loop {
            let at = self.at.map_or(0, |at| (at + 1) % there.len());
            self.at = Some(at);
            if at == 0 {
                self.level = if self.level > step { self.level - step } else { most };
            }
            if there[at] && self.weights[at] >= self.level {
                return at;
            }
        }
    }

    fn hashed(&mut self, client: u32, there: &[bool]) -> usize {
        if self.made_for != there {
            let serving: Vec<usize> = present(there).collect();
            self.table = match self.kind {
                Kind::SourceHash => source_hash_table(&serving, &self.weights),
                _ => maglev_table(&serving, &self.weights),
            };
            self.made_for = there.to_vec();
        }
        self.table[place(self.kind, client, self.table.len())]
    }
}

fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Where a client's connections are looked up in a table of so many places.
pub(crate) fn place(kind: Kind, client: u32, size: usize) -> usize {
    match kind {
        Kind::SourceHash => (address(client).wrapping_mul(GOLDEN_RATIO_32) >> (32 - SH_BITS)) as usize,
        _ => (hash(u64::from(client)) % size as u64) as usize,
    }
}

/// Clients are the pods of 10.244.0.0/16.
pub(crate) fn address(client: u32) -> u32 {
    0x0af4_0000 + client
}

/// As many buckets in a row as the weight says, again and again.
pub(crate) fn source_hash_table(serving: &[usize], weights: &[u32]) -> Vec<usize> {
    let turn: Vec<usize> = serving.iter().flat_map(|at| std::iter::repeat_n(*at, weights[*at] as usize)).collect();
    turn.iter().copied().cycle().take(1 << SH_BITS).collect()
}

/// In turns, each takes as many of the next free places of its permutation as its weight says.
pub(crate) fn maglev_table(serving: &[usize], weights: &[u32]) -> Vec<usize> {
    let mut table = vec![None; MH_SIZE];
    let size = MH_SIZE as u64;
    let mut permutations: Vec<(u64, u64)> = serving
        .iter()
        .map(|at| (hash(*at as u64 + (1 << 32)) % size, hash(*at as u64 + (1 << 33)) % (size - 1) + 1))
        .collect();
    let mut free = MH_SIZE;
    while free > 0 {
        for (at, (next, skip)) in serving.iter().zip(&mut permutations) {
            for _ in 0..weights[*at] {
                while free > 0 && table[*next as usize].is_some() {
                    *next = (*next + *skip) % size;
                }
                if free > 0 {
                    table[*next as usize] = Some(*at);
                    free -= 1;
                }
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// The finalizer of SplitMix64: stands for the kernel's keyed hashes, whose keys nobody knows.
pub(crate) fn hash(number: u64) -> u64 {
    let mut hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}
