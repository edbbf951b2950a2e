//! The files as last read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document;
use super::object::{Located, Parsed};
use super::problem::{Place, Problem, Severity};
use super::scan::{Scan, Stamp, scan};
use crate::convert::Selection;

/// Largest manifest that is read. A list of 100 000 Services with their slices is about 110 MB.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The manifests at some paths.
#[derive(Debug)]
pub(super) struct Tree {
    paths: Vec<PathBuf>,
    selection: Arc<Selection>,
    files: BTreeMap<PathBuf, ManifestFile>,
    seen: Scan,
    /// Whether the directories held still during the last look.
    settled: bool,
}

/// A file as last read.
#[derive(Debug)]
struct ManifestFile {
    /// Which version `parsed` is of; `None` when it must be read again whatever it looks like.
    stamp: Option<Stamp>,
    /// What it holds, and what it held when it was last good.
    parsed: Parsed,
}

impl Tree {
    /// Nothing read yet.
    pub(super) fn new(paths: Vec<PathBuf>, selection: Selection) -> Self {
        Self { paths, selection: Arc::new(selection), files: BTreeMap::new(), seen: Scan::default(), settled: true }
    }

    /// Reads what is new or changed, and forgets what is gone. Returns whether any of that happened.
    pub(super) fn refresh(&mut self) -> bool {
        let mut seen = scan(&self.paths);
        let mut changed = false;
        self.settled = true;
        if self.gone(&seen).next().is_some() {
            // A directory that is renamed while we look at it seems to lose files. What is gone is missed twice, and
            // nothing happened to any directory in between.
            let again = scan(&self.paths);
            self.settled = again.directories == seen.directories;
            seen = again;
        }
        if self.settled {
            let gone: Vec<PathBuf> = self.gone(&seen).cloned().collect();
            changed = !gone.is_empty();
            gone.iter().for_each(|path| drop(self.files.remove(path)));
        }
        for (path, stamp) in &seen.files {
            changed |= self.read(path, *stamp);
        }
        self.seen = seen;
        changed
    }

    /// Takes `text` for the content of a file called `name`, until the next [`Tree::refresh`].
    pub(super) fn add(&mut self, name: &Path, text: &str) {
        let parsed = parse(name, text, &[], self.selection.clone());
        self.files.insert(name.to_owned(), ManifestFile { stamp: None, parsed });
    }

    /// Files that were read once and are not among those `seen`, although their directories are: a file that was named
    /// itself is gone when it is missing, one in a missing directory is not.
    fn gone<'a>(&'a self, seen: &'a Scan) -> impl Iterator<Item = &'a PathBuf> {
        let is_lost = |path: &Path| {
            seen.missing.iter().any(|missing| path != *missing && path.starts_with(missing))
                || seen.unreadable.iter().any(|unreadable| path.starts_with(unreadable))
        };
        self.files.keys().filter(move |path| !seen.files.contains_key(*path) && !is_lost(path))
    }

    /// Whether every path could be read, and held still meanwhile. Else another look is due soon.
    pub(super) fn is_complete(&self) -> bool {
        self.settled && self.seen.missing.is_empty() && self.seen.unreadable.is_empty()
    }

    /// Objects, in order of file and document.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&Path, &Located)> {
        self.files
            .iter()
            .flat_map(|(path, file)| file.parsed.objects.iter().map(move |object| (path.as_path(), object)))
    }

    /// What is wrong at present.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let of_files = self.files.values().flat_map(|file| &file.parsed.problems);
        self.seen.problems.iter().chain(of_files).cloned().collect()
    }

    /// The directories in which something can change.
    pub(super) fn directories(&self) -> &[(PathBuf, Stamp)] {
        &self.seen.directories
    }

    /// Reads one file if it changed. Returns whether it did.
    fn read(&mut self, path: &Path, stamp: Stamp) -> bool {
        let known = self.files.get(path);
        if known.is_some_and(|file| file.stamp == Some(stamp)) {
            return false;
        }
        let held = known.map_or(&[][..], |file| &file.parsed.objects);
        let (stamp, mut parsed) = match open(path) {
            Ok((stamp, text)) => (Some(stamp), parse(path, &text, held, self.selection.clone())),
            // Gone since it was seen, or its directory is: the next look, which the change itself brings about, tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.settled = false;
                return false;
            }
            Err(error) => {
                let problem = Problem::of_file(Severity::Error, path, error);
                (None, Parsed { problems: vec![problem], ..Parsed::default() })
            }
        };
        if parsed.has_errors() {
            keep(held, &mut parsed);
        }
        let stamp = stamp.filter(|stamp| !stamp.is_fresh());
        self.files.insert(path.to_owned(), ManifestFile { stamp, parsed });
        true
    }
}

/// Adds the objects that a bad file held before and does not name now.
fn keep(held: &[Located], parsed: &mut Parsed) {
    let lost = |old: &&Located| parsed.objects.iter().all(|new| new.object.identity() != old.object.identity());
    let kept: Vec<Located> = held.iter().filter(lost).cloned().collect();
    parsed.objects.extend(kept);
}

fn parse(path: &Path, text: &str, held: &[Located], selection: Arc<Selection>) -> Parsed {
    let mut parsed = Parsed { selection, ..Parsed::default() };
    if text.trim().is_empty() && !held.is_empty() {
        let message = "empty; what it held stays until the file is deleted or has content again";
        parsed.problems.push(Problem::of_file(Severity::Error, path, message));
    }
    for document in document::read(path, text) {
        let place = Place { file: path.to_owned(), document: document.number, ..Place::default() };
        match document.value {
            Ok(value) => parsed.take(value, place),
            Err(message) => parsed.problems.push(place.problem(Severity::Error, message)),
        }
    }
    parsed
}

/// The text of a file, and the stamp it had before it was read: a change in the meantime shows up later.
fn open(path: &Path) -> io::Result<(Stamp, String)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        let message = format!("{} bytes is more than the {MAX_FILE_BYTES} a manifest may have", metadata.len());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok((Stamp::of(&metadata), text))
}
