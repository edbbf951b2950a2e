//! Text of the nftables layout.

use std::fmt::Write;
use std::iter::repeat;
use std::net::IpAddr;

use sha2::{Digest, Sha256};
use weir_model::{EndpointSpec, Event, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec};

/// Whose layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Version {
    /// A chain for each endpoint, and a verdict map for each port.
    V1_35,
    /// A chain and a data map for each port; no map where there is one endpoint.
    V1_37,
}

impl Version {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1_35 => "1.35",
            Self::V1_37 => "1.37",
        }
    }
}

/// One cluster's layout.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    /// Whose.
    pub version: Version,
    /// Where the cluster's pods live.
    pub pods: &'a str,
    /// The node, whose own endpoints can reach themselves.
    pub node: &'a str,
}

/// What exists once, in both versions.
const FIXED: &str = r#"add table ip kube-proxy { comment "rules for kube-proxy" ; }
add chain ip kube-proxy filter-prerouting-pre-dnat { type filter hook prerouting priority -110 ; }
add chain ip kube-proxy filter-output-pre-dnat { type filter hook output priority -110 ; }
add chain ip kube-proxy filter-input { type filter hook input priority 0 ; }
add chain ip kube-proxy filter-forward { type filter hook forward priority 0 ; }
add chain ip kube-proxy filter-output { type filter hook output priority 0 ; }
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100 ; }
add chain ip kube-proxy nat-output { type nat hook output priority -100 ; }
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority 100 ; }
add chain ip kube-proxy nodeport-endpoints-check
add chain ip kube-proxy service-endpoints-check
add chain ip kube-proxy firewall-check
add chain ip kube-proxy services
add chain ip kube-proxy masquerading
add chain ip kube-proxy cluster-ips-check
add chain ip kube-proxy mark-for-masquerade
add chain ip kube-proxy reject-chain { comment "helper for @no-endpoint-services / @no-endpoint-nodeports" ; }
add set ip kube-proxy cluster-ips { type ipv4_addr ; comment "Active ClusterIPs" ; }
add set ip kube-proxy nodeport-ips { type ipv4_addr ; comment "IPs that accept NodePort traffic" ; }
add set ip kube-proxy hairpin-connections { type ipv4_addr . ipv4_addr . inet_proto . inet_service ; comment "service hairpin connections" ; }
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; comment "ClusterIP, ExternalIP and LoadBalancer IP traffic" ; }
add map ip kube-proxy service-nodeports { type inet_proto . inet_service : verdict ; comment "NodePort traffic" ; }
add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict ; comment "vmap to drop or reject packets to services with no endpoints" ; }
add map ip kube-proxy no-endpoint-nodeports { type inet_proto . inet_service : verdict ; comment "vmap to drop or reject packets to service nodeports with no endpoints" ; }
add map ip kube-proxy firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict ; comment "destinations that are subject to LoadBalancerSourceRanges" ; }
"#;

/// The chains [`FIXED`] creates that hold rules: a full sync flushes them and writes them again.
const FLUSHED: &[&str] = &[
    "filter-prerouting-pre-dnat",
    "filter-output-pre-dnat",
    "filter-input",
    "filter-forward",
    "filter-output",
    "nat-prerouting",
    "nat-output",
    "nat-postrouting",
    "nodeport-endpoints-check",
    "service-endpoints-check",
    "firewall-check",
    "services",
    "masquerading",
    "cluster-ips-check",
    "mark-for-masquerade",
    "reject-chain",
];

/// The rules of those chains, without what differs between versions and clusters.
const FIXED_RULES: &str = r#"add rule ip kube-proxy filter-input ct state new jump nodeport-endpoints-check
add rule ip kube-proxy filter-input ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump service-endpoints-check
add rule ip kube-proxy filter-output ct state new jump service-endpoints-check
add rule ip kube-proxy filter-prerouting-pre-dnat ct state new jump firewall-check
add rule ip kube-proxy filter-output-pre-dnat ct state new jump firewall-check
add rule ip kube-proxy nat-output jump services
add rule ip kube-proxy nat-prerouting jump services
add rule ip kube-proxy nat-postrouting jump masquerading
add rule ip kube-proxy filter-forward ct state new jump cluster-ips-check
add rule ip kube-proxy filter-output ct state new jump cluster-ips-check
add rule ip kube-proxy mark-for-masquerade mark set mark or 0x004000
add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
add rule ip kube-proxy reject-chain reject
add rule ip kube-proxy service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services
add rule ip kube-proxy nodeport-endpoints-check ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
add rule ip kube-proxy firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips
"#;

