//! Runs files of cases, counts how they ended and prints it; how a case is run is a [`Runner`]'s business.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;

use crate::cases::{File, Fixture, Group};

/// Runs the packets of one group and counts each in the report. In: where the group stands (`file / group`), the
/// node, the group. An error means that the group could not be set up at all.
pub type Runner = fn(&str, &Fixture, &Group, &mut Report) -> anyhow::Result<()>;

/// What a run counts and prints.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
    notes: Vec<String>,
    /// Print each packet that passes, too.
    verbose: bool,
}

impl Report {
    /// A packet that ended as it should. `how` is what was seen, for those who asked to be told.
    pub fn pass(&mut self, at: &str, how: &dyn std::fmt::Display) {
        self.passed += 1;
        if self.verbose {
            println!("PASS {at}: {how}");
        }
    }

    /// A packet that did not, with what is needed to find out why.
    pub fn fail(&mut self, text: String) {
        self.failed.push(text);
    }

    /// A packet that cannot be judged, with the reason.
    pub fn skip(&mut self, at: &str, reason: &str) {
        self.skipped.push(format!("{at}: {reason}"));
    }

    /// Runs the groups of a file whose `file / group` contains `filter`.
    fn run_file(&mut self, run: Runner, path: &Path, filter: &str) -> anyhow::Result<()> {
        let file = File::read(path)?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        for group in &file.groups {
            let at = format!("{name} / {}", group.id);
            if !at.contains(filter) {
                continue;
            }
            self.notes
                .extend(group.unknown_fields().iter().map(|field| format!("{at}: field {field} is unknown here")));
            if let Err(error) = run(&at, &file.fixture, group, self) {
                self.fail(format!("{at}: {error:#}\n"));
            }
        }
        Ok(())
    }
}

/// The `main` of a suite: runs every file in `conformance/cases`, or those that the variable `CASES` names (separated
/// by commas). Arguments that are no flags pick groups by name. Prints each failing case, each skip with its reason,
/// and the sums; with `VERBOSE=1` each case.
#[must_use]
pub fn run(runner: Runner) -> ExitCode {
    let start = Instant::now();
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let verbose = std::env::var("VERBOSE").is_ok_and(|value| value == "1");
    let mut report = Report { verbose, ..Report::default() };
    let broken = |error: anyhow::Error| format!("{error:#}\n");
    match files() {
        Ok(files) => {
            for file in files {
                if let Err(error) = report.run_file(runner, &file, &filter) {
                    report.fail(broken(error));
                }
            }
        }
        Err(error) => report.fail(broken(error)),
    }
    let Report { passed, failed, skipped, notes, .. } = &mut report;
    if *passed == 0 && failed.is_empty() && skipped.is_empty() {
        failed.push("no case was run\n".to_owned());
    }
    failed.iter().for_each(|case| println!("FAIL {case}"));
    notes.iter().for_each(|note| println!("NOTE {note}"));
    skipped.iter().for_each(|case| println!("SKIP {case}"));
    println!("in {:.1} s", start.elapsed().as_secs_f64());
    println!("{passed} passed, {} failed, {} skipped", failed.len(), skipped.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
