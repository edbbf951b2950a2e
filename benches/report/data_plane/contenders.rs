//! Who takes part, and how each comes and goes in the same namespaces.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Error, Result, bail};
use weir_benches::peer::{Iptables, Layout, Restore, Version, load};
use weir_benches::{catalog, cluster, pipeline_among};
use weir_model::{
    EndpointSpec, Event, Family, ObjectKey, Protocol, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec,
};
use weir_netlink::Kernel;
use weir_policy::{BUILT_IN, Catalog};
use weir_testbed::{Layout as Hosts, Node};

use super::traffic::{self, Backend};
use crate::section::Scale;
use crate::timed::remove_tables;

/// The called Service.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const PORT: u16 = 80;
const PORT_OF_ENDPOINTS: u16 = 8080;
/// Where the testbed's pods live, and the endpoints of the called Service.
const PODS: &str = "10.244.0.0/16";
/// The endpoints of the called Service: all in one pod, so that a hundred take no hundred namespaces.
const ENDPOINTS: &str = "10.244.9.0/24";
/// And how many it has at most.
const MOST_ENDPOINTS: u8 = 100;
/// Each peer may take that long to load.
const LIMIT: Duration = Duration::from_secs(120);
/// Clients are remembered that long.
const AFFINITY: u32 = 10_800;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// One static rule.
    Floor,
    /// Weir.
    Weir,
    /// kube-proxy 1.37.
    Peer,
    /// kube-proxy 1.35.
    OldPeer,
    /// kube-proxy's iptables mode.
    Iptables,
}

impl Contender {
    /// Whoever can be loaded with so many Services in reasonable time: the older peer takes minutes for many, and
    /// `iptables-restore` a minute for 30 000.
    pub(super) fn of(services: usize, scale: Scale) -> Vec<Self> {
        let old = (services <= scale.pick(1_000, 1_000, 10_000)).then_some(Self::OldPeer);
        let iptables = Self::iptables().filter(|_| services <= scale.pick(1_000, 10_000, 30_000));
        [Self::Floor, Self::Weir, Self::Peer].into_iter().chain(old).chain(iptables).collect()
    }

    /// Whoever can serve `service`.
    pub(super) fn serving(service: &Service) -> Vec<Self> {
        let ours = [Self::Floor, Self::Weir].into_iter();
        if service.policy.is_some() {
            return ours.collect();
        }
        ours.chain([Self::Peer]).chain(Self::iptables()).collect()
    }

    /// iptables' layout, where its tool is installed.
    fn iptables() -> Option<Self> {
        Restore::installed().is_ok().then_some(Self::Iptables)
    }

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "one static dnat rule",
            Self::Weir => "Weir",
            Self::Peer => "kube-proxy 1.37",
            Self::OldPeer => "kube-proxy 1.35",
            Self::Iptables => Restore::installed().map_or("iptables", |restore| &restore.name),
        }
    }

    /// Its tables, of family `ip`, that stay loaded while others take their turn.
    fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Weir => &[],
            Self::Floor => &["floor"],
            Self::Peer => &["kube-proxy"],
            Self::OldPeer => &["kube-proxy-old"],
            Self::Iptables => &Restore::TABLES,
        }
    }

    /// One line for each of its tables.
    fn lines(self, line: impl Fn(&str) -> String) -> String {
        self.tables().iter().map(|table| line(table)).collect()
    }
}

/// The Service that is called.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// The policy it asks for; without one the node's default.
    pub(super) policy: Option<&'static str>,
    /// Whether clients stay with their endpoint.
    affinity: bool,
    endpoints: u8,
}

impl Default for Service {
    fn default() -> Self {
        Self { policy: None, affinity: false, endpoints: 1 }
    }
}

