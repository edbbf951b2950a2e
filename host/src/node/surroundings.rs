//! What this node is at present, and when that changes.

use std::future::pending;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use tracing::{info, warn};
use weir_model::{NodeSpec, Store};
use weir_plan::NodeFacts;

use super::{AddressChanges, addresses, facts};
use crate::config::Config;

/// The configuration and the addresses of this node, followed.
pub struct Surroundings {
    config: Config,
    addresses: Vec<IpAddr>,
    /// `None` once the kernel does not tell any more.
    changes: Option<AddressChanges>,
    /// What the facts were made of the last time; `None` when the addresses changed since.
    told: Option<(Option<NodeSpec>, Vec<IpNet>)>,
}

impl Surroundings {
    /// Reads the addresses, and follows them from then on. Call it on the runtime.
    ///
    /// # Errors
    /// When the kernel does not list its interfaces.
    pub fn open(config: Config) -> io::Result<Self> {
        // Before the first look, so that nothing falls between the two.
        let changes = AddressChanges::open()
            .inspect_err(|error| warn!(%error, "cannot follow this node's addresses; they stay as they are now"))
            .ok();
        Ok(Self { config, addresses: addresses()?, changes, told: None })
    }

    /// What the data plane must know, if anything of it changed since the last call.
    pub fn changed_facts(&mut self, store: &Store) -> Option<NodeFacts> {
        let same = |(node, ranges): &(Option<NodeSpec>, Vec<IpNet>)| {
            node.as_ref() == store.node_object() && ranges == store.service_cidrs()
        };
        if self.told.as_ref().is_some_and(same) {
            return None;
        }
        self.told = Some((store.node_object().cloned(), store.service_cidrs().to_vec()));
        Some(facts(&self.config, &self.addresses, store))
    }

    /// Waits until addresses or routes changed, and reads them again. May be dropped and called again at any time.
    pub async fn changed(&mut self) {
        let Some(changes) = &mut self.changes else { return pending().await };
        match changes.changed().await {
            Ok(()) => match addresses() {
                Ok(addresses) => {
                    if addresses != self.addresses {
                        info!(?addresses, "this node's addresses changed");
                        self.addresses = addresses;
                    }
                    // The default route may be another one.
                    self.told = None;
                }
                Err(error) => warn!(%error, "cannot read this node's addresses; they stay as they were"),
            },
            Err(error) => {
                warn!(%error, "cannot follow this node's addresses any more; they stay as they are now");
                self.changes = None;
            }
        }
    }
}
