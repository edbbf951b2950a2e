use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir_policy::BUILT_IN;

use crate::kubectl;
use crate::town::{PATIENCE, Town, WEB, assert_unharmed};

/// A file that is gone when the test is over.
struct File(PathBuf);

impl File {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("weir-tests-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The manifest of a ConfigMap with that component and those settings, as `kubectl` writes it.
fn manifest(town: &Town, component: &File, settings: &str) -> String {
    let path = component.0.display();
    let line = format!(
        "create configmap drained --namespace weir-system --from-file=policy.wasm={path} --from-literal=settings={settings} \
         --dry-run=client --output yaml"
    );
    kubectl::run(town, &line, "").replacen("metadata:", "metadata:\n  labels: {weir.proxy/policy: \"true\"}", 1)
}

/// Where a policy comes from, and how it is replaced and taken back, is all `kubectl`; how connections spread follows
/// without a restart and without one that fails.
pub(crate) fn a_policy_in_a_config_map_changes_how_live_connections_spread() {
    let town = Town::up();
    let probe = town.probe();
    let component = BUILT_IN.iter().find(|(name, _)| *name == "weighted").unwrap().1;
    let (good, broken) = (File::new("good.wasm", component), File::new("broken.wasm", b"\0asm\r\0\x01\0\xff\xfe"));
    let apply = |verb: &str, component: &File, settings: &str| {
        let manifest = manifest(&town, component, settings);
        kubectl::run(&town, &format!("{verb} --validate=false --filename -"), &manifest);
    };

    kubectl::run(&town, "annotate service web --namespace default weir.proxy/policy=drained", "");
    town.says(&["drained", "there is no policy"]);
    town.reaches(WEB, &["backend-1", "backend-2"]);

    apply("create", &good, r#"{"by-address":{"10.244.0.11":0}}"#);
    town.reaches(WEB, &["backend-2"]);

    // Neither what is no component nor what fails for the Service there is changes anything, and both say why.
    apply("replace", &broken, "{}");
    town.says(&["policy refused", "drained", "does not compile"]);
    apply("replace", &good, r#"{"by-planet":{}}"#);
    town.says(&["policy refused", "drained", "by-planet"]);
    town.reaches(WEB, &["backend-2"]);
    // `kubectl describe` shows it as well.
    let told = |kind: &str, reason: &str| {
        town.cluster.list("Event").iter().any(|event| {
            event["regarding"]["kind"] == kind && event["reason"] == reason && event["reportingInstance"] == "node"
        })
    };
    let start = Instant::now();
    while ![
        ("ConfigMap", "PolicyRefused"),
        ("ConfigMap", "PolicyLoaded"),
        ("Service", "UnknownPolicy"),
        ("Node", "Starting"),
    ]
    .into_iter()
    .all(|(kind, reason)| told(kind, reason))
    {
        assert!(start.elapsed() < PATIENCE, "{:?}", town.cluster.list("Event"));
        sleep(Duration::from_millis(20));
    }

    apply("replace", &good, r#"{"by-address":{"10.244.0.12":0}}"#);
    town.reaches(WEB, &["backend-1"]);
    kubectl::run(&town, "delete configmap drained --namespace weir-system", "");
    town.reaches(WEB, &["backend-1", "backend-2"]);
    assert_unharmed(probe);
}
