//! Counts the connections of endpoints while a policy asks for them, on a thread of its own.

mod worker;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, warn};
use weir_conntrack::load::{Endpoint, FlowEvents, Tallies};
use weir_model::{Load, Loads, Port, Protocol};
use weir_netlink::ConntrackEvents;

/// Opens the source of events, in the network namespace of the calling thread.
type Open = Arc<dyn Fn() -> io::Result<Box<dyn FlowEvents>> + Send + Sync>;

/// Knows the load of endpoints while somebody wants to know it. Otherwise there is no thread, no socket and no memory,
/// and the kernel makes no event.
///
/// Only connections through this node count that were redirected: those to a Service. Numbers are a few hundredths of
/// a second old; where counting is not possible (it needs CAP_NET_ADMIN and ctnetlink) all are zero. Asking takes a
/// lock that is never held for longer than a few hundred endpoints take.
pub struct LoadFollower {
    open: Open,
    counting: Mutex<Option<Arc<Shared>>>,
}

/// What the worker and those who ask have in common.
struct Shared {
    tallies: Mutex<Tallies>,
    /// Times count from here.
    start: Instant,
    /// Complete dumps.
    dumps: AtomicU64,
    /// Nobody asks any more.
    stopped: AtomicBool,
}

impl LoadFollower {
    /// Counts what the kernel tells, but nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with(|| {
            let events = ConntrackEvents::open(ConntrackEvents::RECEIVE_BUFFER).map_err(io::Error::other)?;
            Ok(Box::new(events))
        })
    }

    /// Counts what the source that `open` opens tells. It is opened on the counting thread, in the network namespace
    /// of the thread that called [`LoadFollower::set_wanted`], and again after it failed.
    pub fn with(open: impl Fn() -> io::Result<Box<dyn FlowEvents>> + Send + Sync + 'static) -> Self {
        Self { open: Arc::new(open), counting: Mutex::default() }
    }

    /// Begins to count, or ends it and forgets all numbers; nothing happens when that is so already. Never waits.
    pub fn set_wanted(&self, wanted: bool) {
        let mut counting = self.counting();
        match (wanted, &*counting) {
            (true, None) => {
                let shared = Arc::new(Shared {
                    tallies: Mutex::default(),
                    start: Instant::now(),
                    dumps: AtomicU64::new(0),
                    stopped: AtomicBool::new(false),
                });
                let (open, worker) = (Arc::clone(&self.open), Arc::clone(&shared));
                match std::thread::Builder::new().name("load".to_owned()).spawn(move || worker::run(&worker, &*open)) {
                    Ok(_) => debug!("counting the connections of endpoints"),
                    Err(error) => warn!(%error, "cannot count connections: policies are told of no load"),
                }
                // Kept even then, so that it is said once.
                *counting = Some(shared);
            }
            (false, Some(shared)) => {
                shared.stopped.store(true, Ordering::Relaxed);
                *counting = None;
            }
            _ => {}
        }
    }

    fn counting(&self) -> MutexGuard<'_, Option<Arc<Shared>>> {
        // There or not: nothing in between could be left behind.
        self.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often all flows were read since counting began: 0 until it really has, 1 soon after.
    #[must_use]
    pub fn dumps(&self) -> u64 {
        self.counting().as_ref().map_or(0, |shared| shared.dumps.load(Ordering::Acquire))
    }
}

impl Default for LoadFollower {
    fn default() -> Self {
        Self::new()
    }
}

fn place(protocol: Protocol, address: IpAddr, port: u16) -> Endpoint {
    Endpoint { protocol, address: SocketAddr::new(address, port) }
}

impl Loads for LoadFollower {
    fn load(&self, protocol: Protocol, address: IpAddr, port: u16) -> Load {
        let Some(shared) = &*self.counting() else { return Load::default() };
        shared.tallies().load(&place(protocol, address, port), shared.now())
    }

    fn of(&self, port: &Port) -> Vec<Load> {
        let Some(shared) = &*self.counting() else { return vec![Load::default(); port.endpoints.len()] };
        let (tallies, now) = (shared.tallies(), shared.now());
        let places = port.endpoints.iter().map(|known| place(port.key.protocol, known.address, known.port));
        places.map(|endpoint| tallies.load(&endpoint, now)).collect()
    }
}

impl Drop for LoadFollower {
    fn drop(&mut self) {
        self.set_wanted(false);
    }
}

impl Shared {
    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        // Sums stay sums, whoever panicked.
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
