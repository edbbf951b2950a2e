//! Elements of sets and maps.

use std::fmt;
use std::net::IpAddr;

use weir_model::{Family, Protocol};

use super::statement::NetText;
use crate::elements::network_of;
use crate::{DataKind, FieldKind, SetName};

/// One element: key, and data after a colon where there are any.
pub(super) struct ElementText<'a> {
    pub(super) set: SetName,
    pub(super) family: Family,
    pub(super) key: &'a [u8],
    pub(super) data: &'a [u8],
}

impl fmt::Display for ElementText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_fields(f, self.set.key(), self.family, self.key)?;
        if self.data.is_empty() {
            return Ok(());
        }
        f.write_str(" : ")?;
        let fields: &[FieldKind] = match self.set.data() {
            DataKind::Target => &[FieldKind::Address, FieldKind::Port],
            DataKind::ClassId => &[FieldKind::ClassId],
            DataKind::None | DataKind::Verdict => &[],
        };
        write_fields(f, fields, self.family, self.data)
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[FieldKind], family: Family, mut bytes: &[u8]) -> fmt::Result {
    for (at, field) in fields.iter().enumerate() {
        let (value, rest) = bytes.split_at(field.len(family));
        bytes = rest;
        if at > 0 {
            f.write_str(" . ")?;
        }
        write_field(f, *field, value)?;
    }
    Ok(())
}

fn write_field(f: &mut fmt::Formatter<'_>, field: FieldKind, value: &[u8]) -> fmt::Result {
    match field {
        FieldKind::Address => match <[u8; 4]>::try_from(value) {
            Ok(v4) => write!(f, "{}", IpAddr::from(v4)),
            Err(_) => write!(f, "{}", IpAddr::from(<[u8; 16]>::try_from(value).expect("an address has 4 or 16 bytes"))),
        },
        FieldKind::Protocol => match Protocol::from_number(value[0]) {
            Some(protocol) => write!(f, "{protocol}"),
            None => write!(f, "{}", value[0]),
        },
        FieldKind::Port => write!(f, "{}", u16::from_be_bytes([value[0], value[1]])),
        FieldKind::Slot => write!(f, "{}", number(value)),
        FieldKind::ClassId => write!(f, "{}", NumberText(number(value))),
        FieldKind::Network => {
            write!(f, "{}", NetText(&network_of(value).expect("a network has an address and a length")))
        }
    }
}

fn number(value: &[u8]) -> u32 {
    u32::from_ne_bytes(value.try_into().expect("a number has 4 bytes"))
}

/// A class or endpoint number in nft's spelling of class identifiers: `major:minor` in hexadecimal.
pub(super) struct NumberText(pub(super) u32);

impl fmt::Display for NumberText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("none"),
            u32::MAX => f.write_str("root"),
            number => write!(f, "{:x}:{:x}", number >> 16, number & 0xffff),
        }
    }
}
