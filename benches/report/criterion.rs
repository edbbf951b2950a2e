//! What criterion's benches left: their estimates, read back.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use crate::Scale;
use crate::figure::{Figure, Section, Table, short};

/// Estimates of all benches that ran, by name.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn read(_scale: Scale) -> Result<Section> {
    let mut section = Section::new(
        "Stages alone",
        "The micro benches of criterion (`benches/pipeline.rs`), as they ran last. Median of each.",
    );
    let mut table = Table::new("", &["bench", "µs"]);
    let mut files = Vec::new();
    let root = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from)
        .join("criterion");
    find(&root, &mut files);
    files.sort();
    for file in files {
        let estimates: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let Some(nanoseconds) = estimates["median"]["point_estimate"].as_f64() else { continue };
        let name = file.parent().and_then(Path::parent).and_then(|folder| folder.strip_prefix(&root).ok());
        let name = name.map(|name| name.display().to_string()).unwrap_or_default();
        table.row([name.clone(), short(nanoseconds / 1e3)]);
        section.figures.push(Figure::new(format!("criterion/{name}"), nanoseconds / 1e3, "µs"));
        section.raw.push(estimates);
    }
    if section.figures.is_empty() {
        section.notes.push("Not run yet: `cargo bench --bench pipeline` runs them.".to_owned());
    } else {
        section.tables.push(table);
    }
    Ok(section)
}

/// All `new/estimates.json` below `folder`. A folder that is not there holds none.
fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, found);
        } else if path.ends_with("new/estimates.json") {
            found.push(path);
        }
    }
}
