//! Runs policies: Services in, decisions out.
//!
//! Policies are WebAssembly components of the contract in `wit/`. They run when something changes, never for a
//! packet, in a sandbox without clock, randomness, files or network, bounded in time and memory. Whatever one
//! of them does, every port gets an answer: its policy's, else its last good one, else that of the built-in
//! policies, else uniform random over ready endpoints.
#![forbid(unsafe_code)]

mod about;
mod again;
mod agreement;
mod answer;
mod artifact;
mod bindings;
mod call;
mod catalog;
mod clock;
mod code_cache;
mod compiled;
mod decider;
mod engine;
mod host;
mod inspect;
mod limits;
mod log_budget;
mod mix;
mod quarantine;
mod record;
mod slots;
mod spent;
mod subject;
mod walk;
mod wasi;

pub use about::{About, Inputs, SettingProblem};
pub use agreement::DecisionsDigest;
pub use artifact::Artifact;
pub use catalog::{BUILT_IN, Catalog, CatalogError, UnknownPolicy};
pub use code_cache::{CacheError, CodeCache};
pub use compiled::{Digest, LoadError, Policy, Role};
pub use decider::{Attempt, Decider, Decisions, Failure, Refused, ReplayError, Stats};
pub use engine::Engine;
pub use inspect::{Inspection, Kind, Packing, Producer};
pub use limits::{FailureReason, LimitField, Limits};
pub use quarantine::Resting;
pub use record::{CallOutcome, RECORD_VERSION, Record, RecordedEndpoint, RecordedSelection, RecordedShare, Recorder};
pub use wasi::Wasi;
