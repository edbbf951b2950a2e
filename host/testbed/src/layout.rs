//! Who is on the testbed, at which addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The two addresses of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// Its name, also that of its link on the node: 1 to 15 characters, unique.
    pub name: String,
    /// Its addresses.
    pub addresses: Addresses,
}

/// The testbed's hosts. The node's own address and the outside client's are fixed, see [`Layout::NODE`] and
/// [`Layout::OUTSIDE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Every pod, those of other nodes too: what makes a pod local is the `nodeName` of its endpoint, not its link.
    pub pods: Vec<PodSpec>,
}

impl Layout {
    /// The node, on the side of the outside world.
    pub const NODE: Addresses =
        Addresses { v4: Ipv4Addr::new(192, 168, 0, 2), v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1) };
    /// The outside client. It may use any other address of its /24 (v6: /64) as well, see [`Layout::outside`].
    pub const OUTSIDE: Addresses =
        Addresses { v4: Ipv4Addr::new(203, 0, 113, 2), v6: Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 2) };

    /// The addresses of pod `host` of node number `node`: 10.244.`node`.`host` and fd00:244:0:`node`::`host`, where
    /// `host` is written in decimal digits in both (fd00:244::11 for pod 11 of node 0).
    #[must_use]
    pub fn pod(node: u8, host: u8) -> Addresses {
        Addresses {
            v4: Ipv4Addr::new(10, 244, node, host),
            v6: Ipv6Addr::new(0xfd00, 0x244, 0, node.into(), 0, 0, 0, decimal_as_hex(host)),
        }
    }

    /// The `n`th address of the outside network; 2 is [`Layout::OUTSIDE`]. Stands for as many clients as a test needs.
    #[must_use]
    pub fn outside(n: u8) -> Addresses {
        Addresses {
            v4: Ipv4Addr::new(203, 0, 113, n),
            v6: Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, decimal_as_hex(n)),
        }
    }
}

impl Default for Layout {
    /// The pods `client` (10.244.0.10), `backend-1` (10.244.0.11) and `backend-2` (10.244.0.12) of this node, and
    /// `backend-3` (10.244.1.13) of another.
    fn default() -> Self {
        let pod = |name: &str, node, host| PodSpec { name: name.to_owned(), addresses: Self::pod(node, host) };
        Self {
            pods: vec![pod("client", 0, 10), pod("backend-1", 0, 11), pod("backend-2", 0, 12), pod("backend-3", 1, 13)],
        }
    }
}

/// 13 becomes 0x13, so that both addresses of a host read alike.
fn decimal_as_hex(n: u8) -> u16 {
    let n = u16::from(n);
    n / 100 * 0x100 + n / 10 % 10 * 0x10 + n % 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_of_a_host_read_alike() {
        let pod = Layout::pod(1, 213);
        assert_eq!((pod.v4.to_string(), pod.v6.to_string()), ("10.244.1.213".into(), "fd00:244:0:1::213".into()));
        assert_eq!(Layout::outside(2), Layout::OUTSIDE);
    }
}