impl Service {
    /// Every balancer of the binary, with few and many endpoints, and the default one with affinity.
    pub(super) fn variants() -> Vec<Self> {
        let balancers = BUILT_IN.iter().map(|(name, _)| *name).filter(|name| !matches!(*name, "kubernetes" | "random"));
        let policies: Vec<Option<&'static str>> = std::iter::once(None).chain(balancers.map(Some)).collect();
        let mut variants = Vec::new();
        for endpoints in [1, MOST_ENDPOINTS] {
            let of = |policy: &Option<&'static str>| Self { policy: *policy, affinity: false, endpoints };
            variants.extend(policies.iter().map(of));
            variants.push(Self { policy: None, affinity: true, endpoints });
        }
        variants
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        let affinity = if self.affinity { ", affinity" } else { "" };
        format!("{}{affinity}, {} endpoints", self.policy.unwrap_or("random"), self.endpoints)
    }

    /// So many Services, the one in the middle of which is this one: where they stand in a list, as in iptables' layout,
    /// that is what a Service pays on average.
    pub(super) fn list(&self, services: usize) -> Event {
        let mut list = cluster(services - 1, 1);
        let protocols = [Protocol::Tcp, Protocol::Udp];
        let key = ObjectKey { namespace: "bench".to_owned(), name: "called".to_owned() };
        if let Event::Replace { services, slices } = &mut list {
            let middle = services.len() / 2;
            let service = ServiceSpec {
                key: key.clone(),
                cluster_ips: vec![IpAddr::V4(ADDRESS)],
                ports: protocols
                    .map(|protocol| ServicePortSpec { name: protocol.to_string(), protocol, port: PORT, node_port: 0 })
                    .to_vec(),
                affinity_seconds: if self.affinity { AFFINITY } else { 0 },
                policy: self.policy.map(str::to_owned),
                ..ServiceSpec::default()
            };
            let slice = SliceSpec {
                key: key.clone(),
                service: key,
                family: Family::V4,
                ports: protocols
                    .map(|protocol| SlicePort { name: protocol.to_string(), protocol, port: PORT_OF_ENDPOINTS })
                    .to_vec(),
                endpoints: (1..=self.endpoints).map(endpoint).collect(),
                triggered: None,
            };
            services.insert(middle, service);
            slices.insert(middle, slice);
        }
        list
    }
}

/// Of endpoint number `at` of the called Service, in [`ENDPOINTS`].
fn address(at: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 9, at)
}

fn endpoint(at: u8) -> EndpointSpec {
    EndpointSpec { node: Some("node-9".to_owned()), ..EndpointSpec::ready(IpAddr::V4(address(at))) }
}

/// The namespaces, and what is loaded in them.
pub(super) struct Town {
    node: Node,
    backend: Backend,
    catalog: Catalog,
}

impl Town {
    /// Builds the hosts and starts the backend.
    ///
    /// # Errors
    /// When namespaces or links cannot be had.
    pub(super) fn build() -> Result<Self> {
        let node = Node::up(&Hosts::default())?;
        let pod = node.pod("backend-1");
        node.kernel().ip(&[format!("route add {ENDPOINTS} via {} dev backend-1 onlink", pod.v4())])?;
        pod.ip(&[format!("route add local {ENDPOINTS} dev lo")])?;
        // Closed connections would fill the table of flows.
        node.kernel().set_sysctls(&[("netfilter/nf_conntrack_tcp_timeout_close", "1")])?;
        let backend = Backend::start(pod, (1..=MOST_ENDPOINTS).map(address), PORT_OF_ENDPOINTS)?;
        Ok(Self { backend, catalog: catalog(), node })
    }

