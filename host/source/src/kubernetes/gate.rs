//! Where what the kinds say meets: handed on as it comes, in an order that makes sense, with a word once all of it is
//! there. Nothing is held back in between, so that no list is in memory twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::{Notify, mpsc};
use tracing::info;
use weir_model::{Event, NodeSpec, ObjectKey};

use super::Kind;
use super::object::Object;
use crate::ConfigMapEvent;

/// Something a reflector learnt.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) kind: Kind,
    pub(super) change: Change,
}

/// What it learnt.
#[derive(Debug)]
pub(super) enum Change {
    /// An object appeared or changed, or is listed again.
    Applied(ObjectKey, Box<Object>),
    /// An object is gone.
    Gone(ObjectKey),
    /// A list has ended, and all of it was told.
    Listed,
}

/// Nobody listens any more.
#[derive(Debug)]
pub(super) struct Closed;

/// Turns updates into events.
#[derive(Debug)]
pub(super) struct Gate {
    events: mpsc::Sender<Event>,
    config_maps: mpsc::Sender<ConfigMapEvent>,
    /// Rings when the slices have to be listed: once this node is known, and whenever its zone has changed.
    slices_again: Arc<Notify>,
    /// The kinds that were listed completely.
    listed: BTreeSet<Kind>,
    /// The zone of this node, as last told.
    zone: String,
    ranges: BTreeMap<ObjectKey, Vec<IpNet>>,
    /// The ranges as last told.
    told_ranges: Vec<IpNet>,
}

impl Gate {
    /// A gate that is closed. `slices_again`: rung when the slices have to be listed.
    pub(super) fn new(
        events: mpsc::Sender<Event>,
        config_maps: mpsc::Sender<ConfigMapEvent>,
        slices_again: Arc<Notify>,
    ) -> Self {
        Self {
            events,
            config_maps,
            slices_again,
            listed: BTreeSet::new(),
            zone: String::new(),
            ranges: BTreeMap::new(),
            told_ranges: Vec::new(),
        }
    }

    /// Takes one update in and sends what follows from it.
    pub(super) async fn take(&mut self, Update { kind, change }: Update) -> Result<(), Closed> {
        match change {
            Change::Applied(key, object) => match *object {
                Object::Service(spec) => self.send(Event::Service(spec)).await,
                Object::Slice(spec) => self.send(Event::Slice(spec)).await,
                Object::Node(node) => self.node(Some(node)).await,
                Object::ServiceCidr(ranges) => {
                    self.ranges.insert(key, ranges);
                    self.cidrs().await
                }
                Object::ConfigMap(spec) => {
                    self.tell(ConfigMapEvent::Applied(spec)).await;
                    Ok(())
                }
            },
            Change::Gone(key) => match kind {
                Kind::Service => self.send(Event::ServiceGone(key)).await,
                Kind::EndpointSlice => self.send(Event::SliceGone(key)).await,
                Kind::Node => self.node(None).await,
                Kind::ServiceCidr => {
                    self.ranges.remove(&key);
                    self.cidrs().await
                }
                Kind::ConfigMap => {
                    self.tell(ConfigMapEvent::Gone(key)).await;
                    Ok(())
                }
            },
            Change::Listed => self.listed(kind).await,
        }
    }

    /// A list of `kind` has ended. Says so once all kinds have had their first.
    async fn listed(&mut self, kind: Kind) -> Result<(), Closed> {
        let first = self.listed.insert(kind);
        match kind {
            Kind::ConfigMap => self.tell(ConfigMapEvent::Listed).await,
            Kind::Node if first => self.slices_again.notify_one(),
            Kind::ServiceCidr => self.cidrs().await?,
            Kind::Node | Kind::Service | Kind::EndpointSlice => {}
        }
        if first && self.listed.len() == Kind::ALL.len() {
            info!("the cluster is listed");
            self.send(Event::Listed).await?;
        }
        Ok(())
    }

    async fn node(&mut self, node: Option<NodeSpec>) -> Result<(), Closed> {
        let zone = node.as_ref().map(|node| node.zone.clone()).unwrap_or_default();
        self.send(Event::Node(node)).await?;
        if zone != self.zone {
            self.zone = zone;
            // What the hints of a slice mean here is settled when it comes in.
            if self.listed.contains(&Kind::Node) {
                self.slices_again.notify_one();
            }
        }
        Ok(())
    }

    /// Tells the ranges if they have changed, but never a part of them.
    async fn cidrs(&mut self) -> Result<(), Closed> {
        let ranges: Vec<IpNet> = self.ranges.values().flatten().copied().collect();
        if ranges == self.told_ranges || !self.listed.contains(&Kind::ServiceCidr) {
            return Ok(());
        }
        self.told_ranges.clone_from(&ranges);
        self.send(Event::ServiceCidrs(ranges)).await
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }

    /// Services are served even where nobody cares for policies.
    async fn tell(&self, event: ConfigMapEvent) {
        let _ = self.config_maps.send(event).await;
    }
}
