//! The program itself, as a user runs it: in a network namespace, with a directory of manifests.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_conntrack::{Flow, FlowTable};
use weir_model::{Family, Protocol};

/// How long the daemon may take to follow a change; it looks at its files every second at the latest.
const PATIENCE: Duration = Duration::from_secs(15);

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  clusterIP: 10.0.0.1\n  ports: [{port: 80}]\n";

fn slice(address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n  labels: {{kubernetes.io/service-name: web}}\n\
         addressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{{addresses: [{address}], conditions: {{ready: true}}}}]\n"
    )
}

/// A directory of manifests that vanishes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-daemon-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    /// Writes a file the way editors and kubelets do: whole, then moved into place.
    fn put(&self, name: &str, text: &str) {
        let hidden = self.0.join(format!(".{name}"));
        fs::write(&hidden, text).expect("a file");
        fs::rename(hidden, self.0.join(name)).expect("moves");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running daemon; killed if the test ends before it does.
struct Daemon(Child);

impl Daemon {
    fn start(directory: &Directory, extra: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("run").arg("--manifests").arg(&directory.0).args(["--node", "n1"]).args(extra);
        Self(command.stderr(Stdio::piped()).spawn().expect("the daemon starts"))
    }

    /// Its log, line by line as it comes; [`Daemon::terminate`] returns nothing then.
    fn log(&mut self) -> mpsc::Receiver<String> {
        let stderr = BufReader::new(self.0.stderr.take().expect("a log"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        lines
    }

    /// Ends it as systemd and kubelets do, and returns its log.
    fn terminate(mut self) -> String {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).expect("a signal");
        let status = self.0.wait().expect("it ends");
        assert!(status.success(), "it ended with {status}");
        let mut log = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut log).expect("a readable log");
        }
        log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn weir(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().expect("weir runs")
}

fn nft(arguments: &[&str]) -> String {
    let output = Command::new("nft")
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .expect("the nft tool");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn rules() -> String {
    nft(&["list", "ruleset"])
}

fn wait_for(what: &str, holds: impl Fn(&str) -> bool) {
    let start = Instant::now();
    loop {
        let rules = rules();
        if holds(&rules) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "never saw {what} in\n{rules}");
        sleep(Duration::from_millis(20));
    }
}

fn follows_its_manifests() {
    let directory = Directory::new("follow");
    directory.put("web.yaml", &format!("{SERVICE}---\n{}", slice("10.1.0.1")));
    let daemon = Daemon::start(&directory, &[]);
    wait_for("the endpoint", |rules| rules.contains("10.0.0.1 . tcp . 80 . 0 : 10.1.0.1 . 8080"));

    directory.put("web.yaml", &format!("{SERVICE}---\n{}", slice("10.1.0.2")));
    wait_for("the new endpoint", |rules| rules.contains("10.1.0.2 . 8080") && !rules.contains("10.1.0.1 . 8080"));

    // A bad version changes nothing, and a good neighbour is served.
    directory.put("web.yaml", &format!("{SERVICE}---\n  : [ half"));
    directory.put("other.yaml", &SERVICE.replace("name: web", "name: other").replace("10.0.0.1", "10.0.0.2"));
    wait_for("the neighbour", |rules| rules.contains("10.0.0.2"));
    assert!(rules().contains("10.1.0.2 . 8080"), "the last good version stays");

    let log = daemon.terminate();
    assert!(log.contains("web.yaml") && log.contains("document 2"), "the bad document is told:\n{log}");
    assert!(rules().contains("10.1.0.2 . 8080"), "the rules stay");
}

fn a_restart_finds_its_rules_and_drops_what_went_meanwhile() {
    let directory = Directory::new("restart");
    directory.put("web.yaml", &format!("{SERVICE}---\n{}", slice("10.1.0.3")));
    directory.put("old.yaml", &SERVICE.replace("name: web", "name: old").replace("10.0.0.1", "10.0.0.9"));
    let daemon = Daemon::start(&directory, &["--log-format", "json"]);
    wait_for("both", |rules| rules.contains("10.1.0.3 . 8080") && rules.contains("10.0.0.9"));
    let log = daemon.terminate();
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "not JSON:\n{log}");

    fs::remove_file(directory.0.join("old.yaml")).expect("removes");
    let daemon = Daemon::start(&directory, &[]);
    wait_for("the end of the old one", |rules| !rules.contains("10.0.0.9"));
    assert!(rules().contains("10.1.0.3 . 8080"));
    // A second one must not fight the first over the table.
    let second = weir(&["run", "--manifests", &directory.0.to_string_lossy(), "--node", "n1"]);
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && told.contains("second Weir"), "{told}");
    daemon.terminate();
}

