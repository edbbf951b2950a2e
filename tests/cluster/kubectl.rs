use std::process::Command;

use weir_testbed::Failure;

use crate::town::{Town, WEB, assert_unharmed};

/// Why there is no `kubectl`, if there is none.
pub(crate) fn missing() -> Option<String> {
    let output = Command::new("kubectl").args(["version", "--client"]).output();
    output.err().map(|error| format!("kubectl: {error}"))
}

/// What people do with `kubectl` is what connections see.
pub(crate) fn kubectl_is_followed() {
    let town = Town::up();
    let kubeconfig = town.kubeconfig.path().to_string_lossy().into_owned();
    let kubectl = |line: &str, input: &str| {
        let home = std::env::temp_dir();
        let cache = home.join(format!("weir-tests-kubectl-{}", std::process::id()));
        let mut arguments = vec!["--kubeconfig", &kubeconfig, "--cache-dir"];
        let cache = cache.to_string_lossy().into_owned();
        arguments.push(&cache);
        arguments.extend(line.split(' '));
        let said = town.node.kernel().command_with_input("kubectl", &arguments, input).unwrap();
        let _ = std::fs::remove_dir_all(&cache);
        said
    };
    let probe = town.probe();
    let listed = kubectl("get services --namespace default --output name", "");
    assert_eq!(listed.trim(), "service/web");

    let manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: applied, namespace: default}\n\
                    spec: {clusterIP: 10.96.0.20, ports: [{port: 80}]}\n---\n\
                    apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                    metadata: {name: applied-1, namespace: default, labels: {kubernetes.io/service-name: applied}}\n\
                    addressType: IPv4\nports: [{port: 8080}]\nendpoints: [{addresses: [10.244.0.11]}]\n";
    kubectl("apply --validate=false --filename -", manifest);
    town.reaches("10.96.0.20:80", &["backend-1"]);
    let changed = manifest.replace("10.244.0.11", "10.244.0.12");
    kubectl("apply --validate=false --filename -", &changed);
    town.reaches("10.96.0.20:80", &["backend-2"]);
    let changed = manifest.replace("10.244.0.11", "10.244.1.13");
    kubectl("apply --server-side --force-conflicts --validate=false --filename -", &changed);
    town.reaches("10.96.0.20:80", &["backend-3"]);

    // The label leaves it to another proxy, and taking the label away brings it back.
    kubectl("label service applied --namespace default service.kubernetes.io/service-proxy-name=other", "");
    town.fails("10.96.0.20:80", &Failure::TimedOut);
    kubectl("label service applied --namespace default service.kubernetes.io/service-proxy-name-", "");
    town.reaches("10.96.0.20:80", &["backend-3"]);
    kubectl("annotate service applied --namespace default weir.proxy/policy=round-robin", "");
    let annotated = town.cluster.get("Service", "default", "applied").unwrap();
    assert_eq!(annotated["metadata"]["annotations"]["weir.proxy/policy"], "round-robin");

    kubectl("create configmap mine --namespace weir-system --from-literal=settings.json={}", "");
    kubectl("label configmap mine --namespace weir-system weir.proxy/policy=true", "");
    let map = town.cluster.get("ConfigMap", "weir-system", "mine").unwrap();
    assert_eq!(map["metadata"]["labels"]["weir.proxy/policy"], "true");

    kubectl("delete service applied --namespace default", "");
    town.fails("10.96.0.20:80", &Failure::TimedOut);
    town.reaches(WEB, &["backend-1", "backend-2"]);
    assert_unharmed(probe);
}
