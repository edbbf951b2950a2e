//! What a policy may use up, and what it is told when it does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::clock::TICK;

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

/// One number among the limits.
#[derive(Clone, Copy, Debug)]
pub struct LimitField {
    /// What it is called beside a policy, in `data.limits`.
    pub name: &'static str,
    get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

impl LimitField {
    /// What `limits` say.
    #[must_use]
    pub fn get(&self, limits: &Limits) -> u64 {
        (self.get)(limits)
    }

    /// Puts `value` into `limits`.
    pub fn set(&self, limits: &mut Limits, value: u64) {
        (self.set)(limits, value);
    }
}

/// A field that counts things or bytes.
macro_rules! size {
    ($name:literal, $field:ident) => {
        LimitField {
            name: $name,
            get: |limits| u64::try_from(limits.$field).unwrap_or(u64::MAX),
            set: |limits, value| limits.$field = usize::try_from(value).unwrap_or(usize::MAX),
        }
    };
}

impl Limits {
    /// Every limit, by name.
    pub const FIELDS: [LimitField; 11] = [
        LimitField { name: "fuel", get: |limits| limits.fuel, set: |limits, value| limits.fuel = value },
        LimitField {
            name: "fuel-per-endpoint",
            get: |limits| limits.fuel_per_endpoint,
            set: |limits, value| limits.fuel_per_endpoint = value,
        },
        LimitField {
            name: "deadline-ms",
            get: |limits| u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX),
            set: |limits, value| limits.deadline = Duration::from_millis(value),
        },
        size!("memory-bytes", memory),
        size!("table-elements", table_elements),
        size!("instances", instances),
        size!("memories", memories),
        size!("tables", tables),
        size!("answer-bytes", answer),
        size!("handles", handles),
        size!("component-bytes", component),
    ];

    /// The most a policy may be given where the node's configuration does not say: enough for the largest guests
    /// known, little enough that one policy cannot take a node down.
    #[must_use]
    pub fn ceilings() -> Self {
        Self {
            fuel: 10_000_000_000,
            fuel_per_endpoint: 20_000_000,
            deadline: Duration::from_secs(10),
            memory: 512 << 20,
            table_elements: 1_000_000,
            instances: 1_000,
            memories: 64,
            tables: 256,
            answer: 128 << 20,
            handles: 1_000_000,
            component: 64 << 20,
        }
    }

    /// Sets the limit of that name.
    ///
    /// # Errors
    /// A sentence that names the field, when there is none of that name, or `value` is 0 or more than in `ceilings`.
    pub fn set(&mut self, name: &str, value: u64, ceilings: &Self) -> Result<(), String> {
        let Some(field) = Self::FIELDS.iter().find(|field| field.name == name) else {
            let known = Self::FIELDS.map(|field| field.name).join(", ");
            return Err(format!("{name}: there is no such limit for one policy; there are {known}"));
        };
        let most = field.get(ceilings);
        if value == 0 || value > most {
            return Err(format!("{name}: must be 1 to {most}, the most this node allows, not {value}"));
        }
        field.set(self, value);
        Ok(())
    }

    /// The deadline in ticks of the clock.
    pub(crate) fn deadline_ticks(&self) -> u64 {
        u64::try_from(self.deadline.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX).max(1)
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
    /// It called itself too deeply.
    Stack,
    /// It wanted more memory than it may have.
    Memory,
    /// It wanted more or larger tables than it may have.
    Tables,
    /// It held more handles than it may.
    Handles,
    /// It consists of more instances than it may.
    Instances,
    /// Its answer was too large.
    Answer,
    /// It trapped.
    Trap,
    /// It said itself that it has no answer.
    DeclaredError,
    /// Its answer makes no sense.
    InvalidAnswer,
    /// Its answers would take too many endpoints out of service at once.
    Budget,
}

impl FailureReason {
    /// Whether finding it out took a policy's whole allowance.
    pub(crate) fn is_costly(self) -> bool {
        matches!(self, Self::Fuel | Self::Deadline | Self::Memory | Self::Tables | Self::Handles | Self::Answer)
    }

    /// The stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPolicy => "unknown-policy",
            Self::Instantiate => "instantiate",
            Self::Fuel => "fuel",
            Self::Deadline => "deadline",
            Self::Stack => "stack",
            Self::Memory => "memory",
            Self::Tables => "tables",
            Self::Handles => "handles",
            Self::Instances => "instances",
            Self::Answer => "answer",
            Self::Trap => "trap",
            Self::DeclaredError => "declared-error",
            Self::InvalidAnswer => "invalid-answer",
            Self::Budget => "budget",
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
    limits: Arc<Limits>,
    used: usize,
    /// What was refused, if anything: tells such a failure from any other trap.
    pub(crate) refused: Option<FailureReason>,
}

impl Guard {
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        Self { limits, used: 0, refused: None }
    }

    /// Bytes of all memories together: the most there ever were, since a memory never shrinks.
    pub(crate) fn memory(&self) -> u64 {
        self.used as u64
    }

    fn refuse(&mut self, reason: FailureReason, what: &str, wanted: usize, limit: usize) -> wasmtime::Result<bool> {
        self.refused = Some(reason);
        Err(wasmtime::Error::msg(format!("{what}: {wanted} wanted, {limit} allowed")))
    }
}

impl ResourceLimiter for Guard {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used - current.min(self.used) + desired;
        if used > self.limits.memory {
            return self.refuse(FailureReason::Memory, "bytes of memory", used, self.limits.memory);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.limits.table_elements {
            return self.refuse(FailureReason::Tables, "table entries", desired, self.limits.table_elements);
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
