//! Tests on the real kernel, each in a network namespace of its own.
//!
//! As root or not: without root, the program first makes itself root of a new user namespace. Where namespaces
//! are forbidden every test is reported as ignored, with the reason, and so is a single test that needs what the
//! machine has not. `REQUIRE_NETNS=1` makes missing namespaces and a missing nft tool a failure.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "kernel/commit.rs"]
mod commit;
#[path = "kernel/conntrack.rs"]
mod conntrack;
#[path = "kernel/fixture.rs"]
mod fixture;
#[path = "kernel/namespace.rs"]
mod namespace;
#[path = "kernel/ownership.rs"]
mod ownership;
#[path = "kernel/text.rs"]
mod text;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// Its name, what it needs, and what it does: a panic is a failure.
type Test = (&'static str, namespace::Needs, fn());

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let entered = namespace::enter();
    if let Err(reason) = &entered {
        eprintln!("no network namespaces here, all tests are ignored: {reason}");
    }
    if std::env::var_os("REQUIRE_NETNS").is_some_and(|value| value == "1")
        && (entered.is_err() || !namespace::has_nft())
    {
        eprintln!("REQUIRE_NETNS=1, but network namespaces or the nft tool are missing");
        return ExitCode::FAILURE;
    }
    let mut trials = Vec::new();
    for (name, needs, test) in [commit::TESTS, conntrack::TESTS, ownership::TESTS, text::TESTS].concat() {
        let missing = if entered.is_ok() { needs.missing() } else { Some("network namespaces".to_owned()) };
        if let Some(missing) = &missing {
            eprintln!("{name} is ignored: it needs {missing}");
        }
        let trial = Trial::test(name, move || namespace::isolated(test).map_err(Failed::from));
        trials.push(trial.with_ignored_flag(missing.is_some()));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