    /// Loads everybody whose tables can sleep, and lets them sleep. Whoever cannot be loaded is taken off `contenders`, and
    /// returned with the reason.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub(super) fn load_peers(&self, list: &Event, contenders: &mut Vec<Contender>) -> Result<Vec<(Contender, String)>> {
        let mut left_out = Vec::new();
        for contender in contenders.iter().copied().filter(|contender| !contender.tables().is_empty()) {
            match self.node.kernel().run(|| load_peer(contender, list))? {
                Ok(()) => self.sleep(contender)?,
                Err(why) => {
                    // The tool ended between two tables, maybe.
                    self.nft(&contender.lines(|table| format!("add table ip {table}\ndelete table ip {table}\n")))?;
                    left_out.push((contender, why));
                }
            }
        }
        contenders.retain(|contender| left_out.iter().all(|(left_out, _)| left_out != contender));
        Ok(left_out)
    }

    /// Removes them.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub(super) fn unload_peers(&self, contenders: &[Contender]) -> Result<()> {
        let lines = |one: &Contender| one.lines(|table| format!("delete table ip {table}\n"));
        self.nft(&contenders.iter().map(lines).collect::<String>())
    }

    /// From now on this one's rules hold, alone.
    ///
    /// # Errors
    /// When they cannot be loaded.
    pub(super) fn wake(&self, contender: Contender, list: &Event) -> Result<()> {
        if !contender.tables().is_empty() {
            return self.nft(&contender.lines(|table| format!("add table ip {table}\n")));
        }
        let kernel = self.node.kernel().run(Kernel::open)?;
        let mut pipeline = pipeline_among(PODS, &self.catalog, kernel);
        pipeline.apply(list.clone());
        let outcome = pipeline.sync()?;
        anyhow::ensure!(outcome.failures.is_empty() && outcome.rejections.is_empty(), "not every port was programmed");
        // The tables outlive the socket that owned them.
        Ok(())
    }

    /// Its rules hold no longer.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn sleep(&self, contender: Contender) -> Result<()> {
        if contender.tables().is_empty() {
            return Ok(remove_tables(&mut self.node.kernel().run(Kernel::open)?)?);
        }
        // Without hooks, so that whoever is awake pays for nobody else.
        self.nft(&contender.lines(|table| format!("add table ip {table} {{ flags dormant ; }}\n")))
    }

    /// So many connections, one after the other: microseconds of each connect(), and connections a second.
    ///
    /// # Errors
    /// When one fails.
    pub(super) fn connect(&self, count: usize) -> Result<(Vec<f64>, f64)> {
        let target = SocketAddr::from((ADDRESS, PORT));
        let backend = &self.backend;
        self.node.pod("client").run(|| traffic::connect(target, count, backend))
    }

    /// Nanoseconds to send one packet of an established flow.
    ///
    /// # Errors
    /// When the flow cannot be established.
    pub(super) fn flow(&self) -> Result<f64> {
        let target = SocketAddr::from((ADDRESS, PORT));
        let backend = &self.backend;
        self.node.pod("client").run(|| traffic::flow(target, backend))
    }

    fn nft(&self, lines: &str) -> Result<()> {
        self.node.kernel().command_with_input("nft", &["-f", "-"], lines).map(drop)
    }
}

/// Loads one whose tables can sleep; inside, why it takes no part. The table of the older peer gets another name: both are
/// loaded at once.
fn load_peer(contender: Contender, list: &Event) -> Result<Result<(), String>> {
    let layout = |version| Layout { version, pods: PODS, node: weir_benches::NODE }.full(list);
    let loaded = match contender {
        Contender::Weir => bail!("Weir is no peer"),
        Contender::Floor => load(&floor(), LIMIT)?,
        Contender::Peer => load(&layout(Version::V1_37), LIMIT)?,
        Contender::OldPeer => load(&layout(Version::V1_35).replace(" ip kube-proxy ", " ip kube-proxy-old "), LIMIT)?,
        Contender::Iptables => {
            let text = Iptables::jumps() + &Iptables { pods: PODS, sorted: true }.full(list);
            match Restore::installed().map_err(Error::msg)?.load(&text, LIMIT) {
                Ok(loaded) => loaded,
                // Not every kernel has every match of iptables, such as that of affinity (xt_recent).
                Err(error) => return Ok(Err(format!("{error:#}"))),
            }
        }
    };
    Ok(loaded.map(drop).ok_or_else(|| format!("it did not load within {} s", LIMIT.as_secs())))
}

/// A single rule for each protocol.
fn floor() -> String {
    let rule = |protocol| {
        let target = format!("{}:{PORT_OF_ENDPOINTS}", address(1));
        format!("add rule ip floor services ip daddr {ADDRESS} {protocol} dport {PORT} dnat to {target}\n")
    };
    let chain = "add chain ip floor services { type nat hook prerouting priority -100 ; }\n";
    format!("add table ip floor\n{chain}{}{}", rule("tcp"), rule("udp"))
}
