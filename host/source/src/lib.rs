//! Where objects come from.
//!
//! In go Kubernetes objects, out come the model's [`Event`](weir_model::Event)s: first a complete list, then
//! only what changed. [`manifests`] reads a directory of ordinary Kubernetes YAML and JSON; no cluster is
//! needed. [`kubernetes`] follows the API server of a cluster. [`convert`] holds the rules of which objects count, for
//! both.
//!
//! A bad object is reported with its name and field, and costs nothing but itself.
#![forbid(unsafe_code)]

pub mod convert;
pub mod kubernetes;
pub mod manifests;

pub use convert::{ConfigMapEvent, ConfigMapSpec, Selection};
pub use manifests::{Loaded, Manifests, Problem, Severity, watch};
