use anyhow::Context;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::manifests::{self, OVERLAYS, Object};
use crate::tools::Scratch;

/// Holds an object against the type of its kind: every field must be known and of the right type.
///
/// # Errors
/// When a field is not, naming it, or the kind has no type here.
pub(crate) fn check(object: &Object) -> anyhow::Result<()> {
    let value = &unwrapped(object.0.clone());
    let decoded = match (object.text("/apiVersion"), object.kind()) {
        ("v1", "Namespace") => strict::<Namespace>(value),
        ("v1", "ServiceAccount") => strict::<ServiceAccount>(value),
        ("v1", "ConfigMap") => strict::<ConfigMap>(value),
        ("v1", "Service") => strict::<Service>(value),
        ("apps/v1", "DaemonSet") => strict::<DaemonSet>(value),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => strict::<ClusterRole>(value),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => strict::<ClusterRoleBinding>(value),
        ("rbac.authorization.k8s.io/v1", "Role") => strict::<Role>(value),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => strict::<RoleBinding>(value),
        (version, kind) => Err(anyhow::anyhow!("no type for {kind:?} of {version:?}")),
    };
    decoded.with_context(|| format!("{} {}", object.kind(), object.name()))
}

/// [`check`] for all.
///
/// # Errors
/// When there is none, or one is bad.
pub(crate) fn check_all(objects: &[Object]) -> anyhow::Result<()> {
    anyhow::ensure!(!objects.is_empty(), "no object");
    objects.iter().try_for_each(check)
}

/// Takes the line breaks out of `binaryData`, as the API server does (Go's base64 passes over them): kustomize wraps.
fn unwrapped(mut value: Value) -> Value {
    for data in value.get_mut("binaryData").and_then(Value::as_object_mut).into_iter().flat_map(|map| map.values_mut())
    {
        if let Value::String(text) = data {
            text.retain(|c| c != '\n');
        }
    }
    value
}

fn strict<T: DeserializeOwned>(value: &Value) -> anyhow::Result<()> {
    let mut unknown = Vec::new();
    // An optional field on the way stands there as a question mark.
    let mut ignored = |path: serde_ignored::Path<'_>| unknown.push(path.to_string().replace(".?", ""));
    serde_path_to_error::deserialize::<_, T>(serde_ignored::Deserializer::new(value, &mut ignored))?;
    anyhow::ensure!(unknown.is_empty(), "unknown fields: {}", unknown.join(", "));
    Ok(())
}

pub(crate) fn files() -> anyhow::Result<()> {
    check_all(&manifests::base_files()?)?;
    for folder in ["cleanup-weir", "cleanup-kube-proxy"] {
        let text = std::fs::read_to_string(manifests::kustomize_folder().join(folder).join("cleanup.yaml"))?;
        check_all(&manifests::parse(&text)?).context(folder)?;
    }
    Ok(())
}

pub(crate) fn overlays() -> anyhow::Result<()> {
    OVERLAYS.iter().try_for_each(|name| check_all(&manifests::overlay(name)?).context(*name))
}

/// The check itself can fail.
pub(crate) fn strictness() -> anyhow::Result<()> {
    let objects = manifests::base_files()?;
    let good = manifests::only(&objects, "DaemonSet")?;
    let broken = |pointer: &str, field: &str, value: Value| -> anyhow::Result<String> {
        let mut object = good.clone();
        let parent = object.0.pointer_mut(pointer).and_then(Value::as_object_mut).context("an object")?;
        parent.insert(field.to_owned(), value);
        check(&object).map_or_else(|error| Ok(format!("{error:#}")), |()| anyhow::bail!("{pointer}/{field} passes"))
    };
    let said = broken("/spec/template/spec", "hostNetwrok", json!(true))?;
    anyhow::ensure!(said.contains("spec.template.spec.hostNetwrok"), "{said}");
    let said = broken("/spec/template/spec/containers/0/securityContext", "runAsUser", json!("nobody"))?;
    anyhow::ensure!(said.contains("runAsUser"), "{said}");
    Ok(())
}

/// What docs/getting-started.md does with a policy, up to the API server.
pub(crate) fn policy() -> anyhow::Result<()> {
    let (name, component) =
        weir_policy::BUILT_IN.iter().find(|(name, _)| *name == "random").context("the policy `random`")?;
    let scratch = Scratch::new(name)?;
    let kustomization = manifests::kustomize_folder().join("policies/kustomization.yaml");
    std::fs::copy(kustomization, scratch.path().join("kustomization.yaml"))?;
    std::fs::write(scratch.path().join("policy.wasm"), component)?;
    let objects = manifests::kustomize(scratch.path())?;
    check_all(&objects)?;
    let object = manifests::only(&objects, "ConfigMap")?;
    anyhow::ensure!(object.name() == "first-half", "its name is the policy's, without a digest: {}", object.name());
    anyhow::ensure!(object.text("/metadata/labels/weir.proxy~1policy") == "true", "the label that Weir selects by");
    anyhow::ensure!(object.text("/metadata/namespace") == weir_tests::requests::NAMESPACE, "Weir's namespace");
    let map: ConfigMap = serde_json::from_value(unwrapped(object.0.clone()))?;
    let stored = map.binary_data.and_then(|mut data| data.remove("policy.wasm")).context("binaryData policy.wasm")?;
    anyhow::ensure!(stored.0 == *component, "the component came out changed");
    Ok(())
}
