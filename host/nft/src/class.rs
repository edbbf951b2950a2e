//! Classes: the few ways connections are handled, shared by all ports that are handled alike.
//!
//! A class is a chain such as `random-3`. Its number is what `frontends` holds for a port, so a port that
//! gets a fourth endpoint changes one number and one slot, and no chain.

use std::fmt;
use std::sync::Arc;

use weir_model::{Family, IndexFunction};
use weir_plan::NodeFacts;

use crate::parts::{from_pods, frontend_key, rule, with};
use crate::{Field, Rule, SetName, Statement};

/// First slot of the ring for endpoints on this node, so that one frontend can hold both rings. Above
/// [`weir_model::MAX_SLOTS`].
pub const LOCAL_OFFSET: u32 = 1 << 15;

/// Seed of the hashes: the same on every node, so that a client keeps its endpoint when another node takes
/// over its connections.
pub const HASH_SEED: u32 = 0x7765_6972;

/// What a class does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing.
    Plain,
    /// Asks for masquerading of clients that are no pods (a ClusterIP).
    ClusterIp,
    /// Asks for masquerading (external client, `externalTrafficPolicy: Cluster`).
    Masquerade,
    /// Lets pods and this node take the short cut first (`externalTrafficPolicy: Local`).
    ShortCut,
}

/// How a ring is walked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spread {
    /// How the slot is picked.
    pub index: IndexFunction,
    /// Number of slots, at least 1.
    pub size: u32,
    /// Whether it is the ring of this node's endpoints.
    pub local: bool,
    /// Seconds of client affinity; 0 means none.
    pub affinity_seconds: u32,
    /// Round robin needs a counter of its own, so its class belongs to one port alone: `namespace/name:port`.
    pub counter: Option<Arc<str>>,
}

/// Where a class leads.
///
/// A refusal waits until everybody has had the chance to translate: the chain of its class has no rule for it, and the
/// checks look the class up once more, in [`SetName::Refusals`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A part of the way to endpoints; others lead there. First in order: a chain must be there before rules lead to it.
    Part(Part),
    /// To endpoints.
    Spread(Spread),
    /// Nowhere, in silence: there are endpoints, but none here.
    Drop,
    /// Nowhere, and the client is told: there is no endpoint.
    Reject,
}

/// What rings of round robin have in common. Each has a chain for its counter, and every rule that looks something up
/// in a map makes each new element of that map dearer: the kernel holds it against all of them (`nft_add_set_elem`). So
/// that chain does little more than count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Sends a client to the endpoint whose turn it is.
    Turn,
    /// Sends clients that are known to their endpoints.
    Known {
        /// See [`Spread::affinity_seconds`]; at least 1.
        affinity_seconds: u32,
    },
    /// Remembers the endpoint in `meta priority` for the client, and sends it there.
    Remember {
        /// See [`Spread::affinity_seconds`]; at least 1.
        affinity_seconds: u32,
    },
}

/// One way to handle connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// Whether it serves node ports, whose elements have the unspecified address.
    pub node_port: bool,
    /// What comes first.
    pub role: Role,
    /// What comes of it.
    pub end: End,
}

impl Class {
    /// Name of its chain, readable and unique.
    #[must_use]
    pub fn chain(&self) -> String {
        let node_port = if self.node_port { "nodeport-" } else { "" };
        let role = match self.role {
            Role::Plain => "",
            Role::ClusterIp => "cluster-ip-",
            Role::Masquerade => "masquerade-",
            Role::ShortCut => "short-cut-",
        };
        match &self.end {
            End::Part(part) => format!("{node_port}{role}{part}"),
            End::Spread(spread) => format!("{node_port}{role}{spread}"),
            End::Drop => format!("{node_port}{role}no-local-endpoints"),
            End::Reject => format!("{node_port}{role}no-endpoints"),
        }
    }

