//! Weir beside its peer: everything the design sets a budget for, measured in one run, and the report of it.
//!
//! Each section measures in a process and in network namespaces of its own, and is stopped at a time limit; what fails or
//! takes too long is a note in the report and leaves the others alone. Each leaves what it measured in
//! `raw/SECTION.json`; the report and `summary.json` are made of those files, so that some sections can be measured again
//! while the others stay.

mod batch;
mod child;
mod daemon;
mod data_plane;
mod figure;
mod full_sync;
mod incremental;
mod machine;
mod plot;
mod policy;
mod process;
mod report;
mod restart;
mod section;
mod stages;
mod timed;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use crate::report::Folder;
use crate::section::{SECTIONS, Scale};

/// Measures Weir beside kube-proxy's nftables layout, and its iptables layout where that can be loaded, and writes the
/// report.
#[derive(Debug, Parser)]
struct Arguments {
    /// How much to measure.
    #[arg(long, value_enum, default_value_t = Scale::Full)]
    scale: Scale,
    /// Measure these sections only; of the others the report keeps what was measured before.
    #[arg(long, value_delimiter = ',', value_parser = SECTIONS.map(|section| section.key))]
    only: Vec<String>,
    /// Where raw data, `summary.json` and the report go.
    #[arg(long, default_value_os_t = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench"))]
    out: PathBuf,
    /// A folder that gets a copy of the report, `benchmarks.md`, and of its plots.
    #[arg(long)]
    docs: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    if let Some((role, arguments)) = child::role() {
        if role == daemon::WEIR {
            child::end_with_parent();
            return Ok(daemon::weir());
        }
        // Before any thread exists; the namespace goes with the process.
        weir_testbed::enter()?;
        child::end_with_parent();
        match role.as_str() {
            section::ROLE => section::measure(&arguments)?,
            full_sync::OURS => full_sync::ours(&arguments)?,
            full_sync::PEERS => full_sync::peers(&arguments)?,
            incremental::OURS => incremental::ours(&arguments)?,
            incremental::PEERS => incremental::peers(&arguments)?,
            policy::SHARE => policy::share(&arguments)?,
            _ => bail!("there is no measurement {role:?}"),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let Arguments { scale, only, out, docs } = Arguments::parse();
    let folder = Folder { data: out };
    let complete = section::run(scale, &only, &folder)?;
    folder.write(&SECTIONS.map(|section| section.key), docs.as_deref())?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
