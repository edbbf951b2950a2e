//! Pure crates: equal input gives equal output, so there is nothing in them that could tell two runs apart.

use anyhow::Context;
use toml::{Table, Value};

use crate::Violations;
use crate::source::tokens;
use crate::workspace::Workspace;

/// The pure crates, by folder in `host/`.
const PURE: [&str; 4] = ["model", "plan", "nft", "conntrack"];

/// What they must not depend on, in no way.
const IMPURE: [&str; 9] = ["tokio", "kube", "wasmtime", "nftnl", "nftnl-sys", "mnl", "libc", "nix", "tracing"];

/// What their `clippy.toml` must ban.
const BANNED: [(&str, &str); 6] = [
    ("disallowed-types", "std::collections::HashMap"),
    ("disallowed-types", "std::collections::HashSet"),
    ("disallowed-methods", "std::time::Instant::now"),
    ("disallowed-methods", "std::time::SystemTime::now"),
    ("disallowed-methods", "std::env::var"),
    ("disallowed-methods", "std::env::var_os"),
];

/// Their manifests name nothing of [`IMPURE`].
pub(crate) fn dependencies(workspace: &Workspace) -> anyhow::Result<Violations> {
    let mut violations = Violations::new();
    for folder in PURE {
        let package = workspace.host(folder)?;
        for (_, name) in package.dependencies().into_iter().filter(|(_, name)| IMPURE.contains(&name.as_str())) {
            violations.push(format!("{}: {} is pure and must not use {name}", package.place(&name), package.name));
        }
    }
    Ok(violations)
}

/// Their root says `#![forbid(unsafe_code)]`.
pub(crate) fn forbid_unsafe(workspace: &Workspace) -> anyhow::Result<Violations> {
    let mut violations = Violations::new();
    for folder in PURE {
        let root = format!("host/{folder}/src/lib.rs");
        let text = workspace.sources.get(root.as_ref() as &std::path::Path).with_context(|| format!("no {root}"))?;
        let words: Vec<String> = tokens(&root, text)?.into_iter().map(|token| token.text).collect();
        let wanted = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];
        if !words.windows(wanted.len()).any(|window| window == wanted) {
            violations.push(format!("{root}:1: #![forbid(unsafe_code)] is missing"));
        }
    }
    Ok(violations)
}

/// Their `clippy.toml` bans everything in [`BANNED`] and says why.
pub(crate) fn clippy_bans(workspace: &Workspace) -> anyhow::Result<Violations> {
    let mut violations = Violations::new();
    for folder in PURE {
        let path = format!("host/{folder}/clippy.toml");
        let text = std::fs::read_to_string(workspace.top.join(&path)).with_context(|| format!("cannot read {path}"))?;
        let table: Table = text.parse().with_context(|| path.clone())?;
        for (list, banned) in BANNED {
            let line = |word: &str| text.lines().position(|line| line.contains(word)).map_or(1, |line| line + 1);
            let entries = table.get(list).and_then(Value::as_array).into_iter().flatten();
            let of = |entry: &&Value| entry.get("path").or(Some(entry)).and_then(Value::as_str) == Some(banned);
            let Some(entry) = entries.into_iter().find(of) else {
                violations.push(format!("{path}:{}: {list} does not name {banned}", line(list)));
                continue;
            };
            let reason = entry.get("reason").and_then(Value::as_str).unwrap_or_default();
            if reason.trim().is_empty() {
                violations
                    .push(format!("{path}:{}: the ban of {banned} has no reason", line(&format!("\"{banned}\""))));
            }
        }
    }
    Ok(violations)
}
