use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::manifests::{self, Object};
use crate::tools::{self, Need, Scratch};
use crate::typed;

/// The chart's values that make it the same as an overlay.
const TWINS: &[(&str, &str)] = &[
    ("base", ""),
    ("trial", "serviceProxyName=weir,health.port=10356,metrics.port=10349,sysctls.enabled=false"),
    ("replace-kube-proxy", "apiServer.host=api-server.invalid"),
];

/// What is refused, and what the refusal must name.
const REFUSED: &[(&str, &str)] = &[
    ("health.prt=1", "prt"),
    ("health.port=70000", "/health/port"),
    ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
    ("image.digest=sha256:12", "/image/digest"),
    ("apiServer.host=https://a.example", "/apiServer/host"),
    ("serviceProxyName=-a", "/serviceProxyName"),
    ("policies.Bad_Name.component=AAAA", "Bad_Name"),
    ("policies.p.settings.a=1", "component"),
    ("policies.p.component=AAAA,policies.p.failStrategy=reject", "failStrategy"),
    ("kubeProxyConfiguration.healthzBindAddress=a", "/kubeProxyConfiguration/healthzBindAddress"),
    ("maxUnavailable=some", "/maxUnavailable"),
    ("replicas=3", "replicas"),
];

/// Objects by kind and name.
type Rendered = BTreeMap<(String, String), Value>;

pub(crate) fn lint() -> anyhow::Result<()> {
    tools::run(Need::Helm, &["lint", "--strict", &folder()]).map(drop)
}

pub(crate) fn equals_overlays() -> anyhow::Result<()> {
    for (overlay, values) in TWINS {
        let kustomize = comparable(manifests::overlay(overlay)?)?;
        let chart = comparable(template(&["--set", values])?)?;
        let (ours, theirs): (Vec<_>, Vec<_>) = (kustomize.keys().collect(), chart.keys().collect());
        anyhow::ensure!(ours == theirs, "{overlay}: {ours:?} in the overlay, {theirs:?} in the chart");
        for (key, wanted) in &kustomize {
            let mut differences = Vec::new();
            differ(wanted, &chart[key], "", &mut differences);
            anyhow::ensure!(differences.is_empty(), "{overlay}: {key:?}: {}", differences.join("; "));
        }
    }
    Ok(())
}

pub(crate) fn everything_set() -> anyhow::Result<()> {
    let values = json!({
        "image": {"repository": "registry.example/weir", "digest": format!("sha256:{:064}", 0)},
        "imagePullSecrets": ["pull"],
        "apiServer": {"host": "10.0.0.1", "port": 443},
        "serviceProxyName": "weir",
        "health": {"address": "[::]", "port": 1},
        "kubeProxyConfiguration": {"mode": "nftables", "clusterCIDR": "10.244.0.0/16"},
        "policies": {"first-half": {"component": "AGFzbQ==", "settings": {"a": [1]}, "failStrategy": "random"}},
        "maxUnavailable": 2,
        "podAnnotations": {"a": "b"},
    });
    let scratch = Scratch::new("values")?;
    let file = scratch.path().join("values.json");
    std::fs::write(&file, values.to_string())?;
    let objects = template(&["--values", file.to_str().context("a path in UTF-8")?])?;
    typed::check_all(&objects)?;
    let set = manifests::only(&objects, "DaemonSet")?;
    let image = set.text("/spec/template/spec/containers/0/image");
    anyhow::ensure!(image == format!("registry.example/weir@sha256:{:064}", 0), "{image}");
    let config = objects.iter().find(|object| object.name() == "weir-config").context("a configuration")?;
    let documents = manifests::parse(config.text("/data/config.yaml"))?;
    anyhow::ensure!(documents[0].text("/healthzBindAddress") == "[::]:1", "{}", documents[0].0);
    anyhow::ensure!(documents[0].text("/clusterCIDR") == "10.244.0.0/16", "{}", documents[0].0);
    let policy = objects.iter().find(|object| object.name() == "first-half").context("a policy")?;
    anyhow::ensure!(policy.0["binaryData"] == json!({"policy.wasm": "AGFzbQ=="}), "{}", policy.0);
    anyhow::ensure!(policy.0["data"] == json!({"settings": "{\"a\":[1]}", "fail-strategy": "random"}), "{}", policy.0);
    anyhow::ensure!(policy.text("/metadata/labels/weir.proxy~1policy") == "true", "{}", policy.0);
    Ok(())
}

