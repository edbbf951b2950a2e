//! `weir run` as a child of this process.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_benches::memory;

use crate::child;

/// Where it answers; see `weir::config::HEALTHZ_PORT`.
const HEALTH: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, weir::config::HEALTHZ_PORT);
/// How long it may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Ticks a second in `/proc`, the same on every architecture that Weir builds for.
const USER_HZ: f64 = 100.0;
/// How often to ask.
const POLL: Duration = Duration::from_millis(2);

/// A running daemon. Dropped, it is killed.
pub(crate) struct Daemon {
    child: Child,
    started: Instant,
}

impl Daemon {
    /// Starts it with `arguments` after `weir run`.
    ///
    /// # Errors
    /// When this program cannot be started again.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--node", "node-0"]).args(arguments);
        child::as_role(&mut command, crate::daemon::WEIR).env("WEIR_LOG", "error").stdout(Stdio::null());
        Ok(Self { started: Instant::now(), child: command.spawn()? })
    }

    /// Waits until it is ready: how long that took since its start.
    ///
    /// # Errors
    /// When it ends or takes too long.
    pub(crate) fn ready(&self) -> Result<Duration> {
        while !is_ready() {
            ensure!(self.started.elapsed() < PATIENCE, "the daemon does not get ready");
            std::thread::sleep(POLL);
        }
        Ok(self.started.elapsed())
    }

    /// Its memory.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn memory(&self) -> Result<memory::Process> {
        memory::process(&self.child.id().to_string())
    }

    /// The share of one processor it takes during `work`.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn share(&self, work: impl FnOnce()) -> Result<f64> {
        let (start, before) = (Instant::now(), self.processor_time()?);
        work();
        Ok((self.processor_time()? - before) / start.elapsed().as_secs_f64())
    }

    /// Seconds of processor time since its start.
    fn processor_time(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // proc_pid_stat(5): utime and stime are the 14th and 15th field, the 12th and 13th behind the name.
        let (_, behind) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
        let ticks: f64 = behind.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks / USER_HZ)
    }

    /// Ends it without a chance to clean up, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it as a node does.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(start.elapsed() < PATIENCE, "the daemon does not end");
            std::thread::sleep(POLL);
        };
        ensure!(status.success(), "the daemon failed: {status}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Has no effect where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_ready() -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(HEALTH)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
