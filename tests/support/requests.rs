//! What Weir asks the Kubernetes API server. The rights in `deploy/` are held against this table; an API server that
//! records what it is asked can be held against it as well.

use std::collections::BTreeSet;

/// The namespace Weir lives in, as the manifests of `deploy/` name it.
pub const NAMESPACE: &str = "weir-system";

/// One kind of request, in the words of RBAC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// `None` where it goes to the whole cluster or to any namespace.
    pub namespace: Option<String>,
    /// API group, empty for the core group.
    pub group: String,
    /// Resource, in the plural.
    pub resource: String,
    /// `list`, `watch`, `get`, `create`, `patch`, …
    pub verb: String,
}

impl Request {
    /// The request behind an HTTP method and target, as an API server sees it; `None` where it asks for no resource
    /// (`/version`, discovery).
    #[must_use]
    pub fn of(method: &str, target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut parts = path.trim_matches('/').split('/');
        let group = match parts.next()? {
            "api" => "",
            "apis" => parts.next()?,
            _ => return None,
        };
        let _version = parts.next()?;
        let (namespace, resource, name) = match (parts.next()?, parts.next(), parts.next()) {
            // A namespace is a resource, and where resources are.
            ("namespaces", Some(namespace), Some(resource)) => (Some(namespace), resource, parts.next()),
            (resource, name, _) => (None, resource, name),
        };
        let watched = query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
        let verb = match method {
            "GET" if watched => "watch",
            "GET" if name.is_none() => "list",
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => return None,
        };
        Some(Self {
            namespace: namespace.map(str::to_owned),
            group: group.to_owned(),
            resource: resource.to_owned(),
            verb: verb.to_owned(),
        })
    }

    /// Whether the table has it, for its namespace or for any.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        let table = all();
        table.contains(self) || table.contains(&Self { namespace: None, ..self.clone() })
    }
}

/// Namespace, group, resource, verbs.
type Row = (Option<&'static str>, &'static str, &'static str, &'static [&'static str]);

/// Every request, and who makes it.
const ROWS: &[Row] = &[
    // The watch of the cluster. Watches begin with a list; nothing is ever read singly.
    (None, "", "services", &["list", "watch"]),
    (None, "discovery.k8s.io", "endpointslices", &["list", "watch"]),
    (None, "", "nodes", &["list", "watch"]),
    (None, "networking.k8s.io", "servicecidrs", &["list", "watch"]),
    // The watch of policies.
    (Some(NAMESPACE), "", "configmaps", &["list", "watch"]),
    // Events: the first of a kind is created, those that repeat it are patched into it.
    (None, "events.k8s.io", "events", &["create", "patch"]),
];

/// Every request Weir makes.
#[must_use]
pub fn all() -> BTreeSet<Request> {
    let rows = ROWS.iter().flat_map(|(namespace, group, resource, verbs)| {
        verbs.iter().map(|verb| Request {
            namespace: namespace.map(str::to_owned),
            group: (*group).to_owned(),
            resource: (*resource).to_owned(),
            verb: (*verb).to_owned(),
        })
    });
    rows.collect()
}
