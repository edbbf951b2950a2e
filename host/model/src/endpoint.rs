//! Endpoints: who could answer a connection.

use std::net::IpAddr;
use std::ops::{BitOr, BitOrAssign};

use crate::NameId;

/// What is known of an endpoint, as flags. The numbers are those of `conditions` in `wit/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conditions(pub u8);

impl Conditions {
    /// May get new connections. An unset `ready` counts as true.
    pub const READY: Self = Self(1);
    /// Answers, even if it is about to stop. An unset `serving` counts as true.
    pub const SERVING: Self = Self(1 << 1);
    /// Is being shut down. An unset `terminating` counts as false.
    pub const TERMINATING: Self = Self(1 << 2);
    /// Runs on this node.
    pub const LOCAL: Self = Self(1 << 3);
    /// Has zone hints.
    pub const ZONE_HINTS: Self = Self(1 << 4);
    /// Its zone hints name this node's zone.
    pub const HINTS_THIS_ZONE: Self = Self(1 << 5);
    /// Has node hints.
    pub const NODE_HINTS: Self = Self(1 << 6);
    /// Its node hints name this node.
    pub const HINTS_THIS_NODE: Self = Self(1 << 7);

    /// Whether all of `flags` are set.
    #[must_use]
    pub fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// A ready endpoint, or the usual state of one that says nothing.
    #[must_use]
    pub fn ready() -> Self {
        Self::READY | Self::SERVING
    }
}

impl BitOr for Conditions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Conditions {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// An endpoint of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// The port it listens on.
    pub port: u16,
    /// Number that names it in affinity maps and to policies: a hash of address and port, unique within its
    /// Service port, the same on every node and after every restart. See [`backend_id`].
    pub id: u32,
    /// The node it runs on; the empty name when unknown.
    pub node: NameId,
    /// Its zone; the empty name when unknown.
    pub zone: NameId,
    /// Flags.
    pub conditions: Conditions,
    /// Weight its slice gives it, 0 to 65535; 1 is usual, 0 drains.
    pub weight: u32,
}

/// The number of an endpoint: a hash of address and port, with the top bit set so that it can never equal the number of
/// a class (see the data plane in ARCHITECTURE.md), and never the reserved all-ones value. Two endpoints of one port
/// that collide are told apart by counting up in address order.
#[must_use]
pub fn backend_id(address: IpAddr, port: u16) -> u32 {
    // Multiplying by an odd number loses nothing, and each bit of the product's upper half depends on all those below.
    // One multiplication, because every endpoint of every decision comes by here.
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let place = match address {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => {
            let halves = v6.to_bits();
            let [high, low] = [(halves >> 64) as u64, halves as u64];
            high.wrapping_mul(ODD).rotate_left(32) ^ low
        }
    };
    let place = place.rotate_left(16) ^ u64::from(port);
    let id = (place.wrapping_mul(ODD) >> 32) as u32 | 0x8000_0000;
    if id == u32::MAX { id - 1 } else { id }
}
