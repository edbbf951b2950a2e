//! What the kernel would do with the first packet of a connection, worked out from the ruleset as a value.
//!
//! `numgen` and `jhash` make several endings possible; [`simulate`] walks every one of them and returns each
//! with its share. It reads [`crate::Statement`]s, never text. Tests compare it with the kernel.

mod draws;
mod jhash;
mod memory;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weir_model::{Family, Protocol};

use crate::{ElementKey, Ruleset, text};
pub use draws::Share;
pub use memory::Memory;

use draws::Draws;
use walk::Walk;

/// Where a packet comes from, as far as hooks are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// From a pod of this node or from another machine: it meets prerouting first.
    Network,
    /// From a process of this node itself: it meets output first.
    Node,
}

/// The first packet of a connection; conntrack state `new`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which way it comes in.
    pub entry: Entry,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Packet mark it starts with; usually 0.
    pub mark: u32,
}

/// What a verdict depends on besides ruleset and packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    /// Addresses of this node: `fib … type local`, and whether a packet is delivered here or forwarded. Loopback
    /// addresses count without being listed.
    pub local_addresses: BTreeSet<IpAddr>,
    /// Name of the interface a packet from the network comes in by; may be left empty where no rule asks.
    pub interface: String,
    /// Live entries of the affinity map of the packet's family: key → endpoint number.
    pub affinity: BTreeMap<ElementKey, u32>,
    /// Whether `jhash` gives the very value the kernel would compute for this packet. If not, each of its
    /// values is taken as possible, which shows where other clients go.
    pub exact_hashes: bool,
}

/// How the packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes on its way.
    Delivered {
        /// The new destination; `None` when no rule changed it.
        to: Option<SocketAddr>,
        /// Whether the source becomes an address of this node.
        masqueraded: bool,
    },
    /// The client gets ICMP port unreachable.
    Reject,
    /// The client hears nothing.
    Drop,
}

/// An entry the packet writes into the affinity map, or refreshes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remembered {
    /// Client and frontend.
    pub key: ElementKey,
    /// The endpoint's number.
    pub endpoint: u32,
    /// Seconds until the entry goes, counted from now.
    pub timeout_seconds: u32,
}

/// One possible ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ends.
    pub verdict: Verdict,
    /// How much of all connections like this one end so; the shares of all outcomes add up to 1.
    pub share: Share,
    /// The rules that matched, in order, as `chain: rule` in nft syntax. Jumps into chains where nothing
    /// matched are left out.
    pub trace: Vec<String>,
    /// What the affinity map learns.
    pub remembered: Option<Remembered>,
}

/// A packet or ruleset that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Source and destination are not of one family.
    #[error("a packet from {source_ip} cannot go to {destination}: not the same IP family")]
    MixedFamilies {
        /// Source address.
        source_ip: IpAddr,
        /// Destination address.
        destination: IpAddr,
    },
    /// A rule goes to a chain that does not exist; the kernel would have refused the ruleset.
    #[error("chain {from} goes to chain {to}, which does not exist")]
    NoChain {
        /// Chain of the rule.
        from: String,
        /// Where it goes.
        to: String,
    },
    /// A rule looks into a set that does not exist or holds something else; the kernel would have refused it.
    #[error("a rule of chain {chain} uses set {set}, which does not exist or does not fit")]
    NoSet {
        /// Chain of the rule.
        chain: String,
        /// The set.
        set: &'static str,
    },
    /// Chains call each other more than 16 deep; the kernel would have refused the ruleset.
    #[error("chain {0} is reached over more than 16 jumps")]
    TooDeep(String),
    /// Too many random numbers are drawn for one packet to try every combination.
    #[error("the packet can take more than {0} different ways through the rules")]
    TooManyWays(usize),
}

/// Ways [`simulate`] tries at most: several times what one draw from the largest ring needs.
const MAX_WAYS: usize = 1 << 20;

/// Sends `packet` through `ruleset`. Returns every possible outcome, sorted by verdict.
///
/// The source port and address a masquerade chooses are not worked out. A packet of the node to itself meets
/// input and the filter chains of prerouting, too, as over the loopback device.
///
/// # Errors
/// See [`Error`].
pub fn simulate(ruleset: &Ruleset, packet: &Packet, env: &Env) -> Result<Vec<Outcome>, Error> {
    let (source_ip, destination) = (packet.source.ip(), packet.destination.ip());
    let family = Family::of(destination);
    if Family::of(source_ip) != family {
        return Err(Error::MixedFamilies { source_ip, destination });
    }
    let Some(table) = ruleset.tables.get(&family) else {
        let verdict = Verdict::Delivered { to: None, masqueraded: false };
        return Ok(vec![Outcome { verdict, share: Share::ALL, trace: Vec::new(), remembered: None }]);
    };
    let mut draws = Draws::default();
    let mut endings = BTreeMap::new();
    for _ in 0..MAX_WAYS {
        let ending = Walk::new(table, family, packet, env, &mut draws).run()?;
        endings.entry(ending).or_insert(Share::NONE).add(draws.share());
        if !draws.advance() {
            let line = |(chain, rule): &(&str, usize)| {
                let rule = &table.chains[*chain].rules[*rule];
                format!("{chain}: {}", text::rule(rule, family))
            };
            return Ok(endings
                .into_iter()
                .map(|((verdict, steps, remembered), share)| Outcome {
                    verdict,
                    share,
                    trace: steps.iter().map(line).collect(),
                    remembered,
                })
                .collect());
        }
    }
    Err(Error::TooManyWays(MAX_WAYS))
}
