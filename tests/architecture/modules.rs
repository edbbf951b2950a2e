//! Which file belongs to which crate root, by `mod` declarations.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Value;

use crate::Violations;
use crate::source::{Token, tokens};
use crate::workspace::{Package, Workspace};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Tests, benches, examples, and modules under `#[cfg(test)]`.
    Test,
    /// What is shipped or builds it.
    Production,
}

/// A file that is part of some crate.
pub(crate) struct File {
    /// Production as soon as one crate uses it so.
    pub(crate) role: Role,
    /// All its tokens.
    pub(crate) tokens: Vec<Token>,
    /// Stretches of `tokens` under `#[cfg(test)]`.
    tests: Vec<Range<usize>>,
}

/// All files that are part of some crate.
pub(crate) struct Modules {
    /// By path from the top of the repository.
    pub(crate) files: BTreeMap<PathBuf, File>,
    /// Declarations that lead nowhere.
    dangling: Violations,
}

/// A `mod name;`.
struct Declaration {
    name: String,
    line: usize,
    /// `#[path = "…"]`.
    path: Option<String>,
    /// Inline modules around it.
    inside: Vec<String>,
    test: bool,
}

/// Every `.rs` file is part of some crate, and every declaration has its file.
pub(crate) fn no_orphans(workspace: &Workspace) -> anyhow::Result<Violations> {
    let modules = Modules::of(workspace)?;
    let orphans = workspace.sources.keys().filter(|path| !modules.files.contains_key(*path));
    let mut violations: Violations =
        orphans.map(|path| format!("{}:1: no mod declaration leads here", path.display())).collect();
    violations.extend(modules.dangling);
    Ok(violations)
}

impl Modules {
    /// Follows the declarations from all crate roots.
    ///
    /// # Errors
    /// When a file is no Rust.
    pub(crate) fn of(workspace: &Workspace) -> anyhow::Result<Self> {
        let mut modules = Self { files: BTreeMap::new(), dangling: Violations::new() };
        for (folder, package) in &workspace.packages {
            for (root, role) in roots(workspace, folder, package) {
                let directory = root.parent().map(Path::to_owned).unwrap_or_default();
                modules.follow(workspace, &root, &directory, role)?;
            }
        }
        Ok(modules)
    }

    /// Takes in a file and what it declares; `directory` is where its submodules are.
    fn follow(&mut self, workspace: &Workspace, path: &Path, directory: &Path, role: Role) -> anyhow::Result<()> {
        if self.files.get(path).is_some_and(|file| file.role >= role) {
            return Ok(());
        }
        let Some(text) = workspace.sources.get(path) else { return Ok(()) };
        let tokens = tokens(&path.display().to_string(), text)?;
        let tests = test_stretches(&tokens);
        let declared = declarations(&tokens, &tests);
        self.files.insert(path.to_owned(), File { role, tokens, tests });
        for Declaration { name, line, path: given, inside, test } in declared {
            let role = if test { Role::Test } else { role };
            let inner = inside.iter().fold(directory.to_owned(), |directory, name| directory.join(name));
            let candidates = match given {
                // Relative to this file, unless inline modules stand around it; and like a mod.rs, the file has
                // its submodules beside it.
                Some(given) => {
                    let from =
                        if inside.is_empty() { path.parent().unwrap_or(Path::new("")).to_owned() } else { inner };
                    let file = from.join(given);
                    let beside = file.parent().map(Path::to_owned).unwrap_or_default();
                    vec![(file, beside)]
                }
                None => {
                    let own = inner.join(&name);
                    vec![(inner.join(format!("{name}.rs")), own.clone()), (own.join("mod.rs"), own)]
                }
            };
            match candidates.iter().find(|(file, _)| workspace.sources.contains_key(file)) {
                Some((file, directory)) => self.follow(workspace, file, directory, role)?,
                None => self.dangling.push(format!("{}:{line}: mod {name} has no file", path.display())),
            }
        }
        Ok(())
    }
}

impl File {
    /// Tokens outside of `#[cfg(test)]`, with their index in `tokens`.
    pub(crate) fn production_tokens(&self) -> impl Iterator<Item = (usize, &Token)> {
        self.tokens.iter().enumerate().filter(|(at, _)| !self.tests.iter().any(|range| range.contains(at)))
    }
}

