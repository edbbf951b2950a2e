//! The data plane as values: plan → [`Ruleset`] → [`Transaction`].
//!
//! In come [`weir_plan::PortPlan`]s; out goes what must change in the kernel. Everything here can be printed,
//! compared and evaluated without a kernel: [`text`] writes nft syntax, [`sim`] sends a packet through.
//! This crate does no I/O and knows no netlink; the layout it builds is explained in this crate's README.
#![forbid(unsafe_code)]

mod base;
pub mod class;
mod compile;
mod dataplane;
mod diff;
mod elements;
mod installed;
mod object;
mod parts;
mod ruleset;
pub mod sim;
mod statement;
pub mod text;
mod transaction;

pub use base::base_ruleset;
pub use dataplane::{CommitError, Dataplane, DumpError, Receipt};
pub use diff::diff;
pub use elements::{ElementKey, Elements, network_of};
pub use installed::{Installed, Staged};
pub use object::{BaseChain, DataKind, FieldKind, Hook, SetName, TABLE};
pub use ruleset::{Chain, Content, Ruleset, Set, Table};
pub use statement::{Field, Key, Rule, Statement};
pub use transaction::{Op, Transaction, apply};
