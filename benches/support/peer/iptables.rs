//! Text of the iptables layout.

use std::fmt::{self, Write};

use weir_model::{EndpointSpec, Event, Protocol, ServiceSpec, SliceSpec};

use super::layout::{hash, ports};

/// One cluster's layout in kube-proxy's iptables mode.
///
/// Two things differ from cluster to cluster there and not here: where in its list of Services one stands (kube-proxy
/// writes them in the order of a map, so anywhere; here they stand in the order they are told), and whether the packets
/// dropped as invalid are counted by `nfacct`, for which most kernels lack a module (here they are not).
#[derive(Clone, Copy, Debug)]
pub struct Iptables<'a> {
    /// Where the cluster's pods live.
    pub pods: &'a str,
    /// Whether chains are created in the order of their names, which `iptables-restore` loads many times faster, and not as
    /// kube-proxy writes them, in the order of the Services. In the kernel that is the same.
    pub sorted: bool,
}

/// More endpoints than this, and the rules of Services and endpoints lose their comments, but for those of the list of
/// Services (`largeClusterEndpointsThreshold`).
const LARGE: usize = 1_000;

/// The jumps from the base chains. kube-proxy puts each in front by a run of `iptables` of its own; one file for all of
/// them is in its favour. Behind [`FILTER_CHAINS`], which they lead to.
const JUMPS: &str = r#"-I INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-I INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-I INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-I OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-I INPUT -j KUBE-FIREWALL
-I OUTPUT -j KUBE-FIREWALL
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
COMMIT
"#;

/// Chains of `filter` that exist once.
const FILTER_CHAINS: &str = "*filter
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-FIREWALL - [0:0]
";

/// Their rules, without those of Services.
const FILTER_RULES: &str = r#"-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"#;

/// Chains of `nat` that exist once.
const NAT_CHAINS: &str = "*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
";

/// Their rules before those of Services.
const NAT_RULES: &str = r#"-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
"#;

/// And after them.
const LAST_RULE: &str = r#"-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
"#;

/// What is written for the Services.
#[derive(Default)]
struct Written {
    /// Rules of `filter`.
    filter: String,
    /// Chains of `nat`.
    chains: String,
    /// Rules of `nat`.
    nat: String,
}

/// One port of a Service.
struct Port<'a> {
    /// `NAMESPACE/NAME:PORT`, or `NAMESPACE/NAME` of a port without a name.
    name: String,
    protocol: Protocol,
    /// What tells a packet to it.
    matches: String,
    /// Seconds clients are remembered; 0 if they are not.
    affinity: u32,
    endpoints: &'a [EndpointSpec],
    /// The endpoints' port.
    target: u16,
    /// Whether comments are left out.
    large: bool,
}

