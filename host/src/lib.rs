//! Weir: a Kubernetes service proxy on nftables with WebAssembly policies.
//!
//! This crate joins the stages; [`pipeline`] is the whole of Weir on one page. The stages are crates of
//! their own: source, model, policy, plan, nft, netlink.
#![forbid(unsafe_code)]

// Before all others, which print by its macros.
#[macro_use]
mod printing;

pub mod cli;
mod commands;
pub mod config;
pub mod follow;
pub mod health;
pub mod metrics;
pub mod node;
pub mod notices;
pub mod pipeline;
pub mod policies;
pub mod race;
pub mod records;
pub mod runner;
pub mod serve;
pub mod telemetry;

/// Of the program, and of tests and benches beside it, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