/// The files cargo compiles first: those the manifest names and those in the usual places.
fn roots(workspace: &Workspace, folder: &Path, package: &Package) -> Vec<(PathBuf, Role)> {
    let mut roots: Vec<(PathBuf, Role)> = Vec::new();
    let named = |table: &Value| table.get("path").and_then(Value::as_str).map(|path| folder.join(path));
    // This package's library is helpers of tests; it is not shipped.
    let library = if folder == Path::new("tests") { Role::Test } else { Role::Production };
    roots.extend(package.get(&["lib"]).and_then(named).map(|path| (path, library)));
    for (kind, role) in
        [("bin", Role::Production), ("test", Role::Test), ("bench", Role::Test), ("example", Role::Test)]
    {
        let tables = package.get(&[kind]).and_then(Value::as_array).into_iter().flatten();
        roots.extend(tables.filter_map(named).map(|path| (path, role)));
    }
    for usual in ["src/lib.rs", "src/main.rs", "build.rs"] {
        roots.push((folder.join(usual), Role::Production));
    }
    for (place, flag, role) in [
        ("src/bin", "autobins", Role::Production),
        ("tests", "autotests", Role::Test),
        ("benches", "autobenches", Role::Test),
        ("examples", "autoexamples", Role::Test),
    ] {
        if package.get(&["package", flag]).and_then(Value::as_bool) == Some(false) {
            continue;
        }
        let place = folder.join(place);
        let is_root = |path: &&PathBuf| {
            let within = path.strip_prefix(&place).map(|path| path.components().count());
            within == Ok(1) || (within == Ok(2) && path.ends_with("main.rs"))
        };
        roots.extend(workspace.sources.keys().filter(is_root).map(|path| (path.clone(), role)));
    }
    roots
}

/// Items under `#[cfg(test)]`, attribute included.
fn test_stretches(tokens: &[Token]) -> Vec<Range<usize>> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at + ATTRIBUTE.len() <= tokens.len() {
        if !tokens[at..].iter().zip(ATTRIBUTE).all(|(token, wanted)| token.text == wanted) {
            at += 1;
            continue;
        }
        let mut end = at + ATTRIBUTE.len();
        let mut depth = 0_usize;
        // To the end of the item: a semicolon, or the brace that closes its body.
        while let Some(token) = tokens.get(end) {
            end += 1;
            match token.text.as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && token.text == "}" {
                        break;
                    }
                }
                ";" if depth == 0 => break,
                _ => {}
            }
        }
        found.push(at..end);
        at = end;
    }
    found
}

/// All `mod name;` of a file.
fn declarations(tokens: &[Token], tests: &[Range<usize>]) -> Vec<Declaration> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let (mut found, mut around, mut depth) = (Vec::new(), Vec::<(String, usize)>::new(), 0_usize);
    for at in 0..tokens.len() {
        match text(at) {
            "{" => {
                depth += 1;
                if at >= 2 && text(at - 2) == "mod" && tokens[at - 1].word {
                    around.push((text(at - 1).to_owned(), depth));
                }
            }
            "}" => {
                around.retain(|(_, opened)| *opened != depth);
                depth = depth.saturating_sub(1);
            }
            "mod" if tokens[at].word && text(at + 2) == ";" => found.push(Declaration {
                name: text(at + 1).to_owned(),
                line: tokens[at].line,
                path: path_attribute(tokens, at),
                inside: around.iter().map(|(name, _)| name.clone()).collect(),
                test: tests.iter().any(|range| range.contains(&at)),
            }),
            _ => {}
        }
    }
    found
}

/// The `#[path = "…"]` before the `mod` at `at`: looked for back to the end of the item before.
fn path_attribute(tokens: &[Token], at: usize) -> Option<String> {
    let before = &tokens[..at];
    let start = before.iter().rposition(|token| token.text == ";" || token.text == "}").map_or(0, |end| end + 1);
    let window = before[start..].windows(5).find(|window| {
        window[0].text == "#" && window[1].text == "[" && window[2].text == "path" && window[3].text == "="
    })?;
    Some(window[4].text.trim_matches('"').to_owned())
}
