//! How much there is of everything, kept up to date Service by Service, so that it costs what changed.

use std::collections::BTreeMap;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use weir_model::ServiceId;
use weir_plan::{FrontendKind, PortPlan, Treatment};

use super::{OfFamily, label, register};
use crate::follow::{Follower, Synced};

/// The gauges.
#[derive(Clone, Debug)]
pub(super) struct InventoryGauges {
    services: Gauge,
    ports: Family<OfFamily, Gauge>,
    endpoints: Family<OfFamily, Gauge>,
    no_local_endpoints: Family<Vec<(&'static str, String)>, Gauge>,
}

impl InventoryGauges {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let no_local = "Ports with endpoints, but none on this node, where the traffic policy wants one here";
        Self {
            services: register(registry, "services", "Services that are programmed", Gauge::default()),
            ports: register(registry, "ports", "Ports of Services that are programmed", Family::default()),
            endpoints: register(
                registry,
                "endpoints",
                "Endpoints connections can go to, port by port",
                Family::default(),
            ),
            no_local_endpoints: register(registry, "ports_without_local_endpoints", no_local, Family::default()),
        }
    }
}

/// Ports without an endpoint on this node, by family and traffic policy.
pub(super) type NoLocalEndpoints = Family<Vec<(&'static str, String)>, Gauge>;

/// What one Service has, for each family: IPv4, IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share([PerFamily; 2]);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PerFamily {
    ports: u32,
    endpoints: u32,
    /// Ports of which internal clients get nothing here, and external ones.
    no_local: [u32; 2],
}

/// Keeps the gauges of Services, ports and endpoints.
#[derive(Debug)]
pub struct Inventory {
    gauges: InventoryGauges,
    kube_proxy: Option<NoLocalEndpoints>,
    shares: BTreeMap<ServiceId, Share>,
}

impl Inventory {
    pub(super) fn new(gauges: InventoryGauges, kube_proxy: Option<NoLocalEndpoints>) -> Self {
        let inventory = Self { gauges, kube_proxy, shares: BTreeMap::new() };
        // What there is none of shows as 0, not as a gap.
        inventory.change(&Share::default(), &Share::default());
        inventory
    }

    fn change(&self, old: &Share, new: &Share) {
        for (family, (old, new)) in weir_model::Family::ALL.into_iter().zip(old.0.iter().zip(&new.0)) {
            let of = OfFamily::of(family);
            let step = |old: u32, new: u32| i64::from(new) - i64::from(old);
            self.gauges.ports.get_or_create(&of).inc_by(step(old.ports, new.ports));
            self.gauges.endpoints.get_or_create(&of).inc_by(step(old.endpoints, new.endpoints));
            for (at, policy) in ["internal", "external"].into_iter().enumerate() {
                let mut labels = label("ip_family", of.ip_family);
                labels.extend(label("traffic_policy", policy));
                let by = step(old.no_local[at], new.no_local[at]);
                self.gauges.no_local_endpoints.get_or_create(&labels).inc_by(by);
                if let Some(compatible) = &self.kube_proxy {
                    compatible.get_or_create(&labels).inc_by(by);
                }
            }
        }
    }
}

impl Share {
    fn add(&mut self, plan: &PortPlan) {
        let share = &mut self.0[usize::from(plan.family() == weir_model::Family::V6)];
        share.ports += 1;
        share.endpoints += u32::try_from(plan.targets.len()).unwrap_or(u32::MAX);
        // A drop is what a port gets that has endpoints, but none here.
        let drops = |internal: bool| {
            plan.frontends.iter().any(|frontend| {
                (frontend.kind == FrontendKind::ClusterIp) == internal
                    && matches!(frontend.treatment, Treatment::Drop { .. })
            })
        };
        share.no_local[0] += u32::from(drops(true));
        share.no_local[1] += u32::from(drops(false));
    }
}

impl Follower for Inventory {
    fn synced(&mut self, synced: &Synced<'_>) {
        for id in synced.services {
            let mut new = Share::default();
            synced
                .installed
                .ports_of(*id)
                .filter_map(|port| synced.installed.plan(&port))
                .for_each(|plan| new.add(plan));
            let old = if new == Share::default() { self.shares.remove(id) } else { self.shares.insert(*id, new) };
            let old = old.unwrap_or_default();
            if old != new {
                self.change(&old, &new);
            }
        }
        self.gauges.services.set(super::count(self.shares.len()));
    }
}
