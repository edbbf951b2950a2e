//! Builds the policies that come with Weir from guest-policies/.

use std::path::Path;
use std::process::exit;

use weir_guest_build::{build, out_dir, rerun_if_changed, scratch};

fn main() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (guests, wit) = (top.join("guest-policies"), top.join("wit"));
    rerun_if_changed(&[&guests, &wit]);
    let out = out_dir();
    let packages = [
        "canary",
        "client-ip",
        "kubernetes",
        "least-connections",
        "maglev",
        "nq",
        "random",
        "round-robin",
        "sed",
        "source-hash",
        "weighted",
        "weighted-least-connections",
        "zone-aware",
        "zone-aware-by-load",
    ];
    if let Err(error) = build(&guests, &packages, &scratch(&out), &out) {
        eprintln!("{error}");
        exit(1);
    }
}
