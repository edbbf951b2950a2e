//! Balancer: by a hash of the client's address, through a table that changes little when endpoints come and go.
//!
//! IPVS' `mh`; the table is that of "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), section
//! 3.4. Endpoints take turns in claiming the next free slot of their own permutation of the table, so when one leaves,
//! nearly all others keep their slots. The permutation follows from the endpoint's number, so every node has the same
//! table. Weights of EndpointSlices are turns a round. Settings:
//!
//! ```json
//! { "table-size": 1021, "include-port": false }
//! ```
//!
//! `table-size` is a prime from 3 to 16381; with fewer than some ten slots an endpoint, shares become uneven. With
//! `include-port` the client's port counts as well (IPVS: `mh-port`).

use kit::{Answer, Balancer, IndexFunction, Members, Problem, Settings, Share};
use serde::Deserialize;

/// Largest prime a ring has slots for.
const MOST: u32 = 16_381;

/// What is free in a table that is being filled.
const FREE: u32 = u32::MAX;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Table {
    table_size: u32,
    include_port: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self { table_size: 1021, include_port: false }
    }
}

impl Settings for Table {
    fn problem(&self) -> Option<Problem> {
        let size = self.table_size;
        Self::within("table-size", size, 3, MOST).or_else(|| {
            let is_prime = (2..).take_while(|factor| factor * factor <= size).all(|factor| size % factor != 0);
            if is_prime { None } else { Self::at("table-size", format!("{size} is no prime")) }
        })
    }
}

struct Maglev;

impl Balancer for Maglev {
    type Settings = Table;

    const NAME: &str = "maglev";
    const SUMMARY: &str = "The endpoint follows from the client's address, and few clients move when endpoints change.";

    fn spread(settings: &Table, members: &Members<'_>) -> Answer {
        let index = if settings.include_port { IndexFunction::FlowHash } else { IndexFunction::SourceHash };
        let serving = members.weights().iter().filter(|weight| **weight > 0).count();
        if members.count() == 1 || serving == 0 {
            return Answer::new(index, Share::Equal);
        }
        let answer = Answer::new(index, Share::Slots(table(settings.table_size, members.ids(), members.weights())));
        let crowded = serving * 10 > settings.table_size as usize;
        let reason =
            || format!("{serving} endpoints on {} slots: shares are uneven, set table-size", settings.table_size);
        if crowded { answer.because(reason()) } else { answer }
    }
}

/// Who walks through the table, from where, by which steps.
struct Walker {
    endpoint: u32,
    next: u32,
    step: u32,
    turns: u32,
}

/// The table: who has each slot. At least one weight is not 0.
fn table(size: u32, ids: &[u32], weights: &[u32]) -> Vec<u32> {
    let common = weights.iter().fold(0, |common, weight| gcd(common, *weight)).max(1);
    let walker = |(endpoint, (id, weight)): (u32, (&u32, &u32))| {
        let hash = kit::hash(&id.to_be_bytes());
        // Both are less than `size`; a prime number of slots makes every step visit all of them.
        let next = ((hash >> 32) % u64::from(size)) as u32;
        let step = (hash % u64::from(size - 1)) as u32 + 1;
        Walker { endpoint, next, step, turns: weight / common }
    };
    let mut walkers: Vec<Walker> = (0..).zip(ids.iter().zip(weights)).map(walker).filter(|one| one.turns > 0).collect();
    // Who comes first in a round must not depend on who else is there.
    walkers.sort_by_key(|walker| ids[walker.endpoint as usize]);
    let (mut table, mut free) = (vec![FREE; size as usize], size);
    while free > 0 {
        for walker in &mut walkers {
            for _ in 0..walker.turns.min(free) {
                while table[walker.next as usize] != FREE {
                    walker.next = (walker.next + walker.step) % size;
                }
                table[walker.next as usize] = walker.endpoint;
                free -= 1;
            }
        }
    }
    table
}

fn gcd(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { gcd(other, one % other) }
}

kit::policy!(Maglev);
