//! Compiles components: small ones right here, large ones in a process of their own.
//!
//! What a compiler needs for a large component is hundreds of megabytes, which the allocator would keep for as long as
//! the daemon lives; and what it does with a hostile one nobody can bound from inside of the same process. So the
//! program starts itself again, as [`Worker`], with bounds on memory and time. What that process compiles it leaves in
//! a directory of compiled policies, and this process finds it there.

mod worker;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};
use weir_policy::{Artifact, CodeCache, Engine, LoadError, Policy};

pub(crate) use self::worker::{Bounds, compile};
use self::worker::{Failed, Worker};

/// Bytes of a component from which on it is compiled in a process of its own. Below, compiling takes less than a
/// second and some tens of megabytes.
pub const LARGE: usize = 2 << 20;

/// Attempts to remove a directory.
const TRIES: u32 = 5;

/// How a component begins: the magic word, then version 13 of layer 1.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Where a large component is compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Aside {
    /// Right here.
    #[default]
    Never,
    /// In a process of this program, which is called `weir`.
    Program(PathBuf),
}

/// Why something is no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// A stable word for metrics and status.
    pub reason: &'static str,
    /// What is wrong.
    pub why: String,
}

impl From<LoadError> for Bad {
    fn from(why: LoadError) -> Self {
        Self { reason: why.reason(), why: why.to_string() }
    }
}

/// What compiles policies.
#[derive(Debug)]
pub struct Compiler {
    engine: Engine,
    /// What `engine` keeps its results in.
    cache: Option<CodeCache>,
    aside: Aside,
    bounds: Bounds,
    /// How many components this process had put into `cache` when that was last noted there.
    sealed: Cell<usize>,
    /// Whether another process has put one there since.
    filled: Cell<bool>,
    /// Whether it was told that large components are compiled here.
    told: Cell<bool>,
}

/// An engine with a directory that is gone with it.
#[derive(Debug)]
struct Private {
    engine: Engine,
    cache: CodeCache,
    path: PathBuf,
}

impl Drop for Private {
    fn drop(&mut self) {
        // wasmtime keeps statistics on a thread of its own, which may put a file there meanwhile.
        let gone = (0..TRIES).any(|_| std::fs::remove_dir_all(&self.path).is_ok());
        if !gone {
            info!(directory = %self.path.display(), "cannot remove what was compiled");
        }
    }
}

impl Compiler {
    /// One that compiles for `engine`, which keeps its results in `cache` if there is one.
    #[must_use]
    pub fn new(engine: Engine, cache: Option<CodeCache>, aside: Aside) -> Self {
        let (sealed, filled, told) = (Cell::default(), Cell::default(), Cell::default());
        Self { engine, cache, aside, bounds: Bounds::default(), sealed, filled, told }
    }

    /// The policy in `artifact`. Where `known` has the same component, that is not compiled again.
    ///
    /// # Errors
    /// Why it is none.
    pub fn load(&self, mut artifact: Artifact, known: &[Arc<Policy>]) -> Result<Policy, Bad> {
        artifact.unpack(self.engine.limits_with(&artifact.limits)?.component)?;
        let component = &artifact.component;
        let digest = weir_policy::Digest::of(component);
        let is_new = !known.iter().any(|policy| policy.digest() == digest);
        let large = is_new && component.len() > LARGE && component.starts_with(COMPONENT);
        // Gone when the code is in memory.
        let private = if large { self.prepare(component)? } else { None };
        let engine = private.as_ref().map_or(&self.engine, |private| &private.engine);
        let policy = Policy::from_artifact(engine, &artifact, known);
        self.seal();
        Ok(policy?)
    }

    /// Notes in the directory for compiled policies what is new there.
    pub(super) fn seal(&self) {
        let Some(cache) = &self.cache else { return };
        if self.sealed.replace(cache.misses()) == cache.misses() && !self.filled.replace(false) {
            return;
        }
        if let Err(error) = cache.seal() {
            warn!(%error, directory = %cache.directory().display(), "what was compiled is compiled again after a restart");
        }
    }

    /// The same, but a process of its own gets so many bytes of address space and seconds of processor time.
    #[must_use]
    pub fn within(self, memory: u64, seconds: u64) -> Self {
        Self { bounds: Bounds { memory, seconds, ..self.bounds }, ..self }
    }

    /// Bytes a component may have.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.engine.limits().component
    }

    /// Has a large component compiled where `engine` finds the result, or the engine that is returned. Where that
    /// cannot be done, `engine` compiles it here.
    fn prepare(&self, component: &[u8]) -> Result<Option<Private>, Bad> {
        let Aside::Program(program) = &self.aside else { return Ok(None) };
        let private = match &self.cache {
            Some(_) => Ok(None),
            None => Private::new(&self.engine).map(Some),
        };
        let failed = match private {
            Ok(private) => {
                let cache = private.as_ref().map(|private| &private.cache).or(self.cache.as_ref());
                let cache = cache.expect("a private one, where there is no other");
                match (Worker { program, bounds: self.bounds }).run(cache.directory(), component) {
                    Ok(()) => {
                        self.filled.set(true);
                        return Ok(private);
                    }
                    Err(Failed::Refused(bad)) => return Err(bad),
                    Err(Failed::Unable(why)) => why,
                }
            }
            Err(why) => why,
        };
        if !self.told.replace(true) {
            warn!(
                why = failed,
                "large policies are compiled in this process, which keeps much of the memory that takes"
            );
        }
        Ok(None)
    }
}

impl Private {
    /// In the first directory for temporary files that can be written to. The second is there in containers whose
    /// other files are read-only.
    fn new(like: &Engine) -> Result<Self, String> {
        let places = [std::env::temp_dir(), PathBuf::from("/dev/shm")];
        let mut problems = Vec::new();
        for place in &places {
            match Self::below(place, like) {
                Ok(private) => return Ok(private),
                Err(why) => problems.push(format!("{}: {why}", place.display())),
            }
        }
        Err(problems.join("; "))
    }

    fn below(place: &Path, like: &Engine) -> Result<Self, String> {
        // Only this user may look into it.
        let path = nix::unistd::mkdtemp(&place.join("weir-code-XXXXXX")).map_err(|error| error.to_string())?;
        let cache = CodeCache::open(&path).map_err(|error| error.to_string());
        let made = cache.and_then(|cache| {
            let engine = Engine::with_cache(like.limits().clone(), Some(&cache)).map_err(|error| error.to_string())?;
            let engine = engine.with_ceilings(like.ceilings().clone());
            Ok(Self { engine, cache, path: path.clone() })
        });
        if made.is_err() {
            let _ = std::fs::remove_dir_all(&path);
        }
        made
    }
}
