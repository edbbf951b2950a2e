//! Conformance: what must become of packets, from files of cases, on the kernel this machine runs.
//!
//! Needs no root where user namespaces are allowed. Otherwise all of it is skipped, loudly; `REQUIRE_NETNS=1` makes
//! that a failure.

use std::process::ExitCode;

fn main() -> ExitCode {
    if !weir_testbed::enter_for_tests("conformance-kernel") {
        return ExitCode::SUCCESS;
    }
    weir_tests::report::run(weir_tests::kernel_cases::run_group)
}
