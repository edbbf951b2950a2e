//! The kinds that are followed: where they are, and which of them.

use std::fmt;

use form_urlencoded::Serializer;

use super::Options;
use crate::convert::{LABEL_HEADLESS, LABEL_POLICY, LABEL_PROXY_NAME};

/// A kind of object that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// This node's own object.
    Node,
    /// The ranges ClusterIPs come from.
    ServiceCidr,
    /// The ConfigMaps that carry policies.
    ConfigMap,
    /// The Services.
    Service,
    /// Their EndpointSlices.
    EndpointSlice,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Node, Self::ServiceCidr, Self::ConfigMap, Self::Service, Self::EndpointSlice];

    /// The name of the kind in the Kubernetes API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
            Self::ConfigMap => "ConfigMap",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
        }
    }

    /// Whether its objects belong to a namespace.
    pub(super) const fn is_namespaced(self) -> bool {
        !matches!(self, Self::Node | Self::ServiceCidr)
    }

    /// Whether the rest makes sense without it. ServiceCIDRs are served from Kubernetes 1.33 on; and with the rights of
    /// kube-proxy, which know nothing of policies, Weir does what kube-proxy does.
    pub(super) const fn is_optional(self) -> bool {
        matches!(self, Self::ServiceCidr | Self::ConfigMap)
    }

    fn path(self, options: &Options) -> String {
        match self {
            Self::Node => "/api/v1/nodes".to_owned(),
            Self::ServiceCidr => "/apis/networking.k8s.io/v1/servicecidrs".to_owned(),
            Self::ConfigMap => format!("/api/v1/namespaces/{}/configmaps", options.namespace),
            Self::Service => "/api/v1/services".to_owned(),
            Self::EndpointSlice => "/apis/discovery.k8s.io/v1/endpointslices".to_owned(),
        }
    }

    /// What the API server is asked to leave out, as it would be thrown away here.
    fn selectors(self, options: &Options) -> Vec<(&'static str, String)> {
        let selection = &options.selection;
        match self {
            Self::Node => vec![("fieldSelector", format!("metadata.name={}", selection.node))],
            Self::ServiceCidr => Vec::new(),
            Self::ConfigMap => vec![("labelSelector", format!("{LABEL_POLICY}=true"))],
            Self::Service => {
                let proxy = match selection.service_proxy_name.as_str() {
                    "" => format!("!{LABEL_PROXY_NAME}"),
                    name => format!("{LABEL_PROXY_NAME}={name}"),
                };
                vec![("labelSelector", proxy), ("fieldSelector", "spec.clusterIP!=None".to_owned())]
            }
            Self::EndpointSlice => vec![("labelSelector", format!("!{LABEL_HEADLESS}"))],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the API server is asked, less what differs from request to request.
#[derive(Debug)]
pub(super) struct Query {
    path: String,
    selectors: Vec<(&'static str, String)>,
}

impl Query {
    pub(super) fn new(kind: Kind, options: &Options) -> Self {
        Self { path: kind.path(options), selectors: kind.selectors(options) }
    }

    /// Path and query of one page of a list. The list is as of now, not as of some cache: it decides what is gone.
    pub(super) fn page(&self, limit: u32, token: Option<&str>) -> String {
        let limit = limit.to_string();
        let more = token.map(|token| ("continue", token));
        self.with([("limit", limit.as_str())].into_iter().chain(more))
    }

    /// Path and query of a watch from `version` on.
    pub(super) fn watch(&self, version: &str, seconds: u64) -> String {
        let seconds = seconds.to_string();
        let own = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", seconds.as_str()),
        ];
        self.with(own)
    }

    fn with<'a>(&'a self, own: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let selectors = self.selectors.iter().map(|(name, value)| (*name, value.as_str()));
        let query = Serializer::new(String::new()).extend_pairs(selectors.chain(own)).finish();
        format!("{}?{query}", self.path)
    }
}
