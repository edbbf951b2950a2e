//! Weir beside its peer: everything the design sets a budget for, measured in one run, and the report of it.
//!
//! ```text
//! cargo bench --bench report -- [--quick] [--only SECTION[,SECTION]] [--out DIR]
//! ```
//! Each section leaves what it measured in `target/bench/raw/SECTION.json`; the report and `target/bench/summary.json`
//! are made of those files, so that `--only` measures some again and keeps the others. Sections measure in network
//! namespaces of their own and stop by themselves.

mod batch;
mod child;
mod criterion;
mod daemon;
mod data_plane;
mod figure;
mod full_sync;
mod incremental;
mod machine;
mod memory;
mod peer;
mod plot;
mod policy;
mod report;
mod timed;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use figure::Section;
use report::Folder;

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// What fits into five minutes, all sections together.
    Quick,
    /// Everything.
    Full,
}

impl Scale {
    /// One or the other.
    pub(crate) fn pick<T>(self, quick: T, full: T) -> T {
        if self == Self::Quick { quick } else { full }
    }
}

/// A section measures, and says what it found.
type Measure = fn(Scale) -> Result<Section>;

/// Every section, in the order of the report.
const SECTIONS: &[(&str, Measure)] = &[
    ("batch", batch::measure),
    ("full-sync", full_sync::measure),
    ("incremental", incremental::measure),
    ("data-plane", data_plane::measure),
    ("policy", policy::measure),
    ("daemon", daemon::measure),
    ("criterion", criterion::read),
];

fn main() -> Result<()> {
    if let Some((role, arguments)) = child::role() {
        return match role.as_str() {
            full_sync::OURS => full_sync::ours(&arguments),
            full_sync::PEERS => full_sync::peers(&arguments),
            incremental::OURS => incremental::ours(&arguments),
            incremental::PEERS => incremental::peers(&arguments),
            daemon::WEIR => daemon::weir(),
            _ => bail!("there is no measurement {role:?}"),
        };
    }
    let mut scale = Scale::Full;
    let mut only: Option<Vec<String>> = None;
    let mut folder = Folder::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--quick" => scale = Scale::Quick,
            "--only" => only = Some(value()?.split(',').map(str::to_owned).collect()),
            "--out" => folder = Folder::in_(&PathBuf::from(value()?)),
            // Cargo adds it.
            "--bench" => {}
            _ => bail!("what is {argument:?}? there are --quick, --only SECTION[,SECTION] and --out DIR"),
        }
    }
    if let Some(unknown) = only.iter().flatten().find(|name| !SECTIONS.iter().any(|(key, _)| key == name)) {
        bail!("there is no section {unknown:?}");
    }
    // Before any thread exists; it goes with the process.
    weir_testbed::enter()?;
    for (key, measure) in SECTIONS {
        if only.as_ref().is_some_and(|only| !only.iter().any(|name| name == key)) {
            continue;
        }
        let start = Instant::now();
        let mut section = measure(scale).with_context(|| format!("section {key}"))?;
        section.seconds = start.elapsed().as_secs_f64();
        eprintln!("{key}: {:.1} s", section.seconds);
        for figure in &section.figures {
            eprintln!("  {}", report::line(figure));
        }
        folder.keep(key, &section)?;
    }
    folder.write(SECTIONS.iter().map(|(key, _)| *key))
}
