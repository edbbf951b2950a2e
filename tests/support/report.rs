//! Runs files of cases, counts how they ended and prints it; how a case is run is a [`Runner`]'s business.

use std::fmt::Display;
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
    /// Passed, failed and skipped of each file, by its name.
    files: Vec<(String, [usize; 3])>,
    /// Print each packet that passes, too.
    verbose: bool,
}

impl Report {
    /// A packet that ended as it should. What was expected and what was seen is for those who asked to be told.
    pub fn pass(&mut self, at: &str, expected: &dyn Display, seen: &dyn Display) {
        self.passed += 1;
        if self.verbose {
            println!("PASS {at}\n  expected  {expected}\n  seen      {seen}\n");
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
    fn run_file(&mut self, run: Runner, path: &Path, filter: &str) {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let before = self.sums();
        match File::read(path) {
            Ok(file) => self.run_groups(run, &file, &name, filter),
            Err(error) => self.fail(format!("{error:#}\n")),
        }
        let after = self.sums();
        self.files.push((name, std::array::from_fn(|at| after[at] - before[at])));
    }

    fn sums(&self) -> [usize; 3] {
        [self.passed, self.failed.len(), self.skipped.len()]
    }

    fn run_groups(&mut self, run: Runner, file: &File, name: &str, filter: &str) {
        self.notes.extend(file.unknown_fields().iter().map(|field| format!("{name}: field {field} is unknown here")));
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
    }
}

fn write_sums([passed, failed, skipped]: [usize; 3]) -> String {
    format!("{passed} passed, {failed} failed, {skipped} skipped")
}

/// The `main` of a suite: runs every file in `conformance/cases`, or those that the variable `CASES` names (separated
/// by commas or blanks). Arguments that are no flags pick groups by name. Prints each failing case, each skip with its
/// reason, and the sums, for each file where there are several. Each case that passes is printed as well where `CASES`
/// names the files, or with `VERBOSE=1`; `VERBOSE=0` keeps it silent.
#[must_use]
pub fn run(runner: Runner) -> ExitCode {
    let start = Instant::now();
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let verbose = std::env::var("VERBOSE").map_or_else(|_| std::env::var_os("CASES").is_some(), |value| value == "1");
    let mut report = Report { verbose, ..Report::default() };
    match files(std::env::var("CASES").ok().as_deref()) {
        Ok(files) => files.iter().for_each(|file| report.run_file(runner, file, &filter)),
        Err(error) => report.fail(format!("{error:#}\n")),
    }
    if report.sums() == [0; 3] {
        report.fail("no case was run\n".to_owned());
    }
    let sums = report.sums();
    let Report { failed, skipped, notes, files, .. } = report;
    failed.iter().for_each(|case| println!("FAIL {case}"));
    notes.iter().for_each(|note| println!("NOTE {note}"));
    skipped.iter().for_each(|case| println!("SKIP {case}"));
    if files.len() > 1 {
        files.iter().for_each(|(file, sums)| println!("{file}: {}", write_sums(*sums)));
    }
    println!("in {:.1} s", start.elapsed().as_secs_f64());
    println!("{}", write_sums(sums));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The files to run: those that are named, else all of the repository. Relative names count from where the command was
/// given, or from the top of the repository.
fn files(named: Option<&str>) -> anyhow::Result<Vec<PathBuf>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Some(named) = named {
        let find = |name: &str| {
            let candidates = [PathBuf::from(name), package.join("..").join(name)];
            candidates.into_iter().find(|path| path.exists())
        };
        let mut files = Vec::new();
        for entry in named.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            // Blanks separate names, too, unless they are part of one.
            let names = find(entry).map_or_else(|| entry.split_whitespace().collect(), |_| vec![entry]);
            files.extend(names.into_iter().map(|name| find(name).unwrap_or_else(|| PathBuf::from(name))));
        }
        return Ok(files);
    }
    let cases = package.join("conformance/cases");
    let entries = std::fs::read_dir(&cases).with_context(|| format!("cannot read {}", cases.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]
mod tests {
    use super::*;
    use crate::conformance::run_group;

    /// A directory of files that goes with the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("weir-report-{}-{name}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn put(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// A file whose only packet is expected to come to `out`. It is rejected: there is no endpoint.
    fn file(out: &str) -> String {
        serde_json::json!({
            "fixture": {"nodeName": "n", "localIPs": ["192.168.0.2"], "nodeport": []},
            "groups": [{
                "id": "g",
                "services": [{"name": "default/web", "clusterIP": "172.30.0.1", "ports": [{"port": 80, "protocol": "TCP"}]}],
                "packets": [{
                    "name": "p", "src": "10.0.0.2", "dst": "172.30.0.1", "port": 80, "proto": "tcp", "out": out, "masq": false,
                }],
            }],
        })
        .to_string()
    }

    #[test]
    fn each_file_is_counted_and_each_fault_told() {
        let (directory, mut report) = (Directory::new("counts"), Report::default());
        let third = file("REJECT").replace("\"tcp\"", "\"quic\"");
        for (name, text) in [
            ("good.json", file("REJECT").as_str()),
            ("wrong.json", &file("DROP")),
            ("bad-field.json", &third),
            ("half.json", "{\"fixture\": {"),
        ] {
            report.run_file(run_group, &directory.put(name, text), "");
        }
        report.run_file(run_group, &directory.0.join("missing.json"), "");
        let counted = |name: &str, sums| (name.to_owned(), sums);
        assert_eq!(
            report.files,
            [
                counted("good", [1, 0, 0]),
                counted("wrong", [0, 1, 0]),
                counted("bad-field", [0, 1, 0]),
                counted("half", [0, 1, 0]),
                counted("missing", [0, 1, 0])
            ]
        );
        for (told, words) in report.failed.iter().zip([
            &["wrong / g / p", "expected  DROP", "seen      REJECT"][..],
            &["bad-field.json", "groups[0].packets[0].proto", "quic"],
            &["half.json is no file of cases"],
            &["cannot read", "missing.json"],
        ]) {
            assert!(words.iter().all(|word| told.contains(word)), "{words:?} in {told}");
        }
        assert_eq!(
            report.notes,
            ["good: field fixture.nodeport is unknown here", "wrong: field fixture.nodeport is unknown here"]
        );
    }

    #[test]
    fn files_are_named_with_commas_or_blanks() {
        let directory = Directory::new("names");
        let [one, two, blank] = ["one.json", "two.json", "with blank.json"].map(|name| directory.put(name, ""));
        let name = |path: &PathBuf| path.to_string_lossy().into_owned();
        for named in [format!("{},{}", name(&one), name(&two)), format!(" {}  {}\n", name(&one), name(&two))] {
            assert_eq!(files(Some(&named)).unwrap(), [one.clone(), two.clone()], "{named:?}");
        }
        assert_eq!(files(Some(&format!("{}, {}", name(&blank), name(&one)))).unwrap(), [blank, one]);
        let of_the_repository = files(Some("tests/conformance/cases/kube-proxy-flows.json")).unwrap();
        assert!(of_the_repository[0].exists());
        assert_eq!(files(Some("nowhere.json")).unwrap(), [PathBuf::from("nowhere.json")]);
        assert!(files(None).unwrap().len() > 5);
    }
}
