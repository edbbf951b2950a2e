//! What the figures were measured on.

use std::process::Command;

use serde::{Deserialize, Serialize};

/// Machine and versions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Model of the processor.
    pub(crate) processor: String,
    /// How many of them.
    pub(crate) processors: usize,
    /// Memory.
    pub(crate) memory: String,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Version of the peer's tool.
    pub(crate) nft: String,
    /// Compiler.
    pub(crate) rustc: String,
    /// Weir's version.
    pub(crate) weir: String,
    /// Whether the code was optimised as a release is.
    pub(crate) optimised: bool,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        let line_of = |path: &str, name: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        let said = |program: &str| {
            let output = Command::new(program).arg("--version").output();
            output.map_or_else(|_| "none".to_owned(), |it| String::from_utf8_lossy(&it.stdout).trim().to_owned())
        };
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: line_of("/proc/cpuinfo", "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: gigabytes(&line_of("/proc/meminfo", "MemTotal")),
            // What follows the number is whoever built it.
            kernel: release.trim().split('-').next().unwrap_or_default().to_owned(),
            nft: said("nft"),
            rustc: said("rustc"),
            weir: env!("CARGO_PKG_VERSION").to_owned(),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// `24684092 kB` in words a reader takes in.
fn gigabytes(text: &str) -> String {
    let kilobytes = text.strip_suffix(" kB").and_then(|number| number.parse::<u64>().ok());
    kilobytes.map_or_else(|| text.to_owned(), |kilobytes| format!("{} GB", kilobytes / 1_000_000))
}
