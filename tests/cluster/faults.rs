use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use weir_bad_guests::{DECLARED_ERROR, HOST_IMPORT, MEMORY_HOG, NEXT_VERSION, SPIN, WASI_IMPORT, WRONG_WORLD};
use weir_policy::BUILT_IN;
use weir_tests::api_server::temporary;

use crate::town::{PATIENCE, Town, WEB, assert_unharmed, service, slice};

/// Long enough for a probe to see what a change does.
const WHILE: Duration = Duration::from_millis(700);

fn named(mut slice: Value, name: &str) -> Value {
    slice["metadata"]["name"] = json!(name);
    slice
}

/// The controller moves endpoints from one slice to another, in whatever order: nobody who stays is missed (F07).
pub(crate) fn slices_that_are_moved_break_nothing() {
    let town = Town::up();
    let probe = town.probe();
    for round in 0..10 {
        let (old, new) = (format!("web-{}", round + 1), format!("web-{}", round + 2));
        // For a moment both have them, and then the first one loses them one by one.
        town.cluster.apply([named(slice("web", &[1, 2]), &new)]);
        town.cluster.apply([named(slice("web", &[2]), &old)]);
        town.cluster.delete("EndpointSlice", "default", &old);
        sleep(WHILE / 10);
    }
    town.reaches(WEB, &["backend-1", "backend-2"]);
    town.cluster.apply([named(slice("web", &[3]), "web-11")]);
    town.reaches(WEB, &["backend-3"]);
    assert_unharmed(probe);
}

/// A health check port that somebody else has: told with the Service's name, and taken once it is free; connections
/// never notice (F31).
pub(crate) fn a_busy_health_check_port_breaks_nothing() {
    let town = Town::up();
    let probe = town.probe();
    let address: SocketAddr = "127.0.0.1:32123".parse().unwrap();
    let squatter = town.node.kernel().run(|| TcpListener::bind(address)).unwrap();
    let mut web = service("web", "10.96.0.10");
    web["spec"]["type"] = json!("LoadBalancer");
    web["spec"]["externalTrafficPolicy"] = json!("Local");
    web["spec"]["healthCheckNodePort"] = json!(address.port());
    town.cluster.apply([web]);
    town.says(&["cannot listen", "default/web", "32123"]);
    drop(squatter);
    let start = Instant::now();
    loop {
        let answer = town.node.kernel().command("curl", &["--silent", "--max-time", "1", "http://127.0.0.1:32123/"]);
        if answer.as_ref().is_ok_and(|answer| answer.contains("\"localEndpoints\":2")) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{answer:?}\n{}", town.log());
        sleep(Duration::from_millis(50));
    }
    sleep(WHILE);
    assert_unharmed(probe);
}

/// A daemon that is stopped for a while: its rules work on, and it catches up (F36).
pub(crate) fn a_daemon_that_stands_still_breaks_nothing() {
    let town = Town::up();
    let probe = town.probe();
    town.signal(Signal::SIGSTOP);
    town.cluster.apply([slice("web", &[1, 3])]);
    sleep(Duration::from_secs(1));
    town.reaches(WEB, &["backend-1", "backend-2"]);
    town.signal(Signal::SIGCONT);
    town.reaches(WEB, &["backend-1", "backend-3"]);
    assert_unharmed(probe);
}

