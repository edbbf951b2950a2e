//! Rules, as a few kinds of statement: exactly those Weir needs, each with one meaning in nft syntax
//! ([`crate::text`]), in the simulator ([`crate::sim`]) and in netlink expressions (crate `weir-netlink`).

use ipnet::IpNet;
use weir_model::Protocol;

use crate::SetName;

/// One rule of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Evaluated from left to right; the first that does not match ends the rule.
    pub statements: Vec<Statement>,
    /// Shown by `nft list`; at most 120 bytes, empty for none.
    pub comment: String,
}

/// Part of a packet, or a number drawn for it, as a component of a lookup key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `ip saddr`.
    Saddr,
    /// `ip daddr`.
    Daddr,
    /// `ip daddr & 0.0.0.0`: the unspecified address, whatever the packet says. The key of node ports. (nft
    /// accepts no constant in a concatenation.)
    AnyDaddr,
    /// `meta l4proto`.
    Protocol,
    /// `th dport`.
    Dport,
    /// `meta priority`: Weir's scratch register between two lookups.
    Priority,
    /// `numgen random mod M offset O`.
    Random {
        /// Number of different values, at least 1.
        modulus: u32,
        /// The first value.
        offset: u32,
    },
    /// `numgen inc mod M offset O`: a counter of this rule.
    Counter {
        /// Number of different values, at least 1.
        modulus: u32,
        /// The first value.
        offset: u32,
    },
    /// `jhash ip saddr mod M seed S offset O`.
    HashSource {
        /// Number of different values, at least 1.
        modulus: u32,
        /// Seed of the hash.
        seed: u32,
        /// The first value.
        offset: u32,
    },
    /// `jhash ip saddr . th sport mod M seed S offset O`.
    HashFlow {
        /// Number of different values, at least 1.
        modulus: u32,
        /// Seed of the hash.
        seed: u32,
        /// The first value.
        offset: u32,
    },
}

/// A concatenation of fields: the key of a lookup.
pub type Key = Vec<Field>;

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `ct status dnat`.
    CtStatusDnat,
    /// `ip saddr [!=] NET`.
    Saddr {
        /// The network.
        net: IpNet,
        /// Whether an address outside matches.
        negate: bool,
    },
    /// `ip daddr [!=] NET`.
    Daddr {
        /// The network.
        net: IpNet,
        /// Whether an address outside matches.
        negate: bool,
    },
    /// `iifname [!=] NAME[*]`.
    InInterface {
        /// Name of the interface, or how it begins; at most 15 bytes.
        name: String,
        /// Whether `name` is only how it begins.
        prefix: bool,
        /// Whether any other interface matches, and packets this node sends.
        negate: bool,
    },
    /// `meta l4proto PROTOCOL`.
    Protocol(Protocol),
    /// `fib saddr type local`.
    FibSaddrLocal,
    /// `fib daddr type [!=] local`.
    FibDaddrLocal {
        /// Whether an address that is not this node's matches.
        negate: bool,
    },
    /// `KEY [!=] @SET`.
    InSet {
        /// What is looked up.
        key: Key,
        /// Where.
        set: SetName,
        /// Whether a key that is missing matches.
        negate: bool,
    },
    /// `meta mark & BIT != 0`.
    MarkHas(u32),
    /// `meta mark set meta mark | BIT`.
    MarkSet(u32),
    /// `meta mark set meta mark ^ BIT`.
    MarkFlip(u32),
    /// `meta priority set none`.
    PriorityClear,
    /// `meta priority set KEY map @MAP`; no match when the map has no such key.
    PriorityFrom {
        /// What is looked up.
        key: Key,
        /// A map to class or endpoint numbers.
        map: SetName,
    },
    /// `meta priority set numgen inc mod M offset O`: a counter of this rule, for a look-up in another chain.
    PriorityCount {
        /// Number of different values, at least 1.
        modulus: u32,
        /// The first value.
        offset: u32,
    },
    /// `meta priority vmap @MAP`; no match when the map has no such number.
    PriorityVerdict(SetName),
    /// `update @affinity { KEY timeout Ns : meta priority }`.
    AffinityUpdate {
        /// Client and frontend.
        key: Key,
        /// Seconds until the entry goes.
        timeout_seconds: u32,
    },
    /// `delete @affinity { KEY : meta priority }`. Needed before an update that changes the data.
    AffinityDelete {
        /// Client and frontend.
        key: Key,
    },
    /// `dnat ip to KEY map @MAP`; no match when the map has no such key.
    Dnat {
        /// What is looked up.
        key: Key,
        /// A map to targets.
        map: SetName,
    },
    /// `masquerade fully-random`.
    Masquerade,
    /// `reject`: ICMP port unreachable.
    Reject,
    /// `reject with tcp reset`, for TCP only.
    RejectTcp,
    /// `drop`.
    Drop,
    /// `jump CHAIN`.
    Jump(String),
    /// `goto CHAIN`.
    Goto(String),
}
