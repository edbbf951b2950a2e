//! Which compiler can make Wasm on this machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::TARGET;

/// A way to compile for [`TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The active toolchain has the target (`rustup target add wasm32-unknown-unknown`).
    Installed,
    /// Debian's compiler builds the standard library for the target from Debian's package of its source; the
    /// active toolchain lends Cargo and the linker. For machines that reach Debian's mirrors but not
    /// static.rust-lang.org.
    Debian {
        /// Debian's compiler.
        rustc: PathBuf,
        /// A linker for Wasm.
        linker: PathBuf,
    },
}

/// Where Debian installs its compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

impl Toolchain {
    /// The first way that works here; `None` when none does.
    #[must_use]
    pub fn find() -> Option<Self> {
        let active = sysroot(&active_rustc())?;
        if has_target(&active) {
            return Some(Self::Installed);
        }
        let debian = Path::new(DEBIAN_RUSTC);
        let source = sysroot(debian)?.join("lib/rustlib/src/rust/library/std/Cargo.toml");
        let linker = linker(&active)?;
        source.is_file().then(|| Self::Debian { rustc: debian.into(), linker })
    }

    /// A `cargo build` for the target, without the packages, that uses `scratch` as its target directory.
    #[must_use]
    pub fn cargo(&self, scratch: &Path) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(disturbs) {
                cargo.env_remove(name);
            }
        }
        cargo.args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"]).arg(scratch);
        match self {
            Self::Installed => {
                cargo.env("RUSTC", active_rustc());
            }
            Self::Debian { rustc, linker } => {
                cargo.arg("-Zbuild-std=std,panic_abort");
                cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            }
        }
        cargo
    }
}

/// Whether a variable that the outer Cargo or its caller set would change what the nested one does: flags,
/// wrappers and profiles meant for the host. Registry and network settings stay.
fn disturbs(name: &str) -> bool {
    const KEPT: [&str; 5] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    const DROPPED: [&str; 9] =
        ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "CLIPPY_", "MAKEFLAGS", "MFLAGS", "__CARGO", "OPT_LEVEL"];
    DROPPED.iter().any(|prefix| name.starts_with(prefix)) && !KEPT.iter().any(|prefix| name.starts_with(prefix))
}

/// The compiler of the Cargo that runs this build script.
fn active_rustc() -> PathBuf {
    env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from)
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    let output =
        Command::new(rustc).args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim_end().into())
}

fn has_target(sysroot: &Path) -> bool {
    let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let mut files = libraries.read_dir().into_iter().flatten().flatten();
    files.any(|file| file.file_name().to_str().is_some_and(|name| name.starts_with("libstd-")))
}

/// The linker that comes with a rustup toolchain.
fn linker(sysroot: &Path) -> Option<PathBuf> {
    let hosts = sysroot.join("lib/rustlib").read_dir().ok()?;
    hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|linker| linker.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_host_build_do_not_reach_the_guests() {
        for name in
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_TARGET_DIR", "CARGO_MAKEFLAGS"]
        {
            assert!(disturbs(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN", "PATH", "HTTPS_PROXY"] {
            assert!(!disturbs(name), "{name}");
        }
    }

    #[test]
    fn debian_mode_names_its_compiler_and_linker() {
        let toolchain = Toolchain::Debian { rustc: "/x/rustc".into(), linker: "/x/lld".into() };
        let cargo = toolchain.cargo(Path::new("/x/target"));
        let set = |name: &str| {
            cargo.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value).map(|value| value.to_owned())
        };
        assert_eq!(set("RUSTC"), Some("/x/rustc".into()));
        assert_eq!(set("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER"), Some("/x/lld".into()));
        assert!(cargo.get_args().any(|word| word == "-Zbuild-std=std,panic_abort"));
    }
}
