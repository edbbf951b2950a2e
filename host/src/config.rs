//! Weir's own settings: a document of kind `WeirConfiguration`, every field optional, unknown fields refused.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Settings of one node, after defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Names of the policies that serve where a Service asks for none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DefaultPolicies {
    /// Decides which endpoints may serve.
    pub traffic: String,
    /// Decides how connections spread.
    pub balancer: String,
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
        }
    }
}

impl Default for DefaultPolicies {
    fn default() -> Self {
        Self { traffic: "kubernetes".to_owned(), balancer: "random".to_owned() }
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// It is not YAML of the right shape; the text names line and field.
    #[error("configuration {path}: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and field.
        error: Box<serde_saphyr::Error>,
    },
    /// A field holds something that makes no sense.
    #[error("configuration {path}: {field}: {why}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl Config {
    /// Reads and checks a configuration file; `None` gives the defaults.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.into(), error })?;
        let config: Self = serde_saphyr::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.into(), error: Box::new(error) })?;
        config.check().map_err(|(field, why)| ConfigError::Field { path: path.into(), field, why })?;
        Ok(config)
    }

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
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let directory = std::env::temp_dir().join(format!("weir-config-{}-{:p}", std::process::id(), text));
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let path = directory.join("config.yaml");
        std::fs::write(&path, text).expect("a file");
        let loaded = Config::load(Some(&path));
        std::fs::remove_dir_all(&directory).expect("removes");
        loaded
    }

    #[test]
    fn reads_what_the_readme_shows() {
        let config = load(
            "apiVersion: weir.proxy/v1alpha1\nkind: WeirConfiguration\nnodeName: n1\npodCIDRs: [10.244.0.0/16]\npolicies:\n  balancer: round-robin\n",
        )
        .expect("a good file");
        assert_eq!((config.node_name.as_str(), config.pod_cidrs.len()), ("n1", 1));
        assert_eq!(config.policies.balancer, "round-robin");
        assert_eq!(config.policies.traffic, "kubernetes");
    }

    #[test]
    fn errors_name_the_field() {
        let unknown = load("nodename: x\n").expect_err("an unknown field").to_string();
        assert!(unknown.contains("nodename"), "{unknown}");
        let bit = load("masqueradeBit: 32\n").expect_err("a bad bit").to_string();
        assert!(bit.contains("masqueradeBit"), "{bit}");
        let addresses = load("nodePortAddresses: [everywhere]\n").expect_err("a bad word").to_string();
        assert!(addresses.contains("nodePortAddresses") && addresses.contains("everywhere"), "{addresses}");
        let cidr = load("podCIDRs: [10.0.0.0/99]\n").expect_err("a bad CIDR").to_string();
        assert!(cidr.contains("podCIDRs") || cidr.contains("10.0.0.0/99") || cidr.contains("line"), "{cidr}");
    }
}