    /// The number it would like to have. Simple classes say what they are: `kind:size` in nft's spelling of
    /// class numbers. Those with affinity or a counter get a hash with bit 30 set. Bit 31 is never set: it
    /// marks endpoint numbers, which pass through the same register.
    #[must_use]
    pub fn preferred_number(&self) -> u32 {
        let role = match self.role {
            Role::Plain => 0,
            Role::Masquerade => 1,
            Role::ShortCut => 2,
            Role::ClusterIp => 3,
        };
        let kind = |index: u32, local: bool| index | u32::from(local) << 2 | role << 3 | u32::from(self.node_port) << 5;
        match &self.end {
            // A ring has a slot at least, so no ring has these.
            End::Drop => kind(1, false) << 16,
            End::Reject => kind(2, false) << 16,
            End::Spread(Spread { index, size, local, affinity_seconds: 0, counter: None }) if *size < 1 << 16 => {
                let index = match index {
                    IndexFunction::Random => 0,
                    IndexFunction::SourceHash => 1,
                    IndexFunction::FlowHash => 2,
                    IndexFunction::RoundRobin => 3,
                };
                kind(index, *local) << 16 | size
            }
            End::Spread(_) | End::Part(_) => HASHED | fnv(self.chain().as_bytes()) >> 2,
        }
    }

    /// The rules of its chain in the table of `family`, on a node of these facts.
    #[must_use]
    pub fn rules(&self, node: &NodeFacts, family: Family) -> Vec<Rule> {
        let mark = Statement::MarkSet(node.masquerade_mark());
        let mut rules = Vec::new();
        match self.role {
            Role::Plain => {}
            Role::ClusterIp if node.masquerade_all => rules.push(rule([mark])),
            Role::ClusterIp => {
                let mut outside = from_pods(node, family, true);
                // Where pods cannot be told apart, everybody passes for one.
                if !outside.is_empty() {
                    outside.push(mark);
                    rules.push(rule(outside));
                }
            }
            Role::Masquerade => rules.push(rule([mark])),
            Role::ShortCut => rules.push(rule([Statement::Jump(short_cut_chain(self.node_port).to_owned())])),
        }
        match &self.end {
            End::Part(part) => part.rules(self.node_port, &mut rules),
            End::Spread(spread) => spread.rules(self.node_port, &mut rules),
            End::Drop | End::Reject => {}
        }
        rules
    }

    /// The class of connections that come to nothing. It looks nothing up, so one does for addresses and node ports.
    #[must_use]
    pub fn nowhere(end: End) -> Self {
        Self { node_port: false, role: Role::Plain, end }
    }

    /// Whether it has a chain. Refusals without a short cut have nothing to do before the checks.
    #[must_use]
    pub fn has_chain(&self) -> bool {
        self.role != Role::Plain || matches!(self.end, End::Spread(_) | End::Part(_))
    }

    /// The classes its chain leads to.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Self> + use<> {
        let parts = match self.end {
            End::Spread(Spread { index: IndexFunction::RoundRobin, affinity_seconds, .. }) => match affinity_seconds {
                0 => [Some(Part::Turn), None],
                _ => [Some(Part::Known { affinity_seconds }), Some(Part::Remember { affinity_seconds })],
            },
            _ => [None, None],
        };
        let node_port = self.node_port;
        parts.into_iter().flatten().map(move |part| part.class(node_port))
    }

    /// The classes that end in a refusal, with the chain that refuses.
    pub(crate) fn refusals() -> [(Self, &'static str); 4] {
        let short_cut = |node_port| Self { node_port, role: Role::ShortCut, end: End::Drop };
        [
            (Self::nowhere(End::Drop), DROPPING),
            (Self::nowhere(End::Reject), REJECTING),
            (short_cut(false), DROPPING),
            (short_cut(true), DROPPING),
        ]
    }
}

