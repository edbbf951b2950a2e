//! Bytecode back to statements.
//!
//! Every statement is guessed from its first few instructions and then assembled again: it counts only when
//! that gives exactly the instructions that are there. So nothing that means something else is ever taken
//! for one of Weir's own statements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weir_model::{Family, Protocol};
use weir_nft::{Field, Key, SetName, Statement};

use crate::assemble::assemble_statement;
use crate::bytecode::{
    Base, Ct, Expr, FibAddress, Found, Generator, Meta, REJECT_TCP_RESET, Register, SetUpdate, Verdict, address_len,
    daddr_offset, saddr_offset,
};

/// The statements of a rule, or the position of the first instruction that Weir would not have written there.
pub(crate) fn disassemble(code: &[Expr], family: Family) -> Result<Vec<Statement>, usize> {
    let mut statements = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let rest = &code[at..];
        let statement = guess(rest, family).ok_or(at)?;
        let assembled = assemble_statement(&statement, family).map_err(|_| at)?;
        if !rest.starts_with(&assembled) {
            return Err(at);
        }
        at += assembled.len();
        statements.push(statement);
    }
    Ok(statements)
}

fn guess(code: &[Expr], family: Family) -> Option<Statement> {
    match code {
        [Expr::CtLoad { key: Ct::Status, .. }, ..] => Some(Statement::CtStatusDnat),
        [Expr::FibType { address: FibAddress::Source, .. }, ..] => Some(Statement::FibSaddrLocal),
        [Expr::FibType { address: FibAddress::Destination, .. }, Expr::Compare { equal, .. }, ..] => {
            Some(Statement::FibDaddrLocal { negate: !equal })
        }
        [Expr::MetaLoad { key: Meta::InInterfaceName, .. }, Expr::Compare { equal, data, .. }, ..] => {
            interface(data, !equal)
        }
        [
            Expr::MetaLoad { key: Meta::L4Protocol, .. },
            Expr::Compare { .. },
            Expr::Reject { kind: REJECT_TCP_RESET, .. },
            ..,
        ] => Some(Statement::RejectTcp),
        [Expr::MetaLoad { key: Meta::L4Protocol, .. }, Expr::Compare { data, .. }, ..] => {
            Protocol::from_number(*data.first()?).map(Statement::Protocol)
        }
        [Expr::MetaLoad { key: Meta::Mark, .. }, Expr::Bitwise { mask, xor, .. }, then, ..] => mark(mask, xor, then),
        [Expr::Immediate { .. }, Expr::MetaStore { key: Meta::Priority, .. }, ..] => Some(Statement::PriorityClear),
        [Expr::Verdict(Verdict::Drop), ..] => Some(Statement::Drop),
        [Expr::Verdict(Verdict::Jump(chain)), ..] => Some(Statement::Jump(chain.clone())),
        [Expr::Verdict(Verdict::Goto(chain)), ..] => Some(Statement::Goto(chain.clone())),
        [Expr::Numgen { kind: Generator::Incremental, modulus, offset, .. }, Expr::MetaStore { .. }, ..] => {
            Some(Statement::PriorityCount { modulus: *modulus, offset: *offset })
        }
        [Expr::Masquerade { .. }, ..] => Some(Statement::Masquerade),
        [Expr::Reject { .. }, ..] => Some(Statement::Reject),
        [Expr::Payload { base: Base::Network, offset, .. }, Expr::Compare { equal, data, .. }, ..] => {
            network(*offset, data, u8::try_from(data.len() * 8).ok()?, !equal, family)
        }
        [
            Expr::Payload { base: Base::Network, offset, .. },
            Expr::Bitwise { mask, .. },
            Expr::Compare { equal, data, .. },
            ..,
        ] => {
            let prefix: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
            network(*offset, data, u8::try_from(prefix).ok()?, !equal, family)
        }
        _ => keyed(code, family),
    }
}

fn mark(mask: &[u8], xor: &[u8], then: &Expr) -> Option<Statement> {
    let mask = u32::from_ne_bytes(mask.try_into().ok()?);
    let xor = u32::from_ne_bytes(xor.try_into().ok()?);
    Some(match then {
        Expr::Compare { .. } => Statement::MarkHas(mask),
        _ if mask == u32::MAX => Statement::MarkFlip(xor),
        _ => Statement::MarkSet(xor),
    })
}

