//! Who may answer for which frontend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weir_model::{Family, Protocol, ServiceId};
use weir_plan::{FrontendAddress, FrontendKey};

use crate::{Change, Flow, TrackedPort};

/// The frontends of all Services with the endpoints that may answer for them, changed Service by Service.
#[derive(Debug)]
pub struct Table {
    protocols: Vec<Protocol>,
    node_addresses: BTreeSet<IpAddr>,
    services: BTreeMap<ServiceId, Vec<TrackedPort>>,
    /// Nearly always one owner; see [`TrackedPort::of`] for when there are more.
    owners: BTreeMap<FrontendKey, Vec<ServiceId>>,
    /// Frontends that are gone, and when that was.
    released: BTreeMap<FrontendKey, Duration>,
}

/// What the table says of a flow's destination.
enum Place<'a> {
    /// A frontend, of these Services.
    Frontend(&'a FrontendKey, &'a [ServiceId]),
    /// It was a frontend until a moment ago.
    Former,
    /// None of Weir's business.
    Foreign,
}

impl Table {
    /// An empty table for flows of `protocols`; what is of another is never stale.
    #[must_use]
    pub fn new(protocols: &[Protocol]) -> Self {
        Self {
            protocols: protocols.to_vec(),
            node_addresses: BTreeSet::new(),
            services: BTreeMap::new(),
            owners: BTreeMap::new(),
            released: BTreeMap::new(),
        }
    }

    /// Takes in the addresses of this node that accept node ports.
    pub fn set_node_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.node_addresses = addresses;
    }

    /// Takes in what a sync changed at `now` (time since any fixed moment), and returns whether any flow could be
    /// judged differently than before.
    pub fn apply(&mut self, change: Change, now: Duration) -> bool {
        let mut changed = false;
        let mut gone = change.released;
        for (id, ports) in change.services {
            let before = self.services.get(&id).map_or(&[][..], Vec::as_slice);
            if before == ports {
                continue;
            }
            changed = true;
            for frontend in before.iter().flat_map(|port| &port.frontends) {
                gone.push(*frontend);
                if let Some(owners) = self.owners.get_mut(frontend) {
                    owners.retain(|owner| *owner != id);
                    if owners.is_empty() {
                        self.owners.remove(frontend);
                    }
                }
            }
            for frontend in ports.iter().flat_map(|port| &port.frontends) {
                let owners = self.owners.entry(*frontend).or_default();
                if !owners.contains(&id) {
                    owners.push(id);
                }
            }
            if ports.is_empty() {
                self.services.remove(&id);
            } else {
                self.services.insert(id, ports);
            }
        }
        // Only now is it known which of them came back, with the same Service or another.
        for frontend in gone.into_iter().filter(|frontend| !self.owners.contains_key(frontend)) {
            changed = true;
            self.released.insert(frontend, now);
        }
        changed
    }

    /// Forgets frontends that were let go at `moment` or before: no flow can lead through them any more.
    pub fn forget_released(&mut self, moment: Duration) {
        self.released.retain(|_, at| *at > moment);
    }

    /// Families and protocols with any flow worth a look.
    #[must_use]
    pub fn selections(&self) -> Vec<(Family, Protocol)> {
        let keys = self.owners.keys().chain(self.released.keys());
        let found: BTreeSet<(Family, Protocol)> = keys.map(|key| (key.family, key.protocol)).collect();
        found.into_iter().collect()
    }

    /// Whether the flow should not be there: nobody who serves its frontend answers it.
    ///
    /// A UDP flow to a frontend that was never translated is older than the Service and would never reach an
    /// endpoint. With other protocols such a flow is a connection to something else at that address, and stays.
    #[must_use]
    pub fn is_stale(&self, flow: &Flow) -> bool {
        match self.place(flow) {
            Place::Foreign => false,
            Place::Former => flow.is_translated(),
            Place::Frontend(key, owners) => {
                let translated = flow.protocol == Protocol::Udp || flow.is_translated();
                translated && !owners.iter().any(|id| self.serves(*id, key, flow.reply_source))
            }
        }
    }

    fn place(&self, flow: &Flow) -> Place<'_> {
        let (family, protocol, ip, port) =
            (flow.family(), flow.protocol, flow.destination.ip(), flow.destination.port());
        if !self.protocols.contains(&protocol) {
            return Place::Foreign;
        }
        // In the order of the rules: a frontend of this very address goes before a node port.
        let addresses =
            [Some(FrontendAddress::Ip(ip)), self.node_addresses.contains(&ip).then_some(FrontendAddress::NodePort)];
        let keys = addresses.map(|address| address.map(|address| FrontendKey { family, address, protocol, port }));
        let mut keys = keys.iter().flatten();
        if let Some((key, owners)) = keys.clone().find_map(|key| self.owners.get_key_value(key)) {
            return Place::Frontend(key, owners);
        }
        if keys.any(|key| self.released.contains_key(key)) {
            return Place::Former;
        }
        Place::Foreign
    }

    fn serves(&self, service: ServiceId, frontend: &FrontendKey, endpoint: SocketAddr) -> bool {
        let ports = self.services.get(&service).into_iter().flatten();
        ports
            .filter(|port| port.frontends.binary_search(frontend).is_ok())
            .any(|port| port.serving.binary_search(&endpoint).is_ok())
    }
}
