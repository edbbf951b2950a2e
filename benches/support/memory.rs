//! Memory of a process and of the kernel, as `/proc` tells it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const BYTES_A_KILOBYTE: f64 = 1024.0;
const MEGABYTE: f64 = 1024.0 * 1024.0;
/// How long the kernel may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to look.
const STEP: Duration = Duration::from_millis(100);
/// A change that counts as none, in bytes.
const STILL: f64 = 32.0 * BYTES_A_KILOBYTE;
/// And so often in a row it must count as none.
const STILL_STEPS: u32 = 4;

/// Memory of one process, in MB.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// What is resident now.
    pub resident: f64,
    /// The most that ever was.
    pub peak: f64,
}

/// Memory of process `pid`, or of this one (`self`).
///
/// # Errors
/// When there is no such process.
pub fn process(pid: &str) -> Result<Process> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = |name| field(&status, name).with_context(|| path.clone()).map(|bytes| bytes / MEGABYTE);
    Ok(Process { resident: field("VmRSS")?, peak: field("VmHWM")? })
}

/// Bytes the kernel uses for itself, on the whole machine: slabs, pages mapped one by one, memory of each processor. What
/// it would give back on demand, the caches of files, is left out.
///
/// The kernel frees what belongs to rules later, in the background, and begins with that when it likes: this waits until
/// nothing has changed for [`STILL_STEPS`] looks, for five seconds at most.
///
/// # Errors
/// When `/proc` does not tell.
pub fn kernel() -> Result<f64> {
    let now = || -> Result<f64> {
        let text = std::fs::read_to_string("/proc/meminfo")?;
        ["SUnreclaim", "VmallocUsed", "Percpu"]
            .into_iter()
            .map(|name| field(&text, name).context("/proc/meminfo"))
            .sum()
    };
    let (deadline, mut last) = (Instant::now() + PATIENCE, now()?);
    let mut still = 0;
    loop {
        thread::sleep(STEP);
        let next = now()?;
        still = if (next - last).abs() < STILL { still + 1 } else { 0 };
        if still == STILL_STEPS || Instant::now() > deadline {
            return Ok(next);
        }
        last = next;
    }
}

/// Bytes of a line such as `VmRSS:   1234 kB`.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kilobytes| kilobytes * BYTES_A_KILOBYTE)
}
