use std::io::Write;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use serde_json::{Value, json};
use weir_bad_guests::{DECLARED_ERROR, GARBAGE_ANSWER, HOST_IMPORT, MEMORY_HOG, SPIN, TRAP, WASI_IMPORT, WRONG_WORLD};
use weir_policy::{BUILT_IN, Digest};

use crate::town::{PATIENCE, Town, WEB, assert_unharmed, service, slice};

/// A built-in component.
fn built_in(name: &str) -> &'static [u8] {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).unwrap().1
}

/// A ConfigMap `mine` that holds those components under those keys, and those texts.
#[allow(clippy::needless_pass_by_value, reason = "what is passed is made for it")]
fn config_map(binary: &[(&str, &[u8])], data: Value) -> Value {
    let binary: serde_json::Map<String, Value> = binary
        .iter()
        .map(|(key, bytes)| ((*key).to_owned(), serde_json::to_value(ByteString(bytes.to_vec())).unwrap()))
        .collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "binaryData": binary, "data": data,
        "metadata": {"name": "mine", "namespace": "weir-system", "labels": {"weir.proxy/policy": "true"}}})
}

/// One component with the settings [`DRAIN`].
fn policy(component: &[u8]) -> Value {
    config_map(&[("policy.wasm", component)], json!({"settings": DRAIN}))
}

/// Long enough for a probe to see what a change does.
const WHILE: Duration = Duration::from_millis(700);
/// Settings of the good version: nobody gets to backend-1.
const DRAIN: &str = r#"{"by-address": {"10.244.0.11": 0}}"#;

