//! Policies that come from outside of the binary: from ConfigMaps and directories, followed while Weir runs.
//!
//! Compiling takes milliseconds to seconds, so a thread of its own does it; the daemon's loop only tries what is
//! compiled on the Services there are, and swaps it in. Whatever cannot be a policy changes nothing but its status.

mod config_map;
pub mod directory;
pub mod oci;
mod status;

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, unbounded_channel};
use weir_policy::{Artifact, Engine, LoadError, Policy};
use weir_source::{ConfigMapEvent, ConfigMapSpec};

pub use self::config_map::artifact;
pub use self::status::{Board, State, Status};

/// What a source of policies tells.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A policy is new or changed.
    Set(Artifact),
    /// What should be a policy of that name cannot be read as one.
    Bad {
        /// The name.
        name: String,
        /// What is wrong, with the field.
        why: String,
    },
    /// A policy is gone.
    Gone(String),
    /// Everything there was at the start has been told.
    Listed,
}

/// What became of a delivery.
#[derive(Debug)]
pub enum Loaded {
    /// It is compiled and checked.
    Ready(Box<Policy>),
    /// It cannot be a policy.
    Refused {
        /// The name.
        name: String,
        /// A stable word for metrics and status.
        reason: &'static str,
        /// What is wrong.
        why: String,
    },
    /// It is gone.
    Gone(String),
    /// Everything there was at the start is loaded or refused.
    Listed,
}

impl Delivery {
    /// What a change of a ConfigMap means. A policy is called what its ConfigMap is called.
    #[must_use]
    pub fn of(event: ConfigMapEvent) -> Self {
        match event {
            ConfigMapEvent::Applied(ConfigMapSpec { key, data, binary_data, .. }) => {
                match artifact(&key.name, binary_data, &data) {
                    Ok(artifact) => Self::Set(artifact),
                    Err(why) => Self::Bad { name: key.name, why },
                }
            }
            ConfigMapEvent::Gone(key) => Self::Gone(key.name),
            ConfigMapEvent::Listed => Self::Listed,
        }
    }
}

/// Hands on what a source says of ConfigMaps, until either side is gone.
pub async fn forward(mut config_maps: mpsc::Receiver<ConfigMapEvent>, deliveries: Deliveries) {
    let mut listed = false;
    while let Some(event) = config_maps.recv().await {
        // A source may list again; what counts is that it has told everything once.
        if event == ConfigMapEvent::Listed && std::mem::replace(&mut listed, true) {
            continue;
        }
        if deliveries.send(Delivery::of(event)).is_err() {
            return;
        }
    }
}

/// Where sources put what they find.
pub type Deliveries = Sender<Delivery>;

/// The policies on their way in.
pub struct Policies {
    loaded: Option<UnboundedReceiver<Loaded>>,
    /// Sources that have not told everything yet.
    awaited: usize,
    /// What is known of each policy.
    pub board: Board,
}

impl Policies {
    /// None but the built-in ones.
    #[must_use]
    pub fn none() -> Self {
        Self { loaded: None, awaited: 0, board: Board::default() }
    }

    /// Starts to load what comes from so many `sources`, each of which gets a clone of the sender and tells
    /// [`Delivery::Listed`] once.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(engine: Engine, sources: usize) -> io::Result<(Self, Deliveries)> {
        let (deliveries, waiting) = channel();
        let (done, loaded) = unbounded_channel();
        thread::Builder::new().name("policies".to_owned()).spawn(move || load(&engine, &waiting, &done))?;
        Ok((Self { loaded: Some(loaded), awaited: sources, board: Board::default() }, deliveries))
    }

    /// Whether every source has told what there was at the start. Until then nothing may be decided: a Service that
    /// asks for a policy would be given another one for a moment.
    #[must_use]
    pub fn are_listed(&self) -> bool {
        self.awaited == 0
    }

    /// The next that is loaded. May be dropped and called again at any time; never returns when no source is left.
    pub async fn next(&mut self) -> Loaded {
        let Some(loaded) = &mut self.loaded else { return pending().await };
        match loaded.recv().await {
            Some(loaded) => self.noted(loaded),
            None => {
                self.loaded = None;
                pending().await
            }
        }
    }

    /// The next that is loaded already.
    pub fn try_next(&mut self) -> Option<Loaded> {
        let loaded = self.loaded.as_mut()?.try_recv().ok()?;
        Some(self.noted(loaded))
    }

    fn noted(&mut self, loaded: Loaded) -> Loaded {
        if matches!(loaded, Loaded::Listed) {
            self.awaited = self.awaited.saturating_sub(1);
        }
        loaded
    }
}

/// Loads what comes until nobody delivers or waits any more. Of several versions that wait only the last is compiled.
fn load(engine: &Engine, waiting: &Receiver<Delivery>, done: &UnboundedSender<Loaded>) {
    let mut known: BTreeMap<String, Arc<Policy>> = BTreeMap::new();
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        batch.extend(waiting.try_iter());
        for (at, delivery) in batch.iter().enumerate() {
            let name = name_of(delivery);
            if name.is_some() && batch[at + 1..].iter().any(|later| name_of(later) == name) {
                continue;
            }
            if done.send(load_one(engine, delivery, &mut known)).is_err() {
                return;
            }
        }
    }
}

fn name_of(delivery: &Delivery) -> Option<&str> {
    match delivery {
        Delivery::Set(Artifact { name, .. }) | Delivery::Bad { name, .. } | Delivery::Gone(name) => Some(name),
        Delivery::Listed => None,
    }
}

fn load_one(engine: &Engine, delivery: &Delivery, known: &mut BTreeMap<String, Arc<Policy>>) -> Loaded {
    match delivery {
        Delivery::Listed => Loaded::Listed,
        Delivery::Bad { name, why } => Loaded::Refused { name: name.clone(), reason: "unreadable", why: why.clone() },
        Delivery::Gone(name) => {
            known.remove(name);
            Loaded::Gone(name.clone())
        }
        Delivery::Set(artifact) => {
            let others: Vec<Arc<Policy>> = known.values().cloned().collect();
            match Policy::from_artifact(engine, artifact, &others) {
                Ok(policy) => {
                    known.insert(artifact.name.clone(), Arc::new(policy.clone()));
                    Loaded::Ready(Box::new(policy))
                }
                Err(why) => refused(&artifact.name, &why),
            }
        }
    }
}

fn refused(name: &str, why: &LoadError) -> Loaded {
    Loaded::Refused { name: name.to_owned(), reason: why.reason(), why: why.to_string() }
}
