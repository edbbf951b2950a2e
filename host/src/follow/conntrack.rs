//! Ends tracked flows whose endpoint is gone: after each sync that could concern one, on a thread of its own.

mod worker;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use weir_conntrack::{Change, FlowTable, TrackedPort, released};
use weir_model::{Protocol, ServiceId};
use weir_plan::NodeFacts;

use self::worker::{Message, Worker};
use super::{Follower, Synced};
use crate::config::ConntrackSettings;

/// What happened so far, for metrics and tests.
#[derive(Debug)]
pub struct Counters {
    /// Comparisons of all flows with the Services.
    pub passes: AtomicU64,
    /// Flows that were removed.
    pub deleted: AtomicU64,
    /// Removals that failed; each is tried again and may count again.
    pub failed: AtomicU64,
    /// How long each comparison took, in seconds.
    pub durations: Histogram,
}

impl Default for Counters {
    /// Nothing happened. The buckets, 1 ms to 16 s, are kube-proxy's.
    fn default() -> Self {
        let durations = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        Self { passes: AtomicU64::new(0), deleted: AtomicU64::new(0), failed: AtomicU64::new(0), durations }
    }
}

/// Sends what changed to a worker thread, which makes the passes. Dropping it ends the worker.
pub struct Conntrack {
    protocols: Vec<Protocol>,
    /// Services with ports of those protocols, as far as the worker knows.
    tracked: BTreeSet<ServiceId>,
    /// What the worker knows of this node.
    facts: Option<NodeFacts>,
    counters: Arc<Counters>,
    /// `None` only while dropped.
    sender: Option<Sender<Message>>,
    worker: Option<JoinHandle<()>>,
}

impl Conntrack {
    /// Starts the worker, which reads and removes flows by `flows`, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(flows: impl FlowTable + Send + 'static, settings: &ConntrackSettings) -> io::Result<Self> {
        let mut protocols = vec![Protocol::Udp];
        if settings.reset_stale_tcp {
            protocols.push(Protocol::Tcp);
        }
        let counters = Arc::new(Counters::default());
        let (sender, receiver) = channel();
        let worker = Worker::new(Box::new(flows), &protocols, counters.clone());
        let worker = std::thread::Builder::new().name("conntrack".to_owned()).spawn(move || worker.run(&receiver))?;
        let (sender, worker) = (Some(sender), Some(worker));
        Ok(Self { protocols, tracked: BTreeSet::new(), facts: None, counters, sender, worker })
    }

    /// What happened so far; goes on counting.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

impl Follower for Conntrack {
    fn synced(&mut self, synced: &Synced<'_>) {
        if let (Some(message), Some(sender)) = (self.news(synced), &self.sender) {
            // Fails only if the worker panicked, which has been told then.
            let _ = sender.send(message);
        }
    }
}

impl Conntrack {
    /// What the worker must hear of a sync; `None` when it concerns no port of our protocols.
    fn news(&mut self, synced: &Synced<'_>) -> Option<Message> {
        let Synced { store, installed, services, transaction } = *synced;
        let mut change = Change { services: Vec::new(), released: released(transaction, &self.protocols) };
        for id in services {
            let ports = TrackedPort::of(store, installed, *id, &self.protocols);
            let was = if ports.is_empty() { self.tracked.remove(id) } else { !self.tracked.insert(*id) };
            if was || !ports.is_empty() {
                change.services.push((*id, ports));
            }
        }
        // News after the first sync, even if nothing was programmed: an earlier life may have left flows behind.
        let facts = (self.facts.as_ref() != Some(installed.node())).then(|| installed.node().clone());
        if facts.is_none() && change == Change::default() {
            return None;
        }
        if facts.is_some() {
            self.facts.clone_from(&facts);
        }
        Some(Message { change, facts })
    }
}

impl Drop for Conntrack {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has said so.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests;
