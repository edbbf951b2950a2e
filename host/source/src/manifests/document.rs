//! Files into documents.

use std::path::Path;

use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Options, SnippetMode, options};

/// A document that is not empty.
#[derive(Debug)]
pub(super) struct Document {
    /// Its number in the file, from 1.
    pub(super) number: usize,
    /// What it says, or why it cannot be read.
    pub(super) value: Result<Value, String>,
}

/// The documents of a file. A YAML file is cut at its `---` lines first, as Kubernetes' own reader does, so
/// that a syntax error costs one document and not the rest of the file.
///
/// Documents are read as they are taken, so that one at a time is in memory.
pub(super) fn read<'a>(file: &Path, text: &'a str) -> impl Iterator<Item = Document> + 'a {
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    let values: Box<dyn Iterator<Item = Result<Value, String>> + 'a> = if is_json {
        // A syntax error ends the file: there is no telling where the next value begins.
        let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        Box::new(values.map(|value| value.map_err(|error| error.to_string())))
    } else {
        Box::new(chunks(text).into_iter().filter_map(|(line, chunk)| yaml(line, chunk)))
    };
    (1..).zip(values).map(|(number, value)| Document { number, value })
}

/// The documents of a YAML text that are not empty, as text, with the number of lines before each: the text is cut at
/// its `---` lines.
pub fn documents(text: &str) -> impl Iterator<Item = (u64, &str)> {
    chunks(text).into_iter().filter(|(_, chunk)| !is_empty(chunk))
}

/// The text between the `---` lines, with the number of lines before each.
fn chunks(text: &str) -> Vec<(u64, &str)> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0, 0);
    for (number, line) in (0_u64..).zip(text.split_inclusive('\n')) {
        let marker =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker {
            chunks.push((start_line, &text[start..at]));
            // The marker stays with what follows: the document may begin on the same line.
            (start, start_line) = (at, number);
        }
        at += line.len();
    }
    chunks.push((start_line, &text[start..]));
    chunks
}

/// The value of one document; `None` when it is empty. `before` is the number of lines before it in the file.
fn yaml(before: u64, text: &str) -> Option<Result<Value, String>> {
    if is_empty(text) {
        return None;
    }
    match serde_saphyr::from_str_with_options(text, reading(text.len())) {
        Ok(Value::Null) => None,
        Ok(value) => Some(Ok(value)),
        Err(error) => Some(Err(explain(&error, before))),
    }
}

/// Whether there is nothing in a document but comments and marks.
fn is_empty(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with(['#', '%']) || matches!(line, "---" | "...")
    })
}

/// What is wrong with a document, with line and column in its file. `before` is the number of lines before it.
pub fn explain(error: &serde_saphyr::Error, before: u64) -> String {
    let style = serde_saphyr::render_options! {
        formatter: &serde_saphyr::UserMessageFormatter,
        snippets: SnippetMode::Off,
        line_offset: before,
    };
    error.render_with_options(style)
}

/// How documents are read. The reader's limits against hostile input stay, but none is below what a text of that
/// length can honestly hold, so that a list of 100 000 Services loads.
fn reading(length: usize) -> Options {
    options! {
        budget: serde_saphyr::budget! {
            max_events: length.max(1_000_000),
            max_nodes: length.max(250_000),
            max_total_scalar_bytes: length.max(64 << 20),
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        emit_comments: false,
        with_snippet: false,
    }
}
