//! The settings of a node: Weir's own document, kind `WeirConfiguration`, every field optional, unknown fields refused;
//! and what an existing configuration of kube-proxy says, in the same terms.

mod bind_address;
mod kube_proxy;
mod layer;
mod mode;
mod oci;
mod policy_limits;
mod read;
mod span;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use clap::ValueEnum;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_model::Family;
use weir_policy::Limits;

pub use self::bind_address::BindAddress;
pub use self::layer::Layer;
pub use self::oci::OciPolicy;
pub use self::policy_limits::LimitSettings;
pub use self::read::{ConfigError, Flags, Loaded, read};
pub use self::span::Span;

/// The port health is told on, as with kube-proxy.
pub const HEALTHZ_PORT: u16 = 10256;

/// The port metrics are told on, as with kube-proxy.
pub const METRICS_PORT: u16 = 10249;

/// Settings of one node, after defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Always `weir.proxy/v1alpha1`.
    pub api_version: String,
    /// Always `WeirConfiguration`.
    pub kind: String,
    /// Name of this node as EndpointSlices spell it; the host's name when empty.
    pub node_name: String,
    /// Zone of this node; empty when unknown.
    pub zone: String,
    /// Serve only the Services whose label `service.kubernetes.io/service-proxy-name` says this; when empty, only
    /// those without that label.
    pub service_proxy_name: String,
    /// How pods are told from outside clients. Where they cannot be, ClusterIP traffic is never masqueraded, and pods
    /// get no short cut past `externalTrafficPolicy: Local`.
    pub detect_local_mode: DetectLocalMode,
    /// Names for `detectLocalMode`.
    pub detect_local: DetectLocal,
    /// Where pods live: the cluster's networks for `ClusterCIDR`; for `NodeCIDR` this node's, where its Node object
    /// does not tell.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// Where ClusterIPs come from. Packets to an address in here that no Service has are dropped.
    #[serde(rename = "serviceCIDRs")]
    pub service_cidrs: Vec<IpNet>,
    /// Addresses of this node that accept node ports: CIDRs; `primary` for the one the node is known by; `all`;
    /// `localhost`. A family that nothing here names accepts them on all addresses, as with kube-proxy.
    pub node_port_addresses: Vec<String>,
    /// Reject connections to ports of load balancer and external IPs that no Service has. Off as in kube-proxy: such
    /// an address may be another node's, whose own ports would be out of reach.
    pub reject_unused_external_ports: bool,
    /// Masquerade all traffic to ClusterIPs.
    pub masquerade_all: bool,
    /// Which bit of the packet mark asks for masquerading, 0 to 31.
    pub masquerade_bit: u8,
    /// The policies of Services that name none.
    pub policies: DefaultPolicies,
    /// What is kept of calls to policies that failed.
    pub policy_records: PolicyRecords,
    /// What becomes of flows whose endpoint is gone, and how the kernel tracks flows.
    pub conntrack: ConntrackSettings,
    /// Addresses this node is known by, at most one a family. Where there is none, its Node object tells, else its
    /// default route.
    #[serde(rename = "nodeIPs")]
    pub node_ips: Vec<IpAddr>,
    /// Where to answer `/livez`, `/readyz` and `/healthz`; empty: nowhere.
    pub healthz_bind_address: BindAddress<HEALTHZ_PORT>,
    /// Where to answer `/metrics` and `/debug/`; empty: nowhere.
    pub metrics_bind_address: BindAddress<METRICS_PORT>,
    /// End at once when one of these two addresses cannot be listened on, instead of trying again.
    pub bind_address_hard_fail: bool,
    /// Longest time a change may wait for its sync; after twice that this node calls itself unhealthy.
    pub sync_period: Span,
    /// Shortest time between two syncs; what comes meanwhile is gathered.
    pub min_sync_period: Span,
    /// How to reach the API server.
    pub client_connection: ClientConnection,
    /// Metrics under kube-proxy's names as well, for dashboards made for it.
    pub kube_proxy_metrics: bool,
    /// What the kernel's out-of-memory killer should think of this process, -1000 to 1000; without it, it stays as
    /// whoever started Weir set it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The log.
    pub logging: Logging,
}

/// What is kept of calls to policies that failed, for `weir policy run --replay`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicyRecords {
    /// Where records go, a file each; when empty, none are kept.
    pub directory: String,
    /// Most files that are kept; the oldest go first.
    pub most: u32,
}

