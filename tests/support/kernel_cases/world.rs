//! A fixture as namespaces: the node with its addresses, and around it a world that owns all other addresses.
//!
//! The world is a namespace without an address: nothing in it ever answers. Two links lead there from the node. Pods
//! are behind `pod0`, all else is behind `eth0`; for the node both are just a way on, as on a cloud's network.
//!
//! ```text
//!          ┌──────────────────────┐
//!   world  │ node        pod0 ────┼──▶ addresses in fixture.detectLocalCIDR
//!          │ localIPs    eth0 ────┼──▶ 0.0.0.0/0, ::/0
//!          └──────────────────────┘
//! ```

use anyhow::{Context, Result};
use ipnet::IpNet;
use weir_testbed::{Host, Layout, NODE_SYSCTLS};

use crate::cases::Fixture;

/// The node's links, with the hardware address of their far end. Which one a packet takes follows from its source.
pub(super) const LINKS: [(&str, [u8; 6]); 2] = [("eth0", [2, 0, 0, 0, 0, 1]), ("pod0", [2, 0, 0, 0, 0, 2])];
/// Hardware address of the node's end of both links.
pub(super) const NODE_MAC: [u8; 6] = [0xee; 6];
/// DSCP of packets that left the node with the masquerade mark on them.
pub(super) const MARKED: u8 = 1;
/// DSCP of packets that left the node with a priority.
pub(super) const PRIORITISED: u8 = 2;

/// Next hops nobody owns; fixed neighbour entries answer for them.
const GATEWAYS: [(&str, &str); 2] = [("169.254.1.1", "fe80::1"), ("169.254.1.2", "fe80::2")];

/// The namespaces of one fixture.
#[derive(Debug)]
pub(super) struct World {
    /// Weir's node.
    pub(super) node: Host,
    /// Everybody else.
    pub(super) outside: Host,
}

impl World {
    /// Builds it. `mark` is the mark no packet may leave the node with.
    pub(super) fn up(fixture: &Fixture, mark: u32) -> Result<Self> {
        let world =
            Self { node: Host::create("node", Layout::NODE)?, outside: Host::create("world", Layout::OUTSIDE)? };
        world.node.set_sysctls(NODE_SYSCTLS)?;
        // Else it would look for neighbours and routers all the time.
        world.outside.set_sysctls(&[("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")])?;
        world.node.ip(&world.node_links(fixture)).context("the node's links")?;
        world.outside.ip(&LINKS.map(|(name, _)| format!("link set dev {name} up"))).context("the world's links")?;
        world.node.command_with_input("nft", &["-f", "-"], &observer(mark)).context("the observer's rules")?;
        Ok(world)
    }

    fn node_links(&self, fixture: &Fixture) -> Vec<String> {
        let mut lines = vec!["link set dev lo up".to_owned()];
        let node_mac = mac(NODE_MAC);
        for ((name, far_mac), (v4, v6)) in LINKS.into_iter().zip(GATEWAYS) {
            let (far_mac, far) = (mac(far_mac), self.outside.netns_path());
            lines.push(format!(
                "link add name {name} address {node_mac} type veth peer name {name} address {far_mac} netns {far}"
            ));
            lines.push(format!("link set dev {name} up"));
            for gateway in [v4, v6] {
                lines.push(format!("neigh replace {gateway} lladdr {far_mac} dev {name} nud permanent"));
            }
        }
        for address in &fixture.local_ips {
            let (bits, nodad) = if address.is_ipv4() { (32, "") } else { (128, " nodad") };
            lines.push(format!("addr add {address}/{bits} dev eth0{nodad}"));
        }
        let route = |to: &str, link: usize, v4: bool| {
            let gateway = if v4 { GATEWAYS[link].0 } else { GATEWAYS[link].1 };
            format!("route add {to} via {gateway} dev {} onlink", LINKS[link].0)
        };
        lines.extend([route("0.0.0.0/0", 0, true), route("::/0", 0, false)]);
        let pods = fixture.detect_local_cidr.values();
        lines.extend(pods.iter().map(IpNet::trunc).map(|net| route(&net.to_string(), 1, net.addr().is_ipv4())));
        lines
    }
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// Makes visible on the wire what the node leaves on a packet: a tunnel would masquerade a marked packet once more,
/// and a queueing discipline would sort one with a priority. Comes after all of Weir's chains.
fn observer(mark: u32) -> String {
    let rules = |family: &str| {
        format!(
            "meta priority != 0:0 {family} dscp set {PRIORITISED}\n    meta mark & {mark:#x} != 0 {family} dscp set {MARKED}"
        )
    };
    ["ip", "ip6"]
        .map(|family| {
            format!(
                "table {family} observer {{\n  chain leaving {{\n    type filter hook postrouting priority 300;\n    {}\n  }}\n}}\n",
                rules(family)
            )
        })
        .concat()
}
