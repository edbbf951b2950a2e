//! Source files as tokens: comments and strings are out of the way, lines are known.

use std::str::FromStr;

use anyhow::anyhow;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::Violations;
use crate::modules::{Modules, Role};
use crate::workspace::Workspace;

/// Longest file. Most are far shorter; above this nobody reads a file as one idea.
const MOST_LINES: usize = 600;

/// Macros that have no place in finished code.
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// One token; brackets are tokens of their own.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// As written.
    pub(crate) text: String,
    /// From 1.
    pub(crate) line: usize,
    /// Whether it is an identifier or keyword.
    pub(crate) word: bool,
}

/// The tokens of a file. Comments are gone; doc comments have become attributes with a string in them.
///
/// # Errors
/// When it is no Rust.
pub(crate) fn tokens(file: &str, text: &str) -> anyhow::Result<Vec<Token>> {
    let stream = TokenStream::from_str(text).map_err(|error| {
        let line = error.span().start().line;
        anyhow!("{file}:{line}: {error}")
    })?;
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    Ok(tokens)
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                tokens.push(Token { text: open.to_owned(), line, word: false });
                flatten(group.stream(), tokens);
                let line = group.span_close().start().line;
                tokens.push(Token { text: close.to_owned(), line, word: false });
            }
            TokenTree::Ident(word) => tokens.push(Token { text: word.to_string(), line, word: true }),
            other => tokens.push(Token { text: other.to_string(), line, word: false }),
        }
    }
}

/// No file is longer than [`MOST_LINES`].
pub(crate) fn lengths(workspace: &Workspace) -> anyhow::Result<Violations> {
    let lengths = workspace.sources.iter().map(|(path, text)| (path, text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > MOST_LINES);
    Ok(long.map(|(path, lines)| format!("{}:{lines}: longer than {MOST_LINES} lines", path.display())).collect())
}

/// Production code has no `.unwrap()` and nothing of [`UNFINISHED`].
pub(crate) fn no_shortcuts(workspace: &Workspace) -> anyhow::Result<Violations> {
    let modules = Modules::of(workspace)?;
    let mut violations = Violations::new();
    let production = modules.files.iter().filter(|(_, file)| file.role == Role::Production);
    for (path, file) in production {
        for (at, token) in file.production_tokens() {
            let before = at.checked_sub(1).map_or("", |at| &file.tokens[at].text);
            let after = file.tokens.get(at + 1).map_or("", |token| &token.text);
            let unwraps = token.word && token.text == "unwrap" && (before == "." || before == ":");
            let unfinished = token.word && UNFINISHED.contains(&token.text.as_str()) && after == "!";
            if unwraps || unfinished {
                violations.push(format!("{}:{}: `{}` in production code", path.display(), token.line, token.text));
            }
        }
    }
    Ok(violations)
}
