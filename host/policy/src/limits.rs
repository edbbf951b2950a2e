//! What a policy may use up, and what it is told when it does.

use std::fmt;
use std::time::Duration;

use wasmtime::ResourceLimiter;

/// Bounds of one policy. Always on; these are safety limits with ample room, not a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fuel (about one an instruction) for a call, whatever its size. Fuel is the limit that strikes first, because
    /// it is the same on a fast node and on a slow one.
    pub fuel: u64,
    /// More fuel for each port or ring, and each endpoint, of a call.
    pub fuel_per_endpoint: u64,
    /// Time of one call by the clock: the backstop for what fuel does not see.
    pub deadline: Duration,
    /// Bytes of all its memories together.
    pub memory: usize,
    /// Entries of each of its tables.
    pub table_elements: usize,
    /// Core instances, memories and tables it may consist of.
    pub instances: usize,
    /// See `instances`.
    pub memories: usize,
    /// See `instances`.
    pub tables: usize,
    /// Bytes it may hand to the host in one call: bounds its answers.
    pub answer: usize,
    /// Handles it may hold.
    pub handles: usize,
    /// Bytes of the component itself.
    pub component: usize,
}

impl Default for Limits {
    /// Room for interpreted languages too: measured needs are in the reference of the policy host.
    fn default() -> Self {
        Self {
            fuel: 10_000_000,
            fuel_per_endpoint: 200_000,
            deadline: Duration::from_secs(2),
            memory: 64 << 20,
            table_elements: 20_000,
            instances: 64,
            memories: 8,
            tables: 16,
            answer: 16 << 20,
            handles: 10_000,
            component: 32 << 20,
        }
    }
}

/// Why a policy gave no answer for a port. Stable words: they are meant for metrics and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureReason {
    /// The Service names a policy nobody has.
    UnknownPolicy,
    /// It could not be started.
    Instantiate,
    /// It used up its fuel.
    Fuel,
    /// It took too long.
    Deadline,
    /// It wanted more memory, tables or handles than it may have, or gave an answer too large.
    Memory,
    /// It trapped.
    Trap,
    /// It said itself that it has no answer.
    DeclaredError,
    /// Its answer makes no sense.
    InvalidAnswer,
}

impl FailureReason {
    /// Whether finding it out took a policy's whole allowance.
    pub(crate) fn is_costly(self) -> bool {
        matches!(self, Self::Fuel | Self::Deadline | Self::Memory)
    }

    /// The stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPolicy => "unknown-policy",
            Self::Instantiate => "instantiate",
            Self::Fuel => "fuel",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Trap => "trap",
            Self::DeclaredError => "declared-error",
            Self::InvalidAnswer => "invalid-answer",
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Keeps one instance within its limits, and remembers whether it tried to leave them.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: Limits,
    used: usize,
    /// Whether something was refused: tells a memory failure from any other trap.
    pub(crate) refused: bool,
}

impl Guard {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, used: 0, refused: false }
    }

    /// Bytes of all memories together: the most there ever were, since a memory never shrinks.
    pub(crate) fn memory(&self) -> u64 {
        self.used as u64
    }

    fn refuse(&mut self, what: &str, wanted: usize, limit: usize) -> wasmtime::Result<bool> {
        self.refused = true;
        Err(wasmtime::Error::msg(format!("{what}: {wanted} wanted, {limit} allowed")))
    }
}

impl ResourceLimiter for Guard {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used - current.min(self.used) + desired;
        if used > self.limits.memory {
            return self.refuse("bytes of memory", used, self.limits.memory);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.limits.table_elements {
            return self.refuse("table entries", desired, self.limits.table_elements);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.tables
    }

    fn memories(&self) -> usize {
        self.limits.memories
    }
}
