//! Compiled policies on disk, so that a start or a reload need not compile what was compiled before.
//!
//! What lies there is machine code that the daemon will run. wasmtime looks a component up by a hash of its bytes, of
//! every setting of the compiler and of its own version, but it takes the code it finds for what it wrote. So the
//! directory must belong to the daemon alone, and each file must still be what was written: checksums beside the code
//! say so, and a file that differs from its own, or has none, is removed before anything is loaded.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::Component;
use wasmtime::{Cache, CacheConfig};

use crate::compiled::{Digest, LoadError};
use crate::engine;

/// Where wasmtime keeps its files, below the directory.
const CODE: &str = "code";
/// Lines of `SHA-256, two spaces, path below CODE`, as `sha256sum` writes them.
const CHECKSUMS: &str = "checksums";
/// Bytes of code beyond which the files that were not used for longest go.
const MAX_BYTES: u64 = 256 << 20;

/// Why a directory cannot hold compiled policies.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be made, read or written.
    #[error("{path}: {error}")]
    Access {
        /// What was tried.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Somebody else could put machine code there.
    #[error("{path}: {why}; compiled policies are machine code, so only the daemon may be able to write there")]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// wasmtime does not want it.
    #[error("{0}")]
    Unusable(String),
}

/// A directory of compiled policies. Clones are the same one.
#[derive(Clone, Debug)]
pub struct CodeCache {
    directory: PathBuf,
    cache: Cache,
    /// Checksums of the files that are known, by path below [`CODE`].
    known: Arc<Mutex<BTreeMap<PathBuf, Digest>>>,
}

impl CodeCache {
    /// Takes `directory`, an absolute path, into use: makes it, where it is missing, for this user alone; and removes
    /// every file that is not what was written.
    ///
    /// # Errors
    /// When it is not a directory of this user's that only this user can write to.
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        let access = |error| CacheError::Access { path: directory.to_owned(), error };
        match fs::DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(access(error)),
            _ => {}
        }
        check_owner(directory)?;
        let opened = Self::attach(directory)?;
        let known = opened.verified().map_err(access)?;
        *opened.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        opened.seal().map_err(access)?;
        Ok(opened)
    }

    /// The same for a process that only fills it: whoever opened it looks after it.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn attach(directory: &Path) -> Result<Self, CacheError> {
        let mut config = CacheConfig::new();
        config
            .with_directory(directory.join(CODE))
            // Compressed again, a file would not be what its checksum says.
            .with_optimized_compression_usage_counter_threshold(u64::MAX)
            .with_files_total_size_soft_limit(MAX_BYTES);
        let cache = Cache::new(config).map_err(|error| CacheError::Unusable(format!("{error:#}")))?;
        Ok(Self { directory: directory.to_owned(), cache, known: Arc::default() })
    }

    /// Compiles `component` into it, as every engine of this program would, and forgets the result.
    ///
    /// # Errors
    /// [`LoadError::Compile`] when it does not compile.
    pub fn fill(&self, component: &[u8]) -> Result<(), LoadError> {
        let compiled = catch_unwind(AssertUnwindSafe(|| {
            let engine = wasmtime::Engine::new(&engine::config(Some(self), component.len()))?;
            Component::new(&engine, component)
        }));
        match compiled {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(why)) => Err(LoadError::Compile(format!("{why:#}"))),
            Err(_) => Err(LoadError::Compile("the compiler gave up on it".to_owned())),
        }
    }

    /// Notes checksums of the files that are new, and forgets those that are gone. What is not noted before the
    /// process ends is compiled again by the next one.
    ///
    /// # Errors
    /// When the checksums cannot be written.
    pub fn seal(&self) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.files()?;
        let before = known.clone();
        known.retain(|path, _| present.contains(path));
        for path in present {
            if let Entry::Vacant(new) = known.entry(path) {
                let digest = Digest::of(&fs::read(self.code().join(new.key()))?);
                new.insert(digest);
            }
        }
        let path = self.directory.join(CHECKSUMS);
        if *known == before && path.exists() {
            return Ok(());
        }
        let text: String = known.iter().map(|(path, digest)| format!("{digest}  {}\n", path.display())).collect();
        let new = self.directory.join("checksums.new");
        fs::write(&new, text)?;
        fs::rename(new, path)
    }

    /// Removes every file of code.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        self.files()?.iter().try_for_each(|path| fs::remove_file(self.code().join(path)))?;
        self.seal()
    }

    /// How many components were found in it since the start.
    #[must_use]
    pub fn hits(&self) -> usize {
        self.cache.cache_hits()
    }

    /// How many were not, and are in it since.
    #[must_use]
    pub fn misses(&self) -> usize {
        self.cache.cache_misses()
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What wasmtime reads and writes by.
    pub(crate) fn wasm(&self) -> Cache {
        self.cache.clone()
    }

    fn code(&self) -> PathBuf {
        self.directory.join(CODE)
    }

    /// The files that are what was written; all others are removed.
    fn verified(&self) -> io::Result<BTreeMap<PathBuf, Digest>> {
        let text = match fs::read_to_string(self.directory.join(CHECKSUMS)) {
            Ok(text) => text,
            // Not text, or not there: nothing is known.
            Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::InvalidData].contains(&error.kind()) => {
                String::new()
            }
            Err(error) => return Err(error),
        };
        let mut noted: BTreeMap<&Path, &str> = BTreeMap::new();
        noted.extend(text.lines().filter_map(|line| line.split_once("  ")).map(|(sum, path)| (Path::new(path), sum)));
        let mut known = BTreeMap::new();
        for path in self.files()? {
            let file = self.code().join(&path);
            let digest = Digest::of(&fs::read(&file)?);
            if noted.get(&*path).is_some_and(|sum| **sum == digest.to_string()) {
                known.insert(path, digest);
            } else {
                fs::remove_file(file)?;
            }
        }
        Ok(known)
    }

    /// Every file of code, by its path below [`CODE`]; not wasmtime's statistics, which nobody runs.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![self.code()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
                if kind.is_dir() {
                    folders.push(path);
                } else if path.extension().is_none_or(|extension| extension != "stats") {
                    found.extend(path.strip_prefix(self.code()).map(Path::to_owned));
                }
            }
        }
        Ok(found)
    }
}

/// Checks that `directory` is this user's, and that only this user can write to it.
fn check_owner(directory: &Path) -> Result<(), CacheError> {
    let access = |error| CacheError::Access { path: directory.to_owned(), error };
    let exposed = |why: String| Err(CacheError::Exposed { path: directory.to_owned(), why });
    let metadata = fs::symlink_metadata(directory).map_err(access)?;
    if !metadata.is_dir() {
        return exposed("not a directory".to_owned());
    }
    if metadata.mode() & 0o022 != 0 {
        return exposed(format!("its mode is {:o}, so others can write to it", metadata.mode() & 0o7777));
    }
    // A file of our own tells who we are, and that we can write.
    let probe = directory.join("probe");
    fs::write(&probe, []).map_err(access)?;
    let ours = fs::metadata(&probe).map_err(access)?.uid();
    fs::remove_file(&probe).map_err(access)?;
    if metadata.uid() != ours {
        return exposed(format!("it belongs to user {}, and this is user {ours}", metadata.uid()));
    }
    Ok(())
}
