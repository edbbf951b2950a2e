//! A rule of a dump to bytecode. What Weir never writes has no [`Expr`] and comes back as `None`.

use weir_model::Family;

use crate::bytecode::{
    BITWISE_MASK_XOR, Base, CMP_EQ, CMP_NEQ, Ct, Expr, FIB_RESULT_ADDRTYPE, FibAddress, Found, Generator, HASH_JENKINS,
    LOOKUP_INVERTED, Meta, NAT_DNAT, Register, SetUpdate, VERDICT_DROP, VERDICT_GOTO, VERDICT_JUMP, VERDICT_REGISTER,
    Verdict, family_number,
};
use crate::wire::{Attribute, Attributes};

/// `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED`: the kernel adds them itself.
const NAT_IMPLIED_FLAGS: u32 = 3;

/// The expressions of `NFTA_RULE_EXPRESSIONS`, or the name of the first one that is not Weir's.
pub(crate) fn expressions(list: Attributes<'_>) -> Result<Vec<Expr>, String> {
    let parts = list.map(|element| {
        let name = element.nested().get(1).and_then(Attribute::text).unwrap_or_default();
        (name, element.nested().get(2).map_or(Attributes(&[]), Attribute::nested))
    });
    parts
        .filter(|(name, data)| *name != "byteorder" || swaps_bytes(*data))
        .map(|(name, data)| expression(name, data).ok_or_else(|| name.to_owned()))
        .collect()
}

/// nft asks for the bytes of a protocol number, which is one, to be swapped two by two where it is part of a range's
/// key: that does nothing.
fn swaps_bytes(data: Attributes<'_>) -> bool {
    const LEN: u16 = 4;
    const SIZE: u16 = 5;
    let number = |kind: u16| data.get(kind).and_then(Attribute::u32);
    number(LEN) >= number(SIZE)
}

/// One expression; `data` are the attributes of its `NFTA_EXPR_DATA`, numbered as in the kernel's header.
fn expression(name: &str, data: Attributes<'_>) -> Option<Expr> {
    let number = |kind: u16| data.get(kind)?.u32();
    let register = |kind: u16| Register::from_netlink(number(kind)?);
    // Attributes that may be missing must then say what missing means.
    let only = |kind: u16, value: u32| number(kind).is_none_or(|found| found == value).then_some(());
    Some(match name {
        "payload" => Expr::Payload {
            to: register(1)?,
            base: Base::from_number(number(2)?)?,
            offset: number(3)?,
            len: number(4)?,
        },
        "meta" => {
            let key = Meta::from_number(number(2)?)?;
            match register(1) {
                Some(to) => Expr::MetaLoad { key, to },
                None => Expr::MetaStore { key, from: register(3)? },
            }
        }
        "ct" => Expr::CtLoad { to: register(1)?, key: Ct::from_number(number(2)?)? },
        "fib" => {
            only(2, FIB_RESULT_ADDRTYPE)?;
            Expr::FibType { to: register(1)?, address: FibAddress::from_number(number(3)?)? }
        }
        "numgen" => Expr::Numgen {
            to: register(1)?,
            modulus: number(2)?,
            kind: Generator::from_number(number(3)?)?,
            offset: number(4).unwrap_or(0),
        },
        "hash" => {
            only(7, HASH_JENKINS)?;
            Expr::Jhash {
                from: register(1)?,
                to: register(2)?,
                len: number(3)?,
                modulus: number(4)?,
                seed: number(5)?,
                offset: number(6).unwrap_or(0),
            }
        }
        "bitwise" => {
            only(6, BITWISE_MASK_XOR)?;
            let register = same(register(1)?, register(2)?)?;
            Expr::Bitwise { register, mask: value(data, 4)?, xor: value(data, 5)? }
        }
        "cmp" => {
            let equal = match number(2)? {
                CMP_EQ => true,
                CMP_NEQ => false,
                _ => return None,
            };
            Expr::Compare { from: register(1)?, equal, data: value(data, 3)? }
        }
        "lookup" => {
            let found = match (number(3), number(5).unwrap_or(0)) {
                (None, 0) => Found::Matched,
                (None, LOOKUP_INVERTED) => Found::Missing,
                (Some(VERDICT_REGISTER), 0) => Found::Verdict,
                (Some(number), 0) => Found::Data(Register::from_netlink(number)?),
                _ => return None,
            };
            Expr::Lookup { set: data.get(1)?.text()?.to_owned(), key: register(2)?, found }
        }
        "dynset" => {
            only(9, 0)?;
            Expr::Dynset {
                set: data.get(1)?.text()?.to_owned(),
                update: SetUpdate::from_number(number(3)?)?,
                key: register(4)?,
                data: register(5)?,
                timeout_ms: data.get(6).and_then(Attribute::u64).unwrap_or(0),
            }
        }
        "immediate" if number(1)? == VERDICT_REGISTER => Expr::Verdict(verdict(data.get(2)?.nested())?),
        "immediate" => Expr::Immediate { to: register(1)?, data: value(data, 2)? },
        "nat" => {
            only(1, NAT_DNAT)?;
            let flags = number(7).unwrap_or(0);
            if flags & !NAT_IMPLIED_FLAGS != 0 {
                return None;
            }
            let address = same(register(3)?, register(4).or_else(|| register(3))?)?;
            let port = same(register(5)?, register(6).or_else(|| register(5))?)?;
            Expr::Dnat { family: nat_family(number(2)?)?, address, port }
        }
        "masq" if number(2).is_none() => Expr::Masquerade { flags: number(1).unwrap_or(0) },
        // A reset has no code.
        "reject" => Expr::Reject { kind: number(1)?, code: data.get(2).map_or(Some(0), Attribute::u8)? },
        _ => return None,
    })
}

fn same(a: Register, b: Register) -> Option<Register> {
    (a == b).then_some(a)
}

/// The bytes of a nested `NFTA_DATA_VALUE`.
fn value(data: Attributes<'_>, kind: u16) -> Option<Vec<u8>> {
    Some(data.get(kind)?.nested().get(1)?.payload.to_vec())
}

fn nat_family(number: u32) -> Option<Family> {
    Family::ALL.into_iter().find(|family| u32::from(family_number(*family)) == number)
}

/// A verdict out of an `NFTA_DATA_*` nest.
pub(crate) fn verdict(data: Attributes<'_>) -> Option<Verdict> {
    let verdict = data.get(2)?.nested();
    let chain = || Some(verdict.get(2)?.text()?.to_owned());
    match verdict.get(1)?.u32()?.cast_signed() {
        VERDICT_DROP => Some(Verdict::Drop),
        VERDICT_JUMP => Some(Verdict::Jump(chain()?)),
        VERDICT_GOTO => Some(Verdict::Goto(chain()?)),
        _ => None,
    }
}
