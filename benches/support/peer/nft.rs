//! The tool the peer writes with.

use std::io::Write;
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

/// `nft -f` of `text` in this network namespace. `None`: it did not end within `limit` and was stopped, so nothing was
/// loaded.
///
/// # Errors
/// When it is not installed, or refuses.
pub fn load(text: &str, limit: Duration) -> Result<Option<Loaded>> {
    let script = Script(weir_tests::api_server::temporary("peer.nft"));
    std::fs::write(&script.0, text)?;
    let start = Instant::now();
    let mut child = nft().arg(&script.0).spawn().context("run nft (is it installed?)")?;
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

/// `nft -f -` with `text` on its standard input, as kube-proxy runs it: how long it took.
///
/// # Errors
/// When it is not installed, or refuses.
pub fn update(text: &str) -> Result<Duration> {
    let start = Instant::now();
    let mut child = nft().arg("-").stdin(Stdio::piped()).spawn().context("run nft (is it installed?)")?;
    child.stdin.take().context("its standard input")?.write_all(text.as_bytes())?;
    let status = child.wait()?;
    let took = start.elapsed();
    judge(child, status)?;
    Ok(took)
}

fn nft() -> Command {
    let mut command = Command::new("nft");
    // It lives where an ordinary user's PATH does not look.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    command.env("PATH", path).arg("-f").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn judge(child: Child, status: ExitStatus) -> Result<()> {
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let beginning: String = said.chars().take(600).collect();
    ensure!(status.success(), "nft failed: {beginning}");
    Ok(())
}
