//! From what was seen of the packets of a case to what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::cases::{Expectation, Fixture, PacketCase, Seen};

use super::wire::{Probe, Sighting};
use super::world::{MARKED, PRIORITISED};

/// One packet and everything that was seen of it.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    probe: Probe,
    arrivals: BTreeSet<(SocketAddr, SocketAddr, u8)>,
    refused: bool,
    errors: BTreeSet<(u8, u8)>,
}

impl Fate {
    /// Nothing was seen yet.
    pub(super) fn of(probe: Probe) -> Self {
        Self { probe, arrivals: BTreeSet::new(), refused: false, errors: BTreeSet::new() }
    }

    /// Takes in what was seen.
    pub(super) fn see(&mut self, sighting: Sighting) {
        match sighting {
            Sighting::Arrived { source, destination, dscp, .. } => {
                self.arrivals.insert((source, destination, dscp));
            }
            Sighting::Refused { .. } => self.refused = true,
            Sighting::Error { kind, code, .. } => {
                self.errors.insert((kind, code));
            }
        }
    }

    /// Whether it may still be under way.
    pub(super) fn is_open(&self) -> bool {
        self.arrivals.is_empty() && !self.refused && self.errors.is_empty()
    }

    /// Where it arrived, as the format spells it, and what should not be there; or how it ended elsewhere.
    fn ending(&self) -> String {
        // Where the node itself is the destination, its stack refuses what was delivered: nobody listens.
        if let Some((_, destination, dscp)) = self.arrivals.first() {
            let twice = if self.arrivals.len() > 1 { " and elsewhere" } else { "" };
            let left = match *dscp {
                MARKED => " with its mark",
                PRIORITISED => " with a priority",
                _ => "",
            };
            let unchanged = *destination == self.probe.destination;
            return match (unchanged, twice.len() + left.len()) {
                (true, 0) => String::new(),
                (true, _) => format!("unchanged{twice}{left}"),
                (false, _) => format!("{destination}{twice}{left}"),
            };
        }
        if self.refused {
            return "REJECT".to_owned();
        }
        let error = self.errors.first().map(|(kind, code)| format!("ICMP error {kind}/{code}"));
        error.unwrap_or_else(|| "DROP".to_owned())
    }

    /// Its source where it arrived.
    fn source(&self) -> Option<SocketAddr> {
        self.arrivals.first().map(|(source, ..)| *source)
    }
}

/// What was seen, and which sources arrived with their packets.
fn told(seen: &Seen, fates: &[Fate]) -> String {
    let sources: BTreeSet<IpAddr> = fates.iter().filter_map(Fate::source).map(|source| source.ip()).collect();
    let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
    if sources.is_empty() { seen.to_string() } else { format!("{seen}; source {}", sources.join(", ")) }
}

/// A case and what it expects.
pub(super) struct Judge<'a> {
    pub(super) fixture: &'a Fixture,
    pub(super) expectation: Expectation,
    pub(super) case: &'a PacketCase,
}

impl Judge<'_> {
    /// What was seen of the packets, in words, when that is what was expected; else a text that tells both. `leaders`
    /// are the packets this case's followed, one by one.
    pub(super) fn judge(&self, fates: &[Fate], leaders: Option<&[Fate]>) -> Result<String, String> {
        let seen = self.seen(fates);
        let pairs = fates.iter().zip(leaders.unwrap_or_default());
        let strays: BTreeSet<_> =
            pairs.map(|(fate, leader)| (fate.ending(), leader.ending())).filter(|(one, other)| one != other).collect();
        if self.expectation.is_met_by(&seen) && strays.is_empty() {
            return Ok(told(&seen, fates));
        }
        let Some(Probe { protocol, source, destination, .. }) = fates.first().map(|fate| fate.probe) else {
            return Err("  no packet was sent\n".to_owned());
        };
        let sender = if self.case.from_node(self.fixture) { ", sent by the node" } else { "" };
        let count = fates.len();
        let mut text = format!("  packet    {protocol} {source} -> {destination}{sender}, {count} times\n");
        text += &format!("  expected  {}\n  seen      {}\n", self.expectation, told(&seen, fates));
        for (one, other) in strays {
            text += &format!("  not the same: {one} follows {other}\n");
        }
        Err(text)
    }

    /// Every ending met. Masqueraded are packets whose source became an address of the node or, since Weir's
    /// masquerading draws a port at random and the node's own packets may keep their address, another port of it.
    /// One packet may draw the very port it had; so the packets of a destination are judged together.
    fn seen(&self, fates: &[Fate]) -> Seen {
        let mut endings: BTreeMap<(String, Option<IpAddr>), Vec<bool>> = BTreeMap::new();
        for fate in fates {
            let source = fate.source();
            let port_changed = source.is_some_and(|source| source.port() != fate.probe.source.port());
            endings.entry((fate.ending(), source.map(|source| source.ip()))).or_default().push(port_changed);
        }
        let judged = endings.into_iter().map(|((ending, source), ports)| {
            let port_changed = ports.iter().filter(|changed| **changed).count() * 2 > ports.len();
            let same_address = source.is_none_or(|source| source == self.case.src);
            let note = match source {
                Some(source) if !same_address && !self.fixture.local_ips.contains(&source) => {
                    format!(" from {source}, which is not the node's")
                }
                Some(_) if !same_address && !port_changed => " from a port that is not random".to_owned(),
                _ => String::new(),
            };
            (ending + &note, port_changed || !same_address)
        });
        Seen { endings: judged.collect() }
    }
}
