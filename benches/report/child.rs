//! Measurements in a process of their own: with memory that counts nothing else, with a network namespace of its own,
//! and with a time limit. Whoever waits for one holds its standard input, so that it ends with them, however they end.
//! Each has a process group of its own, so that the tools it runs end with it.

use std::io::{Read, stdin};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Tells a process which measurement it is; its arguments are in `ARGUMENTS`, as JSON.
const ROLE: &str = "WEIR_BENCH_CHILD";
const ARGUMENTS: &str = "WEIR_BENCH_ARGUMENTS";
/// How often to look whether a process has ended.
const POLL: Duration = Duration::from_millis(2);

/// Runs measurement `role` in a child. `None`: it did not end within `limit` and was stopped.
///
/// # Errors
/// When it fails.
pub(crate) fn run<T: DeserializeOwned>(role: &str, arguments: &impl Serialize, limit: Duration) -> Result<Option<T>> {
    let mut command = Command::new(std::env::current_exe()?);
    as_role(&mut command, role).env(ARGUMENTS, serde_json::to_string(arguments)?).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut output = child.stdout.take().context("its output")?;
    let reader = thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            killpg(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGKILL)?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    };
    let Ok(text) = reader.join() else { bail!("the reader of {role} panicked") };
    ensure!(status.success(), "{role} failed: {status}");
    let text = text?;
    Ok(Some(serde_json::from_str(&text).with_context(|| format!("{role} said {text:?}"))?))
}

/// The measurement this process is to make, if it is a child: its role and its arguments.
pub(crate) fn role() -> Option<(String, String)> {
    Some((std::env::var(ROLE).ok()?, std::env::var(ARGUMENTS).unwrap_or_default()))
}

/// Ends this process and the tools it runs when nobody holds its standard input any more: the one that started it is
/// gone.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        let _ = std::io::copy(&mut stdin(), &mut std::io::sink());
        // Everyone in this group, and so this process, too.
        let _ = kill(Pid::from_raw(0), Signal::SIGKILL);
    });
}

/// Makes the process that `command` starts, another one of this program, take on `role`. It ends when its standard input
/// does.
pub(crate) fn as_role<'a>(command: &'a mut Command, role: &str) -> &'a mut Command {
    command.env(ROLE, role).stdin(Stdio::piped()).process_group(0)
}

/// Tells the parent what was measured.
///
/// # Errors
/// When it cannot be written as JSON.
pub(crate) fn tell(measured: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(measured)?);
    Ok(())
}
