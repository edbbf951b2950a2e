//! Where what the kinds say meets: held back until all of it is there, then handed on as it comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::{Notify, mpsc};
use tracing::info;
use weir_model::{Event, NodeSpec, ObjectKey, ServiceSpec, SliceKey, SliceSpec};

use super::Kind;
use super::object::Object;
use crate::{ConfigMapEvent, ConfigMapSpec};

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
    /// Rings when the slices have to be listed again.
    slices_again: Arc<Notify>,
    /// `None` once everything was there.
    beginning: Option<Beginning>,
    /// The zone of this node, as last told.
    zone: String,
    ranges: BTreeMap<ObjectKey, Vec<IpNet>>,
    /// The ranges as last told.
    told_ranges: Vec<IpNet>,
}

/// What is known before all is known.
#[derive(Debug, Default)]
struct Beginning {
    listed: BTreeSet<Kind>,
    node: Option<NodeSpec>,
    config_maps: BTreeMap<ObjectKey, ConfigMapSpec>,
    services: BTreeMap<ObjectKey, ServiceSpec>,
    slices: BTreeMap<SliceKey, SliceSpec>,
}

impl Gate {
    /// A gate that is closed. `slices_again`: rung when the slices have to be listed again.
    pub(super) fn new(
        events: mpsc::Sender<Event>,
        config_maps: mpsc::Sender<ConfigMapEvent>,
        slices_again: Arc<Notify>,
    ) -> Self {
        Self {
            events,
            config_maps,
            slices_again,
            beginning: Some(Beginning::default()),
            zone: String::new(),
            ranges: BTreeMap::new(),
            told_ranges: Vec::new(),
        }
    }

    /// Takes one update in and sends what follows from it.
    pub(super) async fn take(&mut self, update: Update) -> Result<(), Closed> {
        let Some(beginning) = &mut self.beginning else { return self.pass(update).await };
        beginning.take(update, &mut self.ranges);
        if beginning.listed.len() < Kind::ALL.len() {
            return Ok(());
        }
        let beginning = self.beginning.take().unwrap_or_default();
        self.open(beginning).await
    }

    /// Hands on all that was held back. What tells the meaning of slices comes before them, and policies come before
    /// the Services that ask for them.
    async fn open(&mut self, beginning: Beginning) -> Result<(), Closed> {
        let Beginning { node, config_maps, services, slices, .. } = beginning;
        info!(services = services.len(), slices = slices.len(), policies = config_maps.len(), "the cluster is listed");
        for config_map in config_maps.into_values() {
            self.tell(ConfigMapEvent::Applied(config_map)).await;
        }
        self.tell(ConfigMapEvent::Listed).await;
        self.zone = node.as_ref().map(|node| node.zone.clone()).unwrap_or_default();
        self.send(Event::Node(node)).await?;
        self.told_ranges = self.all_ranges();
        self.send(Event::ServiceCidrs(self.told_ranges.clone())).await?;
        let (services, slices) = (services.into_values().collect(), slices.into_values().collect());
        self.send(Event::Replace { services, slices }).await
    }

    /// Hands on one change.
    async fn pass(&mut self, Update { kind, change }: Update) -> Result<(), Closed> {
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
            Change::Listed => {
                if kind == Kind::ConfigMap {
                    self.tell(ConfigMapEvent::Listed).await;
                }
                Ok(())
            }
        }
    }

    async fn node(&mut self, node: Option<NodeSpec>) -> Result<(), Closed> {
        let zone = node.as_ref().map(|node| node.zone.clone()).unwrap_or_default();
        self.send(Event::Node(node)).await?;
        if zone != self.zone {
            self.zone = zone;
            // What the hints of a slice mean here is settled when it comes in.
            self.slices_again.notify_one();
        }
        Ok(())
    }

    async fn cidrs(&mut self) -> Result<(), Closed> {
        let ranges = self.all_ranges();
        if ranges == self.told_ranges {
            return Ok(());
        }
        self.told_ranges.clone_from(&ranges);
        self.send(Event::ServiceCidrs(ranges)).await
    }

    fn all_ranges(&self) -> Vec<IpNet> {
        self.ranges.values().flatten().copied().collect()
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }

    /// Services are served even where nobody cares for policies.
    async fn tell(&self, event: ConfigMapEvent) {
        let _ = self.config_maps.send(event).await;
    }
}

impl Beginning {
    /// Takes one update in; `ranges` are those of the gate, which outlive the beginning.
    fn take(&mut self, Update { kind, change }: Update, ranges: &mut BTreeMap<ObjectKey, Vec<IpNet>>) {
        match change {
            Change::Listed => drop(self.listed.insert(kind)),
            Change::Applied(key, object) => match *object {
                Object::Service(spec) => drop(self.services.insert(key, spec)),
                Object::Slice(spec) => drop(self.slices.insert(key, spec)),
                Object::Node(node) => self.node = Some(node),
                Object::ServiceCidr(of_one) => drop(ranges.insert(key, of_one)),
                Object::ConfigMap(spec) => drop(self.config_maps.insert(key, spec)),
            },
            Change::Gone(key) => match kind {
                Kind::Service => drop(self.services.remove(&key)),
                Kind::EndpointSlice => drop(self.slices.remove(&key)),
                Kind::Node => self.node = None,
                Kind::ServiceCidr => drop(ranges.remove(&key)),
                Kind::ConfigMap => drop(self.config_maps.remove(&key)),
            },
        }
    }
}
