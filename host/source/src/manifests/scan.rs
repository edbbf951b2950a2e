//! Which files there are, and whether they changed.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::problem::{Problem, Severity};

/// Deepest folder below a given directory that is read.
const MAX_DEPTH: usize = 16;

/// How long after a change another one may leave the same time stamp: file systems stamp by the kernel's
/// timer tick, 10 ms at most.
const STAMP_GRAIN: Duration = Duration::from_millis(20);

/// Everything found at the paths of interest.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Manifests, with what tells one version from another.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// Directories that were read, and those where a missing path would appear.
    pub(super) directories: Vec<(PathBuf, Stamp)>,
    /// Paths that were asked for and do not exist.
    pub(super) missing: Vec<PathBuf>,
    /// Paths that exist and cannot be read.
    pub(super) unreadable: Vec<PathBuf>,
    /// What is wrong with those, and with the shape of the tree.
    pub(super) problems: Vec<Problem>,
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp in that metadata.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether both are of the same file, whatever it holds.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether the last change is so recent that another one could leave the same stamp.
    pub(super) fn is_fresh(&self) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
        // A change in the future means the clock was set back; no stamp is to be trusted then.
        since_epoch.checked_sub(changed).is_none_or(|age| age < STAMP_GRAIN)
    }
}

/// Looks at `paths`, files or directories.
pub(super) fn scan(paths: &[PathBuf]) -> Scan {
    let mut scan = Scan::default();
    for path in paths {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => scan.directory(path, &metadata, &mut Vec::new()),
            Ok(metadata) => {
                scan.files.insert(path.clone(), Stamp::of(&metadata));
                scan.await_in_parent(path);
            }
            Err(error) => {
                scan.lose(path, &error);
                scan.await_in_parent(path);
            }
        }
    }
    scan
}

impl Scan {
    /// Reads a directory and those below. `above` holds the directories on the way, against symlink loops.
    fn directory(&mut self, path: &Path, metadata: &Metadata, above: &mut Vec<Stamp>) {
        let stamp = Stamp::of(metadata);
        if above.iter().any(|other| other.is_same_file(&stamp)) {
            return;
        }
        if above.len() == MAX_DEPTH {
            let message = format!("not read: more than {MAX_DEPTH} directories deep");
            return self.problems.push(Problem::of_file(Severity::Error, path, message));
        }
        self.directories.push((path.to_owned(), stamp));
        above.push(stamp);
        let read = fs::read_dir(path).and_then(|entries| {
            for entry in entries {
                self.entry(&entry?.path(), above);
            }
            Ok(())
        });
        above.pop();
        if let Err(error) = read {
            // One that went away while we looked holds nothing any more, unless it is what was asked for.
            if error.kind() != io::ErrorKind::NotFound || above.is_empty() {
                self.lose(path, &error);
            }
        }
    }

    fn entry(&mut self, path: &Path, above: &mut Vec<Stamp>) {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            return;
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.directory(path, &metadata, above),
            Ok(metadata) if is_manifest(path) => {
                self.files.insert(path.to_owned(), Stamp::of(&metadata));
            }
            // Gone since the directory was listed, or a symlink to nothing.
            Err(error) if error.kind() != io::ErrorKind::NotFound && is_manifest(path) => self.lose(path, &error),
            _ => {}
        }
    }

    fn lose(&mut self, path: &Path, error: &io::Error) {
        let list = if error.kind() == io::ErrorKind::NotFound { &mut self.missing } else { &mut self.unreadable };
        list.push(path.to_owned());
        self.problems.push(Problem::of_file(Severity::Error, path, error));
    }

    /// Notes the nearest directory above `path` that exists: something appears or changes there first.
    fn await_in_parent(&mut self, path: &Path) {
        for above in path.ancestors().skip(1) {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            if let Ok(metadata) = fs::metadata(above) {
                return self.directories.push((above.to_owned(), Stamp::of(&metadata)));
            }
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}
