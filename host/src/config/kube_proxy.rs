//! An existing configuration of kube-proxy (`kubeproxy.config.k8s.io/v1alpha1`), in Weir's terms.
//!
//! Kubernetes writes such files with every field in them, and most say nothing: null, an empty text, a time of 0 and
//! `false` stand for "as usual". Only what is left is taken over.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::bind_address::BindAddress;
use super::layer::Layer;
use super::mode::{self, Mode};
use super::{DetectLocalMode, HEALTHZ_PORT, LogFormat, METRICS_PORT, Span};

/// What `apiVersion` says in such a file.
pub(super) const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";

/// What `kind` says in such a file.
pub(super) const KIND: &str = "KubeProxyConfiguration";

/// Fields that mean nothing to Weir.
const IGNORED: [&str; 19] = [
    "clientConnection.acceptContentTypes",
    "clientConnection.contentType",
    "configSyncPeriod",
    "enableProfiling",
    "featureGates",
    "iptables.localhostNodePorts",
    "ipvs.excludeCIDRs",
    "ipvs.strictARP",
    "ipvs.tcpFinTimeout",
    "ipvs.tcpTimeout",
    "ipvs.udpTimeout",
    "logging.flushFrequency",
    "logging.options",
    "logging.vmodule",
    "portRange",
    "resourceContainer",
    "showHiddenMetricsForVersion",
    "udpIdleTimeout",
    "winkernel",
];

