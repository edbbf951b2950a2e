//! Policies in an OCI registry: Debian's `docker-registry`, on loopback.
//!
//! Where that program is missing the trials are ignored and say so; with `REQUIRE_NETNS=1` they fail.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use weir::config::OciPolicy;
use weir::policies::oci::source::{Copies, follow};
use weir::policies::{Deliveries, Delivery, Offer};
use weir_policy::BUILT_IN;

/// The program and Debian's package of it.
const REGISTRY: &str = "docker-registry";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running registry, in a directory that vanishes with the test.
struct Registry {
    top: PathBuf,
    child: Child,
    port: u16,
}

impl Registry {
    fn start(name: &str) -> Self {
        let top = std::env::temp_dir().join(format!("weir-registry-{}-{name}", std::process::id()));
        fs::create_dir_all(&top).expect("a directory");
        // Somebody may take the port before the registry does; it ends then, and another one is tried.
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
            if let Some(child) = serve(&top, free) {
                return Self { top, child, port: free };
            }
        }
        panic!("{REGISTRY} cannot be started; its log is in {}", top.join("log").display());
    }

    fn reference(&self, rest: &str) -> String {
        format!("oci://127.0.0.1:{}/team/policy{rest}", self.port)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    /// The registry's own copy of the blob with that digest.
    fn blob(&self, digest: &str) -> PathBuf {
        self.file("data/docker/registry/v2/blobs/sha256").join(&digest[..2]).join(digest).join("data")
    }
}

/// Starts a registry at `port` and waits until it answers; `None` when it ends instead.
fn serve(top: &Path, port: u16) -> Option<Child> {
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
        top.join("data").display()
    );
    fs::write(top.join("registry.yaml"), config).expect("a file");
    let log = fs::File::create(top.join("log")).expect("a file");
    let mut command = Command::new(REGISTRY);
    command.arg("serve").arg(top.join("registry.yaml")).stdout(Stdio::null()).stderr(log);
    let mut child = command.spawn().expect("it starts");
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(child);
        }
        assert!(start.elapsed() < PATIENCE, "the registry does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.top);
    }
}

/// `weir policy` with those arguments, and credentials of nobody.
fn policy(top: &Path, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = command.arg("policy").args(arguments).current_dir(top).env("DOCKER_CONFIG", top).output();
    let output = output.expect("weir runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn component() -> &'static [u8] {
    BUILT_IN.iter().find(|(name, _)| *name == "weighted").expect("built in").1
}

/// Pushes `weighted` and returns the reference with its digest.
fn pushed(registry: &Registry) -> String {
    fs::write(registry.file("mine.wasm"), component()).expect("a file");
    let (ok, out, err) = policy(&registry.top, &["push", "mine.wasm", &registry.reference(":1"), "--plain-http"]);
    assert!(ok, "{out}{err}");
    out
}

fn a_policy_goes_to_the_registry_and_comes_back() {
    let registry = Registry::start("there-and-back");
    let pinned = pushed(&registry);
    assert!(pinned.starts_with(&registry.reference("@sha256:")), "{pinned}");
    for reference in [&pinned, &registry.reference(":1")] {
        let (ok, out, err) = policy(&registry.top, &["pull", reference, "-o", "back.wasm", "--plain-http"]);
        assert!(ok && out == pinned, "{out}{err}");
        assert_eq!(fs::read(registry.file("back.wasm")).expect("a file"), component());
    }
    let (_, digest) = pinned.split_once("sha256:").expect("a digest");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(registry.blob(digest)).expect("a blob")).expect("JSON");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
}

fn what_is_wrong_is_told() {
    let registry = Registry::start("wrong");
    let pinned = pushed(&registry);
    let pull = |reference: &str, more: &[&str]| {
        let arguments = [&["pull", reference, "-o", "out.wasm"], more].concat();
        let (ok, _, err) = policy(&registry.top, &arguments);
        assert!(!ok && !registry.file("out.wasm").exists(), "{reference} must not come");
        err
    };
    let absent = registry.reference(&format!("@sha256:{}", "0".repeat(64)));
    assert!(pull(&absent, &["--plain-http"]).contains("team/policy"));
    assert!(pull("oci://registry.example.com/a/b:1", &["--plain-http"]).contains("this machine only"));
    assert!(pull("https://registry.example.com/a", &[]).contains("oci://"));
    // A registry that hands out other bytes than those it was given.
    let digest = weir_policy::Digest::of(component()).to_string();
    let mut other = component().to_vec();
    other[40] ^= 1;
    fs::write(registry.blob(&digest), other).expect("a file");
    let told = pull(&pinned, &["--plain-http"]);
    assert!(told.to_lowercase().contains("digest"), "{told}");
    let (ok, _, err) = policy(&registry.top, &["push", "registry.yaml", &registry.reference(":2"), "--plain-http"]);
    assert!(!ok && err.contains("compile"), "{err}");
}

/// The daemon's source: from the registry at first, then from its copy, with the registry gone; a broken copy is none.
fn the_daemon_starts_from_its_last_good_copy() {
    let registry = Registry::start("copy");
    let reference = pushed(&registry);
    let directory = registry.file("copies");
    let fetch = || {
        let wanted = OciPolicy {
            name: "mine".to_owned(),
            reference: reference.clone(),
            settings: "{}".to_owned(),
            fail_strategy: String::new(),
            plain_http: true,
        };
        let (deliveries, delivered) = Deliveries::unloaded();
        let copies = Copies::open(directory.clone()).expect("a directory");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.spawn(follow(vec![wanted], Some(copies), deliveries));
        let mut got = Vec::new();
        loop {
            match delivered.recv_timeout(PATIENCE).expect("everything is told") {
                Delivery::Listed => return got,
                other => got.push(other),
            }
        }
    };
    let is_whole = |got: &[Delivery]| matches!(got, [Delivery::Set(Offer { artifact, .. })] if artifact.name == "mine" && artifact.component == component());
    let first = fetch();
    assert!(is_whole(&first), "{} deliveries", first.len());
    let mut registry = registry;
    registry.child.kill().expect("a child");
    registry.child.wait().expect("a child");
    assert!(is_whole(&fetch()), "the copy does without a registry");
    let copy = fs::read_dir(&directory).expect("copies").map(|entry| entry.expect("a file").path());
    let copy = copy.into_iter().find(|path| path.extension().is_some_and(|end| end == "wasm")).expect("a copy");
    fs::write(copy, "cut").expect("a file");
    assert!(matches!(&fetch()[..], [Delivery::Bad { name, .. }] if name == "mine"), "half a copy is none");
}

fn main() {
    let arguments = Arguments::from_args();
    let absent = Command::new(REGISTRY).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err();
    let required = std::env::var("REQUIRE_NETNS").is_ok_and(|value| value == "1");
    if absent && !required {
        eprintln!("ignored: there is no {REGISTRY}; `scripts/setup.sh tests` installs it");
    }
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
        .with_ignored_flag(absent && !required)
    };
    let trials = vec![
        trial("a_policy_goes_to_the_registry_and_comes_back", a_policy_goes_to_the_registry_and_comes_back),
        trial("what_is_wrong_is_told", what_is_wrong_is_told),
        trial("the_daemon_starts_from_its_last_good_copy", the_daemon_starts_from_its_last_good_copy),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}