impl Layout<'_> {
    /// A full sync of the cluster that `list`, an [`Event::Replace`], tells.
    pub fn full(&self, list: &Event) -> String {
        let Event::Replace { services, slices } = list else { return String::new() };
        let mut out = FIXED.to_owned();
        for chain in FLUSHED {
            let _ = writeln!(out, "flush chain ip kube-proxy {chain}");
        }
        out.push_str(FIXED_RULES);
        out.push_str(match self.version {
            Version::V1_35 => {
                "add rule ip kube-proxy masquerading mark and 0x004000 == 0 return\n\
                 add rule ip kube-proxy masquerading mark set mark xor 0x004000\n\
                 add rule ip kube-proxy masquerading masquerade fully-random\n"
            }
            Version::V1_37 => {
                "add rule ip kube-proxy masquerading mark and 0x004000 != 0 mark set mark xor 0x004000 masquerade fully-random\n\
                 add rule ip kube-proxy masquerading ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random\n"
            }
        });
        if self.version == Version::V1_37 {
            let _ = writeln!(
                out,
                "add rule ip kube-proxy services ip daddr @cluster-ips ip saddr != {} mark set mark or 0x004000 comment \"masquerade clusterIP traffic from outside cluster\"",
                self.pods
            );
        }
        out.push_str(
            "add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips\n\
             add rule ip kube-proxy services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports\n\
             add element ip kube-proxy nodeport-ips { 192.168.0.2 }\n",
        );
        for (service, slice) in services.iter().zip(slices) {
            self.service(&mut out, service, slice, true);
        }
        out
    }

    /// The transaction of a sync in which one Service or its endpoints changed: its chains flushed and written again,
    /// as kube-proxy does for each Service that changed. Elements come only with a `new` one.
    pub fn service(&self, out: &mut String, service: &ServiceSpec, slice: &SliceSpec, new: bool) {
        for (port, address, target) in ports(service, slice) {
            let (key, protocol) = (&service.key, port.protocol);
            let chain = name("service", &format!("{}/{}/{protocol}/{}", key.namespace, key.name, port.name));
            let _ = writeln!(out, "add chain ip kube-proxy {chain}\nflush chain ip kube-proxy {chain}");
            if new {
                let _ = writeln!(
                    out,
                    "add element ip kube-proxy cluster-ips {{ {address} }}\n\
                     add element ip kube-proxy service-ips {{ {address} . {protocol} . {} : goto {chain} }}",
                    port.port
                );
            }
            let affinity = service.affinity_seconds;
            if self.version == Version::V1_35 || affinity != 0 {
                self.endpoint_chains(out, &chain, &address.to_string(), affinity, slice, target.port);
            } else {
                let _ = write!(out, "add rule ip kube-proxy {chain} meta l4proto {protocol} dnat ");
                write_target(out, &slice.endpoints, target.port);
            }
            if self.version == Version::V1_37 {
                for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.node.as_deref() == Some(self.node)) {
                    let at = endpoint.address;
                    let _ = writeln!(
                        out,
                        "add element ip kube-proxy hairpin-connections {{ {at} . {at} . {protocol} . {} }}",
                        target.port
                    );
                }
            }
        }
    }

    /// The transaction in which a Service goes: its elements, and its chain left empty for a later sync to delete.
    pub fn gone(self, out: &mut String, service: &ServiceSpec) {
        for port in &service.ports {
            let Some(address) = service.cluster_ips.first() else { continue };
            let (key, protocol) = (&service.key, port.protocol);
            let chain = name("service", &format!("{}/{}/{protocol}/{}", key.namespace, key.name, port.name));
            let _ = writeln!(
                out,
                "flush chain ip kube-proxy {chain}\n\
                 delete element ip kube-proxy cluster-ips {{ {address} }}\n\
                 delete element ip kube-proxy service-ips {{ {address} . {protocol} . {} }}",
                port.port
            );
        }
    }

    fn endpoint_chains(&self, out: &mut String, chain: &str, vip: &str, affinity: u32, slice: &SliceSpec, port: u16) {
        let path = chain.split_once('-').and_then(|(_, rest)| rest.split_once('-')).map_or(chain, |(_, path)| path);
        let protocol = if path.contains("/udp/") { "udp" } else { "tcp" };
        let named = |prefix, endpoint: &EndpointSpec| name(prefix, &format!("{path}__{}/{port}", endpoint.address));
        if self.version == Version::V1_35 {
            let _ = writeln!(
                out,
                "add rule ip kube-proxy {chain} ip daddr {vip} ip saddr != {} jump mark-for-masquerade",
                self.pods
            );
        }
        for endpoint in &slice.endpoints {
            let of = named("endpoint", endpoint);
            let _ = writeln!(out, "add chain ip kube-proxy {of}\nflush chain ip kube-proxy {of}");
            if self.version == Version::V1_35 {
                let at = endpoint.address;
                let _ = writeln!(out, "add rule ip kube-proxy {of} ip saddr {at} jump mark-for-masquerade");
            }
            if affinity != 0 {
                let set = named("affinity", endpoint);
                let _ = writeln!(
                    out,
                    "add set ip kube-proxy {set} {{ type ipv4_addr ; flags dynamic,timeout ; timeout {affinity}s ; }}\n\
                     add rule ip kube-proxy {chain} ip saddr @{set} goto {of}\n\
                     add rule ip kube-proxy {of} update @{set} {{ ip saddr }}"
                );
            }
            let at = endpoint.address;
            let _ = writeln!(out, "add rule ip kube-proxy {of} meta l4proto {protocol} dnat to {at}:{port}");
        }
        let count = slice.endpoints.len();
        let _ = write!(out, "add rule ip kube-proxy {chain} numgen random mod {count} vmap {{ ");
        for (number, endpoint) in slice.endpoints.iter().enumerate() {
            let _ = write!(out, "{number} : goto {} , ", named("endpoint", endpoint));
        }
        out.push_str("}\n");
    }
}

