//! The topology: builds the hosts of a [`Layout`] and the links between them.

use std::thread;

use anyhow::{Context, Result, ensure};

use crate::{Addresses, Host, Layout};

/// Next hop of every host towards the node. Nobody owns it; a fixed neighbour entry answers for it, so no host ever
/// waits for ARP or neighbour discovery (Calico's ptp layout does the same).
const GATEWAY_V4: &str = "169.254.1.1";
/// The same for IPv6.
const GATEWAY_V6: &str = "fe80::1";
/// Hardware address of the node's end of every link.
const NODE_MAC: &str = "ee:ee:ee:ee:ee:ee";
/// Longest name of a link, IFNAMSIZ less the final zero byte.
const LINK_NAME_MAX: usize = 15;

/// A Kubernetes node's network, its pods, and one client outside. See the picture at the top of the crate.
#[derive(Debug)]
pub struct Node {
    kernel: Host,
    outside: Host,
    pods: Vec<Host>,
}

impl Node {
    /// Builds everything; when it returns, every host reaches every other.
    ///
    /// # Errors
    /// When [`enter`](crate::enter) was not called, the `ip` tool is missing, the kernel lacks `veth`, or a pod's name
    /// is not fit for a link.
    pub fn up(layout: &Layout) -> Result<Self> {
        for (at, pod) in layout.pods.iter().enumerate() {
            let name = pod.name.as_str();
            ensure!(
                (1..=LINK_NAME_MAX).contains(&name.len()),
                "pod {name:?}: a link's name has 1 to {LINK_NAME_MAX} characters"
            );
            let taken = ["eth0", "lo"].contains(&name) || layout.pods[..at].iter().any(|other| other.name == name);
            ensure!(!taken, "pod {name:?}: another link has this name");
        }
        let kernel = Host::create("node", Layout::NODE)?;
        let outside = Host::create("outside", Layout::OUTSIDE)?;
        let pods = layout.pods.iter().map(|pod| Host::create(&pod.name, pod.addresses)).collect::<Result<Vec<_>>>()?;

        kernel.set_sysctls(NODE_SYSCTLS)?;
        // Host by host: both ends of a link must be where they belong before either end is configured.
        let mut links = vec!["link set lo up".to_owned()];
        links.extend(node_uplink(&outside));
        links.extend(pods.iter().enumerate().flat_map(|(at, pod)| node_link(pod, &mac(at + 1))));
        kernel.ip(&links).context("the node's links")?;

        let configured: Vec<Result<()>> = thread::scope(|scope| {
            let hosts = pods.iter().map(|pod| (pod, vec![])).chain([(&outside, outside_network())]);
            let threads: Vec<_> = hosts.map(|(host, extra)| scope.spawn(move || configure_end(host, extra))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic in configure_end")).collect()
        });
        configured.into_iter().collect::<Result<()>>()?;
        Ok(Self { kernel, outside, pods })
    }

    /// The namespace that forwards between all others: what is programmed here is what the node does.
    #[must_use]
    pub fn kernel(&self) -> &Host {
        &self.kernel
    }

    /// The client outside of the cluster.
    #[must_use]
    pub fn outside(&self) -> &Host {
        &self.outside
    }

    /// Every pod, in the layout's order.
    #[must_use]
    pub fn pods(&self) -> &[Host] {
        &self.pods
    }

    /// The pods whose names begin with `backend`, in the layout's order.
    pub fn backends(&self) -> impl Iterator<Item = &Host> {
        self.pods.iter().filter(|pod| pod.name().starts_with("backend"))
    }

    /// The pod with this name.
    ///
    /// # Panics
    /// When the layout has no such pod.
    #[must_use]
    pub fn pod(&self, name: &str) -> &Host {
        self.pods.iter().find(|pod| pod.name() == name).unwrap_or_else(|| panic!("no pod {name:?} on this testbed"))
    }
}

/// The node routes for others, trusts asymmetric paths (the kernel would drop them silently), and answers every
/// refused packet: with the default limits on ICMP errors (per destination, and 50 in a burst for the whole machine)
/// a rejected port would now and then look like a dropped one. The masks name what stays limited.
pub const NODE_SYSCTLS: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/icmp_ratemask", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/icmp/ratemask", "4-127"),
];