impl Spread {
    fn rules(&self, node_port: bool, rules: &mut Vec<Rule>) {
        let slot = with(&frontend_key(node_port), self.field());
        let chain = |part: Part| part.class(node_port).chain();
        // Of clients that are not known: which endpoint, before it is remembered.
        let choose = || rule([Statement::PriorityFrom { key: slot.clone(), map: SetName::AffinitySlots }]);
        match (self.index, self.affinity_seconds) {
            (IndexFunction::RoundRobin, 0) => {
                let (modulus, offset) = (self.size, self.offset());
                rules.push(rule([Statement::PriorityCount { modulus, offset }, Statement::Goto(chain(Part::Turn))]));
            }
            (_, 0) => rules.push(rule([Statement::Dnat { key: slot, map: SetName::Slots }])),
            (IndexFunction::RoundRobin, affinity_seconds) => {
                rules.push(rule([Statement::Jump(chain(Part::Known { affinity_seconds }))]));
                rules.push(choose());
                rules.push(rule([Statement::Goto(chain(Part::Remember { affinity_seconds }))]));
            }
            (_, affinity_seconds) => {
                Part::Known { affinity_seconds }.rules(node_port, rules);
                rules.push(choose());
                Part::Remember { affinity_seconds }.rules(node_port, rules);
            }
        }
    }

    /// The first of its slots.
    fn offset(&self) -> u32 {
        if self.local { LOCAL_OFFSET } else { 0 }
    }

    fn field(&self) -> Field {
        let (modulus, offset) = (self.size, self.offset());
        match self.index {
            IndexFunction::Random => Field::Random { modulus, offset },
            IndexFunction::RoundRobin => Field::Counter { modulus, offset },
            IndexFunction::SourceHash => Field::HashSource { modulus, seed: HASH_SEED, offset },
            IndexFunction::FlowHash => Field::HashFlow { modulus, seed: HASH_SEED, offset },
        }
    }
}

impl Part {
    /// The class that is this part, for addresses or for node ports.
    fn class(self, node_port: bool) -> Class {
        Class { node_port, role: Role::Plain, end: End::Part(self) }
    }

