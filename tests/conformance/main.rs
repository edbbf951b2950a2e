//! Conformance: what must become of packets, from files of cases, on the simulator.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_tests::report::run(weir_tests::conformance::run_group)
}