/// A whole name ends in zeros, the beginning of one does not.
fn interface(data: &[u8], negate: bool) -> Option<Statement> {
    let name = data.split(|byte| *byte == 0).next()?;
    let prefix = name.len() == data.len();
    Some(Statement::InInterface { name: std::str::from_utf8(name).ok()?.to_owned(), prefix, negate })
}

fn network(offset: u32, data: &[u8], prefix: u8, negate: bool, family: Family) -> Option<Statement> {
    let mut bytes = [0; 16];
    bytes.get_mut(..data.len())?.copy_from_slice(data);
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bytes)),
    };
    let net = IpNet::new(address, prefix).ok()?;
    if offset == saddr_offset(family) {
        Some(Statement::Saddr { net, negate })
    } else if offset == daddr_offset(family) {
        Some(Statement::Daddr { net, negate })
    } else {
        None
    }
}

/// A statement that begins with a key: what it is shows at the instruction that uses the key.
fn keyed(code: &[Expr], family: Family) -> Option<Statement> {
    let end = code.iter().position(|expr| matches!(expr, Expr::Lookup { .. } | Expr::Dynset { .. }))?;
    let loads = &code[..end];
    match &code[end..] {
        [Expr::Lookup { set, found: Found::Matched, .. }, ..] => {
            Some(Statement::InSet { key: key(loads, family)?, set: SetName::from_name(set)?, negate: false })
        }
        [Expr::Lookup { set, found: Found::Missing, .. }, ..] => {
            Some(Statement::InSet { key: key(loads, family)?, set: SetName::from_name(set)?, negate: true })
        }
        [Expr::Lookup { set, found: Found::Verdict, .. }, ..] => {
            Some(Statement::PriorityVerdict(SetName::from_name(set)?))
        }
        [Expr::Lookup { set, .. }, Expr::MetaStore { .. }, ..] => {
            Some(Statement::PriorityFrom { key: key(loads, family)?, map: SetName::from_name(set)? })
        }
        [Expr::Lookup { set, .. }, Expr::Dnat { .. }, ..] => {
            Some(Statement::Dnat { key: key(loads, family)?, map: SetName::from_name(set)? })
        }
        [Expr::Dynset { update, timeout_ms, .. }, ..] => {
            // The last load is the element's data.
            let key = key(loads.split_last()?.1, family)?;
            Some(match update {
                SetUpdate::Update => {
                    Statement::AffinityUpdate { key, timeout_seconds: u32::try_from(timeout_ms / 1000).ok()? }
                }
                SetUpdate::Delete => Statement::AffinityDelete { key },
            })
        }
        _ => None,
    }
}

fn key(loads: &[Expr], family: Family) -> Option<Key> {
    let mut key = Key::new();
    let mut to = Register::FIRST;
    for (index, load) in loads.iter().enumerate() {
        let (field, bytes) = match *load {
            Expr::Payload { base: Base::Network, offset, to: at, .. } if at == to => {
                let field = if offset == saddr_offset(family) {
                    Field::Saddr
                } else if matches!(loads.get(index + 1), Some(Expr::Bitwise { .. })) {
                    Field::AnyDaddr
                } else {
                    Field::Daddr
                };
                (field, usize::from(address_len(family)))
            }
            Expr::Payload { base: Base::Transport, to: at, .. } if at == to => (Field::Dport, 4),
            Expr::MetaLoad { key: Meta::L4Protocol, .. } => (Field::Protocol, 4),
            Expr::MetaLoad { key: Meta::Priority, .. } => (Field::Priority, 4),
            Expr::Numgen { kind: Generator::Random, modulus, offset, .. } => (Field::Random { modulus, offset }, 4),
            Expr::Numgen { kind: Generator::Incremental, modulus, offset, .. } => {
                (Field::Counter { modulus, offset }, 4)
            }
            Expr::Jhash { len, modulus, seed, offset, .. } if len == u32::from(address_len(family)) => {
                (Field::HashSource { modulus, seed, offset }, 4)
            }
            Expr::Jhash { modulus, seed, offset, .. } => (Field::HashFlow { modulus, seed, offset }, 4),
            // The input of a hash, and the mask of an address: part of a neighbour.
            Expr::Payload { .. } | Expr::Bitwise { .. } => continue,
            _ => return None,
        };
        key.push(field);
        to = to.after(bytes);
    }
    Some(key)
}

#[cfg(test)]
mod tests;
