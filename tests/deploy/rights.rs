use std::collections::BTreeSet;

use anyhow::Context;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use weir_tests::requests::{self, NAMESPACE, Request};

use crate::manifests::{self, Object};

pub(crate) fn exact() -> anyhow::Result<()> {
    let objects = manifests::base_files()?;
    compare(&granted(&objects)?, &requests::all())
}

/// The comparison itself can fail, both ways.
pub(crate) fn both_directions() -> anyhow::Result<()> {
    let granted = granted(&manifests::base_files()?)?;
    let watch = |namespace: Option<&str>, resource: &str| Request {
        namespace: namespace.map(str::to_owned),
        group: String::new(),
        resource: resource.to_owned(),
        verb: "watch".to_owned(),
    };
    let mut asked = requests::all();
    anyhow::ensure!(asked.insert(watch(None, "secrets")), "nobody watches Secrets");
    let said = compare(&granted, &asked).err().context("a lack is not found")?.to_string();
    anyhow::ensure!(said.contains("secrets"), "{said}");
    let mut asked = requests::all();
    anyhow::ensure!(asked.remove(&watch(Some(NAMESPACE), "configmaps")), "policies are watched");
    let said = compare(&granted, &asked).err().context("an excess is not found")?.to_string();
    anyhow::ensure!(said.contains("configmaps"), "{said}");
    Ok(())
}

/// What an API server records can be held against the same table.
pub(crate) fn recorded() -> anyhow::Result<()> {
    let expected = [
        ("GET", "/api/v1/services?labelSelector=a&limit=500"),
        ("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dn1&watch=true&resourceVersion=7"),
        ("GET", "/apis/discovery.k8s.io/v1/endpointslices?watch=1"),
        ("GET", "/apis/networking.k8s.io/v1/servicecidrs"),
        ("GET", "/api/v1/namespaces/weir-system/configmaps?labelSelector=weir.proxy%2Fpolicy%3Dtrue"),
        ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events"),
    ];
    let unexpected = [
        ("GET", "/api/v1/configmaps"),
        ("GET", "/api/v1/namespaces/kube-system/configmaps"),
        ("GET", "/api/v1/namespaces/weir-system/configmaps/weir-config"),
        ("GET", "/api/v1/namespaces/weir-system"),
        ("PUT", "/api/v1/namespaces/shop/services/web/status"),
        ("DELETE", "/api/v1/nodes/n1"),
        ("PATCH", "/apis/events.k8s.io/v1/namespaces/shop/events/web.17"),
    ];
    for ((method, target), wanted) in expected
        .into_iter()
        .map(|request| (request, true))
        .chain(unexpected.into_iter().map(|request| (request, false)))
    {
        let request = Request::of(method, target).with_context(|| format!("{method} {target}"))?;
        anyhow::ensure!(request.is_expected() == wanted, "{method} {target}: {request:?}");
    }
    anyhow::ensure!(Request::of("GET", "/version").is_none() && Request::of("GET", "/apis").is_none(), "no resource");
    Ok(())
}

/// # Errors
/// When something is asked without the right to it, or the right to something is never used.
fn compare(granted: &BTreeSet<Request>, asked: &BTreeSet<Request>) -> anyhow::Result<()> {
    let lacks: Vec<_> = asked.difference(granted).collect();
    let excess: Vec<_> = granted.difference(asked).collect();
    anyhow::ensure!(
        lacks.is_empty() && excess.is_empty(),
        "not granted: {lacks:?}; granted, but never asked: {excess:?}"
    );
    Ok(())
}

/// What the ServiceAccount of the DaemonSet may ask, by the roles bound to it.
fn granted(objects: &[Object]) -> anyhow::Result<BTreeSet<Request>> {
    let account = manifests::only(objects, "DaemonSet")?.text("/spec/template/spec/serviceAccountName");
    let cluster: ClusterRole = decode(objects, "ClusterRole")?;
    let role: Role = decode(objects, "Role")?;
    let everywhere: ClusterRoleBinding = decode(objects, "ClusterRoleBinding")?;
    let here: RoleBinding = decode(objects, "RoleBinding")?;
    let bound = [(everywhere.role_ref, everywhere.subjects), (here.role_ref, here.subjects)];
    let named = [("ClusterRole", cluster.metadata.name.as_deref()), ("Role", role.metadata.name.as_deref())];
    for ((reference, subjects), (kind, name)) in bound.iter().zip(named) {
        anyhow::ensure!(
            reference.kind == kind && Some(&*reference.name) == name,
            "{reference:?} is not {kind} {name:?}"
        );
        let [subject] = subjects.as_deref().unwrap_or_default() else { anyhow::bail!("one subject: {subjects:?}") };
        let subject = (&*subject.kind, &*subject.name, subject.namespace.as_deref());
        anyhow::ensure!(subject == ("ServiceAccount", account, Some(NAMESPACE)), "{subject:?}");
    }
    for namespace in [&role.metadata.namespace, &here.metadata.namespace] {
        anyhow::ensure!(namespace.as_deref() == Some(NAMESPACE), "{namespace:?}");
    }
    let mut granted = BTreeSet::new();
    for (rules, namespace) in [(cluster.rules, None), (role.rules, Some(NAMESPACE))] {
        for rule in rules.unwrap_or_default() {
            expand(&rule, namespace, &mut granted)?;
        }
    }
    Ok(granted)
}

fn expand(rule: &PolicyRule, namespace: Option<&str>, into: &mut BTreeSet<Request>) -> anyhow::Result<()> {
    anyhow::ensure!(rule.non_resource_urls.is_none() && rule.resource_names.is_none(), "not understood here: {rule:?}");
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                anyhow::ensure!(![group, resource, verb].iter().any(|word| word.contains('*')), "a wildcard: {rule:?}");
                into.insert(Request {
                    namespace: namespace.map(str::to_owned),
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                });
            }
        }
    }
    Ok(())
}

fn decode<T: serde::de::DeserializeOwned>(objects: &[Object], kind: &str) -> anyhow::Result<T> {
    serde_json::from_value(manifests::only(objects, kind)?.0.clone()).with_context(|| kind.to_owned())
}
