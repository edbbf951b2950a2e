use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Tells this program to be `weir`, whose `policy component` the scripts call.
const WANTED: &str = "WEIR_TESTS_PROGRAM";

/// How a build script says that a tool is missing.
const SKIPPED: i32 = 77;

/// How often it is looked whether a script has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of a language.
#[derive(Clone, Debug)]
pub(crate) enum Build {
    /// The component.
    Done(Vec<u8>),
    /// Why this machine cannot build it.
    Skipped(String),
    /// What is wrong with it.
    Failed(String),
}

/// Whether this process should be `weir`.
pub(crate) fn is_weir() -> bool {
    std::env::var_os(WANTED).is_some()
}

/// Where the policies are.
pub(crate) fn folder() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the repository");
    top.join("examples/policies")
}

/// Where components go, and all that building them leaves behind: beside the test's own folder in `target`.
fn out() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows where it is");
    // target/debug/deps/languages-…
    program.ancestors().nth(3).expect("the tests are in a target directory").join("policies")
}

/// Builds for all `languages` at once, within `most`, and returns what became of each.
pub(crate) fn all(languages: &[&str], most: Duration) -> Vec<Build> {
    let end = Instant::now() + most;
    let scripts: Vec<_> = languages.iter().map(|language| Script::start(language)).collect();
    let ended = scripts.into_iter().map(|script| script.and_then(|script| script.end(end)));
    ended.map(|build| build.unwrap_or_else(|error| Build::Failed(format!("{error:#}")))).collect()
}

/// A running build script.
struct Script {
    child: Child,
    /// What it writes.
    component: PathBuf,
    /// What it says.
    log: PathBuf,
}

impl Script {
    fn start(language: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let out = out();
        let target = out.parent().context("it is a folder of the target directory")?;
        fs::create_dir_all(&out)?;
        let (component, log) = (out.join(format!("{language}.wasm")), out.join(format!("{language}.test.log")));
        let script = folder().join(language).join("build.sh");
        let mut command = Command::new(&script);
        command.arg(&component).env("CARGO_TARGET_DIR", target).env("WEIR", &program).env(WANTED, "1");
        command.env("WEIR_OFFLINE", "1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        // A group of its own: what it has started ends with it.
        let child = command.process_group(0).spawn().with_context(|| script.display().to_string())?;
        Ok(Self { child, component, log })
    }

    /// What became of it at `end`.
    fn end(mut self, end: Instant) -> anyhow::Result<Build> {
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() < end => sleep(PAUSE),
                None => {
                    let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
                    self.child.wait()?;
                    return Ok(Build::Skipped(
                        "it takes too long for a test; examples/policies/build-all.sh builds it ahead".to_owned(),
                    ));
                }
            }
        };
        self.ended(status)
    }

    fn ended(&self, status: ExitStatus) -> anyhow::Result<Build> {
        let said = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        if status.code() == Some(SKIPPED) {
            let why = said.lines().last().unwrap_or_default().trim_start_matches("skipped: ");
            return Ok(Build::Skipped(why.to_owned()));
        }
        if !status.success() {
            return Ok(Build::Failed(format!("its build script ends with {status}:\n{said}")));
        }
        let component = fs::read(&self.component).with_context(|| self.component.display().to_string())?;
        Ok(Build::Done(component))
    }
}
