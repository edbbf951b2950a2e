//! What the daemon tells over HTTP: the program itself, and its loop over a kernel that refuses on demand.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use tokio::sync::mpsc;
use weir::config::{Config, Span};
use weir::follow::Follower;
use weir::health::ProxyHealth;
use weir::metrics::{Metrics, Sources};
use weir::node::Surroundings;
use weir::notices::Notices;
use weir::pipeline::Pipeline;
use weir::policies::Policies;
use weir::runner::{LEAST_INTERVAL, Runner};
use weir::serve::{self, Subject};
use weir_model::{
    EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec,
    Store, TrafficPolicy,
};
use weir_nft::sim::Memory;
use weir_nft::{CommitError, Dataplane, DumpError, Installed, Receipt, Ruleset, Transaction};
use weir_plan::NodeFacts;
use weir_policy::{Catalog, Decider, Engine, Limits};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The status, the head and the body that `GET path` gets.
fn get(address: &str, path: &str) -> Option<(u16, String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_owned(), body.to_owned()))
}

/// Asks until `wanted` holds of the answer.
fn patiently(address: &str, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let answer = get(address, path);
        if let Some((status, _, body)) = &answer
            && wanted(*status, body)
        {
            return body.clone();
        }
        assert!(start.elapsed() < PATIENCE, "http://{address}{path} last said {answer:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn status(address: &str, path: &str) -> u16 {
    get(address, path).map_or(0, |(status, _, _)| status)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The value of a sample, by its name with labels as they are written; 0 when there is none.
fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value}")))
}

/// A directory of manifests and a daemon that follows it; both vanish with the test.
struct Daemon {
    directory: PathBuf,
    child: Child,
}

const HEALTH: &str = "127.0.0.1:10256";
const METRICS: &str = "127.0.0.1:10249";

impl Daemon {
    fn start(settings: &str, manifests: &[(&str, &str)]) -> Self {
        Self::start_with(settings, manifests, &[])
    }

    fn start_with(settings: &str, manifests: &[(&str, &str)], more: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("weir-serve-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let config = directory.with_extension("yaml");
        fs::write(&config, settings).expect("a file");
        for (name, text) in manifests {
            put(&directory, name, text);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("run").arg("--manifests").arg(&directory).arg("--config").arg(&config);
        let child = command.args(["--hostname-override", "n1"]).args(more).stderr(Stdio::inherit()).spawn();
        Self { directory, child: child.expect("the daemon starts") }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
        let _ = fs::remove_file(self.directory.with_extension("yaml"));
    }
}

/// Writes a file the way editors and kubelets do: whole, then moved into place.
fn put(directory: &std::path::Path, name: &str, text: &str) {
    let hidden = directory.join(format!(".{name}"));
    fs::write(&hidden, text).expect("a file");
    fs::rename(hidden, directory.join(name)).expect("moves");
}

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}\n";

fn slice(address: &str, triggered: Option<SystemTime>) -> String {
    let annotations = triggered.map_or_else(String::new, |at| {
        let at = at.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let days = Command::new("date").args(["-u", "-d", &format!("@{at}"), "+%Y-%m-%dT%H:%M:%SZ"]).output();
        let at = String::from_utf8(days.expect("the date tool").stdout).expect("text");
        format!("\n  annotations: {{endpoints.kubernetes.io/last-change-trigger-time: '{}'}}", at.trim())
    });
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n  labels: {{kubernetes.io/service-name: web}}{annotations}\n\
         addressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{{addresses: [{address}]}}]\n"
    )
}

fn node(more: &str) -> String {
    format!("apiVersion: v1\nkind: Node\nmetadata: {{name: n1}}\n{more}")
}

/// One document of kube-proxy's and one of Weir's own.
const SETTINGS: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n\
                        clusterCIDR: 10.1.0.0/16\n---\napiVersion: weir.proxy/v1alpha1\nkind: WeirConfiguration\n\
                        kubeProxyMetrics: true\n";