/// How flows are treated whose endpoint is gone; and, for `weir run --init-only`, the kernel's limits and times for
/// tracked flows, where 0 leaves what the kernel has. Those are kube-proxy's, with its defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConntrackSettings {
    /// End TCP connections, too, instead of leaving them to the peers' timeouts. UDP flows are always ended.
    #[serde(rename = "resetStaleTCP")]
    pub reset_stale_tcp: bool,
    /// Most flows, per processor.
    pub max_per_core: u32,
    /// Most flows at least, however few processors there are.
    pub min: u32,
    /// How long an established TCP flow may be silent.
    pub tcp_established_timeout: Span,
    /// How long a TCP flow stays in CLOSE_WAIT.
    pub tcp_close_wait_timeout: Span,
    /// Take packets outside of the TCP window for part of the flow.
    pub tcp_be_liberal: bool,
    /// How long a UDP flow that was answered once may be silent.
    pub udp_timeout: Span,
    /// How long a UDP flow with traffic in both directions may be silent.
    pub udp_stream_timeout: Span,
}

/// How to reach the API server (kube-proxy: `clientConnection`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClientConnection {
    /// Path of a kubeconfig; when empty, the credentials of the pod.
    pub kubeconfig: String,
    /// Requests a second over any length of time; negative means no limit.
    pub qps: f32,
    /// Requests at once.
    pub burst: u32,
}

/// How the log looks and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Logging {
    /// `text` or `json`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, or per crate as in `info,weir_policy=debug`.
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// The level kube-proxy's `-v` stands for: what it logs at 4 is for debugging, from 6 on it traces.
#[must_use]
pub fn level(verbosity: u32) -> &'static str {
    match verbosity {
        0..=3 => "info",
        4..=5 => "debug",
        6.. => "trace",
    }
}

/// The policies that serve where a Service asks for none, those that come from registries, and how those from outside are
/// treated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DefaultPolicies {
    /// Decides which endpoints may serve.
    pub traffic: String,
    /// Decides how connections spread.
    pub balancer: String,
    /// What a policy may use up that has no limits of its own.
    pub limits: LimitSettings,
    /// The most that limits of a policy's own may say.
    pub max_limits: LimitSettings,
    /// Percent of the endpoints it serves that the answers of one policy may take out of service in one sync, 0 to 100;
    /// a handful may always go. 100 lets policies do as they like.
    pub max_removed_percent: u8,
    /// Whether policies from outside of the binary are used. If not, none is even compiled, and the built-in ones
    /// decide where a Service or this node asks for such a one.
    pub enabled: bool,
    /// Absolute path of a directory for compiled policies, which only the daemon may be able to write to; when empty,
    /// they are compiled again at each start.
    pub cache_directory: String,
    /// Policies that come from OCI registries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oci: Vec<OciPolicy>,
    /// Where good copies of those are kept, so that a start needs no registry; when empty, none are.
    pub oci_directory: String,
}

impl DefaultPolicies {
    /// The limits of a policy that has none of its own.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits.over(Limits::default())
    }

    /// The most a policy may be given.
    #[must_use]
    pub fn ceilings(&self) -> Limits {
        self.max_limits.over(Limits::ceilings())
    }
}

/// How pods of this node are told from other clients (kube-proxy: `detectLocalMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DetectLocalMode {
    /// By the cluster's networks of pods.
    #[default]
    #[serde(rename = "ClusterCIDR")]
    ClusterCidr,
    /// By this node's network of pods.
    #[serde(rename = "NodeCIDR")]
    NodeCidr,
    /// By the bridge they hang on.
    BridgeInterface,
    /// By how their links' names begin.
    InterfaceNamePrefix,
}

/// Names for [`DetectLocalMode`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DetectLocal {
    /// Name of the bridge, for `BridgeInterface`.
    pub bridge_interface: String,
    /// Beginning of the links' names, for `InterfaceNamePrefix`.
    pub interface_name_prefix: String,
}

/// Words `nodePortAddresses` may hold besides CIDRs.
pub mod node_port_word {
    /// The address this node is known by, of each family it has.
    pub const PRIMARY: &str = "primary";
    /// Every address of both families.
    pub const ALL: &str = "all";
    /// The loopback addresses, by a listener of the daemon's own.
    pub const LOCALHOST: &str = "localhost";
}

/// Bytes an interface's name may have (the kernel: `IFNAMSIZ` less the final zero).
const INTERFACE_NAME_MAX: usize = 15;

/// What `apiVersion` must say.
pub const API_VERSION: &str = "weir.proxy/v1alpha1";

/// What `kind` must say.
pub const KIND: &str = "WeirConfiguration";

impl Default for Config {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            node_name: String::new(),
            zone: String::new(),
            pod_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            service_proxy_name: String::new(),
            detect_local_mode: DetectLocalMode::default(),
            detect_local: DetectLocal::default(),
            node_port_addresses: vec![node_port_word::PRIMARY.to_owned()],
            reject_unused_external_ports: false,
            masquerade_all: false,
            masquerade_bit: 14,
            policies: DefaultPolicies::default(),
            policy_records: PolicyRecords::default(),
            conntrack: ConntrackSettings::default(),
            node_ips: Vec::new(),
            healthz_bind_address: BindAddress::of(Ipv4Addr::UNSPECIFIED.into()),
            metrics_bind_address: BindAddress::of(Ipv4Addr::LOCALHOST.into()),
            bind_address_hard_fail: false,
            sync_period: Span::seconds(30),
            min_sync_period: Span::default(),
            client_connection: ClientConnection::default(),
            kube_proxy_metrics: false,
            oom_score_adj: None,
            logging: Logging::default(),
        }
    }
}

