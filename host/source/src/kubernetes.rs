//! Services from a cluster: the Kubernetes API, listed and watched.
//!
//! * **Nothing before everything**: [`Event::Listed`] comes once every kind was listed completely. Before it, nothing
//!   must be programmed: what is missing may well exist. Objects themselves come as they are read, this node before the
//!   slices, whose hints mean nothing without it.
//! * **A list replaces**: whatever a later list does not name is gone, whether or not anybody told.
//! * **Silence is a failure**: the API server sends a bookmark a minute. A watch that says nothing for longer is
//!   given up and taken up again where it stood.
//! * **An outage keeps**: while the API server cannot be reached nothing is taken back.
//! * **One bad object costs only itself**: objects are read one by one, and what cannot be read keeps its last good
//!   version.
//! * **Nothing is held twice**: what was read goes on in the model's terms; of the API objects only names stay, to
//!   know what a list has lost.
//!
//! Five kinds are followed: Services, EndpointSlices, this Node, ServiceCIDRs, and the ConfigMaps of one namespace that
//! carry policies. One task each lists and watches (`reflector`); what they read meets in one place that knows when all
//! are there (`gate`).

mod access;
mod announce;
mod api;
mod backoff;
mod gate;
mod health;
mod kind;
mod object;
mod reflector;
mod timing;

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use weir_model::Event;

use crate::{ConfigMapEvent, Selection};
use access::Connection;
pub use access::{Access, AccessError};
pub use announce::{Notice, Subject, announce};
use gate::Gate;
pub use health::SourceHealth;
pub use kind::Kind;
use reflector::Reflector;
pub use timing::Timing;

/// Changes read that may wait for the gate.
const BACKLOG: usize = 256;

/// What is followed, and how patiently.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which objects count.
    pub selection: Selection,
    /// The namespace whose ConfigMaps carry policies.
    pub namespace: String,
    /// Waits and deadlines.
    pub timing: Timing,
    /// Learns when each kind was last heard of.
    pub health: SourceHealth,
}

/// Follows the API server at `access` until the receiver of `events` is gone. Failures are logged and tried again for
/// ever, and nothing is taken back because of them. Nobody has to receive `config_maps`.
pub async fn watch(
    access: Access,
    options: Options,
    events: mpsc::Sender<Event>,
    config_maps: mpsc::Sender<ConfigMapEvent>,
) {
    let connection = Arc::new(Connection::new(access, options.timing.answer));
    let slices_again = Arc::new(Notify::new());
    let (updates, mut received) = mpsc::channel(BACKLOG);
    // Dropped, and its tasks ended, with this future.
    let mut reflectors = JoinSet::new();
    for kind in Kind::ALL {
        // Only slices are ever asked for again; the others have a bell nobody rings.
        let again = if kind == Kind::EndpointSlice { slices_again.clone() } else { Arc::default() };
        reflectors.spawn(Reflector::new(kind, &options, connection.clone(), updates.clone(), again).run());
    }
    drop(updates);
    let stopped = events.clone();
    let mut gate = Gate::new(events, config_maps, slices_again);
    loop {
        tokio::select! {
            () = stopped.closed() => return,
            update = received.recv() => {
                let Some(update) = update else { return };
                if gate.take(update).await.is_err() {
                    return;
                }
            }
        }
    }
}
