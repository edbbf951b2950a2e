//! The packages of the repository and their source files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use toml::{Table, Value};

/// Folders whose source is held to the rules.
const FOLDERS: [&str; 4] = ["host", "tests", "benches", "guest-policies"];

/// Everything the rules look at. Paths count from the top of the repository.
pub(crate) struct Workspace {
    /// The top of the repository.
    pub(crate) top: PathBuf,
    /// Packages by folder.
    pub(crate) packages: BTreeMap<PathBuf, Package>,
    /// Every `.rs` file and its text.
    pub(crate) sources: BTreeMap<PathBuf, String>,
}

/// One package.
pub(crate) struct Package {
    /// Its `Cargo.toml`.
    pub(crate) manifest: PathBuf,
    /// Its name.
    pub(crate) name: String,
    /// The manifest's text, for line numbers.
    text: String,
    table: Table,
}

/// Which table of a manifest a dependency stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    Normal,
    Dev,
    Build,
}

impl Workspace {
    /// Reads manifests and sources.
    ///
    /// # Errors
    /// When a file cannot be read, or there is none.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().context("the repository")?;
        let mut workspace = Self { top, packages: BTreeMap::new(), sources: BTreeMap::new() };
        FOLDERS.iter().try_for_each(|folder| workspace.walk(Path::new(folder)))?;
        // Rules that look at nothing would find nothing.
        for folder in FOLDERS {
            let any = workspace.sources.keys().any(|path| path.starts_with(folder));
            anyhow::ensure!(any, "there is no source file below {folder}/");
        }
        Ok(workspace)
    }

    /// The package of `host/` with that folder name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn host(&self, folder: &str) -> anyhow::Result<&Package> {
        let path = Path::new("host").join(folder);
        self.packages.get(&path).with_context(|| format!("there is no package in {}", path.display()))
    }

    fn walk(&mut self, folder: &Path) -> anyhow::Result<()> {
        let shown = || format!("cannot read {}", folder.display());
        for entry in std::fs::read_dir(self.top.join(folder)).with_context(shown)? {
            let entry = entry.with_context(shown)?;
            let (name, kind) = (entry.file_name().to_string_lossy().into_owned(), entry.file_type()?);
            let path = folder.join(&name);
            if kind.is_dir() && name != "target" && !name.starts_with('.') {
                self.walk(&path)?;
            } else if kind.is_file() && (name == "Cargo.toml" || name.ends_with(".rs")) {
                let text =
                    std::fs::read_to_string(entry.path()).with_context(|| format!("cannot read {}", path.display()))?;
                if name == "Cargo.toml" {
                    self.packages.extend(Package::parse(path, text)?.map(|package| (folder.to_owned(), package)));
                } else {
                    self.sources.insert(path, text);
                }
            }
        }
        Ok(())
    }
}

impl Package {
    /// `None` for a manifest that is only a workspace.
    fn parse(manifest: PathBuf, text: String) -> anyhow::Result<Option<Self>> {
        let table: Table = text.parse().with_context(|| manifest.display().to_string())?;
        let name = table.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
        Ok(name.map(str::to_owned).map(|name| Self { manifest, name, text, table }))
    }

    /// A value by path, as in `["lib", "path"]`.
    pub(crate) fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.table.get(*first)?, |value, key| value.get(key))
    }

    /// Dependencies by their real name, with those for single targets.
    pub(crate) fn dependencies(&self) -> Vec<(Use, String)> {
        let for_targets = self.table.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
        let tables = std::iter::once(&self.table).chain(for_targets.filter_map(Value::as_table));
        let mut found = Vec::new();
        for table in tables {
            for (key, kind) in
                [("dependencies", Use::Normal), ("dev-dependencies", Use::Dev), ("build-dependencies", Use::Build)]
            {
                for (name, how) in table.get(key).and_then(Value::as_table).into_iter().flatten() {
                    let real = how.get("package").and_then(Value::as_str).unwrap_or(name);
                    found.push((kind, real.to_owned()));
                }
            }
        }
        found
    }

    /// `FILE:LINE` of the first line that begins with `word` or has it in quotes (a renamed dependency), or of
    /// the file's begin.
    pub(crate) fn place(&self, word: &str) -> String {
        let quoted = format!("\"{word}\"");
        let is_it = |line: &str| {
            let rest = line.trim_start().strip_prefix(word);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_')))
                || line.contains(&quoted)
        };
        let line = self.text.lines().position(is_it).map_or(1, |line| line + 1);
        format!("{}:{line}", self.manifest.display())
    }
}
