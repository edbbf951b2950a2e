//! Conformance: what must become of packets, from files of cases.
//!
//! Runs every file in `cases/`, or those that the variable `CASES` names (separated by commas). Arguments that are
//! no flags pick groups by name. Prints each failing case, each skip with its reason, and the sums.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use weir_tests::conformance::Report;

fn main() -> ExitCode {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let mut report = Report::default();
    let mut broken = 0;
    match files() {
        Ok(files) => {
            for file in files {
                if let Err(error) = report.run_file(&file, &filter) {
                    println!("ERROR {error:#}\n");
                    broken += 1;
                }
            }
        }
        Err(error) => {
            println!("ERROR {error:#}\n");
            broken += 1;
        }
    }
    if broken == 0 && report.is_empty() {
        println!("ERROR no case was run\n");
        broken += 1;
    }
    report.failed.iter().for_each(|case| println!("FAIL {case}"));
    report.notes.iter().for_each(|note| println!("NOTE {note}"));
    report.skipped.iter().for_each(|case| println!("SKIP {case}"));
    println!("{} passed, {} failed, {} skipped", report.passed, report.failed.len() + broken, report.skipped.len());
    if broken == 0 && report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The files to run. Relative names count from where the command was given, or from the top of the repository.
fn files() -> anyhow::Result<Vec<PathBuf>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Ok(named) = std::env::var("CASES") {
        let found = |name: &str| {
            let path = PathBuf::from(name);
            if path.exists() { path } else { package.join("..").join(path) }
        };
        return Ok(named.split(',').map(str::trim).filter(|name| !name.is_empty()).map(found).collect());
    }
    let cases = package.join("conformance/cases");
    let entries = std::fs::read_dir(&cases).with_context(|| format!("cannot read {}", cases.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    Ok(files)
}
