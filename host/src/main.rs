//! The `weir` program. Everything it does is in the library, so that tests can do it too.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::main()
}