fn policy(component: &[u8]) -> Value {
    let component = serde_json::to_value(ByteString(component.to_vec())).unwrap();
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "mine", "namespace": "weir-system", "labels": {"weir.proxy/policy": "true"}},
        "binaryData": {"policy.wasm": component},
        "data": {"settings": r#"{"by-address": {"10.244.0.11": 0}}"#}})
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Policies that loop, eat memory, say nonsense, want what they must not have, or are no policies at all; packed ones
/// that are damaged or swell: each is refused with its own reason, and the good one before it goes on (F44, F45).
pub(crate) fn bad_policies_break_nothing() {
    let town = Town::up();
    let mut web = service("web", "10.96.0.10");
    web["metadata"]["annotations"] = json!({"weir.proxy/policy": "mine"});
    town.cluster.apply([web]);
    let good = BUILT_IN.iter().find(|(name, _)| *name == "weighted").unwrap().1;
    town.cluster.apply([policy(&gzip(good))]);
    town.reaches(WEB, &["backend-2"]);
    let probe = town.probe();
    let packed = gzip(good);
    let bad: [(&[u8], &str); 11] = [
        (SPIN, "fuel"),
        (MEMORY_HOG, "memory"),
        (DECLARED_ERROR, "declared-error"),
        (HOST_IMPORT, "unknown-import"),
        (WASI_IMPORT, "imports-wasi"),
        (NEXT_VERSION, "wrong-world"),
        (WRONG_WORLD, "wrong-world"),
        (b"\0asm\x01\0\0\0", "core-module"),
        (b"nothing of the kind \xff", "compile"),
        (&packed[..packed.len() / 2], "packing"),
        (&gzip(&vec![0; 64 << 20]), "too-large"),
    ];
    for (component, reason) in bad {
        let before = town.log().matches("policy refused").count();
        town.cluster.apply([policy(component)]);
        let start = Instant::now();
        while town.log().matches("policy refused").count() == before {
            assert!(start.elapsed() < PATIENCE, "{reason} was never refused:\n{}", town.log());
            sleep(Duration::from_millis(10));
        }
        let log = town.log();
        let told = log.lines().rfind(|line| line.contains("policy refused")).unwrap();
        assert!(told.contains(reason), "not {reason}: {told}");
        sleep(WHILE / 10);
    }
    town.reaches(WEB, &["backend-2"]);
    assert_unharmed(probe);
    town.cluster.apply([policy(good)]);
    town.reaches(WEB, &["backend-2"]);
}

/// This node's object changes: its zone, with which all hints mean something else, its pods, its taints (F50).
pub(crate) fn a_node_that_changes_breaks_nothing() {
    let town = Town::up();
    let probe = town.probe();
    let node = |zone: &str, extra: Value| {
        json!({"kind": "Node", "apiVersion": "v1", "spec": extra,
            "metadata": {"name": "node", "labels": {"topology.kubernetes.io/zone": zone}}})
    };
    let mut hinted = slice("web", &[1, 2]);
    for (at, zone) in ["a", "b"].into_iter().enumerate() {
        hinted["endpoints"][at]["hints"] = json!({"forZones": [{"name": zone}]});
    }
    town.cluster.apply([hinted]);
    for (zone, backend) in [("a", "backend-1"), ("b", "backend-2"), ("a", "backend-1")] {
        town.cluster.apply([node(zone, json!({"podCIDRs": ["10.244.0.0/24"]}))]);
        town.reaches(WEB, &[backend]);
    }
    town.cluster
        .apply([node("", json!({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}))]);
    town.reaches(WEB, &["backend-1", "backend-2"]);
    sleep(WHILE);
    assert_unharmed(probe);
}

/// The token changes, and the API server refuses the old one: the daemon reads the new one and goes on (F48).
pub(crate) fn a_new_token_breaks_nothing() {
    let mut town = Town::up();
    let token = temporary("token");
    std::fs::write(&token, "one").unwrap();
    town.end_daemon(Signal::SIGTERM);
    town.use_token(&token);
    town.cluster.fault(|faults| faults.token = Some("one".to_owned()));
    let probe = town.probe();
    town.start_daemon();
    town.cluster.apply([slice("web", &[1])]);
    town.reaches(WEB, &["backend-1"]);
    town.cluster.fault(|faults| faults.token = Some("two".to_owned()));
    town.cluster.cut_watches();
    town.cluster.apply([slice("web", &[3])]);
    let start = Instant::now();
    while !town.cluster.asked().iter().any(|asked| asked.code == 401) {
        assert!(start.elapsed() < PATIENCE, "the old token was never refused");
        sleep(Duration::from_millis(10));
    }
    town.reaches(WEB, &["backend-1"]);
    std::fs::write(&token, "two").unwrap();
    town.reaches(WEB, &["backend-3"]);
    assert_unharmed(probe);
    std::fs::remove_file(token).unwrap();
}

/// The ways to the API server beside a kubeconfig, changed under traffic: its bare URL, and what kubelets give a pod.
pub(crate) fn every_way_to_the_apiserver_is_taken() {
    let mut town = Town::up();
    let probe = town.probe();
    town.end_daemon(Signal::SIGTERM);
    town.start_daemon_by_master();
    town.cluster.apply([slice("web", &[1])]);
    town.reaches(WEB, &["backend-1"]);
    town.end_daemon(Signal::SIGTERM);
    let account = temporary("account");
    std::fs::create_dir(&account).unwrap();
    town.start_daemon_as_pod(&account, "of the pod");
    town.cluster.apply([slice("web", &[2])]);
    town.reaches(WEB, &["backend-2"]);
    assert_unharmed(probe);
    std::fs::remove_dir_all(account).unwrap();
}

/// Files that are half-written, empty, nonsense, renamed, twice there and gone with their directory (F46).
pub(crate) fn a_storm_of_files_breaks_nothing() {
    let mut town = Town::up();
    let (directory, away) = (temporary("manifests"), temporary("away"));
    std::fs::create_dir(&directory).unwrap();
    let both = |backends: &[u8]| format!("{}\n---\n{}\n", service("web", "10.96.0.10"), slice("web", backends));
    let whole = both(&[1, 2]);
    std::fs::write(directory.join("web.yaml"), &whole).unwrap();
    town.end_daemon(Signal::SIGTERM);
    let probe = town.probe();
    town.start_daemon_on_files(&directory);
    // What a file held before it was broken stays; one that is broken from the start has nothing to keep.
    town.says(&["ready; the kernel"]);
    for round in 0..5 {
        for text in [&whole[..whole.len() / 2], "", "  : [ half", &whole[..whole.len() - 20], &whole] {
            std::fs::write(directory.join("web.yaml"), text).unwrap();
            sleep(Duration::from_millis(60));
        }
        std::fs::write(directory.join("copy.yaml"), &whole).unwrap();
        std::fs::rename(directory.join("copy.yaml"), directory.join("web.yaml")).unwrap();
        std::fs::rename(&directory, &away).unwrap();
        sleep(Duration::from_millis(60 + 40 * round));
        std::fs::rename(&away, &directory).unwrap();
    }
    town.reaches(WEB, &["backend-1", "backend-2"]);
    std::fs::write(directory.join("web.yaml"), both(&[3])).unwrap();
    town.reaches(WEB, &["backend-3"]);
    assert_unharmed(probe);
    std::fs::remove_dir_all(directory).unwrap();
}
