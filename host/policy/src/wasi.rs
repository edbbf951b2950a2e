//! Inert WASI, for policies whose language cannot do without: everything is there, and nothing of it works.
//!
//! No files, arguments, variables, standard input or sockets. Clocks stand still, a wait ends at once, and random
//! numbers are the same in every call, on every node: they depend on the component alone, so that neither the node nor
//! the batch a port happens to be in shows. What is printed goes to the log, line by line, within bounds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p2::{self, DynPollable, OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{Deterministic, HostWallClock, WasiCtx, WasiCtxView, WasiView, async_trait};

use crate::compiled::Digest;
use crate::host::HostState;
use crate::log_budget::LogBudget;

/// What a policy may import besides the contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wasi {
    /// Nothing.
    #[default]
    Pure,
    /// WASI 0.2, of which nothing works.
    Inert,
}

/// Packages of WASI 0.2 that are there when it is inert.
const OFFERED: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Whether inert WASI has that interface.
pub(crate) fn offers(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    version.starts_with("0.2.") && OFFERED.iter().any(|package| interface.starts_with(package))
}

/// Random bytes before they begin anew.
const RANDOM_BYTES: usize = 4096;

/// Most random bytes a policy gets at once.
const MOST_RANDOM: u64 = 64 << 10;

/// Bytes a policy may print in one write; more is written in several.
const WRITE: usize = 4096;

/// What a policy with inert WASI has for random numbers.
pub(crate) fn randomness(component: Digest) -> Arc<[u8]> {
    let block = |number: u32| Sha256::new().chain_update(component.0).chain_update(number.to_le_bytes()).finalize();
    (0..).flat_map(block).take(RANDOM_BYTES).collect()
}

/// Adds it to what policies can import.
///
/// # Errors
/// When the linker has some of it already.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    p2::add_to_linker_sync(linker)?;
    // wasmtime's own waits for as long as it is told to, by the clock on the wall.
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<HostState, StandingClock>(linker, |state| Standing(state.ctx().table))?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The WASI side of one instance.
pub(crate) struct Inert {
    context: WasiCtx,
    table: ResourceTable,
}

impl Inert {
    /// For an instance of the policy of that name.
    pub(crate) fn new(policy: &Arc<str>, random: &Arc<[u8]>) -> Self {
        let random = || Deterministic::new(random.to_vec());
        let seed = random_seed(&random);
        let output = |is_error| Output(Arc::new(Mutex::new(Lines::new(policy.clone(), is_error))));
        let mut builder = WasiCtx::builder();
        builder
            .stdout(output(false))
            .stderr(output(true))
            .wall_clock(Epoch)
            .secure_random(random())
            .insecure_random(random())
            .insecure_random_seed(seed)
            .max_random_size(MOST_RANDOM)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        Self { context: builder.build(), table: ResourceTable::new() }
    }
}

fn random_seed(random: &impl Fn() -> Deterministic) -> u128 {
    use wasmtime_wasi::Rng as _;
    let mut random = random();
    u128::from(random.next_u64()) << 64 | u128::from(random.next_u64())
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Inert { context, table } = self.wasi.as_mut().expect("only policies with inert WASI are linked with it");
        WasiCtxView { ctx: context, table }
    }
}

/// It is always 1970-01-01T00:00:00Z.
struct Epoch;

impl HostWallClock for Epoch {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

/// Whose clock stands still.
struct StandingClock;

impl HasData for StandingClock {
    type Data<'a> = Standing<'a>;
}

struct Standing<'a>(&'a mut ResourceTable);

impl Standing<'_> {
    /// A wait that is over.
    fn over(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let wait = self.0.push(Over)?;
        p2::subscribe(self.0, wait)
    }
}

impl monotonic_clock::Host for Standing<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(0)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.over()
    }

    fn subscribe_duration(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.over()
    }
}

struct Over;

#[async_trait]
impl Pollable for Over {
    async fn ready(&mut self) {}
}

/// Where a policy prints to: every handle of it writes the same lines.
#[derive(Clone)]
struct Output(Arc<Mutex<Lines>>);

/// What was printed since the last end of a line.
struct Lines {
    policy: Arc<str>,
    is_error: bool,
    line: Vec<u8>,
    budget: LogBudget,
}

impl Lines {
    fn new(policy: Arc<str>, is_error: bool) -> Self {
        Self { policy, is_error, line: Vec::new(), budget: LogBudget::default() }
    }

    fn print(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end(),
                _ if self.line.len() < WRITE => self.line.push(*byte),
                // A line without end is cut off.
                _ => {}
            }
        }
    }

    fn end(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() || !self.budget.allows(line.len()) {
            return;
        }
        let (policy, line) = (&*self.policy, String::from_utf8_lossy(&line));
        if self.is_error {
            warn!(policy, "{line}");
        } else {
            info!(policy, "{line}");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.end();
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Nobody but WASI 0.3 asks for it, which is not offered.
        Box::new(MemoryOutputPipe::new(0))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}
