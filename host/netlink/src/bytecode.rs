//! The kernel's rule language: a rule is a list of [`Expr`], each reading and writing registers.
//!
//! [`crate::assemble`] makes it from statements, [`crate::disassemble`] makes statements from it,
//! [`crate::ffi`] hands it to libnftnl and [`crate::parse`] reads it from a dump.

use weir_model::Family;

/// A 32-bit register by its position in the register file, `0..16`.
///
/// The kernel knows each fourth one by a second name, the 128-bit registers of its early days, and reports
/// that name; `nft` writes it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub u8);

impl Register {
    /// Registers there are.
    pub(crate) const COUNT: usize = 16;
    /// Where lookups take keys from and put what they find.
    pub(crate) const FIRST: Self = Self(0);

    /// Its number in netlink (`enum nft_registers`).
    pub(crate) fn to_netlink(self) -> u32 {
        let position = u32::from(self.0);
        if position.is_multiple_of(4) { 1 + position / 4 } else { 8 + position }
    }

    /// The register with that number in netlink; `None` for the verdict register and unknown ones.
    pub(crate) fn from_netlink(number: u32) -> Option<Self> {
        let position = match number {
            1..=4 => (number - 1) * 4,
            8..=23 => number - 8,
            _ => return None,
        };
        u8::try_from(position).ok().map(Self)
    }

    /// The register that many bytes further, counted in whole registers.
    pub(crate) fn after(self, bytes: usize) -> Self {
        Self(self.0.saturating_add(u8::try_from(bytes.div_ceil(4)).unwrap_or(u8::MAX)))
    }
}

/// An enum whose members carry the kernel's numbers, with the conversions both ways.
macro_rules! numbered {
    ($(#[$about:meta])* $name:ident { $($(#[$member_about:meta])* $member:ident = $number:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$member_about])* $member,)+
        }

        impl $name {
            /// Its number in netlink.
            pub(crate) fn number(self) -> u32 {
                match self {
                    $(Self::$member => $number,)+
                }
            }

            /// The one with that number.
            pub(crate) fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$member),)+
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// Where a payload offset counts from (`enum nft_payload_bases`).
    Base {
        /// The IP header.
        Network = 1,
        /// The TCP or UDP header.
        Transport = 2,
    }
}

numbered! {
    /// Packet metadata (`enum nft_meta_keys`).
    Meta {
        /// `meta priority`.
        Priority = 2,
        /// `meta mark`.
        Mark = 3,
        /// `meta iifname`.
        InInterfaceName = 6,
        /// `meta l4proto`.
        L4Protocol = 16,
    }
}

numbered! {
    /// Connection tracking data (`enum nft_ct_keys`).
    Ct {
        /// `ct status`.
        Status = 2,
    }
}

numbered! {
    /// An address to look up in the routing table (`NFTA_FIB_F_*`).
    FibAddress {
        /// The source.
        Source = 1,
        /// The destination.
        Destination = 2,
    }
}

numbered! {
    /// How a number generator goes on (`enum nft_ng_types`).
    Generator {
        /// `numgen inc`.
        Incremental = 0,
        /// `numgen random`.
        Random = 1,
    }
}

numbered! {
    /// What a rule does to a set (`enum nft_dynset_ops`).
    SetUpdate {
        /// Adds the element or restarts its timeout.
        Update = 1,
        /// Removes the element.
        Delete = 2,
    }
}

/// What a lookup does with what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: the rule just goes on.
    Matched,
    /// There must be nothing to find (`NFT_LOOKUP_F_INV`).
    Missing,
    /// Follows the verdict.
    Verdict,
    /// Copies the data to this register and those after it.
    Data(Register),
}

/// Where a rule sends the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nowhere.
    Drop,
    /// To a chain, and back.
    Jump(String),
    /// To a chain.
    Goto(String),
}

