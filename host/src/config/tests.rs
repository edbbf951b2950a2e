//! Files as people have them, and every field of kube-proxy's.

mod kube_proxy;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Files that vanish with the test.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Reads those texts as files `0.yaml`, `1.yaml`, ….
fn load_with(texts: &[&str], flags: &Flags) -> Result<Loaded, ConfigError> {
    let files = Files::new();
    let paths: Vec<PathBuf> =
        texts.iter().enumerate().map(|(at, text)| files.put(&format!("{at}.yaml"), text)).collect();
    read(&paths, flags)
}

fn load(texts: &[&str]) -> Result<Loaded, ConfigError> {
    load_with(texts, &Flags::default())
}

fn config(texts: &[&str]) -> Config {
    load(texts).expect("good files").config
}

fn error(texts: &[&str]) -> String {
    load(texts).expect_err("a bad file").to_string()
}

#[test]
fn reads_what_the_readme_shows() {
    let config = config(&[
        "apiVersion: weir.proxy/v1alpha1\nkind: WeirConfiguration\nnodeName: n1\npodCIDRs: [10.244.0.0/16]\npolicies:\n  balancer: round-robin\n",
    ]);
    assert_eq!((config.node_name.as_str(), config.pod_cidrs.len()), ("n1", 1));
    assert_eq!(config.policies.balancer, "round-robin");
    assert_eq!(config.policies.traffic, "kubernetes");
}

#[test]
fn errors_name_the_field() {
    for (text, words) in [
        ("zone: a\nnodename: x\n", &["0.yaml, document 1", "nodename", "line 2"][..]),
        ("masqueradeBit: 32\n", &["0.yaml, document 1", "masqueradeBit"]),
        ("nodePortAddresses: [everywhere]\n", &["nodePortAddresses", "everywhere"]),
        ("conntrack: {resetStaleTcp: true}\n", &["resetStaleTcp", "resetStaleTCP"]),
        ("podCIDRs: [10.0.0.0/99]\n", &["line 1"]),
        ("nodeIPs: [10.0.0.1, 10.0.0.2]\n", &["nodeIPs"]),
        ("oomScoreAdj: -1001\n", &["oomScoreAdj", "-1001"]),
        ("policies: {limits: {fuel: 0}}\n", &["policies.limits", "fuel"]),
        ("policies: {limits: {deadline: 1m}}\n", &["policies.limits", "deadline", "10000"]),
        ("policies: {maxLimits: {memoryBytes: 1000}, limits: {memoryBytes: 1001}}\n", &["memoryBytes", "1 to 1000"]),
        ("policies: {limits: {stackBytes: 1}}\n", &["stackBytes", "line 1"]),
        ("policies: {maxRemovedPercent: 101}\n", &["policies.maxRemovedPercent", "101"]),
        ("syncPeriod: 0s\n", &["syncPeriod"]),
        ("syncPeriod: soon\n", &["soon", "line 1"]),
        ("syncPeriod: -5s\n", &["-5s"]),
        ("healthzBindAddress: everywhere\n", &["everywhere", "line 1"]),
        ("kind: Gateway\n", &["document 1", "Gateway", "WeirConfiguration", "KubeProxyConfiguration"]),
        ("zone: a\n---\nzone: b\nzones: c\n", &["document 2", "zones", "line 4"]),
        ("- zone: a\n", &["document 1"]),
    ] {
        let error = error(&[text]);
        assert!(words.iter().all(|word| error.contains(word)), "{text:?}: {error}");
    }
}

#[test]
fn a_check_that_fails_names_the_document_that_said_it() {
    let error = error(&["zone: a\n", "zone: b\n---\nmasqueradeBit: 40\n"]);
    assert!(error.contains("1.yaml, document 2") && error.contains("masqueradeBit"), "{error}");
    let missing = read(&["/nowhere/weir.yaml".into()], &Flags::default()).expect_err("no such file").to_string();
    assert!(missing.contains("/nowhere/weir.yaml"), "{missing}");
}

