//! `weir policy`, as those who write policies use it.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weir_policy::BUILT_IN;

/// What a command said, and whether it was content.
struct Said {
    ok: bool,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in\n{}\n{}", self.out, self.err))
    }
}

/// A directory that vanishes with the test.
struct Bench(PathBuf);

impl Bench {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-workshop-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), bytes).expect("a file");
    }

    /// `weir policy` in that directory; arguments are cut at spaces, but for what stands in '…'.
    fn policy(&self, line: &str) -> Said {
        let mut words = Vec::new();
        for (at, part) in line.split('\'').enumerate() {
            if at % 2 == 1 { words.push(part) } else { words.extend(part.split_whitespace()) }
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = command.arg("policy").args(words).current_dir(&self.0).env("WEIR_LOG", "warn").output();
        let output = output.expect("weir runs");
        Said {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn built_in(name: &str) -> &'static [u8] {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).expect("built in").1
}

const CLUSTER: &str = "apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {weir.proxy/policy: mine, weir.proxy/policy-settings: '{\"by-node\": {\"n1\": 3}}'}
spec: {clusterIP: 10.0.0.1, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {clusterIP: 10.0.0.2, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080, name: http}]
endpoints:
- {addresses: [10.1.0.1], conditions: {ready: true}, nodeName: n1}
- {addresses: [10.1.0.2], conditions: {ready: true}, nodeName: n2}
";

/// A bench with the policy `mine.wasm`, which is `weighted`, and a cluster.
fn furnished(name: &str) -> Bench {
    let bench = Bench::new(name);
    bench.put("mine.wasm", built_in("weighted"));
    bench.put("cluster.yaml", CLUSTER);
    bench
}

#[test]
fn a_new_project_has_all_files_and_is_never_written_over() {
    let bench = Bench::new("new");
    let said = bench.policy("new by-hand");
    assert!(said.ok && said.out.contains("build.sh"), "{}{}", said.out, said.err);
    let read = |path: &str| fs::read_to_string(bench.0.join("by-hand").join(path)).expect(path);
    assert!(read("Cargo.toml").contains("name = \"by-hand\""));
    assert!(read("build.sh").contains("release/by_hand.wasm -o by-hand.wasm"));
    assert_eq!(read("wit/policy.wit"), include_str!("../../wit/policy.wit"));
    let again = bench.policy("new by-hand");
    assert!(!again.ok && again.err.contains("exists"), "{}", again.err);
    for (name, why) in [("By_Hand", "cannot be the name"), ("random", "built-in"), ("../out", "cannot be the name")] {
        let said = bench.policy(&format!("new {name}"));
        assert!(!said.ok && said.err.contains(why), "{name}: {}", said.err);
    }
}

/// A project in any language is complete: its script is one, and nothing stands for a name any more.
#[test]
fn every_language_has_a_project() {
    let bench = Bench::new("languages");
    for (language, source, files) in [
        ("rust", "src/lib.rs", 6),
        ("c", "by_zone.c", 11),
        ("zig", "by_zone.zig", 7),
        ("go", "by_zone.go", 8),
        ("js", "by-zone.js", 6),
        ("python", "by_zone.py", 6),
    ] {
        let name = format!("in-{language}");
        let said = bench.policy(&format!("new {name} --lang {language}"));
        assert!(said.ok, "{language}: {}", said.err);
        let project = bench.0.join(&name);
        let read = |path: &str| fs::read_to_string(project.join(path)).expect(path);
        assert!(read(source).contains(&format!("\"{name}\"")), "{language}: its policy has the project's name");
        assert!(read("README.md").contains(&format!("`{source}` is the policy")), "{language}");
        assert_eq!(tree(&project).len(), files + 1, "{language}: {:?}", tree(&project));
        for path in tree(&project) {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for left in ["policy-name", "policy_name", "policy-source", "\"by-zone\"", "../tools.sh"] {
                assert!(!text.contains(left), "{}: {left} is left", path.display());
            }
            if path.extension().is_some_and(|end| end == "sh") {
                let parsed = Command::new("sh").arg("-n").arg(&path).output().expect("sh runs");
                assert!(parsed.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&parsed.stderr));
            }
        }
    }
}

/// All files below a directory.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { tree(&path) } else { vec![path] }).collect()
}