    fn rules(self, node_port: bool, rules: &mut Vec<Rule>) {
        let frontend = frontend_key(node_port);
        let send = Statement::Dnat { key: with(&frontend, Field::Priority), map: SetName::Endpoints };
        // The client comes last: nft takes the mask of a node port's key only in the first component.
        let client = with(&frontend, Field::Saddr);
        let update = |timeout_seconds| Statement::AffinityUpdate { key: client.clone(), timeout_seconds };
        match self {
            Self::Turn => rules.push(rule([send])),
            // A client that is known and whose endpoint is still there: refresh and go.
            Self::Known { affinity_seconds } => {
                let known = Statement::PriorityFrom { key: client.clone(), map: SetName::Affinity };
                rules.push(rule([known, update(affinity_seconds), send]));
            }
            // `update` never overwrites the data of a live entry, hence the delete; and remembering is a rule of its own
            // so that a full map costs affinity, not connections.
            Self::Remember { affinity_seconds } => {
                rules.push(rule([Statement::AffinityDelete { key: client.clone() }]));
                rules.push(rule([update(affinity_seconds)]));
                rules.push(rule([send]));
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn => f.write_str("turn"),
            Self::Known { affinity_seconds } => write!(f, "known-affinity-{affinity_seconds}s"),
            Self::Remember { affinity_seconds } => write!(f, "remember-affinity-{affinity_seconds}s"),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.local {
            f.write_str("local-")?;
        }
        let index = match self.index {
            IndexFunction::Random => "random",
            IndexFunction::RoundRobin => "round-robin",
            IndexFunction::SourceHash => "source-hash",
            IndexFunction::FlowHash => "flow-hash",
        };
        write!(f, "{index}-{}", self.size)?;
        if self.affinity_seconds != 0 {
            write!(f, "-affinity-{}s", self.affinity_seconds)?;
        }
        if let Some(port) = &self.counter {
            write!(f, "-{:08x}-{}", fnv(port.as_bytes()), chain_safe(port))?;
        }
        Ok(())
    }
}

/// The chain that tells a client nothing.
pub(crate) const DROPPING: &str = "dropping";

/// The chain that tells a client it is not wanted.
pub(crate) const REJECTING: &str = "rejecting";

/// Marks numbers that are hashes.
const HASHED: u32 = 1 << 30;

/// Longest readable part of a chain name; the kernel takes 255 bytes in all.
const READABLE: usize = 160;

/// `name` with what nft does not take in an identifier replaced, and cut to a safe length; the hash before it
/// keeps names apart.
fn chain_safe(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.') { c } else { '.' };
    name.chars().take(READABLE).map(safe).collect()
}

/// FNV-1a, 32 bits: short, stable, and good enough to tell names apart; collisions are resolved where
/// numbers are given out.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The chain short cuts go through.
#[must_use]
pub fn short_cut_chain(node_port: bool) -> &'static str {
    if node_port { "nodeport-short-cuts" } else { "short-cuts" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(size: u32) -> Class {
        let spread = Spread { index: IndexFunction::Random, size, local: false, affinity_seconds: 0, counter: None };
        Class { node_port: false, role: Role::Plain, end: End::Spread(spread) }
    }

    #[test]
    fn simple_classes_are_readable_and_apart() {
        let class = plain(3);
        assert_eq!((class.chain().as_str(), class.preferred_number()), ("random-3", 3));
        let mut seen = std::collections::BTreeSet::new();
        for node_port in [false, true] {
            for role in [Role::Plain, Role::ClusterIp, Role::Masquerade, Role::ShortCut] {
                for end in [End::Drop, End::Reject] {
                    let class = Class { node_port, role, end };
                    assert!(seen.insert(class.preferred_number()), "{} shares a number", class.chain());
                }
                for local in [false, true] {
                    for index in [IndexFunction::Random, IndexFunction::SourceHash, IndexFunction::FlowHash] {
                        for size in [1, 3, 16_383] {
                            let spread = Spread { index, size, local, affinity_seconds: 0, counter: None };
                            let class = Class { node_port, role, end: End::Spread(spread) };
                            assert!(seen.insert(class.preferred_number()), "{} shares a number", class.chain());
                            assert_eq!(class.preferred_number() >> 30, 0);
                        }
                    }
                }
            }
        }
    }

    fn with_counter(counter: &str) -> Class {
        let (index, counter) = (IndexFunction::RoundRobin, Some(Arc::from(counter)));
        let spread = Spread { index, size: 2, local: false, affinity_seconds: 0, counter };
        Class { node_port: false, role: Role::Plain, end: End::Spread(spread) }
    }

    #[test]
    fn a_counter_puts_the_port_into_the_name() {
        let class = with_counter("default/web:http");
        let name = class.chain();
        assert!(name.starts_with("round-robin-2-") && name.ends_with("-default/web.http"), "{name}");
        assert_eq!(class.preferred_number() >> 30, 1);
    }

    #[test]
    fn long_names_stay_within_the_kernels_limit() {
        assert!(with_counter(&"x".repeat(600)).chain().len() < 255);
    }

    #[test]
    fn a_counters_chain_holds_no_more_maps_than_it_must() {
        let node = NodeFacts::default();
        for (affinity_seconds, sets) in [(0, vec![]), (10_800, vec![SetName::AffinitySlots])] {
            let (index, counter) = (IndexFunction::RoundRobin, Some(Arc::from("default/web:http/tcp")));
            let spread = Spread { index, size: 3, local: true, affinity_seconds, counter };
            let class = Class { node_port: true, role: Role::Masquerade, end: End::Spread(spread) };
            let rules = class.rules(&node, Family::V4);
            let statements = || rules.iter().flat_map(|rule| &rule.statements);
            assert_eq!(statements().filter_map(Statement::set).collect::<Vec<_>>(), sets);
            let parts: Vec<Class> = class.parts().collect();
            for chain in statements().filter_map(Statement::chain) {
                let part = parts.iter().find(|part| part.chain() == chain).expect("it leads to its parts only");
                assert!(*part < class && part.has_chain(), "chains must be there before rules lead to them");
            }
        }
        assert_eq!(plain(3).parts().count(), 0);
    }
}
