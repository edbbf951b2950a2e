//! Node ports on 127.0.0.1 and ::1, relayed by this process (KEP-6032).
//!
//! The kernel cannot rewrite a loopback destination without `route_localnet`, which opens the node's loopback
//! services to its neighbours (CVE-2020-8558); so these connections are the only ones that pass through Weir itself.

mod endpoints;
mod relay;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;
use weir_model::{Family, Protocol, ServiceId};
use weir_nft::Installed;
use weir_plan::FrontendAddress;

use self::endpoints::Endpoints;
use self::relay::Relay;
use super::listener::{Connections, Listener};
use super::{Follower, Synced};
use crate::config::Config;
use crate::node::wants_localhost;

/// Connections a port relays at once. Each takes two descriptors of this process.
const MAX_CONNECTIONS: usize = 512;

/// Listeners on loopback for the TCP node ports of all Services, as they are programmed. UDP and SCTP are not
/// relayed (as in kube-proxy): nobody listens, so the kernel refuses them.
///
/// A port without an endpoint to go to does not listen, so that clients are refused at once, and its connections go
/// on. With its Service they end.
pub struct LocalhostPorts {
    families: Vec<Family>,
    by_service: BTreeMap<ServiceId, BTreeSet<Key>>,
    ports: BTreeMap<Key, Port>,
}

/// Loopback address and node port.
type Key = (Family, u16);

/// One node port.
struct Port {
    connections: Arc<Connections>,
    /// `None` while it has no endpoints.
    open: Option<(Arc<Relay>, Listener)>,
}

/// What a node port should be: whose it is, and whom it leads to.
struct Wish {
    name: Arc<str>,
    endpoints: Option<Endpoints>,
}

impl LocalhostPorts {
    /// No port yet; only those of `families` will be served.
    #[must_use]
    pub fn new(families: Vec<Family>) -> Self {
        Self { families, by_service: BTreeMap::new(), ports: BTreeMap::new() }
    }

    /// For the families `nodePortAddresses` asks for, see [`wants_localhost`]. With one or more, this process may have
    /// as many descriptors from now on as the system lets it, because every connection takes two.
    #[must_use]
    pub fn by_config(config: &Config) -> Self {
        let families: Vec<Family> = Family::ALL.into_iter().filter(|family| wants_localhost(config, *family)).collect();
        if !families.is_empty() {
            let raised =
                getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
            if let Err(error) = raised {
                warn!(%error, "cannot raise the number of descriptors; node ports on localhost may run out of them");
            }
        }
        Self::new(families)
    }

    /// The node ports of one Service as they are programmed.
    fn wishes(&self, installed: &Installed, id: ServiceId, wishes: &mut BTreeMap<Key, Wish>) {
        let ports = installed.ports_of(id);
        let ports = ports.filter(|port| port.protocol == Protocol::Tcp && self.families.contains(&port.family));
        for plan in ports.filter_map(|port| installed.plan(&port)) {
            for frontend in plan.frontends.iter().filter(|frontend| frontend.address == FrontendAddress::NodePort) {
                let endpoints = Endpoints::of(plan, frontend.treatment);
                wishes.insert((plan.family(), frontend.port), Wish { name: Arc::clone(&plan.name), endpoints });
            }
        }
    }
}

impl Follower for LocalhostPorts {
    fn synced(&mut self, synced: &Synced<'_>) {
        if self.families.is_empty() {
            return;
        }
        let (mut had, mut wishes) = (BTreeSet::new(), BTreeMap::new());
        for id in synced.services {
            had.extend(self.by_service.remove(id).unwrap_or_default());
            let mut own = BTreeMap::new();
            self.wishes(synced.installed, *id, &mut own);
            if !own.is_empty() {
                self.by_service.insert(*id, own.keys().copied().collect());
            }
            wishes.extend(own);
        }
        // A port that one Service gave to another stays open, so only what nobody wants goes.
        had.retain(|key| !wishes.contains_key(key));
        had.iter().for_each(|key| drop(self.ports.remove(key)));
        for (key, wish) in wishes {
            self.ports.entry(key).or_insert_with(Port::new).update(key, wish);
        }
    }
}

impl Port {
    fn new() -> Self {
        Self { connections: Connections::new(MAX_CONNECTIONS), open: None }
    }

    fn update(&mut self, (family, number): Key, wish: Wish) {
        match (&self.open, wish.endpoints) {
            (_, None) => self.open = None,
            (Some((relay, _)), Some(endpoints)) => relay.update(wish.name, endpoints),
            (None, Some(endpoints)) => {
                let relay = Arc::new(Relay::new(wish.name, endpoints));
                let address = SocketAddr::new(loopback(family), number);
                let listener = Listener::open(address, Arc::clone(&relay), Arc::clone(&self.connections));
                self.open = Some((relay, listener));
            }
        }
    }
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}
