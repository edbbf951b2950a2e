//! `weir policy new`.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use weir_policy::BUILT_IN;

use crate::cli::policy::{Language, NewArgs};

/// A file of a project: its path and what it holds. In texts [`NAME`] stands for the policy's name.
type File = (&'static str, &'static [u8]);

/// Stands for the policy's name in texts.
const NAME: &str = "policy-name";

/// Stands for the policy's name where a language allows no hyphens.
const IDENTIFIER: &str = "policy_name";

/// Stands for the file that is the policy.
const SOURCE: &str = "policy-source";

/// What the policies of `examples/policies` call themselves, as it stands in their sources.
const EXAMPLE: &str = "\"by-zone\"";

/// How the examples find what they share; a project has it beside its own script.
const SHARED: [&str; 2] = [". ../tools.sh", ". ./tools.sh"];

/// What every project has.
const COMMON: [File; 3] = [
    ("wit/policy.wit", include_bytes!("../../../../wit/policy.wit")),
    ("cases.yaml", include_bytes!("templates/cases.yaml")),
    ("README.md", include_bytes!("templates/README.md.template")),
];

const RUST: [File; 4] = [
    ("src/lib.rs", include_bytes!("templates/rust/lib.rs.template")),
    ("Cargo.toml", include_bytes!("templates/rust/Cargo.toml.template")),
    ("build.sh", include_bytes!("templates/rust/build.sh")),
    (".gitignore", b"target\n*.wasm\n"),
];

/// A file of `examples/policies`.
macro_rules! example {
    ($language:literal, $file:literal) => {
        ($file, include_bytes!(concat!("../../../../examples/policies/", $language, "/", $file)))
    };
}

/// What projects made of the examples have.
const OF_EXAMPLES: [File; 2] = [
    ("tools.sh", include_bytes!("../../../../examples/policies/tools.sh")),
    (".gitignore", b"target\n*.wasm\n__pycache__\n"),
];

const C: [File; 7] = [
    example!("c", "by_zone.c"),
    example!("c", "json.c"),
    example!("c", "json.h"),
    example!("c", "bindings/policy.c"),
    example!("c", "bindings/policy.h"),
    example!("c", "bindings/policy_component_type.o"),
    example!("c", "build.sh"),
];
const ZIG: [File; 3] = [example!("zig", "by_zone.zig"), example!("zig", "abi.zig"), example!("zig", "build.sh")];
const GO: [File; 4] =
    [example!("go", "by_zone.go"), example!("go", "abi.go"), example!("go", "go.mod"), example!("go", "build.sh")];
const JAVASCRIPT: [File; 2] = [example!("javascript", "by-zone.js"), example!("javascript", "build.sh")];
const PYTHON: [File; 2] = [example!("python", "by_zone.py"), example!("python", "build.sh")];

/// The files of a project in that language; the first is the policy.
fn files(language: Language) -> impl Iterator<Item = File> {
    let (own, shared): (&[File], &[File]) = match language {
        Language::Rust => (&RUST, &[]),
        Language::C => (&C, &OF_EXAMPLES),
        Language::Zig => (&ZIG, &OF_EXAMPLES),
        Language::Go => (&GO, &OF_EXAMPLES),
        Language::Javascript => (&JAVASCRIPT, &OF_EXAMPLES),
        Language::Python => (&PYTHON, &OF_EXAMPLES),
    };
    own.iter().chain(shared).chain(&COMMON).copied()
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
    let source = files(*lang).next().map_or("", |(path, _)| path);
    let named = |text: &str| {
        text.replace(EXAMPLE, &format!("{name:?}"))
            .replace(NAME, name)
            .replace(IDENTIFIER, &name.replace('-', "_"))
            .replace(SOURCE, source)
            .replace(SHARED[0], SHARED[1])
    };
    for (path, content) in files(*lang) {
        let text = std::str::from_utf8(content).map(named);
        write(&project.join(path), text.as_deref().map_or(content, str::as_bytes))?;
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

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let shown = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(shown)?;
    }
    let mut file = fs::File::create_new(path).with_context(shown)?;
    file.write_all(content).with_context(shown)
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