#[test]
fn the_later_file_wins_where_it_says_something() {
    let config = config(&[
        "zone: a\noomScoreAdj: -5\nmasqueradeAll: true\nconntrack: {resetStaleTCP: true, min: 7}\npodCIDRs: [10.0.0.0/8, 11.0.0.0/8]\n",
        "zone: b\noomScoreAdj: ~\nconntrack: {min: 8}\npodCIDRs: [12.0.0.0/8]\n",
    ]);
    assert_eq!((config.zone.as_str(), config.oom_score_adj, config.masquerade_all), ("b", Some(-5), true));
    assert_eq!((config.conntrack.min, config.conntrack.reset_stale_tcp), (8, true));
    assert_eq!(config.pod_cidrs, ["12.0.0.0/8".parse().expect("a network")]);
}

#[test]
fn limits_of_policies_are_what_is_said_over_the_defaults() {
    let config = config(&["policies: {limits: {fuel: 7, deadline: 100ms}, maxLimits: {handles: 3000}}\n"]);
    let (limits, ceilings) = (config.policies.limits(), config.policies.ceilings());
    assert_eq!((limits.fuel, limits.deadline.as_millis(), limits.memory), (7, 100, 64 << 20));
    assert_eq!((ceilings.handles, ceilings.fuel), (3000, 10_000_000_000));
}

#[test]
fn the_command_line_wins() {
    let mut layer = Layer::default();
    layer.set("nodeName", "flag");
    layer.set("masqueradeBit", 40);
    let error = load_with(&["masqueradeBit: 1\n"], &Flags { mode: None, layer: layer.clone() });
    let error = error.expect_err("no such bit").to_string();
    assert!(error.contains("command line") && error.contains("masqueradeBit"), "{error}");
    layer.set("masqueradeBit", 3);
    let loaded = load_with(&["masqueradeBit: 1\nnodeName: file\n"], &Flags { mode: None, layer }).expect("good");
    assert_eq!((loaded.config.masquerade_bit, loaded.config.node_name.as_str()), (3, "flag"));
}

#[test]
fn what_is_written_reads_back_the_same() {
    let config =
        config(&["oomScoreAdj: -5\nhealthzBindAddress: ''\nsyncPeriod: 1m30s\nclientConnection: {qps: 2.5}\n"]);
    assert_eq!((config.healthz_bind_address.0, config.sync_period), (None, Span::seconds(90)));
    let text = serde_saphyr::to_string(&config).expect("YAML");
    assert_eq!(super::tests::config(&[&text]), config, "{text}");
    let defaults = serde_saphyr::to_string(&Config::default()).expect("YAML");
    assert_eq!(super::tests::config(&[&defaults]), Config::default(), "{defaults}");
}

#[test]
fn addresses_and_times_as_they_may_be_written() {
    let address = |text: &str| text.parse::<BindAddress<10256>>().map(|address| address.to_string());
    for (text, shown) in [
        ("", ""),
        ("127.0.0.1", "127.0.0.1:10256"),
        ("0.0.0.0:1", "0.0.0.0:1"),
        ("::", "[::]:10256"),
        ("[::1]:2", "[::1]:2"),
        (":3", "0.0.0.0:3"),
    ] {
        assert_eq!(address(text).as_deref(), Ok(shown), "{text:?}");
    }
    for text in ["localhost", "1.2.3.4:", "1.2.3.4:70000", ":x"] {
        assert!(address(text).is_err(), "{text:?}");
    }
    for (text, millis) in [("0s", 0), ("100ms", 100), ("1m30s", 90_000), ("24h0m0s", 86_400_000), ("1.5s", 1500)] {
        assert_eq!(text.parse::<Span>().map(|span| span.0.as_millis()), Ok(millis), "{text:?}");
    }
    for text in ["", "5", "5 apples", "-1s"] {
        assert!(text.parse::<Span>().is_err(), "{text:?}");
    }
}
