//! Instances that have done their work.
//!
//! To give the memory of an instance back to the system takes longer than the call itself: a quarter of the time from
//! an event to the kernel. Nobody waits for that, so it comes after the commit.

use wasmtime::Store;

use crate::host::HostState;

/// How many are kept for later. A full sync uses hundreds, and the memory of all of them would be too much.
const KEPT: usize = 32;

/// The instances of a sync that are still to be let go.
#[derive(Default)]
pub(crate) struct Spent(Vec<Store<HostState>>);

impl Spent {
    /// Takes one in, to be let go later, and gives back one too many.
    pub(crate) fn take(&mut self, store: Option<Store<HostState>>) -> Option<Store<HostState>> {
        if self.0.len() >= KEPT {
            return store;
        }
        self.0.extend(store);
        None
    }

    /// Lets all of them go.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl std::fmt::Debug for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} instances", self.0.len())
    }
}
