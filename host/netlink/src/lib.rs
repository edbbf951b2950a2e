//! Transactions to the kernel and back: [`Kernel`] is the [`weir_nft::Dataplane`] of a real node.
//!
//! A [`weir_nft::Transaction`] becomes one netlink batch in one buffer, sent by one system call, and every
//! frame of the answer is read, so that the caller learns whether it took effect and, if not, which operation
//! and which element the kernel refused. [`weir_nft::Ruleset`]s are read back the same way.
//!
//! libnftnl writes tables, chains, sets and rules; set elements, the bulk of all traffic, are written by this
//! crate straight from [`weir_nft::Elements`]. Rules are the very bytecode the `nft` tool would produce, so
//! `nft list ruleset` prints them as [`weir_nft::text`] does.
//!
//! It is the only crate of Weir with `unsafe` code, in two modules: `ffi` (libnftnl objects) and `socket`
//! (socket options and `recv`).

mod assemble;
mod batch;
mod bytecode;
mod channel;
mod conntrack;
mod describe;
mod disassemble;
mod dump;
mod elements;
#[allow(unsafe_code, reason = "libnftnl is a C library; what nftnl's safe API lacks is built through nftnl-sys")]
mod ffi;
mod kernel;
mod outcome;
mod parse;
mod schema;
#[allow(unsafe_code, reason = "mnl's safe API has neither socket options nor non-blocking reads")]
mod socket;
mod wire;

pub use conntrack::{Conntrack, ConntrackError, ConntrackEvents};
pub use kernel::{Kernel, OpenError, Options};
