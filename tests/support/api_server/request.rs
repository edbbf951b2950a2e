//! What a request is about.

use std::collections::BTreeMap;
use std::time::Instant;

use hyper::Method;

use super::faults::Asked;
use super::resources::Resource;

/// A request for objects of a kind.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) resource: &'static Resource,
    /// Empty for all namespaces.
    pub(super) namespace: String,
    /// Empty for all objects.
    pub(super) name: String,
    /// `status` and the like; empty for the object itself.
    pub(super) subresource: String,
    pub(super) query: BTreeMap<String, String>,
}

impl Target {
    /// Reads path and query; `None` when they lead to no kind that is served.
    pub(super) fn parse(path: &str, query: Option<&str>) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let group = match parts.next()? {
            "api" => "",
            "apis" => parts.next()?,
            _ => return None,
        };
        if parts.next()? != "v1" {
            return None;
        }
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && rest != ["status"] => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource] => (*plural, *name, *subresource),
            _ => return None,
        };
        let query = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        Some(Self {
            resource: Resource::find(group, plural)?,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            query,
        })
    }

    /// Whether several objects are watched.
    pub(super) fn is_watch(&self) -> bool {
        self.query.get("watch").is_some_and(|value| matches!(value.as_str(), "true" | "1"))
    }

    /// The request as a role would name it.
    pub(super) fn asked(&self, method: &Method) -> Asked {
        let verb = match *method {
            Method::GET if self.is_watch() => "watch",
            Method::GET if self.name.is_empty() => "list",
            Method::GET => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "other",
        };
        let slash = if self.subresource.is_empty() { "" } else { "/" };
        Asked {
            verb,
            group: self.resource.group.to_owned(),
            resource: format!("{}{slash}{}", self.resource.plural, self.subresource),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            query: self.query.clone(),
            at: Instant::now(),
            code: 0,
        }
    }
}
