//! One object as the API server sends it, into the model's terms.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use weir_model::{NodeSpec, ObjectKey, ServiceSpec, SliceSpec};

use super::Kind;
use crate::convert::{self, Converted, FieldProblem};
use crate::{ConfigMapSpec, Selection};

/// An object that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Node(NodeSpec),
    ServiceCidr(Vec<IpNet>),
    ConfigMap(ConfigMapSpec),
    Service(ServiceSpec),
    Slice(SliceSpec),
}

/// What can be said of an object without understanding it.
#[derive(Debug)]
pub(super) struct Outline {
    /// `None` when even the name cannot be read.
    pub(super) key: Option<ObjectKey>,
    /// `metadata.resourceVersion`.
    pub(super) version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Named {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    namespace: Option<String>,
    name: Option<String>,
    resource_version: Option<String>,
}

impl Outline {
    /// The outline of the object in `text`, whatever else it holds.
    pub(super) fn of(kind: Kind, text: &str) -> Self {
        let Metadata { namespace, name, resource_version } =
            serde_json::from_str::<Named>(text).unwrap_or_default().metadata;
        let namespace = namespace.filter(|_| kind.is_namespaced()).unwrap_or_default();
        let name = name.filter(|name| !name.is_empty());
        Self { key: name.map(|name| ObjectKey { namespace, name }), version: resource_version }
    }
}

/// Reads the object in `text`. What can be left out without harm to the rest goes to `warnings`.
///
/// # Errors
/// The field that stands against it.
pub(super) fn read(
    kind: Kind,
    text: &str,
    selection: &Selection,
    warnings: &mut Vec<FieldProblem>,
) -> Result<Converted<Object>, FieldProblem> {
    match kind {
        Kind::Node => convert::node(&typed::<Node>(text)?).map(|node| Converted::Taken(Object::Node(node))),
        Kind::ServiceCidr => convert::service_cidr(&typed::<ServiceCIDR>(text)?)
            .map(|cidrs| Converted::Taken(Object::ServiceCidr(cidrs))),
        Kind::ConfigMap => {
            convert::config_map(typed::<ConfigMap>(text)?).map(|map| Converted::Taken(Object::ConfigMap(map)))
        }
        Kind::Service => {
            convert::service(&typed::<Service>(text)?, selection, warnings).map(|found| found.map(Object::Service))
        }
        Kind::EndpointSlice => {
            convert::slice(&typed::<EndpointSlice>(text)?, warnings).map(|found| found.map(Object::Slice))
        }
    }
}

fn typed<T: DeserializeOwned>(text: &str) -> Result<T, FieldProblem> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| FieldProblem { field: error.path().to_string(), message: error.inner().to_string() })
}