/// Where 1.37 sends connections: to the only endpoint, or through an anonymous map.
fn write_target(out: &mut String, endpoints: &[EndpointSpec], port: u16) {
    if let [endpoint] = endpoints {
        let _ = writeln!(out, "to {}:{port}", endpoint.address);
        return;
    }
    let _ = write!(out, "ip addr . port to numgen random mod {} map {{ ", endpoints.len());
    for (number, endpoint) in endpoints.iter().enumerate() {
        let _ = write!(out, "{number} : {} . {port} , ", endpoint.address);
    }
    out.push_str("}\n");
}

/// The ports of a Service that have endpoints' ports, with the Service's address.
pub(super) fn ports<'a>(
    service: &'a ServiceSpec,
    slice: &'a SliceSpec,
) -> impl Iterator<Item = (&'a ServicePortSpec, IpAddr, &'a SlicePort)> {
    let ports = service.cluster_ips.first().into_iter().flat_map(|address| service.ports.iter().zip(repeat(*address)));
    ports.filter_map(|(port, address)| {
        let target = slice.ports.iter().find(|of| of.name == port.name && of.protocol == port.protocol)?;
        Some((port, address, target))
    })
}

/// `PREFIX-HASH-PATH`: the hash is the first eight characters of the path's SHA-256 in base 32.
fn name(prefix: &str, path: &str) -> String {
    format!("{prefix}-{}-{path}", hash(path, 8))
}

/// The first so many characters, at most 24 and a multiple of eight, of the text's SHA-256 in base 32.
pub(super) fn hash(text: &str, characters: usize) -> String {
    const CHARACTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest.iter().take(characters / 8 * 5).fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    (0..characters).rev().map(|at| char::from(CHARACTERS[(bits >> (5 * at) & 31) as usize])).collect()
}
