//! A case: where its manifests are, and the files that say what must come of them.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::difference;
use crate::laws;
use crate::render::{Node, Rendering};

/// One case.
pub(crate) struct Case {
    /// As on the command line: `examples/dns`, `bad-document`.
    pub(crate) name: String,
    /// The manifests: a file, or a directory of them.
    manifests: PathBuf,
    /// The node's settings.
    config: PathBuf,
    /// The expected ruleset.
    ruleset: PathBuf,
    /// Objects to apply on top, and the transaction expected of that.
    change: Option<(PathBuf, PathBuf)>,
}

/// The folder of this test.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The folder of the examples.
pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// All cases, in order of name.
///
/// # Errors
/// When a folder cannot be read or has no case.
pub(crate) fn all() -> anyhow::Result<Vec<Case>> {
    let (node, cases) = (folder().join("node.yaml"), folder().join("cases"));
    let mut found = vec![Case {
        name: "examples".to_owned(),
        manifests: examples(),
        config: node.clone(),
        ruleset: cases.join("examples.nft"),
        change: None,
    }];
    let of_examples = files(&examples(), "yaml")?;
    anyhow::ensure!(!of_examples.is_empty(), "there is no example in {}", examples().display());
    for manifests in of_examples {
        let name = format!("examples/{}", stem(&manifests));
        let ruleset = cases.join(format!("{name}.nft"));
        found.push(Case { name, manifests, config: node.clone(), ruleset, change: None });
    }
    for manifests in files(&cases, "yaml")? {
        let name = stem(&manifests);
        if name.ends_with(".conf") || name.ends_with(".change") {
            continue;
        }
        let beside = |ending: &str| cases.join(format!("{name}{ending}"));
        let (own, change) = (beside(".conf.yaml"), beside(".change.yaml"));
        found.push(Case {
            config: if own.exists() { own } else { node.clone() },
            ruleset: beside(".nft"),
            change: change.exists().then(|| (change, beside(".change.nft"))),
            manifests,
            name,
        });
    }
    Ok(found)
}

/// # Errors
/// When a file in the folder of cases belongs to none: a case was renamed or removed and this was left.
pub(crate) fn no_strays(known: &[PathBuf]) -> anyhow::Result<()> {
    let cases = folder().join("cases");
    let mut present = files(&cases, "nft")?;
    present.extend(files(&cases.join("examples"), "nft")?);
    let strays: Vec<String> =
        present.iter().filter(|path| !known.contains(path)).map(|path| path.display().to_string()).collect();
    anyhow::ensure!(strays.is_empty(), "no case is expected to give {}", strays.join(", "));
    for settings in files(&cases, "yaml")? {
        let name = stem(&settings);
        let of = name.strip_suffix(".conf").or_else(|| name.strip_suffix(".change"));
        let alone = of.is_some_and(|name| !cases.join(format!("{name}.yaml")).exists());
        anyhow::ensure!(!alone, "{} belongs to no case", settings.display());
    }
    Ok(())
}

impl Case {
    /// The files that say what must come of it.
    pub(crate) fn expected_files(&self) -> Vec<PathBuf> {
        let change = self.change.iter().map(|(_, expected)| expected.clone());
        std::iter::once(self.ruleset.clone()).chain(change).collect()
    }

    /// Renders the manifests, and the change if there is one.
    ///
    /// # Errors
    /// When the outcome is not what the files say, with the lines that differ. Not so with `bless`: then the
    /// files are written.
    pub(crate) fn run(&self, bless: bool) -> anyhow::Result<()> {
        let mut rendering = Rendering::of(&Node::load(&self.config)?, std::slice::from_ref(&self.manifests))?;
        self.compare(&self.ruleset, &rendering.text(), bless)?;
        laws::chains_are_shared(&rendering.ruleset())?;
        if let Some((change, expected)) = &self.change {
            let transaction = rendering.change(change)?;
            self.compare(expected, &transaction, bless)?;
        }
        Ok(())
    }

    fn compare(&self, expected: &Path, seen: &str, bless: bool) -> anyhow::Result<()> {
        let held = std::fs::read_to_string(expected);
        if bless {
            if held.is_ok_and(|held| held == seen) {
                return Ok(());
            }
            println!("blessed {}", expected.display());
            return std::fs::write(expected, seen).with_context(|| format!("cannot write {}", expected.display()));
        }
        let again = format!("BLESS=1 cargo test -p weir-tests --test golden -- --exact {}", self.name);
        let held = held.with_context(|| format!("cannot read {}; `{again}` writes it", expected.display()))?;
        if held == seen {
            return Ok(());
        }
        let lines = difference::between(&held, seen);
        anyhow::bail!("{} (-) is not what comes out (+):\n{lines}\nIf that is right: {again}", expected.display());
    }
}

/// Files of a folder with that extension, in order of name.
pub(crate) fn files(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.with_context(|| format!("cannot read {}", folder.display()))?.path());
    }
    files.retain(|path| path.extension().is_some_and(|has| has == extension));
    files.sort();
    Ok(files)
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}
