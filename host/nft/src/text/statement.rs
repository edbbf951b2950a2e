//! Statements and the fields of their keys.

use std::fmt;

use ipnet::IpNet;
use weir_model::Family;

use super::family_name;
use crate::{Field, SetName, Statement};

pub(super) struct StatementText<'a>(pub(super) &'a Statement, pub(super) Family);

impl fmt::Display for StatementText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(statement, family) = *self;
        let ip = family_name(family);
        let affinity = SetName::Affinity.name();
        let key = |key| KeyText(key, family);
        match statement {
            Statement::CtStatusDnat => f.write_str("ct status dnat"),
            Statement::Saddr { net, negate } => write!(f, "{ip} saddr {}{}", unequal(*negate), NetText(net)),
            Statement::Daddr { net, negate } => write!(f, "{ip} daddr {}{}", unequal(*negate), NetText(net)),
            Statement::FibSaddrLocal => f.write_str("fib saddr type local"),
            Statement::FibDaddrLocal { negate } => write!(f, "fib daddr type {}local", unequal(*negate)),
            Statement::InInterface { name, prefix, negate } => {
                write!(f, "iifname {}\"{name}{}\"", unequal(*negate), if *prefix { "*" } else { "" })
            }
            Statement::Protocol(protocol) => write!(f, "meta l4proto {protocol}"),
            Statement::InSet { key: fields, set, negate } => {
                write!(f, "{} {}@{}", key(fields), unequal(*negate), set.name())
            }
            Statement::MarkHas(bit) => write!(f, "meta mark & {bit:#010x} != 0x00000000"),
            Statement::MarkSet(bit) => write!(f, "meta mark set meta mark | {bit:#010x}"),
            Statement::MarkFlip(bit) => write!(f, "meta mark set meta mark ^ {bit:#010x}"),
            Statement::PriorityClear => f.write_str("meta priority set none"),
            Statement::PriorityFrom { key: fields, map } => {
                write!(f, "meta priority set {} map @{}", key(fields), map.name())
            }
            Statement::PriorityCount { modulus, offset } => {
                write!(f, "meta priority set {}", key(&[Field::Counter { modulus: *modulus, offset: *offset }]))
            }
            Statement::PriorityVerdict(map) => write!(f, "meta priority vmap @{}", map.name()),
            Statement::AffinityUpdate { key: fields, timeout_seconds } => {
                let timeout = Duration(*timeout_seconds);
                write!(f, "update @{affinity} {{ {} timeout {timeout} : meta priority }}", key(fields))
            }
            Statement::AffinityDelete { key: fields } => {
                write!(f, "delete @{affinity} {{ {} : meta priority }}", key(fields))
            }
            Statement::Dnat { key: fields, map } => write!(f, "dnat {ip} to {} map @{}", key(fields), map.name()),
            Statement::Masquerade => f.write_str("masquerade fully-random"),
            Statement::Reject => f.write_str("reject"),
            Statement::RejectTcp => f.write_str("reject with tcp reset"),
            Statement::Drop => f.write_str("drop"),
            Statement::Jump(chain) => write!(f, "jump {chain}"),
            Statement::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

fn unequal(negate: bool) -> &'static str {
    if negate { "!= " } else { "" }
}

struct KeyText<'a>(&'a [Field], Family);

impl fmt::Display for KeyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, field) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" . ")?;
            }
            write_field(f, field, self.1)?;
        }
        Ok(())
    }
}

fn write_field(f: &mut fmt::Formatter<'_>, field: &Field, family: Family) -> fmt::Result {
    let ip = family_name(family);
    match *field {
        Field::Saddr => write!(f, "{ip} saddr"),
        Field::Daddr => write!(f, "{ip} daddr"),
        Field::AnyDaddr => match family {
            Family::V4 => f.write_str("ip daddr & 0.0.0.0"),
            Family::V6 => f.write_str("ip6 daddr & ::"),
        },
        Field::Protocol => f.write_str("meta l4proto"),
        Field::Dport => f.write_str("th dport"),
        Field::Priority => f.write_str("meta priority"),
        Field::Random { modulus, offset } => write!(f, "numgen random mod {modulus}{}", OffsetText(offset)),
        Field::Counter { modulus, offset } => write!(f, "numgen inc mod {modulus}{}", OffsetText(offset)),
        Field::HashSource { modulus, seed, offset } => {
            write!(f, "jhash {ip} saddr mod {modulus} seed {seed:#x}{}", OffsetText(offset))
        }
        Field::HashFlow { modulus, seed, offset } => {
            write!(f, "jhash {ip} saddr . th sport mod {modulus} seed {seed:#x}{}", OffsetText(offset))
        }
    }
}

/// nft leaves an offset of 0 out.
struct OffsetText(u32);

impl fmt::Display for OffsetText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " offset {}", self.0) }
    }
}

/// A network; nft writes a single address without its prefix length.
pub(super) struct NetText<'a>(pub(super) &'a IpNet);

impl fmt::Display for NetText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// Seconds, as nft writes time: `1d2h3m4s`.
struct Duration(u32);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        for (unit, seconds) in [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)] {
            if left >= seconds {
                write!(f, "{}{unit}", left / seconds)?;
                left %= seconds;
            }
        }
        if self.0 == 0 { f.write_str("0s") } else { Ok(()) }
    }
}