impl Iptables<'_> {
    /// What is loaded once, before the first full sync: the jumps from the base chains into empty chains. Loaded twice it
    /// is there twice.
    #[must_use]
    pub fn jumps() -> String {
        format!("{FILTER_CHAINS}{JUMPS}")
    }

    /// A full sync of the cluster that `list`, an [`Event::Replace`], tells. It does not delete chains of endpoints that
    /// are gone: kube-proxy looks for those when it has time.
    #[must_use]
    pub fn full(&self, list: &Event) -> String {
        let Event::Replace { services, slices } = list else { return String::new() };
        let pairs = || services.iter().zip(slices);
        let endpoints: usize = pairs().map(|(of, slice)| ports(of, slice).count() * slice.endpoints.len()).sum();
        let mut written = Written::default();
        for (service, slice) in pairs() {
            self.service(&mut written, service, slice, endpoints > LARGE);
        }
        let Written { filter, mut chains, nat } = written;
        if self.sorted {
            let mut lines: Vec<&str> = chains.split_inclusive('\n').collect();
            lines.sort_unstable();
            chains = lines.concat();
        }
        [FILTER_CHAINS, &filter, FILTER_RULES, NAT_CHAINS, &chains, NAT_RULES, &nat, LAST_RULE].concat()
    }

    fn service(&self, out: &mut Written, service: &ServiceSpec, slice: &SliceSpec, large: bool) {
        for (port, address, target) in ports(service, slice) {
            let (key, protocol) = (&service.key, port.protocol);
            let separator = if port.name.is_empty() { "" } else { ":" };
            let port = Port {
                name: format!("{}/{}{separator}{}", key.namespace, key.name, port.name),
                protocol,
                matches: format!("-m {protocol} -p {protocol} -d {address} --dport {}", port.port),
                affinity: service.affinity_seconds,
                endpoints: &slice.endpoints,
                target: target.port,
                large,
            };
            if slice.endpoints.is_empty() {
                let Port { name, matches, .. } = &port;
                let comment = format!("{name} has no endpoints");
                line(&mut out.filter, format_args!("-A KUBE-SERVICES {} {matches} -j REJECT", said(&comment)));
                continue;
            }
            self.port(out, &port);
        }
    }

    fn port(&self, out: &mut Written, port: &Port<'_>) {
        let Port { name, matches, .. } = port;
        let (chain, cluster_ip) = (port.chain(), said(&format!("{name} cluster IP")));
        line(&mut out.chains, format_args!(":{chain} - [0:0]"));
        line(&mut out.nat, format_args!("-A KUBE-SERVICES {cluster_ip} {matches} -j {chain}"));
        line(&mut out.nat, format_args!("-A {chain} {cluster_ip} {matches} ! -s {} -j KUBE-MARK-MASQ", self.pods));
        if port.affinity != 0 {
            for endpoint in port.endpoints {
                let (to, of) = (port.comment_to(endpoint), port.endpoint_chain(endpoint));
                let recent = format!("-m recent --name {of} --rcheck --seconds {} --reap", port.affinity);
                line(&mut out.nat, format_args!("-A {chain}{to} {recent} -j {of}"));
            }
        }
        for (at, endpoint) in port.endpoints.iter().enumerate() {
            let (to, of) = (port.comment_to(endpoint), port.endpoint_chain(endpoint));
            line(&mut out.nat, format_args!("-A {chain}{to}{} -j {of}", chance(port.endpoints.len() - at)));
        }
        for endpoint in port.endpoints {
            port.endpoint(out, endpoint);
        }
    }
}

impl Port<'_> {
    /// `KUBE-SVC-HASH`.
    fn chain(&self) -> String {
        format!("KUBE-SVC-{}", hash(&format!("{}{}", self.name, self.protocol), 16))
    }

    /// `KUBE-SEP-HASH`.
    fn endpoint_chain(&self, endpoint: &EndpointSpec) -> String {
        let Self { name, protocol, target, .. } = self;
        format!("KUBE-SEP-{}", hash(&format!("{name}{protocol}{}:{target}", endpoint.address), 16))
    }

    /// The comment of the rules that lead to an endpoint, with a blank before it.
    fn comment_to(&self, endpoint: &EndpointSpec) -> String {
        self.comment(&format!("\"{} -> {}:{}\"", self.name, endpoint.address, self.target))
    }

    /// A comment that large clusters do without, with a blank before it.
    fn comment(&self, text: &str) -> String {
        if self.large { String::new() } else { format!(" -m comment --comment {text}") }
    }

    fn endpoint(&self, out: &mut Written, endpoint: &EndpointSpec) {
        let (of, comment, address, protocol) =
            (self.endpoint_chain(endpoint), self.comment(&self.name), endpoint.address, self.protocol);
        line(&mut out.chains, format_args!(":{of} - [0:0]"));
        line(&mut out.nat, format_args!("-A {of}{comment} -s {address} -j KUBE-MARK-MASQ"));
        let recent = if self.affinity == 0 { String::new() } else { format!(" -m recent --name {of} --set") };
        let target = format!("-m {protocol} -p {protocol} -j DNAT --to-destination {address}:{}", self.target);
        line(&mut out.nat, format_args!("-A {of}{comment}{recent} {target}"));
    }
}

/// A comment that is always there.
fn said(comment: &str) -> String {
    format!("-m comment --comment \"{comment}\"")
}

/// The match that is true once in `left` times, with a blank before it; nothing for the last of the endpoints, which takes
/// what is left.
fn chance(left: usize) -> String {
    if left == 1 {
        return String::new();
    }
    format!(" -m statistic --mode random --probability {:.10}", 1.0 / left as f64)
}

fn line(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}
