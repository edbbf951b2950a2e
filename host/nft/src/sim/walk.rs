//! One walk of a packet through hooks, chains and rules, with one combination of drawn numbers.

use std::net::{IpAddr, SocketAddr};

use weir_model::{Family, Protocol};

use super::{Draws, Entry, Env, Error, Packet, Remembered, Verdict, jhash};
use crate::{Content, ElementKey, Field, Hook, Rule, SetName, Statement, Table};

/// The kernel's limit (`NFT_JUMP_STACK_SIZE`).
const MAX_DEPTH: usize = 16;

/// Rules that matched: chain and position.
type Steps<'a> = Vec<(&'a str, usize)>;

/// How a walk ended.
pub(super) type Ending<'a> = (Verdict, Steps<'a>, Option<Remembered>);

/// What a rule comes to.
enum RuleEnd<'a> {
    /// A statement did not match.
    NoMatch,
    /// All matched; go on with the next rule.
    Next,
    Jump(&'a str),
    Goto(&'a str),
    Final(ChainEnd),
}

/// What a chain comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ChainEnd {
    /// No verdict: back to the caller, or the base chain's policy, which is accept.
    Through,
    /// Translated; this hook's chain is done.
    Accept,
    Reject,
    Drop,
}

pub(super) struct Walk<'a, 'd> {
    table: &'a Table,
    family: Family,
    packet: &'a Packet,
    env: &'a Env,
    draws: &'d mut Draws,
    destination: SocketAddr,
    mark: u32,
    priority: u32,
    translated: Option<SocketAddr>,
    masqueraded: bool,
    /// Changes this walk made to the affinity map; `None` for a deleted entry. Later ones count.
    affinity: Vec<(ElementKey, Option<u32>)>,
    remembered: Option<Remembered>,
    steps: Steps<'a>,
}

impl<'a, 'd> Walk<'a, 'd> {
    pub(super) fn new(
        table: &'a Table,
        family: Family,
        packet: &'a Packet,
        env: &'a Env,
        draws: &'d mut Draws,
    ) -> Self {
        Self {
            table,
            family,
            packet,
            env,
            draws,
            destination: packet.destination,
            mark: packet.mark,
            priority: 0,
            translated: None,
            masqueraded: false,
            affinity: Vec::new(),
            remembered: None,
            steps: Vec::new(),
        }
    }

