//! The tool that loads the nftables layout.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::loading::{self, Loaded, judge, tool};

/// `nft -f` of `text` in this network namespace. `None`: it did not end within `limit` and was stopped, so nothing was
/// loaded.
///
/// # Errors
/// When it is not installed, or refuses.
pub fn load(text: &str, limit: Duration) -> Result<Option<Loaded>> {
    loading::load(nft(), text, limit).context("nft")
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
    judge(child, status).context("nft")?;
    Ok(took)
}

fn nft() -> Command {
    let mut command = tool("nft");
    command.arg("-f");
    command
}