/// Pods and the outside client believe no redirect: a packet that returns to where it came from is what hairpin is.
const END_SYSCTLS: &[(&str, &str)] = &[
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/eth0/accept_redirects", "0"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("ipv6/conf/eth0/accept_redirects", "0"),
    ("ipv6/conf/eth0/accept_dad", "0"),
    // Lets the outside client use any address of its network.
    ("ipv6/ip_nonlocal_bind", "1"),
];

fn mac(link: usize) -> String {
    format!("02:00:00:00:{:02x}:{:02x}", link >> 8 & 0xff, link & 0xff)
}

/// A pair of interfaces: `name` on the node, `eth0` in `end`.
fn veth(name: &str, end: &Host, end_mac: &str) -> Vec<String> {
    vec![
        format!(
            "link add name {name} address {NODE_MAC} type veth peer name eth0 address {end_mac} netns {}",
            end.netns_path()
        ),
        format!("link set dev {name} up"),
    ]
}

/// The node's side of a pod's link.
fn node_link(pod: &Host, pod_mac: &str) -> Vec<String> {
    let (name, Addresses { v4, v6 }) = (pod.name(), pod.addresses());
    let mut lines = veth(name, pod, pod_mac);
    for address in [v4.to_string(), v6.to_string()] {
        lines.push(format!("neigh replace {address} lladdr {pod_mac} dev {name} nud permanent"));
        lines.push(format!("route add {address} dev {name}"));
    }
    lines
}

/// The node's side of the link to the outside, with its default routes: without them a ClusterIP would be
/// unreachable from the node itself before any rule could look at the packet.
fn node_uplink(outside: &Host) -> Vec<String> {
    let (Addresses { v4, v6 }, outside_mac) = (Layout::NODE, mac(0));
    let mut lines = veth("eth0", outside, &outside_mac);
    lines.push(format!("addr add {v4}/24 dev eth0"));
    lines.push(format!("addr add {v6}/64 dev eth0 nodad"));
    for (gateway, family) in [("192.168.0.1", "inet"), (GATEWAY_V6, "inet6")] {
        lines.push(format!("neigh replace {gateway} lladdr {outside_mac} dev eth0 nud permanent"));
        lines.push(format!("route add {} via {gateway} dev eth0", default_of(family)));
    }
    lines
}

/// `default` is ambiguous between the families inside one batch.
fn default_of(family: &str) -> &'static str {
    if family == "inet" { "0.0.0.0/0" } else { "::/0" }
}

/// Every address of the outside networks is the outside client's own.
fn outside_network() -> Vec<String> {
    vec!["route add local 203.0.113.0/24 dev lo".to_owned(), "route add local 2001:db8:ffff::/64 dev lo".to_owned()]
}

/// The far end of a link: addresses, and the node as the only way.
fn configure_end(host: &Host, extra: Vec<String>) -> Result<()> {
    host.set_sysctls(END_SYSCTLS)?;
    let Addresses { v4, v6 } = host.addresses();
    let mut lines = vec![
        "link set lo up".to_owned(),
        "link set eth0 up".to_owned(),
        format!("addr add {v4}/32 dev eth0"),
        format!("addr add {v6}/128 dev eth0 nodad"),
        format!("route add {GATEWAY_V4} dev eth0 scope link"),
    ];
    for (gateway, family) in [(GATEWAY_V4, "inet"), (GATEWAY_V6, "inet6")] {
        lines.push(format!("neigh replace {gateway} lladdr {NODE_MAC} dev eth0 nud permanent"));
        lines.push(format!("route add {} via {gateway} dev eth0", default_of(family)));
    }
    lines.extend(extra);
    host.ip(&lines)
}