    /// The packet's whole way.
    pub(super) fn run(mut self) -> Result<Ending<'a>, Error> {
        let first = match self.packet.entry {
            Entry::Network => Hook::Prerouting,
            Entry::Node => Hook::Output,
        };
        let mut end = self.hook(first)?;
        let goes_on = |end| matches!(end, ChainEnd::Through | ChainEnd::Accept);
        if goes_on(end) && self.cannot_leave() {
            end = ChainEnd::Drop;
        }
        // Routing comes after the first hook, so what counts is the translated destination. What the node sends to
        // itself leaves over the loopback device; when it comes back, conntrack knows it, and no chain of type nat sees
        // it again.
        let leaves = self.packet.entry == Entry::Node || !self.is_local(self.destination.ip());
        if goes_on(end) && leaves {
            end = self.hook(Hook::Postrouting)?;
        }
        let verdict = match end {
            ChainEnd::Reject => Verdict::Reject,
            ChainEnd::Drop => Verdict::Drop,
            ChainEnd::Through | ChainEnd::Accept => {
                Verdict::Delivered { to: self.translated, masqueraded: self.masqueraded }
            }
        };
        Ok((verdict, self.steps, self.remembered))
    }

    /// Linux routes no packet of 127.0.0.0/8 out of the node, translated or not, unless `route_localnet` is set, which
    /// Weir never does; the sender gets EINVAL. With IPv6 it does.
    fn cannot_leave(&self) -> bool {
        let source = self.packet.source.ip();
        self.packet.entry == Entry::Node
            && source.is_ipv4()
            && source.is_loopback()
            && !self.is_local(self.destination.ip())
    }

    /// The base chains of one hook, by priority. The first that translates ends them all: they are of type nat.
    fn hook(&mut self, hook: Hook) -> Result<ChainEnd, Error> {
        let bases = self.table.chains.iter().filter_map(|(name, chain)| Some((chain.base?, name.as_str())));
        let mut chains: Vec<(i32, &'a str)> =
            bases.filter(|(base, _)| base.hook == hook).map(|(base, name)| (base.priority, name)).collect();
        chains.sort_unstable();
        for (_, name) in chains {
            let end = self.chain(name, name, 0)?;
            if end != ChainEnd::Through {
                return Ok(end);
            }
        }
        Ok(ChainEnd::Through)
    }

    fn chain(&mut self, from: &str, name: &'a str, depth: usize) -> Result<ChainEnd, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep(name.to_owned()));
        }
        let missing = || Error::NoChain { from: from.to_owned(), to: name.to_owned() };
        let chain = self.table.chains.get(name).ok_or_else(missing)?;
        for (at, rule) in chain.rules.iter().enumerate() {
            let end = self.rule(name, rule)?;
            if !matches!(end, RuleEnd::NoMatch) {
                self.steps.push((name, at));
            }
            match end {
                RuleEnd::NoMatch | RuleEnd::Next => {}
                RuleEnd::Jump(to) => {
                    let before = self.steps.len();
                    let end = self.chain(name, to, depth + 1)?;
                    if end != ChainEnd::Through {
                        return Ok(end);
                    }
                    if self.steps.len() == before {
                        self.steps.pop();
                    }
                }
                RuleEnd::Goto(to) => return self.chain(name, to, depth + 1),
                RuleEnd::Final(end) => return Ok(end),
            }
        }
        Ok(ChainEnd::Through)
    }

    fn rule(&mut self, chain: &str, rule: &'a Rule) -> Result<RuleEnd<'a>, Error> {
        for statement in &rule.statements {
            match self.statement(chain, statement)? {
                RuleEnd::Next => {}
                end => return Ok(end),
            }
        }
        Ok(RuleEnd::Next)
    }

    fn statement(&mut self, chain: &str, statement: &'a Statement) -> Result<RuleEnd<'a>, Error> {
        let matched = match statement {
            // Conntrack sets the bit when the translation changes something.
            Statement::CtStatusDnat => self.translated.is_some_and(|to| to != self.packet.destination),
            Statement::Saddr { net, negate } => net.contains(&self.packet.source.ip()) != *negate,
            Statement::Daddr { net, negate } => net.contains(&self.destination.ip()) != *negate,
            Statement::FibSaddrLocal => self.is_local(self.packet.source.ip()),
            Statement::FibDaddrLocal { negate } => self.is_local(self.destination.ip()) != *negate,
            Statement::InInterface { name, prefix, negate } => {
                // What the node sends came by none, and nft reads that as an empty name.
                let from_network = self.packet.entry == Entry::Network;
                let came_by = if from_network { self.env.interface.as_str() } else { "" };
                (if *prefix { came_by.starts_with(name.as_str()) } else { came_by == name }) != *negate
            }
            Statement::Protocol(protocol) => self.packet.protocol == *protocol,
            Statement::InSet { key, set, negate } => self.lookup(chain, *set, key)?.is_some() != *negate,
            Statement::MarkHas(bit) => self.mark & bit != 0,
            Statement::MarkSet(bit) => {
                self.mark |= bit;
                true
            }
            Statement::MarkFlip(bit) => {
                self.mark ^= bit;
                true
            }
            Statement::PriorityClear => {
                self.priority = 0;
                true
            }
            Statement::PriorityFrom { key, map } => match self.lookup(chain, *map, key)? {
                Some(data) => {
                    self.priority = number(&data).ok_or_else(|| no_set(chain, *map))?;
                    true
                }
                None => false,
            },
            Statement::PriorityCount { modulus, offset } => {
                self.priority = offset.wrapping_add(self.draws.draw(*modulus));
                true
            }
            Statement::PriorityVerdict(map) => {
                let Some(Content::Verdicts(verdicts)) = self.table.sets.get(map).map(|set| &set.content) else {
                    return Err(no_set(chain, *map));
                };
                return Ok(verdicts.get(&self.priority).map_or(RuleEnd::NoMatch, |to| RuleEnd::Goto(to)));
            }
            Statement::AffinityUpdate { key, timeout_seconds } => self.remember(key, *timeout_seconds),
            Statement::AffinityDelete { key } => {
                let key = self.key(key);
                self.affinity.push((key, None));
                true
            }
            Statement::Dnat { key, map } => {
                let Some(data) = self.lookup(chain, *map, key)? else { return Ok(RuleEnd::NoMatch) };
                let to = target(&data, self.family).ok_or_else(|| no_set(chain, *map))?;
                self.destination = to;
                self.translated = Some(to);
                return Ok(RuleEnd::Final(ChainEnd::Accept));
            }
            Statement::Masquerade => {
                self.masqueraded = true;
                return Ok(RuleEnd::Final(ChainEnd::Accept));
            }
            Statement::Reject => return Ok(RuleEnd::Final(ChainEnd::Reject)),
            Statement::RejectTcp if self.packet.protocol == Protocol::Tcp => {
                return Ok(RuleEnd::Final(ChainEnd::Reject));
            }
            Statement::RejectTcp => false,
            Statement::Drop => return Ok(RuleEnd::Final(ChainEnd::Drop)),
            Statement::Jump(to) => return Ok(RuleEnd::Jump(to)),
            Statement::Goto(to) => return Ok(RuleEnd::Goto(to)),
        };
        Ok(if matched { RuleEnd::Next } else { RuleEnd::NoMatch })
    }

    /// The data of `key` in `set`: empty for a plain set that has it, `None` where it is missing.
    fn lookup(&mut self, chain: &str, set: SetName, key: &[Field]) -> Result<Option<Vec<u8>>, Error> {
        if let (true, Some((Field::Saddr, frontend))) = (set.is_interval(), key.split_last()) {
            let frontend = self.key(frontend);
            let Some(Content::Flat(elements)) = self.table.sets.get(&set).map(|set| &set.content) else {
                return Err(no_set(chain, set));
            };
            return Ok(elements.covers(frontend.as_bytes(), self.packet.source.ip()).then(Vec::new));
        }
        let key = self.key(key);
        match self.table.sets.get(&set).map(|set| &set.content) {
            Some(Content::Flat(elements)) => Ok(elements.find(key.as_bytes()).map(<[u8]>::to_vec)),
            Some(Content::Dynamic) => Ok(self.known_client(&key).map(|endpoint| endpoint.to_ne_bytes().to_vec())),
            Some(Content::Verdicts(_)) | None => Err(no_set(chain, set)),
        }
    }

    fn known_client(&self, key: &ElementKey) -> Option<u32> {
        match self.affinity.iter().rev().find(|(changed, _)| changed == key) {
            Some((_, endpoint)) => *endpoint,
            None => self.env.affinity.get(key).copied(),
        }
    }

    /// `update`: a live entry keeps its data and only its timeout starts anew; a full map takes no new entry.
    fn remember(&mut self, key: &[Field], timeout_seconds: u32) -> bool {
        let key = self.key(key);
        let known = self.known_client(&key);
        let size = self.table.sets.get(&SetName::Affinity).map_or(0, |set| set.size as usize);
        if known.is_none() && self.env.affinity.len() >= size && !self.env.affinity.contains_key(&key) {
            return false;
        }
        let endpoint = known.unwrap_or(self.priority);
        self.affinity.push((key, Some(endpoint)));
        self.remembered = Some(Remembered { key, endpoint, timeout_seconds });
        true
    }

    fn key(&mut self, fields: &[Field]) -> ElementKey {
        fields.iter().fold(ElementKey::new(), |key, field| match *field {
            Field::Saddr => key.address(self.packet.source.ip()),
            Field::Daddr => key.address(self.destination.ip()),
            Field::AnyDaddr => key.address(match self.family {
                Family::V4 => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
                Family::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            }),
            Field::Protocol => key.protocol(self.packet.protocol),
            Field::Dport => key.port(self.destination.port()),
            Field::Priority => key.number(self.priority),
            Field::Random { modulus, offset } | Field::Counter { modulus, offset } => {
                key.number(offset.wrapping_add(self.draws.draw(modulus)))
            }
            Field::HashSource { modulus, seed, offset } => {
                let hashed = ElementKey::new().address(self.packet.source.ip());
                key.number(offset.wrapping_add(self.hash(&hashed, modulus, seed)))
            }
            Field::HashFlow { modulus, seed, offset } => {
                let hashed = ElementKey::new().address(self.packet.source.ip()).port(self.packet.source.port());
                key.number(offset.wrapping_add(self.hash(&hashed, modulus, seed)))
            }
        })
    }

    fn hash(&mut self, registers: &ElementKey, modulus: u32, seed: u32) -> u32 {
        if self.env.exact_hashes { jhash::slot(registers.as_bytes(), modulus, seed) } else { self.draws.draw(modulus) }
    }

    fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.env.local_addresses.contains(&address)
    }
}

fn no_set(chain: &str, set: SetName) -> Error {
    Error::NoSet { chain: chain.to_owned(), set: set.name() }
}

fn number(data: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(data.try_into().ok()?))
}

/// The address and port in the data of a map to targets.
fn target(data: &[u8], family: Family) -> Option<SocketAddr> {
    let (address, port) = match family {
        Family::V4 => (IpAddr::from(<[u8; 4]>::try_from(data.get(..4)?).ok()?), data.get(4..6)?),
        Family::V6 => (IpAddr::from(<[u8; 16]>::try_from(data.get(..16)?).ok()?), data.get(16..18)?),
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(port.try_into().ok()?)))
}
