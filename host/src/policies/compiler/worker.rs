//! The process that compiles one component, seen from both sides.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use weir_policy::{CodeCache, LoadError};

use super::Bad;

/// What the process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Bytes of address space. A component of 32 MiB, the largest there may be, was seen to need half of it.
    pub(crate) memory: u64,
    /// Seconds of processor time, of all its threads together.
    pub(crate) seconds: u64,
    /// Time by the clock: the backstop for a process that gets no processor.
    pub(crate) deadline: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { memory: 2 << 30, seconds: 120, deadline: Duration::from_secs(600) }
    }
}

/// How the process ends when the component does not compile; it says why on standard output.
const REFUSED: u8 = 10;
/// How it ends when it could not begin; it says why on standard output.
const UNABLE: u8 = 11;
/// Bytes of what it says that are read.
const MOST_WORDS: u64 = 4096;
/// How often it is looked after.
const LOOK: Duration = Duration::from_millis(10);
/// How much it stands back for everybody else on the node, in steps of `nice`.
const NICE: i32 = 10;

/// Starts such processes.
pub(super) struct Worker<'a> {
    /// This program.
    pub(super) program: &'a Path,
    pub(super) bounds: Bounds,
}

/// Why nothing was compiled.
pub(super) enum Failed {
    /// The component is to blame.
    Refused(Bad),
    /// This machine is.
    Unable(String),
}

impl Worker<'_> {
    /// Has `component` compiled into the directory of compiled policies `cache`.
    pub(super) fn run(&self, cache: &Path, component: &[u8]) -> Result<(), Failed> {
        let unable = |error: std::io::Error| Failed::Unable(error.to_string());
        let mut command = Command::new(self.program);
        command.arg("compile-policy").arg("--cache").arg(cache);
        command.arg("--memory").arg(self.bounds.memory.to_string());
        command.arg("--seconds").arg(self.bounds.seconds.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Running(command.spawn().map_err(unable)?);
        // It reads all of it before it says anything. One that ends before that has its reason.
        let written = child.0.stdin.take().map_or(Ok(()), |mut input| input.write_all(component));
        let status = child.wait(self.bounds.deadline).map_err(unable)?;
        let mut said = String::new();
        if let Some(output) = child.0.stdout.take() {
            output.take(MOST_WORDS).read_to_string(&mut said).map_err(unable)?;
        }
        let refused = |bad: Bad| Err(Failed::Refused(bad));
        match status.and_then(|status| status.code()).map(u8::try_from) {
            Some(Ok(0)) => written.map_err(unable),
            Some(Ok(REFUSED)) => refused(LoadError::Compile(said).into()),
            Some(Ok(UNABLE)) => Err(Failed::Unable(said)),
            _ => refused(Bad { reason: "compile-limit", why: self.exceeded(status) }),
        }
    }

    fn exceeded(&self, status: Option<ExitStatus>) -> String {
        let Bounds { memory, seconds, deadline } = self.bounds;
        let how = match status {
            None => "it did not end in time".to_owned(),
            Some(status) => match status.signal().map(Signal::try_from) {
                Some(Ok(signal)) => format!("the process ended by {signal}"),
                _ => format!("the process ended with {status}"),
            },
        };
        format!(
            "compiling the component takes more than {} MiB of address space, {seconds} s of processor time or {} s \
             in all: {how}",
            memory >> 20,
            deadline.as_secs()
        )
    }
}

/// A process that does not outlive whoever waits for it.
struct Running(Child);

impl Running {
    /// Its end, or `None` when that did not come in time.
    fn wait(&mut self, deadline: Duration) -> std::io::Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            match self.0.try_wait()? {
                Some(status) => return Ok(Some(status)),
                None if start.elapsed() > deadline => return Ok(None),
                None => sleep(LOOK),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process itself: compiles what comes on standard input into the directory `cache`, within bounds.
pub(crate) fn compile(cache: &Path, memory: u64, seconds: u64) -> ExitCode {
    let told = |code: u8, why: String| {
        print!("{why}");
        ExitCode::from(code)
    };
    if let Err(why) = restrain(memory, seconds) {
        return told(UNABLE, why);
    }
    let mut component = Vec::new();
    match std::io::stdin().read_to_end(&mut component) {
        Ok(_) => {}
        // Its bounds do not even hold the component.
        Err(error) if error.kind() == ErrorKind::OutOfMemory => return ExitCode::FAILURE,
        Err(error) => return told(UNABLE, format!("cannot read the component: {error}")),
    }
    let cache = match CodeCache::attach(cache) {
        Ok(cache) => cache,
        Err(error) => return told(UNABLE, error.to_string()),
    };
    match cache.fill(&component) {
        Ok(()) if cache.misses() + cache.hits() > 0 => ExitCode::SUCCESS,
        Ok(()) => told(UNABLE, format!("cannot write to {}", cache.directory().display())),
        Err(LoadError::Compile(why)) => told(REFUSED, why),
        Err(error) => told(REFUSED, error.to_string()),
    }
}

/// Takes on bounds, stands back, gives up every right it does not need, and ends with the daemon.
fn restrain(memory: u64, seconds: u64) -> Result<(), String> {
    let limits = [
        (Resource::RLIMIT_AS, memory, "RLIMIT_AS"),
        (Resource::RLIMIT_CPU, seconds, "RLIMIT_CPU"),
        (Resource::RLIMIT_CORE, 0, "RLIMIT_CORE"),
    ];
    for (resource, limit, name) in limits {
        setrlimit(resource, limit, limit).map_err(|error| format!("cannot set {name}: {error}"))?;
    }
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| format!("cannot tie itself to the daemon: {error}"))?;
    prctl::set_no_new_privs().map_err(|error| format!("cannot give up rights: {error}"))?;
    // Both are courtesy: where the kernel says no, it is done without.
    let _ = rustix::process::nice(NICE);
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}
