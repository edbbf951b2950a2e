//! Builds guest policies for build scripts: Rust crates in, Wasm components out.
//!
//! Guests are compiled for `wasm32-unknown-unknown` by a Cargo of their own, then wrapped into components.
//! See [`Toolchain`] for the two ways a machine can have that target.
#![forbid(unsafe_code)]

mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use wit_component::ComponentEncoder;

pub use toolchain::Toolchain;

/// The target guests are compiled for: the one that imports nothing.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Why the guests could not be built. A build script prints it and stops.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The machine cannot compile for Wasm.
    #[error(
        "policies are compiled to Wasm, and this Rust toolchain cannot do that yet.\n\
         Run `rustup target add {TARGET}`; or, where rustup cannot download it, \
         `apt-get install rustc-web rust-web-src`; or `make setup`, which picks the one that works."
    )]
    NoTarget,
    /// Cargo could not be started.
    #[error("cannot run {cargo}: {error}")]
    Run {
        /// The program.
        cargo: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Cargo ran and failed; its own messages stand above.
    #[error("the guest policies do not compile: {command} failed")]
    Cargo {
        /// What was run.
        command: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// A compiled guest does not fit the contract it was written for.
    #[error("{package}: cannot be made into a component: {why}")]
    Component {
        /// The guest's package.
        package: String,
        /// Why not, as wit-component says it.
        why: String,
    },
}

/// Compiles `packages` of the Cargo workspace at `workspace` and writes `<package>.wasm`, a component, into
/// `out` for each. `scratch` is the target directory of the nested Cargo; sharing it saves time.
///
/// # Errors
/// See [`BuildError`].
pub fn build(workspace: &Path, packages: &[&str], scratch: &Path, out: &Path) -> Result<(), BuildError> {
    let toolchain = Toolchain::find().ok_or(BuildError::NoTarget)?;
    let mut cargo = toolchain.cargo(scratch);
    cargo.arg("--manifest-path").arg(workspace.join("Cargo.toml"));
    for package in packages {
        cargo.args(["--package", package]);
    }
    run(&mut cargo)?;
    for package in packages {
        let module = scratch.join(TARGET).join("release").join(format!("{}.wasm", package.replace('-', "_")));
        let bytes = fs::read(&module).map_err(|error| BuildError::File { path: module, error })?;
        let component =
            component(&bytes).map_err(|why| BuildError::Component { package: (*package).to_owned(), why })?;
        let path = out.join(format!("{package}.wasm"));
        fs::write(&path, component).map_err(|error| BuildError::File { path, error })?;
    }
    Ok(())
}

/// The usual `scratch` of [`build`]: `guests` in Cargo's target directory, so that all build scripts and
/// profiles share what they compile. `out` is the build script's `OUT_DIR`.
#[must_use]
pub fn scratch(out: &Path) -> PathBuf {
    // Cargo marks the top of its target directory with this file.
    let top = out.ancestors().filter(|folder| folder.join("CACHEDIR.TAG").is_file()).last();
    top.unwrap_or(out).join("guests")
}

/// Asks Cargo to run the build script again when something in `folders` changes. The nested Cargo's own
/// `target` folder does not count.
pub fn rerun_if_changed(folders: &[&Path]) {
    for folder in folders {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name() != "target" {
                println!("cargo::rerun-if-changed={}", entry.path().display());
            }
        }
    }
    for name in ["PATH", "RUSTUP_TOOLCHAIN"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
}

fn run(cargo: &mut Command) -> Result<(), BuildError> {
    let status = cargo.status().map_err(|error| BuildError::Run { cargo: cargo.get_program().into(), error })?;
    if status.success() {
        return Ok(());
    }
    let words: Vec<_> =
        [cargo.get_program()].into_iter().chain(cargo.get_args()).map(|word| word.to_string_lossy()).collect();
    Err(BuildError::Cargo { command: words.join(" ") })
}

fn component(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = ComponentEncoder::default().module(module).map_err(|error| format!("{error:#}"))?;
    encoder.validate(true).encode().map_err(|error| format!("{error:#}"))
}

/// `OUT_DIR` of the running build script.
///
/// # Panics
/// Outside of a build script.
#[must_use]
pub fn out_dir() -> PathBuf {
    env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR for build scripts").into()
}
