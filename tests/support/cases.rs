//! The format of conformance cases: a node, Services with their slices, and what must become of packets.
//!
//! The format is the one of `conformance/cases/kube-proxy-flows.json`. Nothing here knows how a case is run, so
//! one file serves the simulator and the kernel.

mod cluster;
mod expectation;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use weir::config::Config;
use weir_model::{Event, NodeSpec, Store};
use weir_plan::NodeFacts;

pub use cluster::{EndpointCase, Ingress, Kind, Policy, PortCase, ProtocolCase, ServiceCase, SliceCase};
pub use expectation::{Expectation, Seen};

/// Fields the reader does not know, by name. They are told, not refused: files come from elsewhere, too.
type Unknown = BTreeMap<String, Value>;

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// The node all groups share.
    pub fixture: Fixture,
    /// The cases.
    pub groups: Vec<Group>,
    #[serde(flatten)]
    unknown: Unknown,
}

/// A value for each family; either may be missing.
#[derive(Clone, Debug, Deserialize)]
pub struct ByFamily<T> {
    /// For IPv4.
    #[serde(rename = "IPv4")]
    pub v4: Option<T>,
    /// For IPv6.
    #[serde(rename = "IPv6")]
    pub v6: Option<T>,
}

impl<T> Default for ByFamily<T> {
    fn default() -> Self {
        Self { v4: None, v6: None }
    }
}

impl<T: Clone> ByFamily<T> {
    /// Those that are there.
    #[must_use]
    pub fn values(&self) -> Vec<T> {
        self.v4.iter().chain(&self.v6).cloned().collect()
    }
}

/// The node the cases are about.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fixture {
    /// What slices call this node.
    pub node_name: String,
    /// Its zone; empty when unknown.
    #[serde(default)]
    pub zone: String,
    /// The address it is known by, of each family; its first one where unset.
    #[serde(rename = "nodeIP", default)]
    pub node_ip: ByFamily<IpAddr>,
    /// Its addresses.
    #[serde(rename = "localIPs")]
    pub local_ips: Vec<IpAddr>,
    /// Where pods live.
    #[serde(rename = "detectLocalCIDR", default)]
    pub detect_local_cidr: ByFamily<IpNet>,
    /// Where ClusterIPs come from.
    #[serde(rename = "serviceCIDRs", default)]
    pub service_cidrs: ByFamily<IpNet>,
    /// Which local addresses accept node ports, as CIDRs.
    #[serde(default)]
    pub node_port_addresses: Vec<String>,
    /// The mark that asks for masquerading, in hexadecimal; one bit.
    #[serde(default = "usual_mark")]
    pub masquerade_mark: String,
    /// Masquerade all ClusterIP traffic.
    #[serde(default)]
    pub masquerade_all: bool,
    #[serde(flatten)]
    unknown: Unknown,
}

fn usual_mark() -> String {
    "0x4000".to_owned()
}

/// Services, slices and packets of one test.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its name.
    pub id: String,
    /// What it is about.
    #[serde(default)]
    pub why: String,
    /// What differs from the fixture.
    #[serde(default)]
    pub config: GroupConfig,
    /// The Services.
    pub services: Vec<ServiceCase>,
    /// Their slices.
    #[serde(default)]
    pub slices: Vec<SliceCase>,
    /// The packets, each with what must become of it.
    #[serde(default)]
    pub packets: Vec<PacketCase>,
    /// Packets sent after all slices are gone.
    #[serde(default)]
    pub after_slice_delete: Vec<PacketCase>,
    /// Expectations that replace those of `packets`, by packet name.
    #[serde(default)]
    pub overrides: BTreeMap<String, Override>,
    #[serde(flatten)]
    unknown: Unknown,
}

/// What a group changes of the fixture.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupConfig {
    /// For readers only: addresses say which family they are.
    pub family: Option<String>,
    /// Replaces the fixture's.
    pub node_port_addresses: Option<Vec<String>>,
    /// Replaces the fixture's.
    pub masquerade_all: Option<bool>,
    /// `false`: nothing tells pods from other clients.
    pub local_detector: Option<bool>,
    #[serde(flatten)]
    unknown: Unknown,
}

/// A packet and what must become of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketCase {
    /// Its name within the group.
    pub name: String,
    /// Source address. One of the node's own means that the node sends it.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port.
    pub port: u16,
    /// Protocol.
    pub proto: ProtocolCase,
    /// Every destination it may get, separated by commas; empty: it passes unchanged; `REJECT`; `DROP`.
    pub out: String,
    /// Whether the source is masqueraded; a list names the destinations for which it is.
    pub masq: Masquerade,
    /// Name of an earlier packet of the same list. This one follows right behind it, and must get the destination
    /// that one got.
    #[serde(default)]
    pub same_as: Option<String>,
    /// The mark a packet of the node starts with, in hexadecimal; none when unset.
    #[serde(default)]
    pub mark: Option<String>,
    #[serde(flatten)]
    unknown: Unknown,
}

/// For which destinations the source is masqueraded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Masquerade {
    /// For all, or for none.
    All(bool),
    /// For these.
    Only(Vec<String>),
}

/// What replaces a packet's expectation.
#[derive(Clone, Debug, Deserialize)]
pub struct Override {
    /// Replaces `out`.
    pub out: Option<String>,
    /// Replaces `masq`.
    pub masq: Option<Masquerade>,
}

