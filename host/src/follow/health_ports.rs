//! `healthCheckNodePort`: tells load balancers whether this node has endpoints of a Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::{debug, warn};
use weir_model::{Conditions, Family, ObjectKey, ServiceId, Store};

use super::listener::{Connections, Listener, Serve, http};
use super::{Follower, Synced};
use crate::health::ProxyHealth;

/// What load balancers that weigh nodes read: the number of ready endpoints here.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// Connections a port serves at once; load balancers come with a handful.
const MAX_CONNECTIONS: usize = 64;

/// How long a whole connection may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP servers on the health check ports of all Services, one a port, for both families (kube-proxy:
/// `service_health.go`, which needs a listener an address).
///
/// A port that two Services name belongs to the older one, then to the lower name; the other is told, and gets it
/// when the first lets go.
pub struct HealthPorts {
    health: ProxyHealth,
    /// Ports that could not be listened on at first.
    refused: Arc<AtomicU64>,
    claims: BTreeMap<ServiceId, Claim>,
    ports: BTreeMap<u16, Port>,
}

/// Precedence: creation time, then name.
type Rank = (i64, Arc<ObjectKey>);

/// What a Service wants.
struct Claim {
    port: u16,
    rank: Rank,
    /// Endpoints that are ready and here, by distinct address, for each family the Service has.
    local: BTreeMap<Family, usize>,
}

/// A port somebody wants.
#[derive(Default)]
struct Port {
    claimants: BTreeMap<Rank, ServiceId>,
    /// Losers that were reported, each with the winner.
    told: BTreeSet<(ServiceId, ServiceId)>,
    server: Option<(Arc<Answers>, Listener)>,
}

/// What one server says.
struct Answers {
    health: ProxyHealth,
    refused: Arc<AtomicU64>,
    now: watch::Sender<Subject>,
}

/// Whom a server speaks of.
#[derive(Clone)]
struct Subject {
    service: Arc<ObjectKey>,
    local: BTreeMap<Family, usize>,
}

/// The body, field by field as kube-proxy has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: BodyService<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct BodyService<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl HealthPorts {
    /// No port yet; every answer depends on `health`.
    #[must_use]
    pub fn new(health: ProxyHealth) -> Self {
        Self { health, refused: Arc::default(), claims: BTreeMap::new(), ports: BTreeMap::new() }
    }

    /// How often a port could not be listened on when it was wanted; goes on counting.
    #[must_use]
    pub fn refused(&self) -> &Arc<AtomicU64> {
        &self.refused
    }

    /// Takes in what a Service wants now, and notes the ports that touches.
    fn update(&mut self, store: &Store, id: ServiceId, touched: &mut BTreeSet<u16>) {
        if let Some(old) = self.claims.remove(&id) {
            touched.insert(old.port);
            if let Some(port) = self.ports.get_mut(&old.port) {
                port.claimants.remove(&old.rank);
            }
        }
        if let Some(claim) = Claim::of(store, id) {
            touched.insert(claim.port);
            self.ports.entry(claim.port).or_default().claimants.insert(claim.rank.clone(), id);
            self.claims.insert(id, claim);
        }
    }

    /// Opens, closes or hands over one port.
    fn settle(&mut self, number: u16) {
        let Some(port) = self.ports.get_mut(&number) else { return };
        let Some(winner) = port.claimants.values().next().copied() else {
            self.ports.remove(&number);
            return;
        };
        let name = |id: &ServiceId| self.claims.get(id).map(|claim| claim.rank.1.to_string()).unwrap_or_default();
        let losers: BTreeSet<_> = port.claimants.values().skip(1).map(|loser| (*loser, winner)).collect();
        for (loser, winner) in losers.difference(&port.told) {
            let (service, winner) = (name(loser), name(winner));
            warn!(
                %service, field = Answers::FIELD, port = number, %winner,
                "does not get the port: the other Service is older or comes first by name"
            );
        }
        port.told = losers;
        let Some(claim) = self.claims.get(&winner) else { return };
        let subject = Subject { service: Arc::clone(&claim.rank.1), local: claim.local.clone() };
        if let Some((answers, _)) = &port.server {
            answers.now.send_replace(subject);
            return;
        }
        let (health, refused) = (self.health.clone(), Arc::clone(&self.refused));
        let answers = Arc::new(Answers { health, refused, now: watch::Sender::new(subject) });
        let address = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), number);
        let listener = Listener::open(address, Arc::clone(&answers), Connections::new(MAX_CONNECTIONS));
        port.server = Some((answers, listener));
    }
}

impl Follower for HealthPorts {
    fn synced(&mut self, synced: &Synced<'_>) {
        let mut touched = BTreeSet::new();
        for id in synced.services {
            self.update(synced.store, *id, &mut touched);
        }
        touched.into_iter().for_each(|port| self.settle(port));
    }
}

impl Claim {
    /// `None` for a Service that wants no health check port, or is gone.
    fn of(store: &Store, id: ServiceId) -> Option<Self> {
        let service = store.service(id).filter(|service| service.health_check_node_port != 0)?;
        let mut local: BTreeMap<Family, BTreeSet<IpAddr>> =
            service.cluster_ips.iter().map(|ip| (Family::of(*ip), BTreeSet::new())).collect();
        for port in store.ports(id) {
            // Ready is what counts: one that only still serves while it ends must not draw new clients here.
            let here = port.endpoints.iter().filter(|end| end.conditions.has(Conditions::READY | Conditions::LOCAL));
            local.entry(port.key.family).or_default().extend(here.map(|endpoint| endpoint.address));
        }
        Some(Self {
            port: service.health_check_node_port,
            rank: (service.created.unwrap_or(i64::MAX), Arc::clone(&service.key)),
            local: local.into_iter().map(|(family, addresses)| (family, addresses.len())).collect(),
        })
    }
}

impl Subject {
    /// Endpoints for a question that came by `family`. A family the Service does not have is answered for the one
    /// it has: the load balancer's way to this node need not be that of its clients.
    fn local_endpoints(&self, family: Family) -> usize {
        self.local.get(&family).or_else(|| self.local.values().next()).copied().unwrap_or(0)
    }
}

impl Answers {
    fn response(&self, family: Family) -> Response<String> {
        let subject = self.now.borrow().clone();
        let (count, healthy) = (subject.local_endpoints(family), self.health.is_healthy());
        let ObjectKey { namespace, name } = &*subject.service;
        let body =
            Body { service: BodyService { namespace, name }, local_endpoints: count, service_proxy_healthy: healthy };
        let body = serde_json::to_string(&body).expect("strings, numbers and booleans are JSON");
        let mut response = Response::new(body);
        if count == 0 || !healthy {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(WEIGHT, HeaderValue::from(count));
        response
    }
}

impl Serve for Answers {
    const FIELD: &'static str = "spec.healthCheckNodePort";

    fn service(&self) -> String {
        self.now.borrow().service.to_string()
    }

    fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers one request, whatever its method and path.
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        // An IPv4 client of the one socket for both families shows as a mapped address.
        let family = stream.local_addr().map_or(Family::V4, |address| Family::of(address.ip().to_canonical()));
        let answered = http::answer_one(stream, TIMEOUT, |_| std::future::ready(self.response(family))).await;
        if let Err(why) = answered {
            debug!(service = %self.service(), why, "a health check did not end well");
        }
    }
}
