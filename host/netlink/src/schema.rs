//! How each set of the stock is declared: type numbers, lengths, flags and the notes `nft` leaves for itself.
//!
//! The kernel only compares lengths. Type numbers and user data are there for `nft list`, which takes them
//! back to `type …` or `typeof …` and to the byte order of numbers; they are part of its ABI with itself.

use weir_model::Family;
use weir_nft::{DataKind, FieldKind, SetName};

/// Bits of one component's type number in that of a concatenation (nft: `TYPE_BITS`).
const TYPE_BITS: u32 = 6;
/// Type number of a verdict map's data (`NFT_DATA_VERDICT`).
pub(crate) const VERDICT_TYPE: u32 = 0xffff_ff00;
/// `NFT_SET_INTERVAL`.
const INTERVAL: u32 = 0x4;
/// `NFT_SET_CONCAT`: with the former, the lengths of the components go along.
const CONCATENATION: u32 = 0x80;
/// `NFT_SET_MAP`.
const MAP: u32 = 0x8;
/// `NFT_SET_TIMEOUT`.
const TIMEOUT: u32 = 0x10;
/// `NFT_SET_EVAL`: rules write to it.
const EVAL: u32 = 0x20;

/// A set's declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schema {
    /// `NFTA_SET_FLAGS`.
    pub flags: u32,
    /// `NFTA_SET_KEY_TYPE`.
    pub key_type: u32,
    /// `NFTA_SET_KEY_LEN`, bytes.
    pub key_len: u32,
    /// `NFTA_SET_DATA_TYPE` and `NFTA_SET_DATA_LEN` (bytes), for maps.
    pub data: Option<(u32, u32)>,
    /// `NFTA_SET_USERDATA`.
    pub userdata: Vec<u8>,
    /// `NFTA_SET_DESC_CONCAT`: bytes of each component, padding left out, of a set of networks; else nothing.
    pub components: Vec<u8>,
}

