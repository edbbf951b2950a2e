//! The Wasm engine: one for all policies, configured for equal answers on every node.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, OptLevel};

use crate::bindings;
use crate::clock::{Clock, TICK};
use crate::code_cache::CodeCache;
use crate::host::HostState;
use crate::limits::Limits;

/// Compiles and links policies.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasm: wasmtime::Engine,
    pub(crate) linker: Arc<Linker<HostState>>,
    pub(crate) limits: Limits,
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
        Ok(Self { wasm, linker: Arc::new(linker), limits, clock: Arc::new(clock) })
    }

    /// The limits of every policy.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The deadline in ticks of the clock.
    pub(crate) fn deadline_ticks(&self) -> u64 {
        u64::try_from(self.limits.deadline.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX).max(1)
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
        .max_wasm_stack(512 << 10)
        .wasm_backtrace_max_frames(NonZeroUsize::new(8));
    config
}
