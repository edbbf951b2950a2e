//! The same policy in every language of `examples/policies`, each built by its own script and run by the real host:
//! equal Services must get equal decisions, and equal mistakes in settings equal words.
//!
//! Nothing is fetched here: `examples/policies/build-all.sh` brings the compilers (`make test` starts it early). What
//! cannot be built without the network, or not within [`MOST`], is skipped, with the reason on standard error;
//! `REQUIRE_LANGUAGES=1` makes that a failure.

/// Building by the scripts.
mod build;
/// What every one of them must do.
mod by_zone;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::build::Build;

/// The languages: folders of `examples/policies`.
const LANGUAGES: [&str; 6] = ["rust", "c", "zig", "go", "javascript", "python"];

/// How long all builds together may take. They are quick where they were done before.
const MOST: Duration = Duration::from_secs(45);

fn main() -> ExitCode {
    if build::is_weir() {
        return weir::cli::main();
    }
    let arguments = Arguments::from_args();
    let mut trials = vec![Trial::test("every folder is tested", || every_folder().map_err(|error| failed(&error)))];
    // Whoever only wants the names need not wait.
    let builds = if arguments.list { Vec::new() } else { build::all(&LANGUAGES, MOST) };
    let required = std::env::var("REQUIRE_LANGUAGES").is_ok_and(|value| value == "1");
    for (at, language) in LANGUAGES.into_iter().enumerate() {
        let built = builds.get(at).cloned().unwrap_or_else(|| Build::Skipped("only listed".to_owned()));
        let skip = match &built {
            Build::Skipped(why) if !required => {
                eprintln!("*** languages: {language}: SKIPPED: {why}");
                true
            }
            _ => false,
        };
        let trial = move || match &built {
            Build::Done(component) => by_zone::check(language, component).map_err(|error| failed(&error)),
            Build::Skipped(why) | Build::Failed(why) => Err(Failed::from(why)),
        };
        trials.push(Trial::test(language, trial).with_ignored_flag(skip));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn failed(error: &anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

/// A language that somebody adds is not forgotten here.
fn every_folder() -> anyhow::Result<()> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(build::folder())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    let mut tested = LANGUAGES.map(str::to_owned);
    tested.sort();
    anyhow::ensure!(found == tested, "examples/policies holds {found:?}, and {tested:?} are tested");
    Ok(())
}
