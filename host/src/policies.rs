//! Policies that come from outside of the binary: from ConfigMaps and directories, followed while Weir runs.
//!
//! Compiling takes milliseconds to seconds, so a thread of its own does it; the daemon's loop only tries what is
//! compiled on the Services there are, and swaps it in. Whatever cannot be a policy changes nothing but its status.

pub mod compiler;
mod config_map;
mod desk;
pub mod directory;
mod loader;
pub mod oci;
mod offer;
mod status;
mod versions;

use std::future::pending;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, unbounded_channel};
use weir_nft::Dataplane;
use weir_policy::{Digest, Failure, Policy};
use weir_source::{ConfigMapEvent, ConfigMapSpec};

use self::compiler::{Bad, Compiler};
pub use self::config_map::offer;
pub use self::desk::CANARY_PATIENCE;
use self::desk::{Desk, Told};
use self::loader::Loader;
pub use self::offer::{DigestPrefix, Offer, Rollout};
pub use self::status::{Board, Past, State, Status, Track};
pub use self::versions::{KEPT, Version, Versions};
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::pipeline::Pipeline;

/// Name of the ConfigMap, or entry of a directory, that switches every policy from outside off while it is there.
pub const SWITCH: &str = "weir-policies-off";

/// What a source of policies tells.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A policy is new or changed.
    Set(Offer),
    /// What should be a policy of that name cannot be read as one.
    Bad {
        /// The name.
        name: String,
        /// What is wrong, with the field.
        why: String,
    },
    /// A policy is gone.
    Gone(String),
    /// Whether every policy from outside is switched off.
    Switch(bool),
    /// Everything there was at the start has been told.
    Listed,
}

/// What became of a delivery.
#[derive(Debug)]
pub enum Loaded {
    /// Its versions are compiled and checked, as far as they can be.
    Ready(Box<Ready>),
    /// It cannot be read as a policy.
    Refused {
        /// The name.
        name: String,
        /// What is wrong.
        bad: Bad,
    },
    /// It is not looked at: policies from outside are not used.
    Ignored(String),
    /// It is gone.
    Gone(String),
    /// Whether every policy from outside is switched off.
    Switch(bool),
    /// Everything there was at the start is loaded or refused.
    Listed,
}

/// A version, compiled; or why it cannot be one, with what its component is known by, if that can be told.
pub type Compiled = Result<Policy, (Option<Digest>, Bad)>;

/// The versions of a policy that are on offer to this node.
#[derive(Debug)]
pub struct Ready {
    /// What Services call it.
    pub name: String,
    /// The one for every node.
    pub stable: Compiled,
    /// The one this node should try, if it should.
    pub canary: Option<Compiled>,
    /// Which of them runs.
    pub rollout: Rollout,
}

impl Delivery {
    /// What a change of a ConfigMap means. A policy is called what its ConfigMap is called.
    #[must_use]
    pub fn of(event: ConfigMapEvent) -> Self {
        match event {
            ConfigMapEvent::Applied(ConfigMapSpec { key, .. }) if key.name == SWITCH => Self::Switch(true),
            ConfigMapEvent::Gone(key) if key.name == SWITCH => Self::Switch(false),
            ConfigMapEvent::Applied(ConfigMapSpec { key, data, binary_data, .. }) => {
                match offer(&key.name, binary_data, &data) {
                    Ok(offer) => Self::Set(offer),
                    Err(why) => Self::Bad { name: key.name, why },
                }
            }
            ConfigMapEvent::Gone(key) => Self::Gone(key.name),
            ConfigMapEvent::Listed => Self::Listed,
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Set(offer) => Some(&offer.artifact.name),
            Self::Bad { name, .. } | Self::Gone(name) => Some(name),
            Self::Switch(_) | Self::Listed => None,
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
#[derive(Clone, Debug)]
pub struct Deliveries {
    waiting: Sender<Delivery>,
    done: UnboundedSender<Loaded>,
}

/// Nobody takes deliveries any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody takes policies any more")]
pub struct Closed;

impl Deliveries {
    /// Deliveries that nobody loads: they come out as they were handed in, for whoever wants to see what a source tells.
    /// [`Delivery::Switch`], which waits for nobody, is not among them.
    #[must_use]
    pub fn unloaded() -> (Self, Receiver<Delivery>) {
        let ((waiting, received), (done, _)) = (channel(), unbounded_channel());
        (Self { waiting, done }, received)
    }

    /// Hands `delivery` on; never waits.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn send(&self, delivery: Delivery) -> Result<(), Closed> {
        match delivery {
            // The switch does not wait until something is compiled.
            Delivery::Switch(off) => self.done.send(Loaded::Switch(off)).map_err(|_| Closed),
            delivery => self.waiting.send(delivery).map_err(|_| Closed),
        }
    }
}

/// How policies from outside are loaded.
#[derive(Debug)]
pub struct Loading {
    /// What compiles them.
    pub compiler: Compiler,
    /// Name of this node.
    pub node: String,
    /// Whether they are used at all; if not, none is compiled.
    pub enabled: bool,
}

/// The policies on their way in.
pub struct Policies {
    loaded: Option<UnboundedReceiver<Loaded>>,
    /// Sources that have not told everything yet.
    awaited: usize,
    desk: Desk,
    versions: Versions,
    /// What is known of each policy.
    pub board: Board,
}

impl Policies {
    /// None but the built-in ones.
    #[must_use]
    pub fn none() -> Self {
        let (desk, versions, board) = (Desk::default(), Versions::default(), Board::default());
        Self { loaded: None, awaited: 0, desk, versions, board }
    }

    /// Starts to load what comes from so many `sources`, each of which gets a clone of the sender and tells
    /// [`Delivery::Listed`] once.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(loading: Loading, sources: usize) -> io::Result<(Self, Deliveries)> {
        let (waiting, received) = channel();
        let (done, loaded) = unbounded_channel();
        let policies = Self { loaded: Some(loaded), awaited: sources, ..Self::none() };
        let Loading { compiler, node, enabled } = loading;
        let loader = Loader { compiler, node, enabled, good: policies.versions.clone() };
        let sender = done.clone();
        thread::Builder::new().name("policies".to_owned()).spawn(move || loader.run(&received, &sender))?;
        Ok((policies, Deliveries { waiting, done }))
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

    /// Lets what is loaded in, rest or go. What is no good changes nothing, and is told.
    pub fn take<D: Dataplane>(
        &mut self,
        loaded: Loaded,
        pipeline: &mut Pipeline<D>,
        notices: &Notices,
        metrics: &Metrics,
    ) {
        let told = Told { notices, metrics, board: &self.board, versions: &self.versions };
        self.desk.take(loaded, pipeline, &told);
    }

    /// Takes note of what failed in a sync: a canary that fails too often goes. Returns whether the next sync has
    /// something to do.
    pub fn synced<D: Dataplane>(
        &mut self,
        failures: &[Failure],
        pipeline: &mut Pipeline<D>,
        notices: &Notices,
        metrics: &Metrics,
    ) -> bool {
        let told = Told { notices, metrics, board: &self.board, versions: &self.versions };
        self.desk.synced(failures, pipeline, &told)
    }
}