pub(crate) fn schema() -> anyhow::Result<()> {
    for (values, named) in REFUSED {
        let said = template(&["--set", values]).err().with_context(|| format!("{values} is taken"))?.to_string();
        anyhow::ensure!(said.contains("schema") && said.contains(named), "{values}: {named} is not named: {said}");
    }
    Ok(())
}

/// `fail-strategy` names a built-in policy; the schema lists them.
pub(crate) fn fail_strategies() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(tools::top().join("deploy/helm/weir/values.schema.json"))?;
    let schema: Value = serde_json::from_str(&text)?;
    let listed = "/properties/policies/additionalProperties/properties/failStrategy/enum";
    let listed = schema.pointer(listed).context("failStrategy")?;
    let known: Value = weir_policy::BUILT_IN.iter().map(|(name, _)| *name).collect();
    anyhow::ensure!(*listed == known, "the schema lists {listed}, there are {known}");
    Ok(())
}

/// Adds a line for each place below `path` where the two are not the same.
fn differ(overlay: &Value, chart: &Value, path: &str, into: &mut Vec<String>) {
    match (overlay, chart) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            for key in keys {
                let value = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differ(&value(ours), &value(theirs), &format!("{path}/{key}"), into);
            }
        }
        (ours, theirs) if ours != theirs => into.push(format!("{path}: {ours} in the overlay, {theirs} in the chart")),
        _ => {}
    }
}

fn folder() -> String {
    tools::top().join("deploy/helm/weir").display().to_string()
}

fn template(arguments: &[&str]) -> anyhow::Result<Vec<Object>> {
    let folder = folder();
    let mut all = vec!["template", "weir", &folder, "--namespace", weir_tests::requests::NAMESPACE];
    all.extend(arguments);
    manifests::parse(&tools::run(Need::Helm, &all)?)
}

/// Leaves out what the two tools must do differently: Helm makes no namespace, has labels of its own, and rolls the
/// pods by an annotation where kustomize gives the ConfigMap another name.
fn comparable(objects: Vec<Object>) -> anyhow::Result<Rendered> {
    let mut rendered = Rendered::new();
    for mut object in objects {
        if object.kind() == "Namespace" {
            continue;
        }
        let digest = if object.kind() == "DaemonSet" {
            object.text("/spec/template/spec/volumes/0/configMap/name").strip_prefix("weir-config").map(str::to_owned)
        } else {
            object.name().strip_prefix("weir-config").map(str::to_owned)
        };
        if let Some(labels) = object.0.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.retain(|key, _| key == "app.kubernetes.io/name");
        }
        if let Some(template) = object.0.pointer_mut("/spec/template/metadata").and_then(Value::as_object_mut) {
            template.remove("annotations");
        }
        // Kubernetes takes variables by name; a patch puts its own first.
        if let Some(variables) =
            object.0.pointer_mut("/spec/template/spec/containers/0/env").and_then(Value::as_array_mut)
        {
            variables.sort_by_key(|variable| variable["name"].to_string());
        }
        // As values, so that order and comments do not count.
        if let Some(text) = object.0.pointer_mut("/data/config.yaml") {
            let documents = manifests::parse(text.as_str().context("text")?)?;
            *text = documents.into_iter().map(|document| document.0).collect();
        }
        let mut text = serde_json::to_string(&object.0)?;
        if let Some(digest) = digest.filter(|digest| !digest.is_empty()) {
            text = text.replace(&format!("weir-config{digest}"), "weir-config");
        }
        let object = Object(serde_json::from_str(&text)?);
        rendered.insert((object.kind().to_owned(), object.name().to_owned()), object.0);
    }
    Ok(rendered)
}