impl Default for PolicyRecords {
    fn default() -> Self {
        Self { directory: String::new(), most: 200 }
    }
}

impl Default for ConntrackSettings {
    fn default() -> Self {
        Self {
            reset_stale_tcp: false,
            max_per_core: 32_768,
            min: 131_072,
            tcp_established_timeout: Span::seconds(24 * 3600),
            tcp_close_wait_timeout: Span::seconds(3600),
            tcp_be_liberal: false,
            udp_timeout: Span::default(),
            udp_stream_timeout: Span::default(),
        }
    }
}

impl Default for ClientConnection {
    fn default() -> Self {
        Self { kubeconfig: String::new(), qps: 5.0, burst: 10 }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".to_owned() }
    }
}

impl Default for DefaultPolicies {
    fn default() -> Self {
        let [traffic, balancer] = ["kubernetes", "random"].map(str::to_owned);
        let [cache_directory, oci_directory] = [String::new(), String::new()];
        Self {
            traffic,
            balancer,
            limits: LimitSettings::default(),
            max_limits: LimitSettings::default(),
            max_removed_percent: 50,
            enabled: true,
            cache_directory,
            oci: Vec::new(),
            oci_directory,
        }
    }
}

impl Config {
    /// Checks what the types leave open. The error is a field and what is wrong with it.
    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.api_version != API_VERSION {
            return Err(("apiVersion", format!("must be {API_VERSION}, not {:?}", self.api_version)));
        }
        if self.kind != KIND {
            return Err(("kind", format!("must be {KIND}, not {:?}", self.kind)));
        }
        if self.masquerade_bit > 31 {
            return Err(("masqueradeBit", format!("must be 0 to 31, not {}", self.masquerade_bit)));
        }
        let of_family = |family| self.node_ips.iter().filter(|ip| Family::of(**ip) == family).count();
        if Family::ALL.into_iter().any(|family| of_family(family) > 1) {
            return Err(("nodeIPs", "there may be one IPv4 and one IPv6 address".to_owned()));
        }
        if let Some(score) = self.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
            return Err(("oomScoreAdj", format!("must be -1000 to 1000, not {score}")));
        }
        let DefaultPolicies { limits, max_limits, max_removed_percent, .. } = &self.policies;
        max_limits.check(None).map_err(|why| ("policies.maxLimits", why))?;
        limits.check(Some(&self.policies.ceilings())).map_err(|why| ("policies.limits", why))?;
        if *max_removed_percent > 100 {
            return Err(("policies.maxRemovedPercent", format!("must be 0 to 100, not {max_removed_percent}")));
        }
        let cache = &self.policies.cache_directory;
        if !cache.is_empty() && !cache.starts_with('/') {
            return Err(("policies.cacheDirectory", format!("must be an absolute path, not {cache:?}")));
        }
        if self.sync_period == Span::default() {
            return Err(("syncPeriod", "must be more than 0".to_owned()));
        }
        let mut names = BTreeSet::new();
        for policy in &self.policies.oci {
            policy.check().map_err(|why| ("policies.oci", why))?;
            if !names.insert(&policy.name) {
                return Err(("policies.oci", format!("there are two called {}", policy.name)));
            }
        }
        for entry in &self.node_port_addresses {
            let word = [node_port_word::PRIMARY, node_port_word::ALL, node_port_word::LOCALHOST].contains(&&**entry);
            if !word && entry.parse::<IpNet>().is_err() {
                let why = format!("{entry:?} is neither a CIDR nor one of `primary`, `all`, `localhost`");
                return Err(("nodePortAddresses", why));
            }
        }
        let DetectLocal { bridge_interface, interface_name_prefix } = &self.detect_local;
        match self.detect_local_mode {
            DetectLocalMode::ClusterCidr | DetectLocalMode::NodeCidr => Ok(()),
            DetectLocalMode::BridgeInterface => interface("detectLocal.bridgeInterface", bridge_interface),
            DetectLocalMode::InterfaceNamePrefix => interface("detectLocal.interfaceNamePrefix", interface_name_prefix),
        }
    }
}

/// Checks the name of an interface, or the beginning of one.
fn interface(field: &'static str, name: &str) -> Result<(), (&'static str, String)> {
    let plain = |c: char| c.is_ascii_graphic() && !"/*\"".contains(c);
    if name.is_empty() || name.len() > INTERFACE_NAME_MAX || !name.chars().all(plain) {
        return Err((field, format!("{name:?} cannot be the name of an interface, which detectLocalMode needs")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
