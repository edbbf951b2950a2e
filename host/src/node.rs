//! Facts about this node, from the configuration and from its interfaces.

mod address_changes;
mod localhost;
mod surroundings;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use weir_model::{Family, NodeIdentity, NodeSpec, Store};
use weir_plan::{LocalPods, NodeFacts, NodePortAddresses};

pub use self::address_changes::AddressChanges;
pub use self::localhost::wants_localhost;
pub use self::surroundings::Surroundings;
use crate::config::{Config, DetectLocalMode, node_port_word};

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

/// What the data plane must know, with `present` as the addresses this node has (see [`addresses`]), and what the
/// cluster told `store` of the node and of itself. Where both tell of Service ranges, the cluster is right.
#[must_use]
pub fn facts(config: &Config, present: &[IpAddr], store: &Store) -> NodeFacts {
    let (object, service_cidrs) = (store.node_object(), store.service_cidrs());
    let addresses: Vec<IpAddr> = Family::ALL
        .into_iter()
        .filter_map(|family| {
            let said = config.node_ips.iter().copied().find(|address| Family::of(*address) == family);
            said.or_else(|| primary_address(family, present, object))
        })
        .collect();
    let node_ports = |family| node_port_addresses(&config.node_port_addresses, family, present, &addresses);
    NodeFacts {
        node_ports_v4: node_ports(Family::V4),
        node_ports_v6: node_ports(Family::V6),
        local_pods: local_pods(config, object),
        addresses,
        service_cidrs: served_ranges(config, service_cidrs).to_vec(),
        masquerade_all: config.masquerade_all,
        masquerade_bit: config.masquerade_bit,
        reject_unused_external_ports: config.reject_unused_external_ports,
    }
}

/// The ranges in which an address without a Service belongs to nobody. Beside another service proxy there are none: an
/// address this one does not know may be the other's.
fn served_ranges<'a>(config: &'a Config, told: &'a [IpNet]) -> &'a [IpNet] {
    match (config.service_proxy_name.is_empty(), told.is_empty()) {
        (false, _) => &[],
        (true, true) => &config.service_cidrs,
        (true, false) => told,
    }
}

