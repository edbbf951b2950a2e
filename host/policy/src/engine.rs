//! The Wasm engine, configured for equal answers on every node.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, OptLevel};

use crate::bindings;
use crate::clock::Clock;
use crate::code_cache::CodeCache;
use crate::compiled::LoadError;
use crate::host::HostState;
use crate::limits::Limits;
use crate::wasi::{self, Wasi};

/// Bytes of stack a policy may use. One number for all: it is compiled into the engine, not into an instance.
const STACK: usize = 512 << 10;

/// Bytes of a component up to which its data is copied into the memory of each instance. That is a write to fresh memory;
/// mapping it costs two calls of the system, and each page that is read and then written interrupts all other threads.
/// Larger ones, interpreters above all, can have data of megabytes, which are mapped and copied page by page as needed.
const COPIED: usize = 256 << 10;

/// Compiles and links policies.
#[derive(Clone)]
pub struct Engine {
    small: Arc<Wasm>,
    /// For components of more than [`COPIED`] bytes; made when the first one comes.
    large: Arc<OnceLock<Wasm>>,
    cache: Option<CodeCache>,
    pub(crate) limits: Limits,
    /// The most any policy may be given.
    ceilings: Limits,
    pub(crate) clock: Arc<Clock>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine whose policies have those limits. Starts the thread that watches their deadlines; it sleeps while
    /// no policy runs, and ends with the last clone of the engine.
    ///
    /// # Errors
    /// When the processor lacks what wasmtime needs, or a thread cannot be started.
    pub fn new(limits: Limits) -> Result<Self, std::io::Error> {
        Self::with_cache(limits, None)
    }

    /// The same, which finds in `cache` what was compiled before, and leaves there what it compiles.
    ///
    /// # Errors
    /// As [`Engine::new`]. A cache that fails later is done without.
    pub fn with_cache(limits: Limits, cache: Option<&CodeCache>) -> Result<Self, std::io::Error> {
        let small = Arc::new(Wasm::new(&config(cache, 0)).map_err(std::io::Error::other)?);
        let large = Arc::<OnceLock<Wasm>>::default();
        let (one, other) = (Arc::downgrade(&small), Arc::downgrade(&large));
        let clock = Clock::new(move || {
            one.upgrade().iter().for_each(|small| small.engine.increment_epoch());
            other.upgrade().iter().filter_map(|large| large.get()).for_each(|large| large.engine.increment_epoch());
        })?;
        let (ceilings, cache) = (Limits::ceilings(), cache.cloned());
        Ok(Self { small, large, cache, limits, ceilings, clock: Arc::new(clock) })
    }

    /// Compiles a component.
    ///
    /// # Errors
    /// When it does not compile.
    pub(crate) fn compile(&self, bytes: &[u8]) -> wasmtime::Result<Component> {
        Component::new(&self.wasm(bytes.len())?.engine, bytes)
    }

    /// What compiles a component of so many bytes.
    fn wasm(&self, size: usize) -> wasmtime::Result<&Wasm> {
        if size <= COPIED {
            return Ok(&self.small);
        }
        if let Some(large) = self.large.get() {
            return Ok(large);
        }
        let large = Wasm::new(&config(self.cache.as_ref(), size))?;
        Ok(self.large.get_or_init(|| large))
    }

    /// What `component`, which was compiled here, may import.
    ///
    /// # Errors
    /// When WASI and the contract cannot be offered together: a slip of a programmer.
    pub(crate) fn linker(&self, component: &Component, wasi: Wasi) -> wasmtime::Result<&Linker<HostState>> {
        let compiled_it = |wasm: &&Wasm| wasmtime::Engine::same(&wasm.engine, component.engine());
        self.large.get().filter(compiled_it).unwrap_or(&self.small).linker(wasi)
    }

    /// The same engine, with other bounds for what policies may be given in place of the engine's limits.
    #[must_use]
    pub fn with_ceilings(self, ceilings: Limits) -> Self {
        Self { ceilings, ..self }
    }

    /// The most a policy may be given.
    #[must_use]
    pub fn ceilings(&self) -> &Limits {
        &self.ceilings
    }

    /// The engine's limits, but for those in `own`.
    ///
    /// # Errors
    /// [`LoadError::Limits`] when there is no such limit, it is 0, or more than the node allows.
    pub fn limits_with(&self, own: &BTreeMap<String, u64>) -> Result<Limits, LoadError> {
        let mut limits = self.limits.clone();
        for (name, value) in own {
            limits.set(name, *value, &self.ceilings).map_err(LoadError::Limits)?;
        }
        Ok(limits)
    }

    /// The limits of a policy that has none of its own.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// wasmtime, and what it links components with.
struct Wasm {
    engine: wasmtime::Engine,
    linker: Linker<HostState>,
    /// The same with inert WASI; made when the first policy asks for it.
    with_wasi: OnceLock<Linker<HostState>>,
}

impl Wasm {
    fn new(config: &Config) -> wasmtime::Result<Self> {
        let engine = wasmtime::Engine::new(config)?;
        let mut linker = Linker::new(&engine);
        bindings::Policy::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
        bindings::v0_1::Policy::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
        Ok(Self { engine, linker, with_wasi: OnceLock::new() })
    }

    fn linker(&self, wasi: Wasi) -> wasmtime::Result<&Linker<HostState>> {
        if wasi == Wasi::Pure {
            return Ok(&self.linker);
        }
        if let Some(linker) = self.with_wasi.get() {
            return Ok(linker);
        }
        let mut linker = self.linker.clone();
        wasi::add_to_linker(&mut linker)?;
        Ok(self.with_wasi.get_or_init(|| linker))
    }
}

/// The settings for a component of `size` bytes. Fuel for equal limits on all nodes, epochs for the clock, and nothing whose result depends on the machine.
/// Multiple memories stay on: without them compiling a composed component panics in wasmtime 48.
pub(crate) fn config(cache: Option<&CodeCache>, size: usize) -> Config {
    let mut config = Config::new();
    config
        .cache(cache.map(CodeCache::wasm))
        .consume_fuel(true)
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .memory_init_cow(size > COPIED)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(STACK)
        .wasm_backtrace_max_frames(NonZeroUsize::new(8));
    config
}
