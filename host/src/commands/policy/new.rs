//! `weir policy new`.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use weir_policy::BUILT_IN;

use crate::cli::policy::{Language, NewArgs};

/// A file of a project: its path, and its text, in which [`NAME`] stands for the policy's name.
type File = (&'static str, &'static str);

/// Stands for the policy's name in paths and texts.
const NAME: &str = "policy-name";

/// Stands for the policy's name where a language allows no hyphens.
const IDENTIFIER: &str = "policy_name";

/// What every project has.
const COMMON: [File; 2] = [
    ("wit/policy.wit", include_str!("../../../../wit/policy.wit")),
    ("cases.yaml", include_str!("templates/cases.yaml")),
];

const RUST: [File; 5] = [
    ("Cargo.toml", include_str!("templates/rust/Cargo.toml.template")),
    ("src/lib.rs", include_str!("templates/rust/lib.rs.template")),
    ("build.sh", include_str!("templates/rust/build.sh")),
    ("README.md", include_str!("templates/rust/README.md")),
    (".gitignore", "target\n*.wasm\n"),
];

fn files(language: Language) -> impl Iterator<Item = File> {
    let own = match language {
        Language::Rust => &RUST,
    };
    own.iter().chain(&COMMON).copied()
}

/// Writes the project. Nothing that exists is touched.
pub(super) fn run(args: &NewArgs) -> anyhow::Result<()> {
    let NewArgs { name, lang, directory } = args;
    if !is_name(name) {
        bail!(
            "{name:?} cannot be the name of a policy: it begins with a small letter, and holds small letters, digits and hyphens"
        );
    }
    if BUILT_IN.iter().any(|(built_in, _)| built_in == name) {
        bail!("{name:?} is a built-in policy, whose name cannot be taken");
    }
    let project = directory.join(name);
    let shown = || format!("cannot make {}", project.display());
    fs::create_dir_all(directory).with_context(shown)?;
    // Fails where something of that name exists.
    fs::create_dir(&project).with_context(shown)?;
    for (path, text) in files(*lang) {
        write(&project.join(path), &text.replace(NAME, name).replace(IDENTIFIER, &name.replace('-', "_")))?;
    }
    println!("{} is a policy that balances by zone; its README.md tells what to do next:", project.display());
    println!("  cd {} && sh build.sh && weir policy test {name}.wasm", project.display());
    Ok(())
}

/// Whether `name` can be the name of a ConfigMap, a package and a directory.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.len() <= 63
        && name.chars().all(plain)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let shown = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(shown)?;
    }
    let mut file = fs::File::create_new(path).with_context(shown)?;
    file.write_all(text.as_bytes()).with_context(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_config_maps() {
        for name in ["mine", "by-zone-2", "a"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "Mine", "by_zone", "../up", "-a", "a-", "2a", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
