//! The arithmetic of the built-in balancers, without the contract around it: settings, hashes, weights, tables.
//!
//! The guests beside it say what they are in terms of this crate. It has no clock, no randomness and no hash maps
//! with a seed, so an equal question gets an equal answer on every node; and it compiles natively, so that all of it
//! is tested and simulated where that is easy.
#![forbid(unsafe_code)]

pub mod settings;

pub mod canary;
pub mod feedback;
pub mod hash;
pub mod maglev;
pub mod share;
pub mod table;
pub mod zones;
