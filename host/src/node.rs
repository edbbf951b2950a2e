//! Facts about this node, from the configuration and from its interfaces.

mod address_changes;
mod localhost;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use weir_model::{Family, NodeIdentity};
use weir_plan::{NodeFacts, NodePortAddresses};

pub use self::address_changes::AddressChanges;
pub use self::localhost::wants_localhost;
use crate::config::Config;

/// Who this node is: the configured name, else the host's name in lower case (as kube-proxy does).
#[must_use]
pub fn identity(config: &Config) -> NodeIdentity {
    let name = if config.node_name.is_empty() {
        nix::unistd::gethostname().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default()
    } else {
        config.node_name.clone()
    };
    NodeIdentity { name, zone: config.zone.clone() }
}

/// What the data plane must know, with `present` as the addresses this node has (see [`addresses`]).
#[must_use]
pub fn facts(config: &Config, present: &[IpAddr]) -> NodeFacts {
    NodeFacts {
        node_port_addresses: node_port_addresses(&config.node_port_addresses, present),
        pod_cidrs: config.pod_cidrs.clone(),
        service_cidrs: config.service_cidrs.clone(),
        masquerade_all: config.masquerade_all,
        masquerade_bit: config.masquerade_bit,
    }
}

/// Every address of every interface, sorted, loopback and link-local left out: neither ever serves a node
/// port (kube-proxy refuses loopback for CVE-2020-8558's sake).
///
/// # Errors
/// When the kernel does not list its interfaces.
pub fn addresses() -> std::io::Result<Vec<IpAddr>> {
    let mut found: Vec<IpAddr> = getifaddrs()
        .map_err(std::io::Error::from)?
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|socket| IpAddr::V4(socket.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|socket| IpAddr::V6(socket.ip())))
        })
        .filter(|address| !address.is_loopback() && !is_link_local(*address))
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn node_port_addresses(wanted: &[String], present: &[IpAddr]) -> NodePortAddresses {
    let mut nets: Vec<IpNet> = Vec::new();
    let mut primary = false;
    for entry in wanted {
        match entry.parse::<IpNet>() {
            Ok(net) => nets.push(net),
            Err(_) => primary |= entry == "primary",
        }
    }
    // A CIDR of length 0 means all addresses of its family; kube-proxy also takes a family nobody names as
    // meant wholly, but only with explicit CIDRs.
    let whole = |family| nets.iter().any(|net| net.prefix_len() == 0 && Family::of(net.addr()) == family);
    if whole(Family::V4) && (whole(Family::V6) || !nets.iter().any(|net| net.addr().is_ipv6())) {
        return NodePortAddresses::All;
    }
    let mut listed: Vec<IpAddr> =
        present.iter().copied().filter(|address| nets.iter().any(|net| net.contains(address))).collect();
    if primary {
        listed.extend(Family::ALL.into_iter().filter_map(|family| primary_address(family, present)));
    }
    listed.sort_unstable();
    listed.dedup();
    NodePortAddresses::Listed(listed)
}

/// The address this node would use to reach the world: the source address of its default route, else its
/// first address of that family.
fn primary_address(family: Family, present: &[IpAddr]) -> Option<IpAddr> {
    let (any, world): (SocketAddr, SocketAddr) = match family {
        Family::V4 => ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(198, 18, 0, 1), 9).into()),
        Family::V6 => ("[::]:0".parse().ok()?, "[2001:db8::9]:9".parse().ok()?),
    };
    // Connecting a UDP socket sends nothing; it only asks the routing table.
    let routed = UdpSocket::bind(any).and_then(|socket| socket.connect(world).and_then(|()| socket.local_addr()));
    let routed = routed.map(|address| address.ip()).ok().filter(|address| present.contains(address));
    routed.or_else(|| present.iter().copied().find(|address| Family::of(*address) == family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidrs_pick_the_addresses_inside() {
        let present: Vec<IpAddr> =
            ["192.168.0.2", "10.0.0.1", "2001:db8::1"].iter().map(|ip| ip.parse().expect("an address")).collect();
        let listed = node_port_addresses(&["192.168.0.0/16".to_owned(), "2001:db8::/32".to_owned()], &present);
        assert_eq!(listed, NodePortAddresses::Listed(vec![present[0], present[2]]));
        assert_eq!(node_port_addresses(&["0.0.0.0/0".to_owned()], &present), NodePortAddresses::All);
    }
}
