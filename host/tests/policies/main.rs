//! Policies that come, change and go while the daemon runs: from ConfigMaps and from a directory.
#![allow(clippy::expect_used, reason = "tests panic")]

/// Large components, and a directory for what is compiled.
mod compiling;
/// A daemon's loop over a kernel in memory.
mod daemon;
/// New versions, bad versions, directories.
mod delivery;
/// Which version runs: canaries, going back, switching off.
mod rollout;