fn local_pods(config: &Config, object: Option<&NodeSpec>) -> LocalPods {
    let networks = match config.detect_local_mode {
        DetectLocalMode::BridgeInterface => return LocalPods::Interface(config.detect_local.bridge_interface.clone()),
        DetectLocalMode::InterfaceNamePrefix => {
            return LocalPods::InterfacePrefix(config.detect_local.interface_name_prefix.clone());
        }
        DetectLocalMode::ClusterCidr => &config.pod_cidrs,
        DetectLocalMode::NodeCidr => {
            object.map(|node| &node.pod_cidrs).filter(|nets| !nets.is_empty()).unwrap_or(&config.pod_cidrs)
        }
    };
    if networks.is_empty() { LocalPods::Unknown } else { LocalPods::Networks(networks.clone()) }
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

fn node_port_addresses(wanted: &[String], family: Family, present: &[IpAddr], primary: &[IpAddr]) -> NodePortAddresses {
    let of_family = |address: &IpAddr| Family::of(*address) == family;
    let nets: Vec<IpNet> =
        wanted.iter().filter_map(|entry| entry.parse().ok()).filter(|net: &IpNet| of_family(&net.addr())).collect();
    let says = |word: &str| wanted.iter().any(|entry| entry == word);
    let by_word = says(node_port_word::PRIMARY) || says(node_port_word::LOCALHOST);
    // kube-proxy: a family without any entry accepts node ports everywhere (`NewNodePortAddresses`).
    if says(node_port_word::ALL) || nets.iter().any(|net| net.prefix_len() == 0) || (nets.is_empty() && !by_word) {
        return NodePortAddresses::All;
    }
    let inside = |address: &&IpAddr| nets.iter().any(|net| net.contains(*address));
    let mut listed: Vec<IpAddr> = present.iter().filter(|address| of_family(address)).filter(inside).copied().collect();
    if says(node_port_word::PRIMARY) {
        listed.extend(primary.iter().copied().filter(of_family));
    }
    listed.sort_unstable();
    listed.dedup();
    NodePortAddresses::Listed(listed)
}

/// The address this node is known by: the first its Node object names, else the source address of its default
/// route, else its first address of that family.
fn primary_address(family: Family, present: &[IpAddr], object: Option<&NodeSpec>) -> Option<IpAddr> {
    let of_family = |address: &IpAddr| Family::of(*address) == family;
    let named = object.and_then(|node| node.addresses.iter().copied().find(of_family));
    named
        .or_else(|| routed_address(family).filter(|address| present.contains(address)))
        .or_else(|| present.iter().copied().find(of_family))
}

/// The address this node would use to reach the world.
fn routed_address(family: Family) -> Option<IpAddr> {
    let (any, world): (SocketAddr, SocketAddr) = match family {
        Family::V4 => ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(198, 18, 0, 1), 9).into()),
        Family::V6 => ("[::]:0".parse().ok()?, "[2001:db8::9]:9".parse().ok()?),
    };
    // Connecting a UDP socket sends nothing; it only asks the routing table.
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(world).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(wanted: &[&str], family: Family) -> NodePortAddresses {
        let ip = |ip: &str| ip.parse().expect("an address");
        let present = ["10.0.0.1", "192.168.0.2", "192.168.7.2", "2001:db8::1", "2001:db8::2"].map(ip);
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        node_port_addresses(&wanted, family, &present, &["192.168.0.2", "2001:db8::1"].map(ip))
    }

    fn these(addresses: &[&str]) -> NodePortAddresses {
        NodePortAddresses::Listed(addresses.iter().map(|ip| ip.parse().expect("an address")).collect())
    }

    #[test]
    fn node_ports_are_where_the_entries_say() {
        use Family::{V4, V6};
        assert_eq!(listed(&["192.168.0.0/16", "2001:db8::2/128"], V4), these(&["192.168.0.2", "192.168.7.2"]));
        assert_eq!(listed(&["192.168.0.0/16", "2001:db8::2/128"], V6), these(&["2001:db8::2"]));
        assert_eq!(listed(&["primary"], V4), these(&["192.168.0.2"]));
        assert_eq!(listed(&["primary", "10.0.0.0/8"], V4), these(&["10.0.0.1", "192.168.0.2"]));
        assert_eq!(listed(&["primary", "10.0.0.0/8"], V6), these(&["2001:db8::1"]));
        assert_eq!(listed(&["localhost"], V4), these(&[]));
        assert_eq!(listed(&["172.16.0.0/12"], V4), these(&[]));
    }

    #[test]
    fn a_proxy_beside_another_drops_none_of_its_addresses() {
        let net = |net: &str| vec![net.parse::<IpNet>().expect("a CIDR")];
        let mut config = Config { service_cidrs: net("10.96.0.0/12"), ..Config::default() };
        let told = net("10.112.0.0/12");
        assert_eq!(served_ranges(&config, &[]), net("10.96.0.0/12"));
        assert_eq!(served_ranges(&config, &told), told);
        config.service_proxy_name = "weir".to_owned();
        assert_eq!(served_ranges(&config, &told), &[]);
        assert_eq!(served_ranges(&config, &[]), &[]);
    }

    #[test]
    fn a_family_nobody_names_is_open() {
        assert_eq!(listed(&["192.168.0.0/16"], Family::V6), NodePortAddresses::All);
        for everywhere in ["0.0.0.0/0", "all"] {
            assert_eq!(listed(&[everywhere], Family::V4), NodePortAddresses::All);
        }
        assert_eq!(listed(&[], Family::V4), NodePortAddresses::All);
    }
}
