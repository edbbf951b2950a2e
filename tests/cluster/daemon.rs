use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_testbed::Host;
use weir_tests::api_server::temporary;

/// Tells this program to be the daemon.
const WANTED: &str = "WEIR_TESTS_DAEMON";
/// Where kubelets mount a pod's service account.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// Whether this process should be the daemon.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os(WANTED).is_some()
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// `weir run` in the namespace of `host`, on what `--kubeconfig` or `--manifests` (`source`) finds at that path.
    pub(crate) fn start(host: &Host, source: &str, path: &Path, node: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["run", "--node", node, source]).arg(path);
        Self::spawn(host, command)
    }

    /// `weir run` as a pod: without a flag that leads to the API server at `server`, but with the environment and, where
    /// kubelets mount it, a service account: the files in `account`.
    pub(crate) fn start_as_pod(host: &Host, account: &Path, server: SocketAddr, node: &str) -> Self {
        let mounts =
            format!("mount -t tmpfs tmpfs /run && mkdir -p {ACCOUNT} && mount --bind \"$0\" {ACCOUNT} && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &mounts]).arg(account);
        command.arg(std::env::current_exe().unwrap()).args(["run", "--node", node]);
        command.env("KUBERNETES_SERVICE_HOST", server.ip().to_string());
        command.env("KUBERNETES_SERVICE_PORT", server.port().to_string());
        Self::spawn(host, command)
    }

    fn spawn(host: &Host, mut command: Command) -> Self {
        let log = temporary("daemon.log");
        let file = File::create(&log).unwrap();
        command.env(WANTED, "1").env_remove("POD_NAMESPACE").stdout(Stdio::null()).stderr(file);
        Self { child: host.run(|| command.spawn()).unwrap(), log }
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it `signal`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Ends it with `signal` and waits for its end.
    pub(crate) fn end(mut self, signal: Signal) {
        self.signal(signal);
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}