/// One instruction. `to` is the register written, `from` the one read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the attributes of the kernel's expression of the same name")]
pub(crate) enum Expr {
    Payload {
        base: Base,
        offset: u32,
        len: u32,
        to: Register,
    },
    MetaLoad {
        key: Meta,
        to: Register,
    },
    MetaStore {
        key: Meta,
        from: Register,
    },
    CtLoad {
        key: Ct,
        to: Register,
    },
    /// Type of an address, from the routing table.
    FibType {
        address: FibAddress,
        to: Register,
    },
    Numgen {
        kind: Generator,
        modulus: u32,
        offset: u32,
        to: Register,
    },
    Jhash {
        from: Register,
        len: u32,
        modulus: u32,
        seed: u32,
        offset: u32,
        to: Register,
    },
    /// `register = (register & mask) ^ xor`.
    Bitwise {
        register: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Compare {
        equal: bool,
        from: Register,
        data: Vec<u8>,
    },
    Lookup {
        set: String,
        key: Register,
        found: Found,
    },
    Dynset {
        set: String,
        update: SetUpdate,
        key: Register,
        data: Register,
        timeout_ms: u64,
    },
    Immediate {
        data: Vec<u8>,
        to: Register,
    },
    Verdict(Verdict),
    Dnat {
        family: Family,
        address: Register,
        port: Register,
    },
    Masquerade {
        flags: u32,
    },
    Reject {
        kind: u32,
        code: u8,
    },
}

/// Register number that means "the rule's verdict" (`NFT_REG_VERDICT`).
pub(crate) const VERDICT_REGISTER: u32 = 0;
/// `NFT_CMP_EQ`.
pub(crate) const CMP_EQ: u32 = 0;
/// `NFT_CMP_NEQ`.
pub(crate) const CMP_NEQ: u32 = 1;
/// `NFT_BITWISE_MASK_XOR`, the older spelling `NFT_BITWISE_BOOL`.
pub(crate) const BITWISE_MASK_XOR: u32 = 0;
/// `NFT_HASH_JENKINS`.
pub(crate) const HASH_JENKINS: u32 = 0;
/// `NFT_FIB_RESULT_ADDRTYPE`.
pub(crate) const FIB_RESULT_ADDRTYPE: u32 = 3;
/// `NFT_NAT_DNAT`.
pub(crate) const NAT_DNAT: u32 = 1;
/// `NF_DROP`.
pub(crate) const VERDICT_DROP: i32 = 0;
/// `NFT_JUMP`.
pub(crate) const VERDICT_JUMP: i32 = -3;
/// `NFT_GOTO`.
pub(crate) const VERDICT_GOTO: i32 = -4;
/// Type of a route to an address of this node (`RTN_LOCAL`).
pub(crate) const RTN_LOCAL: u32 = 2;
/// Status bit of a connection whose destination was rewritten (`IPS_DST_NAT`).
pub(crate) const CT_STATUS_DNAT: u32 = 32;
/// Masquerade to a random port (`NF_NAT_RANGE_PROTO_RANDOM_FULLY`).
pub(crate) const NAT_RANDOM_FULLY: u32 = 16;
/// Reject by an ICMP error of the table's family (`NFT_REJECT_ICMP_UNREACH`).
pub(crate) const REJECT_ICMP: u32 = 0;

/// Reject by a TCP reset (`NFT_REJECT_TCP_RST`).
pub(crate) const REJECT_TCP_RESET: u32 = 1;

/// Flag of a lookup that matches what is missing (`NFT_LOOKUP_F_INV`).
pub(crate) const LOOKUP_INVERTED: u32 = 1;

/// Bytes of an interface's name in the kernel, the final zero included.
pub(crate) const IFNAMSIZ: usize = 16;

/// ICMP code of "port unreachable" in that family.
pub(crate) fn port_unreachable(family: Family) -> u8 {
    match family {
        Family::V4 => 3,
        Family::V6 => 4,
    }
}

/// Offset of the source address in the IP header.
pub(crate) fn saddr_offset(family: Family) -> u32 {
    match family {
        Family::V4 => 12,
        Family::V6 => 8,
    }
}

/// Offset of the destination address in the IP header.
pub(crate) fn daddr_offset(family: Family) -> u32 {
    match family {
        Family::V4 => 16,
        Family::V6 => 24,
    }
}

/// Bytes of an address.
pub(crate) fn address_len(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

/// The table family's number in netlink (`NFPROTO_IPV4`, `NFPROTO_IPV6`).
pub(crate) fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// The table family's name in nft syntax.
pub(crate) fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}
