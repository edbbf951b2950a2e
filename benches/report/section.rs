//! The sections of the report, and how each is run: in a process of its own, up to a time limit.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::figure::Section;
use crate::report::{self, Folder};
use crate::{batch, child, daemon, data_plane, full_sync, incremental, policy, restart};

/// The child that measures a section.
pub(crate) const ROLE: &str = "section";

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
pub(crate) enum Scale {
    /// Whether everything runs: sizes and rounds so small that no figure means anything.
    Smoke,
    /// What fits into five minutes, all sections together.
    Quick,
    /// Everything, in half an hour.
    Full,
}

impl Scale {
    /// One of the three.
    pub(crate) fn pick<T>(self, smoke: T, quick: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// How to measure a section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// Its name on the command line and of its file.
    pub(crate) key: &'static str,
    measure: fn(Scale) -> Result<Section>,
    /// Seconds after which it is stopped, quick and full. Sections keep to less by themselves; this ends what hangs.
    limits: (u64, u64),
}

/// Every section, in the order of the report.
pub(crate) const SECTIONS: [Spec; 7] = [
    Spec { key: "full-sync", measure: full_sync::measure, limits: (150, 900) },
    Spec { key: "incremental", measure: incremental::measure, limits: (90, 900) },
    Spec { key: "data-plane", measure: data_plane::measure, limits: (120, 900) },
    Spec { key: "policy", measure: policy::measure, limits: (120, 600) },
    Spec { key: "daemon", measure: daemon::measure, limits: (90, 180) },
    Spec { key: "restart", measure: restart::measure, limits: (60, 120) },
    Spec { key: "batch", measure: batch::measure, limits: (60, 180) },
];

/// What a child is to measure.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    key: String,
    scale: Scale,
}

/// The child: measures one section and tells.
///
/// # Errors
/// When there is no such section, or nobody listens.
pub(crate) fn measure(arguments: &str) -> Result<()> {
    let Task { key, scale } = serde_json::from_str(arguments)?;
    let section = SECTIONS.iter().find(|section| section.key == key).with_context(|| key.clone())?;
    // A failure is told like a result, so that the report can say what went wrong.
    child::tell(&(section.measure)(scale).map_err(|error| format!("{error:#}")))
}

/// Measures the sections named in `only`, or all, and leaves each in `folder`. Returns whether all came to their end.
///
/// # Errors
/// When a section cannot be left there.
pub(crate) fn run(scale: Scale, only: &[String], folder: &Folder) -> Result<bool> {
    let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut complete = true;
    for Spec { key, limits, .. } in SECTIONS {
        if !only.is_empty() && !only.iter().any(|name| name == key) {
            continue;
        }
        let limit = Duration::from_secs(scale.pick(limits.0, limits.0, limits.1));
        eprintln!("{key} …");
        let start = Instant::now();
        let measured = child::run::<Result<Section, String>>(ROLE, &Task { key: key.to_owned(), scale }, limit);
        let mut section = match measured {
            Ok(Some(Ok(section))) => section,
            Ok(Some(Err(why))) => Section::failed(key, format!("It failed: {why}")),
            Ok(None) => Section::failed(key, format!("It was stopped: it did not end within {} s.", limit.as_secs())),
            Err(error) => Section::failed(key, format!("It failed: {error:#}")),
        };
        section.seconds = start.elapsed().as_secs_f64();
        section.run = run;
        section.scale = Some(scale);
        complete &= !section.figures.is_empty();
        for figure in &section.figures {
            eprintln!("  {}", report::line(figure));
        }
        for note in &section.notes {
            eprintln!("  {note}");
        }
        eprintln!("{key}: {:.1} s", section.seconds);
        folder.keep(key, &section)?;
    }
    Ok(complete)
}
