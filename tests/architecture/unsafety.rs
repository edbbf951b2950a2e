//! Unsafe code: in one crate, and never without the argument for its soundness.

use std::path::Path;

use crate::Violations;
use crate::source::tokens;
use crate::workspace::Workspace;

/// The one place it may stand.
const ALLOWED: &str = "host/netlink/src";

/// Lines of code that may stand between the argument and the keyword: the head of a statement that is broken
/// over several lines.
const MOST_BETWEEN: usize = 3;

/// The keyword stands in no other file. Lint names and comments are no keyword.
pub(crate) fn only_in_netlink(workspace: &Workspace) -> anyhow::Result<Violations> {
    let mut violations = Violations::new();
    for (path, text) in workspace.sources.iter().filter(|(path, _)| !path.starts_with(Path::new(ALLOWED))) {
        let shown = path.display().to_string();
        let found = tokens(&shown, text)?.into_iter().filter(|token| token.word && token.text == "unsafe");
        violations.extend(found.map(|token| format!("{shown}:{}: unsafe outside of {ALLOWED}", token.line)));
    }
    Ok(violations)
}

/// Blocks and impls have a `SAFETY:` comment; functions and traits that as well, or a `# Safety` section.
pub(crate) fn explained(workspace: &Workspace) -> anyhow::Result<Violations> {
    let (mut violations, mut seen) = (Violations::new(), 0);
    for (path, text) in workspace.sources.iter().filter(|(path, _)| path.starts_with(Path::new(ALLOWED))) {
        let shown = path.display().to_string();
        let (tokens, lines) = (tokens(&shown, text)?, text.lines().collect::<Vec<_>>());
        for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.word && token.text == "unsafe") {
            let next = tokens.get(at + 1).map_or("", |token| token.text.as_str());
            let needs = match next {
                "{" | "impl" => &["SAFETY:"][..],
                "fn" | "trait" => &["SAFETY:", "# Safety"][..],
                // `unsafe extern "C" fn(…)` as a type promises nothing.
                _ => continue,
            };
            seen += 1;
            if !has_argument(&lines, token.line, needs) {
                violations.push(format!("{shown}:{}: `unsafe {next}` without {}", token.line, needs.join(" or ")));
            }
        }
    }
    anyhow::ensure!(seen > 0, "there is no unsafe code in {ALLOWED}; the rule looks at the wrong place");
    Ok(violations)
}

/// Whether the comment on or before a line (from 1) holds one of `needs`. Attributes and a few lines of the same
/// statement may stand between.
fn has_argument(lines: &[&str], line: usize, needs: &[&str]) -> bool {
    let says = |line: &str| needs.iter().any(|need| line.contains(need));
    let (mut between, mut in_comment) = (0, false);
    for (back, text) in lines[..line].iter().rev().map(|line| line.trim()).enumerate() {
        let comment = text.starts_with("//");
        if says(text) && (comment || text.contains("//")) {
            return true;
        }
        if (in_comment && !comment) || (back > 0 && text.is_empty()) {
            return false;
        }
        in_comment = comment;
        between += usize::from(!comment && back > 0 && !text.starts_with("#["));
        // What ends here is another statement, so the comment above it speaks of that.
        let ended = back > 0 && !comment && !text.starts_with("#[") && text.ends_with([';', '}']);
        if between > MOST_BETWEEN || ended {
            return false;
        }
    }
    false
}
