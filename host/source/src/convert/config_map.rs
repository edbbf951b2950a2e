//! ConfigMaps: they carry policies and their settings.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use weir_model::ObjectKey;

use super::{FieldProblem, meta};

/// A ConfigMap, cut down to what policies are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMapSpec {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `data`.
    pub data: BTreeMap<String, String>,
    /// `binaryData`, decoded.
    pub binary_data: BTreeMap<String, Vec<u8>>,
}

/// Label of a ConfigMap that carries a policy; its value must be `true`.
pub const LABEL_POLICY: &str = "weir.proxy/policy";

impl ConfigMapSpec {
    /// Whether it carries a policy.
    #[must_use]
    pub fn is_policy(&self) -> bool {
        self.labels.get(LABEL_POLICY).is_some_and(|value| value == "true")
    }
}

/// What happened to the ConfigMaps that carry policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigMapEvent {
    /// One appeared or changed.
    Applied(ConfigMapSpec),
    /// One went away, or is not labelled as a policy any more.
    Gone(ObjectKey),
    /// A complete list has ended: those that were applied and not gone since are all there are. Comes before the first
    /// event of anything else.
    Listed,
}

/// The ConfigMap in our own terms.
///
/// # Errors
/// When it has no name.
pub fn config_map(object: ConfigMap) -> Result<ConfigMapSpec, FieldProblem> {
    Ok(ConfigMapSpec {
        key: meta::key(&object.metadata)?,
        labels: object.metadata.labels.unwrap_or_default(),
        data: object.data.unwrap_or_default(),
        binary_data: object.binary_data.unwrap_or_default().into_iter().map(|(name, bytes)| (name, bytes.0)).collect(),
    })
}