/// All fields of the kind; those in [`IGNORED`] only so that they are no unknown ones.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "ignored fields are read from the untyped document")]
pub(super) struct KubeProxyConfiguration {
    api_version: Value,
    kind: Value,
    bind_address: Option<String>,
    bind_address_hard_fail: Option<bool>,
    client_connection: Option<ClientConnection>,
    #[serde(rename = "clusterCIDR")]
    cluster_cidr: Option<String>,
    config_sync_period: Option<Value>,
    conntrack: Option<Conntrack>,
    detect_local: Option<DetectLocal>,
    detect_local_mode: Option<String>,
    enable_profiling: Option<bool>,
    feature_gates: Option<BTreeMap<String, bool>>,
    healthz_bind_address: Option<String>,
    hostname_override: Option<String>,
    iptables: Option<Iptables>,
    ipvs: Option<Ipvs>,
    logging: Option<Logging>,
    metrics_bind_address: Option<String>,
    mode: Option<String>,
    nftables: Option<Nftables>,
    node_port_addresses: Option<Vec<String>>,
    oom_score_adj: Option<i32>,
    port_range: Option<Value>,
    resource_container: Option<Value>,
    show_hidden_metrics_for_version: Option<Value>,
    udp_idle_timeout: Option<Value>,
    winkernel: Option<Value>,
    windows_run_as_service: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see KubeProxyConfiguration")]
struct ClientConnection {
    accept_content_types: Option<Value>,
    burst: Option<u32>,
    content_type: Option<Value>,
    kubeconfig: Option<String>,
    qps: Option<f32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Conntrack {
    max_per_core: Option<u32>,
    min: Option<u32>,
    tcp_be_liberal: Option<bool>,
    tcp_close_wait_timeout: Option<Span>,
    tcp_established_timeout: Option<Span>,
    udp_stream_timeout: Option<Span>,
    udp_timeout: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DetectLocal {
    bridge_interface: Option<String>,
    interface_name_prefix: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see KubeProxyConfiguration")]
struct Iptables {
    localhost_node_ports: Option<bool>,
    masquerade_all: Option<bool>,
    masquerade_bit: Option<u8>,
    min_sync_period: Option<Span>,
    sync_period: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see KubeProxyConfiguration")]
struct Ipvs {
    #[serde(rename = "excludeCIDRs")]
    exclude_cidrs: Option<Value>,
    min_sync_period: Option<Span>,
    scheduler: Option<String>,
    #[serde(rename = "strictARP")]
    strict_arp: Option<bool>,
    sync_period: Option<Span>,
    tcp_fin_timeout: Option<Value>,
    tcp_timeout: Option<Value>,
    udp_timeout: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see KubeProxyConfiguration")]
struct Logging {
    flush_frequency: Option<Value>,
    format: Option<String>,
    options: Option<Value>,
    verbosity: Option<u32>,
    vmodule: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Nftables {
    masquerade_all: Option<bool>,
    masquerade_bit: Option<u8>,
    min_sync_period: Option<Span>,
    sync_period: Option<Span>,
}

/// What such a file means to Weir.
#[derive(Debug, Default)]
pub(super) struct Translated {
    /// The settings.
    pub(super) layer: Layer,
    /// What the operator must know, a sentence each.
    pub(super) notes: Vec<String>,
}

/// A field that cannot be used, and why.
type Wrong = (&'static str, String);

impl KubeProxyConfiguration {
    /// Weir's settings for it. `mode` is what the command line says of it; `document` the same document untyped.
    ///
    /// # Errors
    /// The first field Weir cannot do what it says.
    pub(super) fn translate(self, mode: Option<Mode>, document: &Value) -> Result<Translated, Wrong> {
        let mut done = Translated::default();
        let said = Mode::read(self.mode.as_deref().unwrap_or_default());
        let mode = mode.map_or_else(|| said.map_err(|why| ("mode", why)), Ok)?;
        let ipvs = self.ipvs.unwrap_or_default();
        if mode == Mode::Ipvs {
            done.notes = mode::ipvs(ipvs.scheduler.as_deref().unwrap_or_default(), &mut done.layer);
        }
        let layer = &mut done.layer;
        masquerade_and_periods(mode, self.nftables, self.iptables, &ipvs, layer);
        listening(&self.bind_address, &self.healthz_bind_address, &self.metrics_bind_address, layer)?;
        layer.set_some("bindAddressHardFail", self.bind_address_hard_fail.filter(|fail| *fail));
        layer.set_some("nodeName", text(self.hostname_override).map(|name| name.trim().to_lowercase()));
        layer.set_some("nodePortAddresses", self.node_port_addresses.filter(|list| !list.is_empty()));
        layer.set_some("oomScoreAdj", self.oom_score_adj);
        let client = self.client_connection.unwrap_or_default();
        layer.set_some("clientConnection.kubeconfig", text(client.kubeconfig));
        layer.set_some("clientConnection.qps", client.qps.filter(|qps| *qps != 0.0));
        layer.set_some("clientConnection.burst", client.burst.filter(|burst| *burst != 0));
        if let Some(list) = text(self.cluster_cidr) {
            layer.set("podCIDRs", networks("clusterCIDR", &list)?);
        }
        if let Some(mode) = text(self.detect_local_mode) {
            let read = serde_json::from_value::<DetectLocalMode>(Value::String(mode));
            layer.set("detectLocalMode", read.map_err(|error| ("detectLocalMode", error.to_string()))?);
        }
        let detect = self.detect_local.unwrap_or_default();
        layer.set_some("detectLocal.bridgeInterface", text(detect.bridge_interface));
        layer.set_some("detectLocal.interfaceNamePrefix", text(detect.interface_name_prefix));
        conntrack(&self.conntrack.unwrap_or_default(), layer);
        let logging = self.logging.unwrap_or_default();
        if let Some(format) = text(logging.format) {
            let read = serde_json::from_value::<LogFormat>(Value::String(format));
            layer.set("logging.format", read.map_err(|error| ("logging.format", error.to_string()))?);
        }
        layer.set_some("logging.level", logging.verbosity.filter(|level| *level > 0).map(super::level));
        let ignored: Vec<&str> = IGNORED.into_iter().filter(|path| is_said(document, path)).collect();
        if !ignored.is_empty() {
            done.notes.push(format!("ignored, because Weir has no use for it: {}", ignored.join(", ")));
        }
        Ok(done)
    }
}

/// The settings each mode of kube-proxy has in a section of its own. Of the sections that of the mode counts (`ipvs`
/// takes masquerading from `iptables`, as in kube-proxy); where no mode is said, the first that says something.
fn masquerade_and_periods(
    mode: Mode,
    nftables: Option<Nftables>,
    iptables: Option<Iptables>,
    ipvs: &Ipvs,
    layer: &mut Layer,
) {
    let (nftables, iptables) = (nftables.unwrap_or_default(), iptables.unwrap_or_default());
    let (ours, theirs) = (mode != Mode::Ipvs, mode != Mode::Nftables);
    let all = (ours && nftables.masquerade_all == Some(true)) || (theirs && iptables.masquerade_all == Some(true));
    layer.set_some("masqueradeAll", all.then_some(true));
    let first = |mine: Option<u8>, other: Option<u8>| mine.filter(|_| ours).or(other.filter(|_| theirs));
    layer.set_some("masqueradeBit", first(nftables.masquerade_bit, iptables.masquerade_bit));
    let period = |nftables: Option<Span>, iptables: Option<Span>, ipvs: Option<Span>| {
        let sections = match mode {
            Mode::Unsaid => [nftables, iptables, ipvs],
            Mode::Nftables => [nftables, None, None],
            Mode::Ipvs => [ipvs, None, None],
        };
        sections.into_iter().flatten().find(|span| *span != Span::default())
    };
    layer.set_some("syncPeriod", period(nftables.sync_period, iptables.sync_period, ipvs.sync_period));
    layer.set_some("minSyncPeriod", period(nftables.min_sync_period, iptables.min_sync_period, ipvs.min_sync_period));
}

/// Where to listen. `bindAddress` is also who the node is, and an IPv6 one makes the usual addresses IPv6 ones.
fn listening(
    bind: &Option<String>,
    healthz: &Option<String>,
    metrics: &Option<String>,
    layer: &mut Layer,
) -> Result<(), Wrong> {
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut six = false;
    if let Some(bind) = filled(bind) {
        let address: IpAddr = bind.parse().map_err(|_| ("bindAddress", format!("{bind:?} is no IP address")))?;
        six = address.is_ipv6();
        if !address.is_unspecified() {
            layer.set("nodeIPs", [address]);
        }
    }
    let healthz = match filled(healthz) {
        Some(text) => Some(text.parse().map_err(|why| ("healthzBindAddress", why))?),
        None => six.then(|| BindAddress::<HEALTHZ_PORT>::of(Ipv6Addr::UNSPECIFIED.into())),
    };
    let metrics = match filled(metrics) {
        Some(text) => Some(text.parse().map_err(|why| ("metricsBindAddress", why))?),
        None => six.then(|| BindAddress::<METRICS_PORT>::of(Ipv6Addr::LOCALHOST.into())),
    };
    layer.set_some("healthzBindAddress", healthz);
    layer.set_some("metricsBindAddress", metrics);
    Ok(())
}

fn conntrack(conntrack: &Conntrack, layer: &mut Layer) {
    layer.set_some("conntrack.maxPerCore", conntrack.max_per_core);
    layer.set_some("conntrack.min", conntrack.min);
    layer.set_some("conntrack.tcpBeLiberal", conntrack.tcp_be_liberal.filter(|liberal| *liberal));
    // 0 leaves the kernel's own time, so it says something; null is "as usual".
    layer.set_some("conntrack.tcpEstablishedTimeout", conntrack.tcp_established_timeout);
    layer.set_some("conntrack.tcpCloseWaitTimeout", conntrack.tcp_close_wait_timeout);
    let said = |span: Option<Span>| span.filter(|span| *span != Span::default());
    layer.set_some("conntrack.udpTimeout", said(conntrack.udp_timeout));
    layer.set_some("conntrack.udpStreamTimeout", said(conntrack.udp_stream_timeout));
}

fn text(field: Option<String>) -> Option<String> {
    field.filter(|text| !text.is_empty())
}

/// A list of CIDRs with commas between them.
fn networks(field: &'static str, list: &str) -> Result<Vec<IpNet>, Wrong> {
    let read = |text: &str| text.trim().parse().map_err(|_| (field, format!("{text:?} is not a CIDR")));
    list.split(',').map(read).collect()
}

/// Whether the document has something at `path` that is not Kubernetes' way of saying nothing.
fn is_said(document: &Value, path: &str) -> bool {
    fn says(value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !matches!(text.as_str(), "" | "0" | "0s"),
            Value::Array(list) => !list.is_empty(),
            Value::Object(section) => section.values().any(says),
        }
    }
    path.split('.').try_fold(document, |value, name| value.get(name)).is_some_and(says)
}
