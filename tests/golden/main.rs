//! Golden tests: manifests in, the ruleset as nft text out, compared with a file.
//!
//! There is a case for each file of `examples/`, one for all of them together, and one for each `NAME.yaml`
//! in `cases/`. What is expected stands in `NAME.nft`; a case with `NAME.change.yaml` also has
//! `NAME.change.nft`, the transaction that is sent when those objects are applied on top. The node is that of
//! `node.yaml`, or of `NAME.conf.yaml`. `BLESS=1` writes the expected files anew.

mod case;
mod difference;
mod laws;
mod render;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let bless = std::env::var_os("BLESS").is_some_and(|value| !value.is_empty() && value != "0");
    let cases = match case::all() {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("golden: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials: Vec<Trial> = Vec::new();
    let known: Vec<_> = cases.iter().flat_map(case::Case::expected_files).collect();
    trials.push(trial("every expected file has a case", move || case::no_strays(&known)));
    trials.extend(laws::ALL.iter().map(|(name, law)| trial(&format!("law: {name}"), law)));
    trials.extend(cases.into_iter().map(|case| trial(&case.name.clone(), move || case.run(bless))));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, run: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || run().map_err(|error| Failed::from(format!("{error:#}"))))
}
