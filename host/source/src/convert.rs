//! From Kubernetes API types to the model's terms, by kube-proxy's rules of which objects count.
//!
//! Pure: an object goes in, its spec or the reason against it comes out. Every source uses these rules, so
//! that a manifest means the same whichever way it comes.

mod address;
mod config_map;
mod meta;
mod node;
mod service;
mod slice;

#[cfg(test)]
mod tests;

use std::fmt;

pub use config_map::{ConfigMapEvent, ConfigMapSpec, LABEL_POLICY, config_map};
pub use meta::{ANNOTATION_POLICY, ANNOTATION_POLICY_SETTINGS, ANNOTATION_WEIGHT, DEFAULT_NAMESPACE};
pub use node::{node, service_cidr};
pub use service::service;
pub use slice::slice;

/// Which objects this proxy is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Name of this node; of Node objects only this one counts.
    pub node: String,
    /// Serve the Services whose label `service.kubernetes.io/service-proxy-name` says this; when empty, those without
    /// that label.
    pub service_proxy_name: String,
}

/// What a well-formed object comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Converted<T> {
    /// It counts.
    Taken(T),
    /// Not for us; the sentence says why.
    Ignored(&'static str),
}

/// What is wrong with one field of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldProblem {
    /// Path of the field, as in `spec.ports[0].port`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl FieldProblem {
    fn new(field: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { field: field.into(), message: message.to_string() }
    }
}
