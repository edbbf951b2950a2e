//! Who owns an address and port that several Services claim.
//!
//! External IPs, load balancer IPs and node ports are not unique by nature. kube-proxy lets whichever Service
//! it handles last win, so nodes can differ (kubernetes#69599); here the oldest Service wins, then the lower
//! name, so every node agrees.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use weir_model::{Family, PortKey, Protocol, Service, ServiceId, ServicePort, Store};

use crate::FrontendAddress;

/// What can be claimed: an address and port in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrontendKey {
    /// Family; tells the node ports of both apart.
    pub family: Family,
    /// Address.
    pub address: FrontendAddress,
    /// Protocol.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
}

impl fmt::Display for FrontendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, protocol, port, .. } = self;
        match address {
            FrontendAddress::Ip(ip) => write!(f, "{}/{protocol}", SocketAddr::new(*ip, *port)),
            FrontendAddress::NodePort => write!(f, "{port}/{protocol}"),
        }
    }
}

/// All claims of all Services.
#[derive(Debug, Default)]
pub struct Claims {
    by_key: BTreeMap<FrontendKey, Claimants>,
    by_service: BTreeMap<ServiceId, Vec<(FrontendKey, PortKey)>>,
}

/// Nearly every key has one claimant, so that case needs no allocation.
#[derive(Debug)]
enum Claimants {
    One(PortKey),
    Many(Vec<PortKey>),
}

impl Claimants {
    fn as_slice(&self) -> &[PortKey] {
        match self {
            Self::One(port) => std::slice::from_ref(port),
            Self::Many(ports) => ports,
        }
    }
}

impl Claims {
    /// Takes in what the `dirty` Services claim now, and returns them together with every Service that won or
    /// lost an address through it, sorted: those must be planned anew.
    #[must_use]
    pub fn update(&mut self, store: &Store, dirty: &[ServiceId]) -> Vec<ServiceId> {
        let mut affected = dirty.to_vec();
        for id in dirty {
            let claimed = store.service(*id).map(|service| claims_of(*id, service)).unwrap_or_default();
            let released = self.by_service.remove(id).unwrap_or_default();
            for (key, port) in &released {
                self.release(*key, *port, &mut affected);
            }
            for (key, port) in &claimed {
                self.claim(*key, *port, &mut affected);
            }
            if !claimed.is_empty() {
                self.by_service.insert(*id, claimed);
            }
        }
        affected.sort_unstable();
        affected.dedup();
        affected
    }

    /// The port that owns `key`, if anybody claims it.
    #[must_use]
    pub fn owner(&self, store: &Store, key: &FrontendKey) -> Option<PortKey> {
        let claimants = self.by_key.get(key)?.as_slice();
        match claimants {
            [only] => Some(*only),
            several => several.iter().copied().min_by(|a, b| precedence(store, *a, *b)),
        }
    }

    fn claim(&mut self, key: FrontendKey, port: PortKey, affected: &mut Vec<ServiceId>) {
        match self.by_key.get_mut(&key) {
            None => {
                self.by_key.insert(key, Claimants::One(port));
            }
            Some(claimants) => {
                affected.extend(claimants.as_slice().iter().map(|other| other.service));
                let mut ports = claimants.as_slice().to_vec();
                ports.push(port);
                *claimants = Claimants::Many(ports);
            }
        }
    }

    fn release(&mut self, key: FrontendKey, port: PortKey, affected: &mut Vec<ServiceId>) {
        let Some(claimants) = self.by_key.get_mut(&key) else { return };
        let mut left: Vec<PortKey> = claimants.as_slice().to_vec();
        if let Some(at) = left.iter().position(|other| *other == port) {
            left.remove(at);
        }
        affected.extend(left.iter().map(|other| other.service));
        match left.as_slice() {
            [] => {
                self.by_key.remove(&key);
            }
            [only] => *claimants = Claimants::One(*only),
            _ => *claimants = Claimants::Many(left),
        }
    }
}

/// Which of two ports goes first: the one of the older Service, then of the lower name, then of the lower
/// port name.
fn precedence(store: &Store, a: PortKey, b: PortKey) -> Ordering {
    let rank = |port: PortKey| {
        let service = store.service(port.service);
        let created = service.and_then(|service| service.created).unwrap_or(i64::MAX);
        (created, service.map(|service| &*service.key), store.names().get(port.name))
    };
    rank(a).cmp(&rank(b))
}

fn claims_of(id: ServiceId, service: &Service) -> Vec<(FrontendKey, PortKey)> {
    let mut claims = Vec::with_capacity(service.ports.len() * service.cluster_ips.len());
    for cluster_ip in &service.cluster_ips {
        let family = Family::of(*cluster_ip);
        for port in &service.ports {
            let key = PortKey { service: id, name: port.name, protocol: port.protocol, family };
            for (address, number, _) in crate::build::addresses(service, port, family) {
                let frontend = FrontendKey { family, address, protocol: port.protocol, port: number };
                claims.push((frontend, key));
            }
        }
    }
    claims
}

/// Whether the Service programs anything at all.
pub(crate) fn is_served(service: &Service, port: &ServicePort) -> bool {
    service.kind != weir_model::ServiceKind::ExternalName && port.port != 0
}
