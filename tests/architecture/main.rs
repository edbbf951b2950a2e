//! The shape of the project as a test: which crate may use which, what pure crates may not touch, where
//! `unsafe` may stand, and what no source file may hold. Each violation is named with file and line.

mod arrows;
mod modules;
mod purity;
mod source;
mod unsafety;
mod workspace;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::workspace::Workspace;

/// What a rule finds: one line each, `FILE:LINE: what is wrong`.
type Violations = Vec<String>;

/// A rule and its name.
type Rule = (&'static str, fn(&Workspace) -> anyhow::Result<Violations>);

const RULES: &[Rule] = &[
    ("crates use only what the pipeline allows", arrows::check),
    ("pure crates have no impure dependency", purity::dependencies),
    ("pure crates forbid unsafe code", purity::forbid_unsafe),
    ("pure crates ban clocks, environment and hash order", purity::clippy_bans),
    ("unsafe stands only in host/netlink/src", unsafety::only_in_netlink),
    ("every unsafe tells why it is sound", unsafety::explained),
    ("no file is over 600 lines", source::lengths),
    ("every file is reached by a mod declaration", modules::no_orphans),
    ("production code has no unwrap, todo, unimplemented or dbg", source::no_shortcuts),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = RULES.iter().map(|(name, rule)| {
        Trial::test(*name, move || {
            let violations = Workspace::read().and_then(|workspace| rule(&workspace));
            let violations = violations.map_err(|error| Failed::from(format!("{error:#}")))?;
            if violations.is_empty() { Ok(()) } else { Err(Failed::from(violations.join("\n"))) }
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