/// A town whose `web` asks for `mine`.
fn asking() -> Town {
    let town = Town::up();
    let mut web = service("web", "10.96.0.10");
    web["metadata"]["annotations"] = json!({"weir.proxy/policy": "mine"});
    town.cluster.apply([web]);
    town
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes nobody chose, the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// How each of the artefacts is refused, one after the other, while `good` decides and a probe runs.
fn each_is_refused(town: &Town, bad: Vec<(&str, Value, &str)>) {
    for (what, map, reason) in bad {
        let count = |town: &Town| town.log().matches("policy refused").count();
        let before = count(town);
        town.cluster.apply([map]);
        let start = Instant::now();
        while count(town) == before {
            assert!(start.elapsed() < PATIENCE, "{what} was never refused:\n{}", town.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        let log = town.log();
        // The compiler's reasons have more than one line.
        let (_, told) = log.rsplit_once("policy refused").unwrap();
        assert!(told.contains(&format!("\"{reason}\"")), "{what} is not refused for {reason}: {told}");
    }
}

/// Everything somebody could upload by mistake or on purpose.
pub(crate) fn twenty_bad_artefacts_break_nothing() {
    let town = asking();
    let good = built_in("weighted");
    town.cluster.apply([policy(good)]);
    town.reaches(WEB, &["backend-2"]);
    let probe = town.probe();
    let packed = gzip(good);
    let zstd_bomb_head = [&[0x28, 0xb5, 0x2f, 0xfd][..], &[0xff; 40]].concat();
    let with = |data: Value| config_map(&[("policy.wasm", good)], data);
    // A component may be valid and its last section cut off; a section may claim to be longer than all there is.
    let (half, long) = (&good[..good.len() / 2], [&good[..8], &[1, 0xff, 0xff, 0xff, 0x7f]].concat());
    let next = [b"\0asm\x0e\0\x01\0".as_slice(), &good[8..]].concat();
    each_is_refused(
        &town,
        vec![
            ("an endless loop", policy(SPIN), "fuel"),
            ("one that takes all memory", policy(MEMORY_HOG), "memory"),
            ("one that says it cannot", policy(DECLARED_ERROR), "declared-error"),
            ("one that wants a function of its own", policy(HOST_IMPORT), "unknown-import"),
            ("one that wants a clock", policy(WASI_IMPORT), "imports-wasi"),
            ("another world", policy(WRONG_WORLD), "wrong-world"),
            ("a core module", policy(b"\0asm\x01\0\0\0"), "core-module"),
            ("half of one", policy(half), "compile"),
            ("a section longer than the file", policy(&long), "compile"),
            ("a version of components nobody has", policy(&next), "compile"),
            ("random bytes", policy(&noise(4096)), "compile"),
            ("nothing", policy(b""), "compile"),
            ("a gzip file that is cut off", policy(&packed[..packed.len() / 2]), "packing"),
            ("a zstd frame of nonsense", policy(&zstd_bomb_head), "packing"),
            ("a gzip bomb", policy(&gzip(&vec![0; 64 << 20])), "too-large"),
            ("settings that are no JSON", with(json!({"settings": "{by-node: 1"})), "settings"),
            ("settings it does not know", with(json!({"settings": r#"{"by-planet": {}}"#})), "settings"),
            ("a stand-in nobody has", with(json!({"fail-strategy": "reject"})), "fail-strategy"),
            ("a key nobody knows", with(json!({"setings": "{}"})), "unreadable"),
            ("no component", config_map(&[], json!({})), "unreadable"),
            ("two components", config_map(&[("a.wasm", good), ("b.wasm", good)], json!({})), "unreadable"),
            ("a component of another name", config_map(&[("policy.bin", good)], json!({})), "unreadable"),
            (
                "a canary for nobody",
                config_map(&[("policy.wasm", good), ("canary.wasm", good)], json!({})),
                "unreadable",
            ),
            ("a version nobody has", with(json!({"use-digest": "sha256:0123456789"})), "unknown-version"),
        ],
    );
    town.reaches(WEB, &["backend-2"]);
    assert_unharmed(probe);
}

/// Answers that make no sense and traps, each of its own kind: a Service with settings that ask the guest for it.
pub(crate) fn bad_answers_break_nothing() {
    let kinds: [(&str, &[u8], &str); 5] = [
        ("no-slots", GARBAGE_ANSWER, "invalid-answer"),
        ("nobody-serves", GARBAGE_ANSWER, "invalid-answer"),
        ("no-eligibility", GARBAGE_ANSWER, "invalid-answer"),
        ("huge-reason", GARBAGE_ANSWER, "fuel"),
        ("trap", TRAP, "trap"),
    ];
    let town = Town::up();
    let named = |kind: &str, component| {
        let mut map = config_map(&[("policy.wasm", component)], json!({}));
        map["metadata"]["name"] = json!(kind);
        map
    };
    let address = |at: usize| format!("10.96.0.{}", 20 + at);
    let reached = |at| town.reaches(&format!("{}:80", address(at)), &["backend-1", "backend-2"]);
    for (at, (kind, _, _)) in kinds.iter().enumerate() {
        let mut asking = service(kind, &address(at));
        asking["metadata"]["annotations"] =
            json!({"weir.proxy/policy": kind, "weir.proxy/policy-settings": format!("{kind:?}")});
        town.cluster.apply([asking, slice(kind, &[1, 2]), named(kind, built_in("round-robin"))]);
        reached(at);
        town.says(&["policy loaded", kind]);
    }
    let probe = town.probe_of(&format!("{}:80", address(0)));
    let bad = kinds.iter().map(|(kind, component, reason)| (*kind, named(kind, component), *reason));
    each_is_refused(&town, bad.collect());
    (0..kinds.len()).for_each(reached);
    std::thread::sleep(WHILE);
    assert_unharmed(probe);
}

/// All of them are switched off and on again by one ConfigMap, and one by one by a key; new connections follow at once
/// and none fails.
pub(crate) fn policies_are_switched_off_under_traffic() {
    let town = asking();
    town.cluster.apply([policy(built_in("weighted"))]);
    town.reaches(WEB, &["backend-2"]);
    let probe = town.probe();
    let switch = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {},
        "metadata": {"name": "weir-policies-off", "namespace": "weir-system", "labels": {"weir.proxy/policy": "true"}}});
    town.cluster.apply([switch]);
    town.reaches(WEB, &["backend-1", "backend-2"]);
    town.says(&["every policy from outside is switched off"]);
    // What changes meanwhile rests as well.
    town.cluster.apply([config_map(
        &[("policy.wasm", built_in("weighted"))],
        json!({"settings": "{\"by-address\": {\"10.244.0.12\": 0}}"}),
    )]);
    town.reaches(WEB, &["backend-1", "backend-2"]);
    town.cluster.delete("ConfigMap", "weir-system", "weir-policies-off");
    town.reaches(WEB, &["backend-1"]);
    town.cluster
        .apply([config_map(&[("policy.wasm", built_in("weighted"))], json!({"settings": DRAIN, "enabled": "false"}))]);
    town.reaches(WEB, &["backend-1", "backend-2"]);
    town.cluster.apply([policy(built_in("weighted"))]);
    town.reaches(WEB, &["backend-2"]);
    std::thread::sleep(WHILE);
    assert_unharmed(probe);
}

/// A canary on this node, one for another node, and the way back by a digest.
pub(crate) fn versions_are_chosen_under_traffic() {
    let town = asking();
    // The stable one lets all serve, whatever its settings.
    let (stable, canary) = (TRAP, built_in("weighted"));
    let offer = |extra: Value| {
        let mut data = json!({"settings": DRAIN});
        data.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        config_map(&[("policy.wasm", stable), ("canary.wasm", canary)], data)
    };
    town.cluster.apply([policy(canary)]);
    town.reaches(WEB, &["backend-2"]);
    let probe = town.probe();
    town.cluster.apply([offer(json!({"canary-nodes": "elsewhere"}))]);
    town.reaches(WEB, &["backend-1", "backend-2"]);
    town.cluster.apply([offer(json!({"canary-nodes": "elsewhere node"}))]);
    town.reaches(WEB, &["backend-2"]);
    town.cluster.apply([config_map(&[("policy.wasm", stable)], json!({}))]);
    town.reaches(WEB, &["backend-1", "backend-2"]);
    let start = Instant::now();
    let pin = format!("sha256:{}", &Digest::of(canary).to_string()[..16]);
    town.cluster.apply([config_map(&[("policy.wasm", stable)], json!({"use-digest": pin}))]);
    town.reaches(WEB, &["backend-2"]);
    assert!(start.elapsed() < PATIENCE / 4, "took {:?}", start.elapsed());
    std::thread::sleep(WHILE);
    assert_unharmed(probe);
}
