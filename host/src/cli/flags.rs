//! Settings that have a flag of their own: those kube-proxy has one for, and what concerns policies from outside.

use clap::Args;

use crate::config::{BindAddress, Flags, HEALTHZ_PORT, Layer, METRICS_PORT, node_port_word};

/// kube-proxy's flags, with its meaning, and Weir's own; each wins over the configuration files.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ProxyFlags {
    /// What a kube-proxy in this place would use: nftables, or ipvs, of which Weir keeps the scheduler.
    #[arg(long, value_name = "MODE", help_heading = "As with kube-proxy")]
    proxy_mode: Option<String>,
    /// Networks of the cluster's pods, with commas between them.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',', help_heading = "As with kube-proxy")]
    cluster_cidr: Vec<ipnet::IpNet>,
    /// Addresses that accept node ports: CIDRs, `primary`, `all`, `localhost`.
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', help_heading = "As with kube-proxy")]
    nodeport_addresses: Vec<String>,
    /// Where to tell about health [default: 0.0.0.0:10256]; empty: nowhere.
    #[arg(long, value_name = "IP:PORT", help_heading = "As with kube-proxy")]
    healthz_bind_address: Option<BindAddress<HEALTHZ_PORT>>,
    /// Where to serve metrics [default: 127.0.0.1:10249]; empty: nowhere.
    #[arg(long, value_name = "IP:PORT", help_heading = "As with kube-proxy")]
    metrics_bind_address: Option<BindAddress<METRICS_PORT>>,
    /// Masquerade all traffic to ClusterIPs.
    #[arg(long, help_heading = "As with kube-proxy")]
    masquerade_all: bool,
    /// Use no policy from outside of the binary: the built-in ones decide everywhere.
    #[arg(long)]
    disable_policies: bool,
    /// Directory for compiled policies, which only the daemon may be able to write to.
    #[arg(long, value_name = "DIR")]
    policy_cache: Option<String>,
}

impl ProxyFlags {
    /// What these flags say, and the names that have flags elsewhere.
    pub(crate) fn flags(&self, node_name: Option<&String>, service_proxy_name: Option<&String>) -> Flags {
        let mut layer = Layer::default();
        // As kube-proxy does with `--hostname-override`; Kubernetes' own names of nodes have no capitals.
        layer.set_some("nodeName", node_name.map(|name| name.trim().to_lowercase()));
        layer.set_some("serviceProxyName", service_proxy_name);
        layer.set_some("podCIDRs", (!self.cluster_cidr.is_empty()).then_some(&self.cluster_cidr));
        layer.set_some("nodePortAddresses", self.node_port_addresses());
        layer.set_some("healthzBindAddress", self.healthz_bind_address);
        layer.set_some("metricsBindAddress", self.metrics_bind_address);
        layer.set_some("masqueradeAll", self.masquerade_all.then_some(true));
        layer.set_some("policies.enabled", self.disable_policies.then_some(false));
        layer.set_some("policies.cacheDirectory", self.policy_cache.as_ref());
        Flags { mode: self.proxy_mode.clone(), layer }
    }

    /// An empty flag asks for the default, as with kube-proxy.
    fn node_port_addresses(&self) -> Option<Vec<String>> {
        let said: Vec<String> = self.nodeport_addresses.iter().filter(|entry| !entry.is_empty()).cloned().collect();
        match (self.nodeport_addresses.is_empty(), said.is_empty()) {
            (true, _) => None,
            (false, true) => Some(vec![node_port_word::PRIMARY.to_owned()]),
            (false, false) => Some(said),
        }
    }
}
