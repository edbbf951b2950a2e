//! The Wasm engine: one for all policies, configured for equal answers on every node.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use wasmtime::component::{HasSelf, Linker};
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

/// Compiles and links policies.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasm: wasmtime::Engine,
    linker: Arc<Linker<HostState>>,
    /// The same with inert WASI; made when the first policy asks for it.
    with_wasi: Arc<OnceLock<Linker<HostState>>>,
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
        let wasm = wasmtime::Engine::new(&config(cache)).map_err(std::io::Error::other)?;
        let mut linker = Linker::new(&wasm);
        bindings::Policy::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)
            .map_err(std::io::Error::other)?;
        bindings::v0_1::Policy::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)
            .map_err(std::io::Error::other)?;
        let ticked = wasm.weak();
        let clock = Clock::new(move || {
            if let Some(engine) = ticked.upgrade() {
                engine.increment_epoch();
            }
        })?;
        let ceilings = Limits::ceilings();
        let with_wasi = Arc::default();
        Ok(Self { wasm, linker: Arc::new(linker), with_wasi, limits, ceilings, clock: Arc::new(clock) })
    }

    /// What a policy may import.
    ///
    /// # Errors
    /// When WASI and the contract cannot be offered together: a slip of a programmer.
    pub(crate) fn linker(&self, wasi: Wasi) -> wasmtime::Result<&Linker<HostState>> {
        if wasi == Wasi::Pure {
            return Ok(&self.linker);
        }
        if let Some(linker) = self.with_wasi.get() {
            return Ok(linker);
        }
        let mut linker = (*self.linker).clone();
        wasi::add_to_linker(&mut linker)?;
        Ok(self.with_wasi.get_or_init(|| linker))
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

/// Fuel for equal limits on all nodes, epochs for the clock, and nothing whose result depends on the machine.
/// Multiple memories stay on: without them compiling a composed component panics in wasmtime 48.
pub(crate) fn config(cache: Option<&CodeCache>) -> Config {
    let mut config = Config::new();
    config
        .cache(cache.map(CodeCache::wasm))
        .consume_fuel(true)
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(STACK)
        .wasm_backtrace_max_frames(NonZeroUsize::new(8));
    config
}
