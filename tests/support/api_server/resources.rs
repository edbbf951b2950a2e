//! The kinds that are served.

/// A kind, and where it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// API group; empty for the core one.
    pub(super) group: &'static str,
    /// Name in a path, as in `services`.
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) short: &'static str,
    pub(super) namespaced: bool,
}

const fn resource(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static str,
    namespaced: bool,
) -> Resource {
    Resource { group, plural, kind, short, namespaced }
}

/// All of them; every group is served as `v1`.
pub(super) const ALL: &[Resource] = &[
    resource("", "services", "Service", "svc", true),
    resource("", "configmaps", "ConfigMap", "cm", true),
    resource("", "nodes", "Node", "no", false),
    resource("", "namespaces", "Namespace", "ns", false),
    resource("discovery.k8s.io", "endpointslices", "EndpointSlice", "", true),
    resource("networking.k8s.io", "servicecidrs", "ServiceCIDR", "", false),
    resource("events.k8s.io", "events", "Event", "ev", true),
    // What is applied to install Weir. Nobody acts upon it.
    resource("", "serviceaccounts", "ServiceAccount", "sa", true),
    resource("apps", "daemonsets", "DaemonSet", "ds", true),
    resource("rbac.authorization.k8s.io", "roles", "Role", "", true),
    resource("rbac.authorization.k8s.io", "rolebindings", "RoleBinding", "", true),
    resource("rbac.authorization.k8s.io", "clusterroles", "ClusterRole", "", false),
    resource("rbac.authorization.k8s.io", "clusterrolebindings", "ClusterRoleBinding", "", false),
];

/// The groups beside the core one.
pub(super) const GROUPS: [&str; 5] =
    ["discovery.k8s.io", "networking.k8s.io", "events.k8s.io", "apps", "rbac.authorization.k8s.io"];

impl Resource {
    pub(super) fn find(group: &str, plural: &str) -> Option<&'static Self> {
        ALL.iter().find(|resource| (resource.group, resource.plural) == (group, plural))
    }

    /// By the `kind` of an object.
    pub(super) fn of_kind(kind: &str) -> Option<&'static Self> {
        ALL.iter().find(|resource| resource.kind == kind)
    }

    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) }
    }
}