fn the_program_tells_of_its_health_its_metrics_and_its_state() {
    let daemon = Daemon::start(SETTINGS, &[("web.yaml", &format!("{SERVICE}---\n{}", slice("10.1.0.1", None)))]);
    patiently(HEALTH, "/readyz", |status, _| status == 200);
    for path in ["/livez", "/readyz", "/healthz"] {
        let (status, head, body) = get(HEALTH, path).expect("an answer");
        assert!(status == 200 && head.contains("application/json"), "{path}: {head}");
        let body = json(&body);
        let fields: Vec<&String> = body.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["currentTime", "lastUpdated", "nodeEligible"], "{path}");
        assert_eq!(body["nodeEligible"], true, "{path}");
        // While nothing waits, both are the same instant.
        assert_eq!(body["currentTime"], body["lastUpdated"], "{path}");
    }
    assert_eq!((status(HEALTH, "/metrics"), status(HEALTH, "/nowhere")), (404, 404));
    assert_eq!(get(METRICS, "/proxyMode").map(|(_, _, body)| body).as_deref(), Some("nftables"));
    assert_eq!(get(METRICS, "/healthz").map(|(_, _, body)| body).as_deref(), Some("ok"));
    assert_eq!(json(&patiently(METRICS, "/configz", |status, _| status == 200))["podCIDRs"][0], "10.1.0.0/16");

    debug_pages();
    a_change_shows(&daemon);
    an_autoscaler_takes_the_node(&daemon);
}

fn debug_pages() {
    let page = |path| patiently(METRICS, path, |status, _| status == 200);
    let services = json(&page("/debug/services"));
    assert_eq!(services[0]["name"], "web");
    assert_eq!(services[0]["ports"][0]["endpoints"][0]["address"], "10.1.0.1:8080");
    let plan = json(&page("/debug/plan"));
    assert_eq!(plan[0]["cluster"]["slots"], serde_json::json!({"10.1.0.1:8080": 1}));
    let rules = page("/debug/rules");
    assert!(rules.contains("table ip weir") && rules.contains("10.0.0.1 . tcp . 80 . 0 : 10.1.0.1 . 8080"), "{rules}");
    let sent = page("/debug/transaction");
    assert!(sent.contains("add element ip weir") && sent.contains("10.0.0.1 . tcp . 80"), "{sent}");
    let policies = json(&page("/debug/policies"));
    assert_eq!(policies["portsByDecision"], serde_json::json!({"kubernetes, random": 1}));
    assert_eq!(policies["quarantined"], serde_json::json!([]));
    assert_eq!(status(METRICS, "/debug/nothing"), 404);
}

