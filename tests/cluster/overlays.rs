use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir_policy::BUILT_IN;
use weir_tests::api_server::temporary;

use crate::kubectl;
use crate::town::{Town, WEB, assert_unharmed};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize")
}

/// The objects an overlay comes to: kind, namespace, name.
fn objects(town: &Town, overlay: &str) -> Vec<(String, String, String)> {
    let rendered = kubectl::run(town, &format!("kustomize {}", deploy().join(overlay).display()), "");
    let documents = rendered.split("\n---\n").map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    documents
        .map(|object| {
            let metadata = &object["metadata"];
            (word(&object["kind"]), word(&metadata["namespace"]), word(&metadata["name"]))
        })
        .collect()
}

/// Each overlay of docs/getting-started.md is applied and taken back by the commands that stand there, and each of its
/// objects comes and goes. Nobody runs the DaemonSets, and nobody who is served notices.
pub(crate) fn overlays_are_applied_and_taken_back() {
    let town = Town::up();
    let probe = town.probe();
    for overlay in ["trial", "cleanup-weir", "replace-kube-proxy", "cleanup-kube-proxy"] {
        let expected = objects(&town, overlay);
        assert!(expected.iter().any(|(kind, _, _)| kind == "DaemonSet"), "{overlay}: {expected:?}");
        let path = deploy().join(overlay);
        let is_there =
            |(kind, namespace, name): &&(String, String, String)| town.cluster.get(kind, namespace, name).is_some();
        // Twice, as somebody who changes a setting does.
        for _ in 0..2 {
            kubectl::run(&town, &format!("apply --validate=false -k {}", path.display()), "");
            let missing: Vec<_> = expected.iter().filter(|object| !is_there(object)).collect();
            assert!(missing.is_empty(), "{overlay}: {missing:?}");
        }
        kubectl::run(&town, &format!("delete --wait=false -k {}", path.display()), "");
        let left: Vec<_> = expected.iter().filter(is_there).collect();
        assert!(left.is_empty(), "{overlay}: {left:?}");
    }
    assert_unharmed(probe);
}

/// A directory that is gone when the test is over.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The policy overlay with a component beside it, and the commands of docs/policy-rollout.md: off, on, and back to the
/// version before.
pub(crate) fn a_policy_overlay_and_what_is_done_with_it() {
    let town = Town::up();
    let directory = Directory(temporary("overlay"));
    std::fs::create_dir(&directory.0).unwrap();
    std::fs::copy(deploy().join("policies/kustomization.yaml"), directory.0.join("kustomization.yaml")).unwrap();
    let component = |name: &str| BUILT_IN.iter().find(|(built_in, _)| *built_in == name).unwrap().1;
    let apply = |component: &[u8]| {
        std::fs::write(directory.0.join("policy.wasm"), component).unwrap();
        let line = format!("apply --server-side --force-conflicts --validate=false -k {}", directory.0.display());
        kubectl::run(&town, &line, "");
    };
    let probe = town.probe();
    apply(component("round-robin"));
    kubectl::run(&town, "annotate service web --namespace default weir.proxy/policy=first-half", "");
    town.says(&["policy loaded", "first-half"]);
    // What is text comes as text.
    apply(b"nonsense");
    town.says(&["policy refused", "first-half", "a component stands in binaryData"]);
    apply(b"\0asm\xff and nonsense");
    town.says(&["policy refused", "first-half", "does not compile"]);

    kubectl::run(&town, "--namespace weir-system create configmap weir-policies-off", "");
    kubectl::run(&town, "--namespace weir-system label configmap weir-policies-off weir.proxy/policy=true", "");
    town.says(&["every policy from outside is switched off"]);
    kubectl::run(&town, "--namespace weir-system delete configmap weir-policies-off", "");
    town.says(&["policies from outside are switched on again"]);

    let digest = weir_policy::Digest::of(component("round-robin")).to_string();
    let patch = json!({"data": {"use-digest": format!("sha256:{}", &digest[..8])}}).to_string();
    kubectl::run(&town, &format!("--namespace weir-system patch configmap first-half --type=merge -p {patch}"), "");
    town.says(&["policy loaded", &digest, "pinned"]);
    town.reaches(WEB, &["backend-1", "backend-2"]);
    assert_unharmed(probe);
}
