use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_testbed::{Call, Host};

/// Longest life of a program, should the test die without ending it.
const LIFE_SECONDS: &str = "120";
/// How long a program may take until it accepts connections.
const START: Duration = Duration::from_secs(10);

/// Where that program is; servers live where an ordinary user's PATH does not look.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// A program in the foreground inside a host's namespace; it ends with the value, by its process id.
pub(super) struct Program(Child);

impl Program {
    /// Starts it, and waits until it accepts connections on that TCP port.
    pub(super) fn start<S: AsRef<OsStr>>(host: &Host, name: &str, arguments: &[S], port: u16) -> Self {
        let program = find(name).unwrap();
        let mut command = Command::new("timeout");
        // `timeout` hands on the signal that ends it, and follows with SIGKILL a second later.
        command.args(["--kill-after=1", LIFE_SECONDS]).arg(program).args(arguments).stdin(Stdio::null());
        let mut running = Self(host.run(|| command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()).unwrap());
        let start = Instant::now();
        // Whatever it says to a connection, it accepts it.
        let own = std::net::SocketAddr::new(host.v4().into(), port);
        let refused = Err(weir_testbed::Failure::Refused);
        while Call::tcp(own).within(Duration::from_millis(1)).make_on(host) == refused {
            if let Some(status) = running.0.try_wait().unwrap() {
                let mut said = String::new();
                std::io::Read::read_to_string(&mut running.0.stderr.take().unwrap(), &mut said).unwrap();
                panic!("{name} in {} ended with {status}: {said}", host.name());
            }
            assert!(start.elapsed() < START, "{name} in {} does not listen on port {port}", host.name());
            sleep(Duration::from_millis(5));
        }
        running
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It fails only if the process has ended.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}