/// The address that answers the flow from `source`, as the kernel tracks it.
fn answers(source: SocketAddr) -> Option<SocketAddr> {
    let mut found = None;
    let mut each = |flow: Flow| {
        if flow.source == source {
            found = Some(flow.reply_source);
        }
    };
    weir_netlink::Conntrack::open().expect("ctnetlink").dump(Family::V4, Protocol::Udp, &mut each).expect("a dump");
    found
}

fn ends_flows_to_endpoints_that_are_gone() {
    for arguments in [&["link", "set", "lo", "up"][..], &["route", "replace", "10.0.0.0/8", "dev", "lo"]] {
        assert!(Command::new("ip").args(arguments).status().expect("the ip tool").success());
    }
    let udp = |address: &str| {
        let text = format!("{SERVICE}---\n{}", slice(address));
        text.replace("{port: 80}", "{port: 80, protocol: UDP}").replace("{port: 8080}", "{port: 8080, protocol: UDP}")
    };
    let directory = Directory::new("flows");
    directory.put("web.yaml", &udp("10.1.0.7"));
    let daemon = Daemon::start(&directory, &["--log-format", "json"]);
    wait_for("the endpoint", |rules| rules.contains("10.1.0.7 . 8080"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(b"?", "10.0.0.1:80").expect("a way out");
    let source = socket.local_addr().expect("an address");
    assert_eq!(answers(source), Some("10.1.0.7:8080".parse().expect("an address")));
    directory.put("web.yaml", &udp("10.1.0.8"));
    let start = Instant::now();
    while answers(source).is_some() {
        assert!(start.elapsed() < PATIENCE, "the flow to the old endpoint is still there");
        sleep(Duration::from_millis(20));
    }
    let log = daemon.terminate();
    assert!(log.contains(r#""deleted":1"#), "{log}");
}

fn cleanup_removes_only_weirs_tables() {
    let directory = Directory::new("cleanup");
    directory.put("web.yaml", &format!("{SERVICE}---\n{}", slice("10.1.0.4")));
    let daemon = Daemon::start(&directory, &[]);
    wait_for("the endpoint", |rules| rules.contains("10.1.0.4 . 8080"));
    daemon.terminate();
    nft(&["add", "table", "ip", "somebody-elses"]);
    for _ in 0..2 {
        let output = weir(&["cleanup"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(nft(&["list", "tables"]).trim(), "table ip somebody-elses");
    }
    nft(&["delete", "table", "ip", "somebody-elses"]);
}

fn explains_from_manifests_and_from_the_kernel() {
    let directory = Directory::new("explain");
    directory.put("web.yaml", &format!("{SERVICE}---\n{}", slice("10.1.0.5")));
    let path = directory.0.to_string_lossy().into_owned();
    let packet = ["explain", "--from", "10.9.9.9", "--to", "10.0.0.1:80"];

    let output = weir(&[&packet[..], &["--manifests", &path]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("default/web") && text.contains("to 10.1.0.5:8080") && text.contains("balancer random"),
        "{text}"
    );

    let output = weir(&[&packet[..], &["--manifests", &path, "-o", "json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json.pointer("/outcomes/0/verdict").and_then(serde_json::Value::as_str), Some("to 10.1.0.5:8080"));

    let daemon = Daemon::start(&directory, &[]);
    wait_for("the endpoint", |rules| rules.contains("10.1.0.5 . 8080"));
    let output = weir(&packet);
    let live = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(live.contains("to 10.1.0.5:8080"), "{live}{}", String::from_utf8_lossy(&output.stderr));
    daemon.terminate();
}

fn render_is_what_the_kernel_gets() {
    let directory = Directory::new("render");
    directory.put("web.yaml", &format!("{SERVICE}---\n{}", slice("10.1.0.6")));
    let path = directory.0.to_string_lossy().into_owned();
    let rendered = String::from_utf8(weir(&["render", "--manifests", &path]).stdout).expect("text");
    weir(&["cleanup"]);
    let daemon = Daemon::start(&directory, &[]);
    wait_for("the endpoint", |rules| rules.contains("10.1.0.6 . 8080"));
    // nft adds the owner of a table to its listing; everything else must be the same.
    let listed: String =
        rules().lines().filter(|line| !line.contains("flags owner") && !line.is_empty()).collect::<Vec<_>>().join("\n");
    let rendered: String = rendered.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    let bare =
        |text: &str| text.lines().map(|line| line.split(" # ").next().unwrap_or(line).to_owned()).collect::<Vec<_>>();
    assert_eq!(bare(&listed), bare(&rendered));
    daemon.terminate();
}

/// Addresses that come and go, pod ranges of the Node, ranges of the cluster: all followed without a restart.
fn follows_what_the_node_is() {
    let ip = |line: &str| {
        let status = Command::new("ip").args(line.split(' ')).status().expect("the ip tool");
        assert!(status.success(), "ip {line}");
    };
    let directory = Directory::new("node");
    let settings = Directory::new("node-settings");
    settings.put("weir.yaml", "nodePortAddresses: [10.7.0.0/16, 'fd07::/16']\ndetectLocalMode: NodeCIDR\n");
    directory.put(
        "web.yaml",
        &format!("{}---\n{}", SERVICE.replace("{port: 80}", "{port: 80, nodePort: 30080}"), slice("10.1.0.8")),
    );
    let config = settings.0.join("weir.yaml");
    ip("link set lo up");
    let daemon = Daemon::start(&directory, &["--config", &config.to_string_lossy()]);
    wait_for("the endpoint", |rules| rules.contains("10.1.0.8 . 8080") && !rules.contains("10.7.0"));

    ip("addr add 10.7.0.1/32 dev lo");
    wait_for("the new address", |rules| rules.contains("elements = { 10.7.0.1 }"));
    ip("addr add fd07::1/128 dev lo nodad");
    ip("addr add 10.7.0.2/32 dev lo");
    wait_for("two more", |rules| rules.contains("10.7.0.1, 10.7.0.2") && rules.contains("fd07::1"));
    for address in ["10.7.0.1/32", "10.7.0.2/32", "fd07::1/128"] {
        ip(&format!("addr del {address} dev lo"));
    }
    wait_for("their end", |rules| !rules.contains("10.7.0") && !rules.contains("fd07::1"));

    let node =
        |range: &str| format!("apiVersion: v1\nkind: Node\nmetadata: {{name: n1}}\nspec: {{podCIDRs: [{range}]}}\n");
    assert!(!rules().contains("ip saddr != 10."), "no pods are known");
    directory.put("node.yaml", &node("10.55.0.0/24"));
    wait_for("this node's pods", |rules| rules.contains("ip saddr != 10.55.0.0/24"));
    directory.put("node.yaml", &node("10.56.0.0/24"));
    wait_for("its other pods", |rules| rules.contains("ip saddr != 10.56.0.0/24") && !rules.contains("10.55.0"));
    directory.put(
        "ranges.yaml",
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: a}\nspec: {cidrs: [10.0.0.0/16]}\n",
    );
    wait_for("the range", |rules| rules.contains("ip daddr 10.0.0.0/16 fib daddr type != local drop"));
    assert!(rules().contains("10.1.0.8 . 8080"), "the Service is served all the while");
    daemon.terminate();
}

/// Ports of the daemon's own: a health check port that is taken at first, and a node port on loopback.
fn listens_where_services_ask_for_it() {
    for line in ["link set lo up", "addr add 10.1.0.7/32 dev lo"] {
        let status = Command::new("ip").args(line.split(' ')).status().expect("the ip tool");
        assert!(status.success(), "ip {line}");
    }
    let directory = Directory::new("listens");
    let settings = Directory::new("settings");
    settings.put("weir.yaml", "nodePortAddresses: [localhost]\n");
    let service = SERVICE
        .replace("spec:", "spec:\n  type: LoadBalancer\n  externalTrafficPolicy: Local\n  healthCheckNodePort: 32000");
    let slice = slice("10.1.0.7").replace("{addresses", "{nodeName: n1, addresses");
    let service = service.replace("{port: 80}", "{port: 80, nodePort: 30080}");
    directory.put("web.yaml", &format!("{service}---\n{slice}"));

    let squatter = TcpListener::bind("127.0.0.1:32000").expect("a free port");
    let endpoint = TcpListener::bind("10.1.0.7:8080").expect("a free port");
    let config = settings.0.join("weir.yaml");
    let mut daemon = Daemon::start(&directory, &["--config", &config.to_string_lossy()]);
    let log = daemon.log();
    let told = std::iter::from_fn(|| log.recv_timeout(PATIENCE).ok()).find(|line| line.contains("cannot listen"));
    let told = told.expect("a port that is not free is told");
    assert!(["default/web", "spec.healthCheckNodePort", "32000"].iter().all(|word| told.contains(word)), "{told}");
    let mut client = patiently("the node port", || TcpStream::connect("127.0.0.1:30080").ok());
    client.write_all(b"hello").expect("writes");
    client.shutdown(Shutdown::Write).expect("writes");
    let mut received = String::new();
    let (mut relayed, _) = endpoint.accept().expect("a connection");
    relayed.read_to_string(&mut received).expect("reads");
    assert_eq!(received, "hello");

    drop(squatter);
    let answer = patiently("the health check port", || {
        let mut stream = TcpStream::connect("127.0.0.1:32000").ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok().map(|_| answer)
    });
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"localEndpoints\":1"), "{answer}");

    daemon.terminate();
    let log: Vec<String> = log.iter().collect();
    assert!(!log.iter().any(|line| line.contains("cannot listen")), "it is told once:\n{log:?}");
    assert!(log.iter().any(|line| line.contains("listens after all")), "{log:?}");
    assert!(TcpStream::connect("127.0.0.1:30080").is_err(), "the port is closed with the daemon");
}

/// Asks again and again until there is an answer.
fn patiently<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what} never answers");
        sleep(Duration::from_millis(20));
    }
}

fn mistakes_are_told() {
    let nowhere = weir(&["render", "--manifests", "/nowhere"]);
    assert!(!nowhere.status.success());
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("/nowhere"));
    let nothing = weir(&["render"]);
    assert_eq!(nothing.status.code(), Some(2));
}

fn main() {
    let arguments = Arguments::from_args();
    if !weir_testbed::enter_for_tests("daemon") {
        return;
    }
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
    };
    let trials = vec![
        trial("follows_its_manifests", follows_its_manifests),
        trial(
            "a_restart_finds_its_rules_and_drops_what_went_meanwhile",
            a_restart_finds_its_rules_and_drops_what_went_meanwhile,
        ),
        trial("ends_flows_to_endpoints_that_are_gone", ends_flows_to_endpoints_that_are_gone),
        trial("cleanup_removes_only_weirs_tables", cleanup_removes_only_weirs_tables),
        trial("explains_from_manifests_and_from_the_kernel", explains_from_manifests_and_from_the_kernel),
        trial("render_is_what_the_kernel_gets", render_is_what_the_kernel_gets),
        trial("follows_what_the_node_is", follows_what_the_node_is),
        trial("listens_where_services_ask_for_it", listens_where_services_ask_for_it),
        trial("mistakes_are_told", mistakes_are_told),
    ];
    // One kernel for all of them: one after the other.
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit();
}
