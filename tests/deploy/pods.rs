use anyhow::Context;
use serde_json::{Value, json};
use weir::config::Config;

use crate::manifests::{self, Object};

/// Where pods of a DaemonSet are described.
const POD: &str = "/spec/template/spec";

/// Ports kube-proxy has on its nodes (its `--healthz-bind-address` and `--metrics-bind-address`).
const KUBE_PROXY_PORTS: [u64; 2] = [10256, 10249];

/// What a container must say of itself that may do netlink and nothing else.
pub(crate) fn confined(capabilities: &Value) -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": capabilities,
    })
}

pub(crate) fn base() -> anyhow::Result<()> {
    let objects = manifests::base_files()?;
    hardened(manifests::only(&objects, "DaemonSet")?)
}

pub(crate) fn overlays() -> anyhow::Result<()> {
    for name in ["base", "trial", "replace-kube-proxy"] {
        let objects = manifests::overlay(name)?;
        let set = manifests::only(&objects, "DaemonSet")?;
        hardened(set).and_then(|()| probes(&objects)).and_then(|()| configuration(&objects).map(drop)).context(name)?;
    }
    let objects = manifests::overlay("cleanup-weir")?;
    let set = manifests::only(&objects, "DaemonSet")?;
    let wanted = confined(&json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}));
    same(set, &format!("{POD}/initContainers/0/securityContext"), &wanted)?;
    same(set, &format!("{POD}/initContainers/0/args"), &json!(["cleanup"]))
}

/// Everything that makes the DaemonSet what it should be on a node.
fn hardened(set: &Object) -> anyhow::Result<()> {
    let at = |field: &str| format!("{POD}/{field}");
    same(set, "/spec/updateStrategy", &json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}))?;
    same(set, &at("hostNetwork"), &json!(true))?;
    same(set, &at("priorityClassName"), &json!("system-node-critical"))?;
    same(set, &at("tolerations"), &json!([{"operator": "Exists"}]))?;
    same(set, &at("nodeSelector"), &json!({"kubernetes.io/os": "linux"}))?;
    same(set, &at("securityContext"), &json!({"seccompProfile": {"type": "RuntimeDefault"}}))?;
    same(set, &at("serviceAccountName"), &json!("weir"))?;
    let grace = set.get(&at("terminationGracePeriodSeconds"))?.as_u64().unwrap_or(u64::MAX);
    anyhow::ensure!(grace <= 10, "a pod that keeps its rules has nothing to do for {grace} s at its end");

    let containers = set.get(&at("containers"))?.as_array().map_or(0, Vec::len);
    anyhow::ensure!(containers == 1, "{containers} containers");
    let main = |field: &str| format!("{POD}/containers/0/{field}");
    same(set, &main("securityContext"), &confined(&json!({"drop": ["ALL"], "add": ["NET_ADMIN"]})))?;
    let variables = set.get(&main("env"))?.as_array().context("a list")?;
    let node = json!({"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}});
    anyhow::ensure!(variables.contains(&node), "the node's name is not among {variables:?}");
    same(set, &main("livenessProbe/httpGet/path"), &json!("/livez"))?;
    same(set, &main("readinessProbe/httpGet/path"), &json!("/readyz"))?;
    set.get(&main("resources/limits/memory"))?;
    anyhow::ensure!(set.get(&main("resources/limits/cpu")).is_err(), "a proxy that is throttled is late");

    // The one privileged container sets sysctls and ends.
    let init = set.get(&at("initContainers")).ok().and_then(Value::as_array).cloned().unwrap_or_default();
    for container in &init {
        anyhow::ensure!(container["args"][1] == "--init-only", "an init container that runs on: {container}");
        anyhow::ensure!(
            container["securityContext"]["readOnlyRootFilesystem"] == true,
            "it writes nothing but sysctls"
        );
    }
    anyhow::ensure!(init.len() <= 1, "one init container");
    let privileged = set.0.to_string().matches("\"privileged\":true").count();
    anyhow::ensure!(privileged == init.len(), "{privileged} privileged containers");
    // Nothing of the node but its network.
    anyhow::ensure!(!set.0.to_string().contains("hostPath"), "a path of the host");
    Ok(())
}

/// Probes ask where the configuration listens.
fn probes(objects: &[Object]) -> anyhow::Result<()> {
    let set = manifests::only(objects, "DaemonSet")?;
    let [health, _] = configuration(objects)?;
    for probe in ["livenessProbe", "readinessProbe"] {
        same(set, &format!("{POD}/containers/0/{probe}/httpGet/port"), &json!(health))?;
    }
    Ok(())
}

/// The health and the metrics port of the configuration the pods get; it must be readable, and be the one they mount.
fn configuration(objects: &[Object]) -> anyhow::Result<[u64; 2]> {
    let set = manifests::only(objects, "DaemonSet")?;
    let map = manifests::only(objects, "ConfigMap")?;
    anyhow::ensure!(map.name() == set.text(&format!("{POD}/volumes/0/configMap/name")), "pods mount {}", map.name());
    let text = map.text("/data/config.yaml");
    let documents = manifests::parse(text)?;
    let kinds: Vec<_> = documents.iter().map(|document| (document.text("/apiVersion"), document.kind())).collect();
    let wanted = [
        ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"),
        (weir::config::API_VERSION, weir::config::KIND),
    ];
    anyhow::ensure!(kinds == wanted, "{kinds:?}");
    let _: Config = serde_json::from_value(documents[1].0.clone()).context("WeirConfiguration")?;
    let port = |field: &str| -> anyhow::Result<u64> {
        let address = documents[0].get(field)?.as_str().context("an address")?;
        let (_, port) = address.rsplit_once(':').with_context(|| format!("{field}: {address}"))?;
        Ok(port.parse()?)
    };
    Ok([port("/healthzBindAddress")?, port("/metricsBindAddress")?])
}

pub(crate) fn trial() -> anyhow::Result<()> {
    let objects = manifests::overlay("trial")?;
    let set = manifests::only(&objects, "DaemonSet")?;
    let arguments = set.get(&format!("{POD}/containers/0/args"))?.to_string();
    anyhow::ensure!(arguments.contains("--service-proxy-name=weir"), "{arguments}");
    anyhow::ensure!(set.get(&format!("{POD}/initContainers")).is_err(), "a trial changes no sysctl");
    let ports = configuration(&objects)?;
    anyhow::ensure!(ports.iter().all(|port| !KUBE_PROXY_PORTS.contains(port)), "{ports:?} are kube-proxy's");
    Ok(())
}

pub(crate) fn replacement() -> anyhow::Result<()> {
    let objects = manifests::overlay("replace-kube-proxy")?;
    let set = manifests::only(&objects, "DaemonSet")?;
    let names: Vec<&str> = set
        .get(&format!("{POD}/containers/0/env"))?
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|variable| variable["name"].as_str())
        .collect();
    for name in ["NODE_NAME", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"] {
        anyhow::ensure!(names.contains(&name), "{name} is not among {names:?}");
    }
    let arguments = set.get(&format!("{POD}/containers/0/args"))?.to_string();
    anyhow::ensure!(!arguments.contains("service-proxy-name"), "{arguments}");
    Ok(())
}

fn same(object: &Object, pointer: &str, wanted: &Value) -> anyhow::Result<()> {
    let found = object.get(pointer)?;
    anyhow::ensure!(found == wanted, "{} {}: {pointer} is {found}, not {wanted}", object.kind(), object.name());
    Ok(())
}
