//! What follows the Services besides the rules: listeners on this node, entries of connections.

pub mod conntrack;
pub mod health_ports;
pub(crate) mod listener;
pub mod load;
pub mod localhost_ports;
#[cfg(test)]
mod polling;

use weir_model::{ServiceId, Store};
use weir_nft::{Installed, Transaction};

/// A sync that reached the kernel.
#[derive(Clone, Copy)]
pub struct Synced<'a> {
    /// The state of the cluster.
    pub store: &'a Store,
    /// What is programmed now.
    pub installed: &'a Installed,
    /// The Services that were looked at, those that are gone included.
    pub services: &'a [ServiceId],
    /// What was sent; empty when nothing had to change.
    pub transaction: &'a Transaction,
}

/// Somebody who keeps something in line with the Services. What takes long or may fail it does on its own time and
/// tries again by itself: it never holds up or fails a sync.
pub trait Follower: Send {
    /// Called after each sync that reached the kernel, on the daemon's runtime.
    fn synced(&mut self, synced: &Synced<'_>);
}
