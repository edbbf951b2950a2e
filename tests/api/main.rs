//! The Kubernetes source, with its real client, against an API server on loopback that does what real ones do, and what
//! real ones do when something is wrong.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

/// A source and its server, and what came out.
mod rig;

/// What is asked for, what comes out, and in which order.
mod following;
/// Watches that end, hang, lie or are too old.
mod gaps;
/// Servers that refuse: overload, credentials, kinds they do not have.
mod refusals;
/// Many objects: time and memory.
mod scale;
