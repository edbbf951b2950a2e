//! Names, labels and annotations.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weir_model::ObjectKey;

use super::FieldProblem;

/// Annotation of a Service: name of the policy it asks for.
pub const ANNOTATION_POLICY: &str = "weir.proxy/policy";

/// Annotation of a Service: JSON for that policy.
pub const ANNOTATION_POLICY_SETTINGS: &str = "weir.proxy/policy-settings";

/// Annotation of an EndpointSlice: the weight of its endpoints, 0 (drain) to 65535.
pub const ANNOTATION_WEIGHT: &str = "weir.proxy/weight";

/// Label of a ConfigMap that carries a policy; its value is `true`.
pub const LABEL_POLICY: &str = "weir.proxy/policy";

/// Namespace of an object that names none, as with `kubectl`.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Label of a Service that another proxy handles.
pub(crate) const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// Label of an EndpointSlice of a headless Service.
pub(crate) const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";

/// Label of an EndpointSlice: the Service it belongs to, in its own namespace.
pub(super) const LABEL_SERVICE: &str = "kubernetes.io/service-name";

/// Namespace and name.
pub(super) fn key(meta: &ObjectMeta) -> Result<ObjectKey, FieldProblem> {
    let name = meta.name.clone().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| FieldProblem::new("metadata.name", "required"))?;
    Ok(ObjectKey { namespace: namespace(meta).to_owned(), name })
}

/// The namespace, or the default one.
pub(super) fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
}

pub(super) fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(name).map(String::as_str)
}

pub(super) fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The path of an annotation, for messages.
pub(super) fn annotation_field(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}