/// The cases of a new project, on the built-in policy that does the same.
#[test]
fn cases_pass_and_fail_with_a_difference() {
    let bench = furnished("test");
    bench.put(
        "cases.yaml",
        "manifests: [cluster.yaml]\ncases:\n- name: weighs\n  settings: {by-node: {n1: 3}, default: 1}\n  expect:\n  - service: web\n    port: http\n    internal: cluster\n    cluster: {index: random, shares: {10.1.0.1: 75, 10.1.0.2: 25}}\n  - {service: other, internal: reject, reason: no endpoints}\n",
    );
    let said = bench.policy("test mine.wasm");
    assert!(said.ok && said.out.contains("ok    weighs"), "{}{}", said.out, said.err);
    bench.put(
        "bad.yaml",
        "manifests: [cluster.yaml]\ncases:\n- name: off\n  expect:\n  - service: web\n    internal: local\n    cluster: {index: round-robin, shares: {10.1.0.1: 90, 10.1.0.9: 10}}\n  - {service: gone}\n- name: fails\n  settings: {by-node: 3}\n  expect: [{service: web, failure: trap}]\n",
    );
    let said = bench.policy("test mine.wasm bad.yaml");
    for expected in [
        "internal clients: local is expected, got cluster",
        "index function round-robin is expected, got random",
        "10.1.0.1 should get 90 %",
        "10.1.0.9 should get 10 %, and gets 0 %",
        "10.1.0.2:8080 is not expected",
        "gone is expected, and there is",
    ] {
        assert!(said.out.contains(expected), "{expected:?} is missing in\n{}", said.out);
    }
    assert!(!said.ok && said.err.contains("2 of 2 cases failed"), "{}", said.err);
    bench.put("odd.yaml", "cases:\n- name: odd\n  expct: []\n");
    let said = bench.policy("test mine.wasm odd.yaml");
    assert!(!said.ok && said.err.contains("odd.yaml") && said.err.contains("expct"), "{}", said.err);
    let json = bench.policy("test mine.wasm bad.yaml -o json").json();
    assert_eq!(json[0]["passed"], Value::Bool(false));
}

#[test]
fn check_takes_good_policies_and_says_what_is_wrong_with_others() {
    let bench = furnished("check");
    let said = bench.policy("check mine.wasm");
    assert!(said.ok && !said.out.contains("ERROR"), "{}{}", said.out, said.err);
    for about in ["digest", "size", "imports", "exports", "contract", "fuel", "memory", "determinism", "batches"] {
        assert!(said.out.contains(&format!("ok       {about}")), "{about} is missing in\n{}", said.out);
    }
    bench.put("clock.wasm", weir_bad_guests::WASI_IMPORT);
    bench.put("world.wasm", weir_bad_guests::WRONG_WORLD);
    bench.put("spin.wasm", weir_bad_guests::SPIN);
    bench.put("hog.wasm", weir_bad_guests::MEMORY_HOG);
    bench.put("module.wasm", b"\0asm\x01\0\0\0");
    bench.put("text.wasm", "no wasm");
    for (file, reason) in [
        ("clock.wasm", "imports-wasi"),
        ("world.wasm", "wrong-world"),
        ("spin.wasm", "fuel"),
        ("hog.wasm", "memory"),
        ("module.wasm", "core-module"),
        ("text.wasm", "ERROR    file"),
    ] {
        let said = bench.policy(&format!("check {file}"));
        assert!(
            !said.ok && said.out.contains("ERROR") && said.out.contains(reason),
            "{file}: {}{}",
            said.out,
            said.err
        );
    }
    bench.put("blind.wasm", weir_bad_guests::BLIND);
    let said = bench.policy("check blind.wasm");
    assert!(said.ok && said.out.contains("warning  inputs"), "{}{}", said.out, said.err);
    let said = bench.policy("check mine.wasm --settings '{'");
    assert!(!said.ok && said.out.contains("ERROR    settings"), "{}", said.out);
    let said = bench.policy("check absent.wasm");
    assert!(!said.ok && said.err.contains("absent.wasm"), "{}", said.err);
    let json = bench.policy("check mine.wasm -o json").json();
    assert!(
        json["findings"].as_array().is_some_and(|findings| findings.iter().all(|finding| finding["level"] == "ok"))
    );
}

