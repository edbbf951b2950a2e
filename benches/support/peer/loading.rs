//! A tool that loads a file: for how long, with how much memory, and never beyond a time limit.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::memory;

/// How often to look whether it has ended, and at its memory.
const POLL: Duration = Duration::from_millis(1);

/// What loading a file took.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Loaded {
    /// Seconds from start to end of the process.
    pub seconds: f64,
    /// The most memory it ever had resident, in MB.
    pub peak: f64,
}

/// A file that goes when it is dropped.
struct Script(PathBuf);

impl Drop for Script {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs `command` with the name of a file that holds `text` as its last argument. `None`: it did not end within `limit`
/// and was stopped.
///
/// # Errors
/// When it is not installed, or refuses.
pub(super) fn load(mut command: Command, text: &str, limit: Duration) -> Result<Option<Loaded>> {
    let script = Script(weir_tests::api_server::temporary("peer.rules"));
    std::fs::write(&script.0, text)?;
    let start = Instant::now();
    let mut child = command.arg(&script.0).spawn().with_context(|| format!("run {command:?} (is it installed?)"))?;
    let pid = child.id().to_string();
    let mut peak = 0.0;
    loop {
        // Gone from /proc when it ends between the two looks.
        peak = memory::process(&pid).map_or(peak, |memory| memory.peak.max(peak));
        if let Some(status) = child.try_wait()? {
            let seconds = start.elapsed().as_secs_f64();
            judge(child, status)?;
            return Ok(Some(Loaded { seconds, peak }));
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// A command that says nothing unless something is wrong.
pub(super) fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    // It lives where an ordinary user's PATH does not look.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Whether it succeeded; if not, how it began to say why.
///
/// # Errors
/// When it did not.
pub(super) fn judge(child: Child, status: ExitStatus) -> Result<()> {
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let beginning: String = said.chars().take(600).collect();
    ensure!(status.success(), "it failed: {beginning}");
    Ok(())
}
