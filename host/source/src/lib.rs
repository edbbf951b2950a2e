//! Where objects come from.
//!
//! In go Kubernetes objects, out come the model's [`Event`](weir_model::Event)s: first a complete list, then
//! only what changed. [`manifests`] reads a directory of ordinary Kubernetes YAML and JSON; no cluster is
//! needed. [`convert`] holds the rules of which objects count, for this source and for those to come.
//!
//! A bad object is reported with its file, document and field, and costs nothing but itself.
#![forbid(unsafe_code)]

pub mod convert;
pub mod manifests;

pub use convert::{ConfigMapEvent, ConfigMapSpec, Selection};
pub use manifests::{Loaded, Manifests, Problem, Severity, watch};