#[test]
fn inspect_needs_no_good_policy() {
    let bench = furnished("inspect");
    let json = bench.policy("inspect mine.wasm -o json").json();
    assert_eq!((&json["kind"], &json["packing"]), (&Value::from("component"), &Value::from("plain")));
    assert!(json["about"]["contract"].is_string() && json["refused"].is_null(), "{json}");
    bench.put("clock.wasm", weir_bad_guests::WASI_IMPORT);
    let said = bench.policy("inspect clock.wasm");
    assert!(said.ok && said.out.contains("wasi:") && said.out.contains("refused"), "{}{}", said.out, said.err);
}

#[test]
fn run_shows_decisions_and_reasons() {
    let bench = furnished("run");
    let run = |more: &str| bench.policy(&format!("run mine.wasm -f cluster.yaml --node n1 {more}"));
    let said = run("");
    assert!(said.ok && said.out.contains("10.1.0.1:8080 75 %, 10.1.0.2:8080 25 %"), "{}{}", said.out, said.err);
    assert!(said.out.contains("because: no endpoints"), "{}", said.out);
    let json = run("--output json --service web").json();
    let ports = json["ports"].as_array().expect("ports");
    assert_eq!((ports.len(), &ports[0]["cluster"]["shares"]["10.1.0.1:8080"]), (1, &Value::from(75.0)));
    let json = run("-o json --name mine").json();
    assert_eq!(json["ports"].as_array().map(Vec::len), Some(1), "only one asks for it: {json}");
    let said = run("--service absent");
    assert!(!said.ok && said.err.contains("no Service default/absent"), "{}", said.err);
    let said = bench.policy("run mine.wasm");
    assert!(!said.ok && said.err.contains("--manifests"), "{}", said.err);
    bench.put("error.wasm", weir_bad_guests::DECLARED_ERROR);
    let said = bench.policy("run error.wasm -f cluster.yaml");
    assert!(!said.ok && said.out.contains("failed (declared-error)"), "{}{}", said.out, said.err);
}

#[test]
fn diff_names_what_would_change() {
    let bench = furnished("diff");
    let said = bench.policy("diff random mine.wasm -f cluster.yaml --node n1");
    assert!(said.ok && said.out.contains("10.1.0.1:8080 50 % → 75 %"), "{}{}", said.out, said.err);
    assert!(said.out.contains("1 of 2 ports would change, of 1 Service\n"), "{}", said.out);
    let said = bench.policy("diff random round-robin -f cluster.yaml");
    assert!(said.out.contains("index function random → round-robin"), "{}", said.out);
    let json = bench.policy("diff random random -f cluster.yaml -o json").json();
    assert_eq!((&json["ports"], json["changed"].as_array().map(Vec::len)), (&Value::from(2), Some(0)));
}

#[test]
fn bench_measures() {
    let bench = furnished("bench");
    let json = bench.policy("bench mine.wasm --services 20 --endpoints 5 --rounds 2 -o json").json();
    for figure in ["compileMillis", "callMicros", "endpointNanos", "fuelPerCall", "memory"] {
        assert!(json[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {json}");
    }
    bench.put("spin.wasm", weir_bad_guests::SPIN);
    let said = bench.policy("bench spin.wasm --services 1 --endpoints 2 --rounds 1");
    assert!(!said.ok && said.err.contains("fuel"), "{}", said.err);
}

#[test]
fn component_refuses_what_was_not_built_for_the_contract() {
    let bench = Bench::new("component");
    bench.put("text.wasm", "no wasm");
    let said = bench.policy("component text.wasm -o out.wasm");
    assert!(
        !said.ok && said.err.contains("text.wasm") && !Path::new(&bench.0).join("out.wasm").exists(),
        "{}",
        said.err
    );
}