/// A new endpoint, with the time at which it began: counted, and measured.
fn a_change_shows(daemon: &Daemon) {
    let before = patiently(METRICS, "/metrics", |status, _| status == 200);
    let changed = r#"weir_syncs_total{result="changed"}"#;
    let measured = r#"weir_network_programming_duration_seconds_count{ip_family="IPv4"}"#;
    assert_eq!(sample(&before, measured), 0.0);
    // Whole seconds only, so it must be one that begins after the daemon did.
    let later = SystemTime::now() + Duration::from_secs(1);
    put(&daemon.directory, "web.yaml", &format!("{SERVICE}---\n{}", slice("10.1.0.2", Some(later))));
    let after = patiently(METRICS, "/metrics", |_, text| sample(text, measured) > 0.0);
    assert!(sample(&after, changed) > sample(&before, changed));
    for (name, wanted) in [
        ("weir_services", 1.0),
        (r#"weir_ports{ip_family="IPv4"}"#, 1.0),
        (r#"weir_endpoints{ip_family="IPv4"}"#, 1.0),
        (r#"weir_set_elements{ip_family="IPv4",set="frontends"}"#, 1.0),
        ("weir_pending_services", 0.0),
        ("weir_quarantined_ports", 0.0),
        (r#"kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"}"#, 1.0),
        (r#"kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv6"}"#, 1.0),
        ("kubeproxy_sync_proxy_rules_service_changes_pending", 0.0),
    ] {
        assert_eq!(sample(&after, name), wanted, "{name} in\n{after}");
    }
    for name in [
        r#"weir_policy_calls_total{policy="random"}"#,
        r#"weir_policy_fuel_total{policy="kubernetes"}"#,
        r#"weir_sync_stage_duration_seconds_count{stage="commit"}"#,
        "weir_last_sync_timestamp_seconds",
        "weir_operations_total",
        r#"kubeproxy_proxy_livez_total{code="200"}"#,
    ] {
        assert!(sample(&after, name) > 0.0, "{name} in\n{after}");
    }
    for name in ["weir_conntrack_pass_duration_seconds", "kubeproxy_conntrack_reconciler_sync_duration_seconds"] {
        assert!(after.contains(&format!("{name}_count")), "{name} in\n{after}");
    }
    assert!(after.contains("weir_conntrack_passes_total") && after.ends_with("# EOF\n"), "{after}");
    let sent = patiently(METRICS, "/debug/transaction", |_, text| text.contains("10.1.0.2"));
    assert!(sent.contains("delete element") && sent.contains("10.0.0.1 . tcp . 80"), "{sent}");
}

/// KEP-3836: the load balancer must look elsewhere, and nobody must restart the daemon for it.
fn an_autoscaler_takes_the_node(daemon: &Daemon) {
    put(
        &daemon.directory,
        "node.yaml",
        &node("spec: {taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}\n"),
    );
    let body = patiently(HEALTH, "/healthz", |status, _| status == 503);
    assert_eq!(json(&body)["nodeEligible"], false);
    assert_eq!((status(HEALTH, "/livez"), status(HEALTH, "/readyz")), (200, 200));
    put(&daemon.directory, "node.yaml", &node(""));
    patiently(HEALTH, "/healthz", |status, _| status == 200);
}

/// A policy that does not like its settings: its calls are kept, can be had on request, and fail again elsewhere.
fn calls_to_policies_are_recorded_and_repeated() {
    let top = std::env::temp_dir().join(format!("weir-records-{}", std::process::id()));
    let (policies, records) = (top.join("policies"), top.join("records"));
    fs::create_dir_all(&policies).expect("a directory");
    let weighted = weir_policy::BUILT_IN.iter().find(|(name, _)| *name == "weighted").expect("built in").1;
    fs::write(policies.join("mine.wasm"), weighted).expect("a file");
    let service = |name: &str, ip: &str, settings: &str| {
        SERVICE.replace("10.0.0.1", ip).replace(
            "{name: web}",
            &format!(
                "{{name: {name}, annotations: {{weir.proxy/policy: mine, weir.proxy/policy-settings: {settings}}}}}"
            ),
        ) + &slice("10.1.0.1", None).replace("apiVersion", "---\napiVersion").replace("web", name)
    };
    // While one Service is decided well, the policy is taken.
    let manifests =
        format!("{}---\n{}", service("bad", "10.0.0.1", r#"'{"by-zone": 3}'"#), service("good", "10.0.0.2", "'{}'"));
    let settings = format!("policyRecords: {{directory: {}}}\n", records.display());
    let daemon =
        Daemon::start_with(&settings, &[("web.yaml", &manifests)], &["--policies", &policies.to_string_lossy()]);
    let asked =
        json(&patiently(METRICS, "/debug/records/default/good", |_, text| text.contains(r#""policy": "mine""#)));
    assert_eq!(asked.as_array().map(Vec::len), Some(2), "two roles: {asked}");
    let on_request = top.join("good.json");
    fs::write(&on_request, asked.to_string()).expect("a file");
    let start = Instant::now();
    let kept = loop {
        let entries = fs::read_dir(&records).expect("the daemon made it").map(|entry| entry.expect("a file").path());
        let mut kept: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
        match kept.pop() {
            Some(path) => break path,
            None => assert!(start.elapsed() < PATIENCE, "nothing was recorded"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    drop(daemon);
    let replay = |policy: &str, record: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["policy", "run", policy, "--replay"]).arg(record);
        let output = command.current_dir(&policies).output().expect("weir runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for record in [&kept, &on_request] {
        let (same, said) = replay("mine.wasm", record);
        assert!(same && said.contains("same   default/"), "{said}");
    }
    let (same, said) = replay("random", &kept);
    assert!(!same && said.contains("OTHER  default/bad:80"), "{said}");
    fs::remove_dir_all(top).expect("removes");
}

/// The kernel in memory, which refuses everything while it is told to.
struct Moody {
    memory: Memory,
    refuses: Arc<AtomicBool>,
}

impl Dataplane for Moody {
    fn commit(&mut self, transaction: &Transaction) -> Result<Receipt, CommitError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(CommitError::Refused(std::io::Error::other("not now")));
        }
        self.memory.commit(transaction)
    }

    fn dump(&mut self) -> Result<Ruleset, DumpError> {
        self.memory.dump()
    }

    fn is_untouched(&mut self) -> std::io::Result<bool> {
        self.memory.is_untouched()
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// A Service with an endpoint elsewhere, which its internal traffic policy does not want.
fn cluster() -> Event {
    let port = ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 };
    let service = ServiceSpec {
        key: key("web"),
        cluster_ips: vec![[10, 0, 0, 1].into()],
        ports: vec![port],
        internal_policy: TrafficPolicy::Local,
        ..ServiceSpec::default()
    };
    let endpoint = EndpointSpec { node: Some("elsewhere".to_owned()), ..EndpointSpec::ready([10, 1, 0, 1].into()) };
    let slice = SliceSpec {
        key: key("web-1"),
        service: key("web"),
        family: Family::V4,
        ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: vec![endpoint],
        // Long before this process: no measure of it.
        triggered: Some(1_000_000),
    };
    Event::Replace { services: vec![service], slices: vec![slice] }
}

/// Runs the daemon's loop on a thread of its own, and returns where events go.
fn start_loop(config: Config, refuses: Arc<AtomicBool>) -> mpsc::Sender<Event> {
    let (events, received) = mpsc::channel(16);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let engine = Engine::new(Limits::default()).expect("an engine");
            let catalog = Catalog::new(&engine, "kubernetes", "random").expect("the built-in policies");
            let store = Store::new(NodeIdentity { name: "n1".to_owned(), zone: String::new() });
            let (installed, memory) = (Installed::new(NodeFacts::default()), Memory::default());
            let mut pipeline = Pipeline::new(store, Decider::new(catalog), installed, Moody { memory, refuses });
            let health = ProxyHealth::new(config.sync_period.0 * 2);
            let metrics = Arc::new(Metrics::new(Sources::default(), config.kube_proxy_metrics));
            let policies = Policies::none();
            let subject =
                Subject { health: health.clone(), metrics: Arc::clone(&metrics), board: policies.board.clone() };
            let (_servers, inspector) = serve::open(&config, subject).expect("listens");
            let followers: Vec<Box<dyn Follower>> = vec![Box::new(metrics.inventory())];
            let surroundings = Surroundings::open(config).expect("this machine's addresses");
            let (least_interval, notices) = (LEAST_INTERVAL, Notices::nowhere());
            let runner = Runner {
                least_interval,
                surroundings,
                policies,
                notices,
                followers,
                loads: Arc::default(),
                health,
                metrics,
                inspector,
            };
            runner.run(&mut pipeline, received, std::future::pending()).await;
        });
    });
    events
}

fn health_follows_the_syncs() {
    const HEALTH: &str = "127.0.0.1:20256";
    const METRICS: &str = "127.0.0.1:20249";
    let config = Config {
        healthz_bind_address: HEALTH.parse().expect("an address"),
        metrics_bind_address: METRICS.parse().expect("an address"),
        sync_period: Span(Duration::from_millis(400)),
        kube_proxy_metrics: true,
        bind_address_hard_fail: true,
        ..Config::default()
    };
    let refuses = Arc::new(AtomicBool::new(false));
    let events = start_loop(config, Arc::clone(&refuses));
    patiently(HEALTH, "/livez", |status, _| status == 200);
    assert_eq!(status(HEALTH, "/readyz"), 503, "nothing was listed yet");
    assert_eq!(status(HEALTH, "/healthz"), 200, "as with kube-proxy: the rules of before hold");
    let nothing = patiently(METRICS, "/debug/transaction", |status, _| status == 200);
    assert!(nothing.starts_with('#'), "{nothing}");

    refuses.store(true, Ordering::SeqCst);
    events.blocking_send(cluster()).expect("the loop runs");
    for path in ["/livez", "/healthz", "/readyz"] {
        let body = json(&patiently(HEALTH, path, |status, _| status == 503));
        assert!(body["lastUpdated"].as_str() < body["currentTime"].as_str(), "{path}: {body}");
    }
    assert_eq!(status(METRICS, "/healthz"), 503);
    let text =
        patiently(METRICS, "/metrics", |_, text| sample(text, r#"weir_sync_failures_total{phase="commit"}"#) > 0.0);
    assert_eq!(sample(&text, "weir_pending_services"), 1.0);
    assert!(sample(&text, r#"kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"}"#) > 0.0);

    refuses.store(false, Ordering::SeqCst);
    for path in ["/readyz", "/livez", "/healthz"] {
        patiently(HEALTH, path, |status, _| status == 200);
    }
    let text = patiently(METRICS, "/metrics", |_, text| sample(text, "weir_services") > 0.0);
    let no_local = r#"{ip_family="IPv4",traffic_policy="internal"}"#;
    assert_eq!(sample(&text, &format!("weir_ports_without_local_endpoints{no_local}")), 1.0, "{text}");
    assert_eq!(sample(&text, &format!("kubeproxy_sync_proxy_rules_no_local_endpoints_total{no_local}")), 1.0, "{text}");
    assert_eq!(sample(&text, r#"weir_network_programming_duration_seconds_count{ip_family="IPv4"}"#), 0.0);
    assert!(sample(&text, r#"weir_policy_calls_total{policy="kubernetes"}"#) > 0.0, "a failed sync's calls count, too");

    events.blocking_send(Event::ServiceGone(key("web"))).expect("the loop runs");
    let text = patiently(METRICS, "/metrics", |_, text| sample(text, "weir_services") == 0.0);
    assert_eq!(sample(&text, &format!("weir_ports_without_local_endpoints{no_local}")), 0.0, "{text}");
}

fn one_shot_flags_answer_and_end() {
    let weir = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().expect("runs");
    let path = std::env::temp_dir().join(format!("weir-flags-{}.yaml", std::process::id()));
    let (file, written) = (path.to_string_lossy().into_owned(), path.with_extension("out"));
    fs::write(&path, SETTINGS).expect("a file");
    let checked = weir(&["check-config", &file, "--masquerade-all"]);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && text.contains("masqueradeAll: true") && text.contains("10.1.0.0/16"), "{text}");
    let done = weir(&[
        "run",
        "--manifests",
        "/",
        "--config",
        &file,
        "--cluster-cidr",
        "10.7.0.0/16",
        "--hostname-override",
        "Node-A",
        "--write-config-to",
        &written.to_string_lossy(),
    ]);
    assert!(done.status.success(), "{done:?}");
    let text = fs::read_to_string(&written).expect("a file");
    assert!(text.contains("10.7.0.0/16") && !text.contains("10.1.0.0/16"), "{text}");
    assert!(text.contains("nodeName: node-a"), "in lower case, as kube-proxy takes it: {text}");
    let again = weir(&["check-config", &written.to_string_lossy()]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), text, "what is written reads back the same");
    let done = weir(&["run", "--manifests", "/", "--cleanup"]);
    assert!(done.status.success() && String::from_utf8_lossy(&done.stdout).contains("removed"), "{done:?}");
    fs::write(&path, SETTINGS.replace("clusterCIDR", "clusterCidr")).expect("a file");
    let bad = weir(&["check-config", &file]);
    let told = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(bad.status.code() == Some(1) && told.contains("clusterCidr") && told.contains("document 1"), "{told}");
    for path in [path, written] {
        fs::remove_file(path).expect("removes");
    }
}

fn main() {
    let arguments = Arguments::from_args();
    if !weir_testbed::enter_for_tests("serve") {
        return;
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("the ip tool");
    assert!(up.success(), "loopback");
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
    };
    let trials = vec![
        trial(
            "the_program_tells_of_its_health_its_metrics_and_its_state",
            the_program_tells_of_its_health_its_metrics_and_its_state,
        ),
        trial("calls_to_policies_are_recorded_and_repeated", calls_to_policies_are_recorded_and_repeated),
        trial("health_follows_the_syncs", health_follows_the_syncs),
        trial("one_shot_flags_answer_and_end", one_shot_flags_answer_and_end),
    ];
    // One kernel for all of them: one after the other.
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit();
}