impl Schema {
    /// The declaration of `set` in a table of `family`.
    pub(crate) fn of(set: SetName, family: Family) -> Self {
        let mut flags = 0;
        if set.data() != DataKind::None {
            flags |= MAP;
        }
        if set.is_dynamic() {
            flags |= TIMEOUT | EVAL;
        }
        if set.is_interval() {
            flags |= INTERVAL | CONCATENATION;
        }
        let data_type = match set.data() {
            DataKind::None => None,
            DataKind::Target => Some(concatenation(&[FieldKind::Address, FieldKind::Port], family)),
            DataKind::ClassId => Some(type_number(FieldKind::ClassId, family)),
            DataKind::Verdict => Some(VERDICT_TYPE),
        };
        Self {
            flags,
            key_type: concatenation(set.key(), family),
            key_len: bytes(kernel_key_len(set, family)),
            data: data_type.map(|number| (number, bytes(set.data_len(family)))),
            userdata: userdata(set, family),
            components: if set.is_interval() {
                set.key().iter().map(|field| component_len(*field, family)).collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// Bytes of a key in the kernel's registers. A network is two such keys, with its first and its last address.
pub(crate) fn kernel_key_len(set: SetName, family: Family) -> usize {
    let len = |field: &FieldKind| match field {
        FieldKind::Network => FieldKind::Address.len(family),
        field => field.len(family),
    };
    set.key().iter().map(len).sum()
}

/// Bytes of a component without the padding to whole registers.
fn component_len(field: FieldKind, family: Family) -> u8 {
    match (field, family) {
        (FieldKind::Protocol, _) => 1,
        (FieldKind::Port, _) => 2,
        (FieldKind::Address | FieldKind::Network, Family::V6) => 16,
        (FieldKind::Address | FieldKind::Network, Family::V4) | (FieldKind::Slot | FieldKind::ClassId, _) => 4,
    }
}

fn bytes(len: usize) -> u32 {
    u32::try_from(len).expect("keys and data are at most 64 bytes")
}

fn concatenation(fields: &[FieldKind], family: Family) -> u32 {
    fields.iter().fold(0, |number, field| number << TYPE_BITS | type_number(*field, family))
}

/// nft's numbers of data types (`enum datatypes`).
fn type_number(field: FieldKind, family: Family) -> u32 {
    match (field, family) {
        (FieldKind::Slot, _) => 4,
        (FieldKind::Address | FieldKind::Network, Family::V4) => 7,
        (FieldKind::Address | FieldKind::Network, Family::V6) => 8,
        (FieldKind::Protocol, _) => 12,
        (FieldKind::Port, _) => 13,
        (FieldKind::ClassId, _) => 23,
    }
}

/// nft's types of set user data (`enum nftnl_udata_set_types`).
mod note {
    pub(super) const KEY_BYTE_ORDER: u8 = 0;
    pub(super) const DATA_BYTE_ORDER: u8 = 1;
    pub(super) const KEY_TYPEOF: u8 = 3;
    pub(super) const DATA_TYPEOF: u8 = 4;
}

/// nft's byte orders (`enum byteorder`).
mod order {
    /// Of concatenations.
    pub(super) const NONE: u32 = 0;
    pub(super) const HOST: u32 = 1;
    pub(super) const NETWORK: u32 = 2;
}

fn userdata(set: SetName, family: Family) -> Vec<u8> {
    let mut out = Vec::new();
    let key_order = match set.key() {
        [FieldKind::ClassId | FieldKind::Slot] => order::HOST,
        [_] => order::NETWORK,
        _ => order::NONE,
    };
    put_number(&mut out, note::KEY_BYTE_ORDER, key_order);
    let data_order = if set.data() == DataKind::ClassId { order::HOST } else { order::NONE };
    if set.data() != DataKind::None {
        put_number(&mut out, note::DATA_BYTE_ORDER, data_order);
    }
    // Slots have no named type: such a map can only be declared by expressions, which nft keeps here.
    if set.key().contains(&FieldKind::Slot) {
        put(&mut out, note::KEY_TYPEOF, &typeof_concatenation(set.key(), family));
        let data = match set.data() {
            DataKind::Target => Some(typeof_concatenation(&[FieldKind::Address, FieldKind::Port], family)),
            DataKind::ClassId => Some(typeof_field(FieldKind::ClassId, family)),
            DataKind::None | DataKind::Verdict => None,
        };
        if let Some(data) = data {
            put(&mut out, note::DATA_TYPEOF, &data);
        }
    }
    out
}

/// nft's numbers of expressions (`enum expr_types`), and where their descriptions keep what.
mod expression {
    pub(super) const PAYLOAD: u32 = 7;
    pub(super) const META: u32 = 9;
    pub(super) const CONCATENATION: u32 = 13;
    pub(super) const NUMGEN: u32 = 23;
}

/// nft's numbers of protocol headers (`enum proto_desc_id`) and of fields in them.
mod header {
    pub(super) const TRANSPORT: u32 = 11;
    pub(super) const TRANSPORT_DPORT: u32 = 2;
    pub(super) const IP: u32 = 12;
    pub(super) const IP_DADDR: u32 = 12;
    pub(super) const IP6: u32 = 13;
    pub(super) const IP6_DADDR: u32 = 9;
}

fn typeof_concatenation(fields: &[FieldKind], family: Family) -> Vec<u8> {
    let mut parts = Vec::new();
    for (index, field) in (0_u8..).zip(fields) {
        put(&mut parts, index, &typeof_field(*field, family));
    }
    typeof_expression(expression::CONCATENATION, &parts)
}

fn typeof_field(field: FieldKind, family: Family) -> Vec<u8> {
    let (kind, parameters): (u32, &[u32]) = match (field, family) {
        (FieldKind::Address | FieldKind::Network, Family::V4) => (expression::PAYLOAD, &[header::IP, header::IP_DADDR]),
        (FieldKind::Address | FieldKind::Network, Family::V6) => {
            (expression::PAYLOAD, &[header::IP6, header::IP6_DADDR])
        }
        (FieldKind::Port, _) => (expression::PAYLOAD, &[header::TRANSPORT, header::TRANSPORT_DPORT]),
        // NFT_META_L4PROTO and NFT_META_PRIORITY.
        (FieldKind::Protocol, _) => (expression::META, &[16]),
        (FieldKind::ClassId, _) => (expression::META, &[2]),
        // `numgen random mod 2`: type NFT_NG_RANDOM, modulus, offset.
        (FieldKind::Slot, _) => (expression::NUMGEN, &[1, 2, 0]),
    };
    let mut data = Vec::new();
    for (index, number) in (0_u8..).zip(parameters) {
        put_number(&mut data, index, *number);
    }
    typeof_expression(kind, &data)
}

/// `NFTNL_UDATA_SET_TYPEOF_EXPR` and `NFTNL_UDATA_SET_TYPEOF_DATA`.
fn typeof_expression(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, 0, kind);
    put(&mut out, 1, data);
    out
}

fn put_number(out: &mut Vec<u8>, kind: u8, number: u32) {
    put(out, kind, &number.to_ne_bytes());
}

fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.extend_from_slice(&[kind, u8::try_from(value.len()).expect("a declaration takes about 200 bytes")]);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What nft 1.0.6 sends for the same declaration.
    #[test]
    fn slots_are_declared_as_nft_does() {
        let schema = Schema::of(SetName::Slots, Family::V4);
        assert_eq!(
            (schema.flags, schema.key_type, schema.key_len, schema.data),
            (MAP, 0x001c_c344, 16, Some((0x1cd, 8))),
            "numbers as captured from nft"
        );
        if cfg!(target_endian = "little") {
            assert_eq!(
                hex(&schema.userdata),
                "000400000000010400000000036000040d00000001580014000407000000010c00040c00000001040c000000010e0004090000000106\
                 0004100000000214000407000000010c00040b000000010402000000031a000417000000011200040100000001040200000002040000\
                 0000043400040d000000012c0014000407000000010c00040c00000001040c0000000114000407000000010c00040b00000001040200\
                 0000"
            );
        }
    }

    #[test]
    fn ipv6_affinity_slots_are_declared_as_nft_does() {
        let schema = Schema::of(SetName::AffinitySlots, Family::V6);
        assert_eq!(
            (schema.flags, schema.key_type, schema.key_len, schema.data),
            (MAP, 0x0020_c344, 28, Some((0x17, 4)))
        );
        if cfg!(target_endian = "little") {
            assert_eq!(
                hex(&schema.userdata),
                "000400000000010401000000036000040d00000001580014000407000000010c00040d000000010409000000010e0004090000000106\
                 0004100000000214000407000000010c00040b000000010402000000031a000417000000011200040100000001040200000002040000\
                 0000040e00040900000001060004020000\
                 00"
            );
        }
    }

    #[test]
    fn every_key_has_the_length_of_its_types() {
        for family in Family::ALL {
            for set in SetName::ALL {
                let schema = Schema::of(set, family);
                assert_eq!(usize::try_from(schema.key_len).ok(), Some(kernel_key_len(set, family)), "{}", set.name());
                assert_eq!(schema.data.is_some(), schema.flags & MAP != 0, "{}", set.name());
            }
        }
    }
}
