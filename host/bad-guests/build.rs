//! Builds the guests of guest-policies/bad.

use std::path::Path;
use std::process::exit;

use weir_guest_build::{build, out_dir, rerun_if_changed, scratch};

fn main() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (guests, wit) = (top.join("guest-policies"), top.join("wit"));
    rerun_if_changed(&[&guests, &wit]);
    let packages = [
        "bad-blind",
        "bad-check-fails",
        "bad-declared-error",
        "bad-describe-spin",
        "bad-describe-trap",
        "bad-fickle",
        "bad-garbage-answer",
        "bad-handle-hog",
        "bad-host-import",
        "bad-memory-hog",
        "bad-next-version",
        "bad-spin",
        "bad-stack",
        "bad-trap",
        "bad-wasi-import",
        "bad-wasi-probe",
        "bad-wrong-world",
    ];
    let out = out_dir();
    if let Err(error) = build(&guests, &packages, &scratch(&out), &out) {
        eprintln!("{error}");
        exit(1);
    }
}