impl Fixture {
    /// A store that knows of the node, and the node's facts by `config`.
    #[must_use]
    pub fn node(&self, config: &Config) -> (Store, NodeFacts) {
        let mut store = Store::new(weir::node::identity(config));
        store.apply(Event::Node(Some(NodeSpec { addresses: self.node_ip.values(), ..NodeSpec::default() })));
        let facts = weir::node::facts(config, &self.local_ips, &store);
        (store, facts)
    }
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or does not have the format; the message names file and field.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        let file = serde_path_to_error::deserialize(&mut deserializer)
            .with_context(|| format!("{} is no file of cases", path.display()))?;
        deserializer.end().with_context(|| format!("{} goes on after its end", path.display()))?;
        Ok(file)
    }

    /// Paths of fields outside of groups that this reader does not know.
    #[must_use]
    pub fn unknown_fields(&self) -> Vec<String> {
        // Whom packets come from; each packet says it itself.
        const FOR_READERS: [&str; 2] = ["externalClient", "blockedClient"];
        let fixture = self.fixture.unknown.keys().filter(|field| !FOR_READERS.contains(&field.as_str()));
        self.unknown.keys().cloned().chain(fixture.map(|field| format!("fixture.{field}"))).collect()
    }
}

impl PacketCase {
    /// Whether the node itself sends it.
    #[must_use]
    pub fn from_node(&self, fixture: &Fixture) -> bool {
        self.src.is_loopback() || fixture.local_ips.contains(&self.src)
    }

    /// Its first mark; 0 when unset.
    ///
    /// # Errors
    /// When it is no hexadecimal number.
    pub fn mark(&self) -> anyhow::Result<u32> {
        let Some(text) = &self.mark else { return Ok(0) };
        u32::from_str_radix(text.trim_start_matches("0x"), 16)
            .with_context(|| format!("mark {text:?} of packet {:?} is no hexadecimal number", self.name))
    }
}

/// The packet `case` must go the way of, which is one of those before it in `packets`.
///
/// # Errors
/// When there is none of that name, or it follows another itself.
pub fn leader<'a>(packets: &'a [PacketCase], case: &PacketCase) -> anyhow::Result<Option<&'a PacketCase>> {
    let Some(name) = &case.same_as else { return Ok(None) };
    let before = packets.iter().take_while(|other| other.name != case.name);
    let found = before.filter(|other| other.same_as.is_none()).find(|other| other.name == *name);
    let missing = || format!("packet {:?}: sameAs names {name:?}, which is no packet before it", case.name);
    found.map(Some).with_context(missing)
}

impl Group {
    /// The node's settings in this group.
    ///
    /// # Errors
    /// When the fixture's mark is no hexadecimal number of one bit.
    pub fn config(&self, fixture: &Fixture) -> anyhow::Result<Config> {
        let mark = u32::from_str_radix(fixture.masquerade_mark.trim_start_matches("0x"), 16)
            .ok()
            .filter(|mark| mark.is_power_of_two())
            .with_context(|| format!("fixture.masqueradeMark {:?} is not one bit", fixture.masquerade_mark))?;
        let detector = self.config.local_detector.unwrap_or(true);
        Ok(Config {
            node_name: fixture.node_name.clone(),
            zone: fixture.zone.clone(),
            pod_cidrs: if detector { fixture.detect_local_cidr.values() } else { Vec::new() },
            service_cidrs: fixture.service_cidrs.values(),
            node_port_addresses: self
                .config
                .node_port_addresses
                .clone()
                .unwrap_or_else(|| fixture.node_port_addresses.clone()),
            masquerade_all: self.config.masquerade_all.unwrap_or(fixture.masquerade_all),
            masquerade_bit: u8::try_from(mark.trailing_zeros()).expect("below 32"),
            ..Config::default()
        })
    }

    /// The cluster as one complete list.
    ///
    /// # Errors
    /// When a Service's name or ClusterIP makes no sense.
    pub fn cluster(&self) -> anyhow::Result<Event> {
        let services = self.services.iter().map(ServiceCase::spec).collect::<anyhow::Result<_>>()?;
        let slices = self.slices.iter().enumerate().map(|(at, slice)| slice.spec(at)).collect::<anyhow::Result<_>>()?;
        Ok(Event::Replace { services, slices })
    }

    /// The end of every slice.
    ///
    /// # Errors
    /// As [`Group::cluster`].
    pub fn slices_gone(&self) -> anyhow::Result<Vec<Event>> {
        self.slices.iter().enumerate().map(|(at, slice)| Ok(Event::SliceGone(slice.spec(at)?.key))).collect()
    }

    /// What must become of `packet`, overrides applied.
    #[must_use]
    pub fn expectation(&self, packet: &PacketCase) -> Expectation {
        let replaced = self.overrides.get(&packet.name);
        let out = replaced.and_then(|replaced| replaced.out.as_ref()).unwrap_or(&packet.out);
        let masquerade = replaced.and_then(|replaced| replaced.masq.as_ref()).unwrap_or(&packet.masq);
        Expectation::new(out, masquerade)
    }

    /// Paths of fields this reader does not know.
    #[must_use]
    pub fn unknown_fields(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut add = |at: &str, unknown: &Unknown| found.extend(unknown.keys().map(|field| format!("{at}{field}")));
        add("", &self.unknown);
        add("config.", &self.config.unknown);
        self.services.iter().for_each(|service| add("services[].", &service.unknown));
        self.slices.iter().for_each(|slice| add("slices[].", &slice.unknown));
        self.slices
            .iter()
            .flat_map(|slice| &slice.endpoints)
            .for_each(|endpoint| add("endpoints[].", &endpoint.unknown));
        self.packets.iter().chain(&self.after_slice_delete).for_each(|packet| add("packets[].", &packet.unknown));
        found.sort();
        found.dedup();
        found
    }
}
