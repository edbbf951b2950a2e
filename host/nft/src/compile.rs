//! From a port's plan to its classes and elements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_model::{Family, IndexFunction, Protocol};
use weir_plan::{Frontend, FrontendAddress, FrontendKind, PlanRing, PortPlan, Target, Treatment};

use crate::class::{Class, End, LOCAL_OFFSET, Role, Spread};
use crate::{ElementKey, SetName};

/// The class of a ring, and of none.
fn class_of(plan: &PortPlan, ring: Option<&PlanRing>, local: bool, node_port: bool, role: Role) -> Class {
    let spread = |ring: &PlanRing| Spread {
        index: ring.index,
        size: u32::try_from(ring.slots.len()).expect("slots are counted in 16 bits"),
        local,
        affinity_seconds: ring.affinity_seconds,
        counter: (ring.index == IndexFunction::RoundRobin).then(|| counter_name(plan)),
    };
    match ring {
        Some(ring) => Class { node_port, role, end: End::Spread(spread(ring)) },
        None if role == Role::ShortCut => Class { node_port, role, end: End::Drop },
        None => Class::nowhere(End::Drop),
    }
}

fn counter_name(plan: &PortPlan) -> std::sync::Arc<str> {
    std::sync::Arc::from(format!("{}/{}", plan.name, plan.protocol()))
}

/// The class of a frontend, and the class of its short cut, if it has one.
pub(crate) fn classes_of(plan: &PortPlan, frontend: &Frontend) -> (Class, Option<Class>) {
    let node_port = frontend.address == FrontendAddress::NodePort;
    let cluster = |role| class_of(plan, plan.cluster.as_ref(), false, node_port, role);
    let local = |role| class_of(plan, plan.local.as_ref(), true, node_port, role);
    match frontend.treatment {
        Treatment::Cluster => (cluster(Role::ClusterIp), None),
        Treatment::Local => (local(Role::ClusterIp), None),
        Treatment::ExternalCluster => (cluster(Role::Masquerade), None),
        Treatment::ExternalLocal { short_cut: false } => (local(Role::Plain), None),
        Treatment::ExternalLocal { short_cut: true } => (local(Role::ShortCut), Some(cluster(Role::Plain))),
        Treatment::Drop { short_cut: true } => {
            (Class { node_port, role: Role::ShortCut, end: End::Drop }, Some(cluster(Role::Plain)))
        }
        Treatment::Drop { short_cut: false } => (Class::nowhere(End::Drop), None),
        Treatment::Reject => (Class::nowhere(End::Reject), None),
    }
}

/// Receives elements: set, key, data.
pub(crate) type Sink<'a> = dyn FnMut(SetName, &[u8], &[u8]) + 'a;

/// Every element `plan` wants. `numbers` gives the numbers of a frontend's class and of its short cut's.
pub(crate) fn emit(plan: &PortPlan, mut numbers: impl FnMut(&Frontend) -> (u32, Option<u32>), sink: &mut Sink<'_>) {
    for frontend in &plan.frontends {
        let key = frontend_element(plan, frontend);
        if let FrontendAddress::Ip(ip) = frontend.address {
            let cluster_ip = frontend.kind == FrontendKind::ClusterIp;
            let set = if cluster_ip { SetName::ClusterIps } else { SetName::ExternalIps };
            sink(set, ElementKey::new().address(ip).as_bytes(), &[]);
        }
        if frontend.guarded {
            sink(SetName::Guarded, key.as_bytes(), &[]);
            for range in &plan.source_ranges {
                sink(SetName::SourceRanges, key.network(*range).as_bytes(), &[]);
            }
        }
        let (class, short_cut) = numbers(frontend);
        sink(SetName::Frontends, key.as_bytes(), &class.to_ne_bytes());
        if let Some(number) = short_cut {
            sink(SetName::ShortCuts, key.as_bytes(), &number.to_ne_bytes());
        }
        let rings = [
            plan.cluster.as_ref().filter(|_| frontend.treatment.uses_cluster()).map(|ring| (ring, 0)),
            plan.local.as_ref().filter(|_| frontend.treatment.uses_local()).map(|ring| (ring, LOCAL_OFFSET)),
        ];
        emit_rings(plan, key, rings, sink);
    }
    for target in plan.targets.iter().filter(|target| target.local) {
        let key = ElementKey::new().address(target.address).address(target.address);
        sink(SetName::Hairpin, key.protocol(plan.protocol()).port(target.port).as_bytes(), &[]);
    }
}

fn emit_rings(plan: &PortPlan, key: ElementKey, rings: [Option<(&PlanRing, u32)>; 2], sink: &mut Sink<'_>) {
    let mut remembered = vec![];
    for (ring, offset) in rings.into_iter().flatten() {
        for (slot, at) in (offset..).zip(&ring.slots) {
            let Some(target) = plan.targets.get(usize::from(*at)) else { continue };
            let slot_key = key.number(slot);
            if ring.affinity_seconds == 0 {
                let map = if ring.index == IndexFunction::RoundRobin { SetName::Endpoints } else { SetName::Slots };
                sink(map, slot_key.as_bytes(), target_data(target).as_bytes());
            } else {
                sink(SetName::AffinitySlots, slot_key.as_bytes(), &target.id.to_ne_bytes());
                remembered.push(target);
            }
        }
    }
    remembered.sort_unstable();
    remembered.dedup();
    for target in remembered {
        sink(SetName::Endpoints, key.number(target.id).as_bytes(), target_data(target).as_bytes());
    }
}

fn target_data(target: &Target) -> ElementKey {
    ElementKey::new().address(target.address).port(target.port)
}

fn frontend_element(plan: &PortPlan, frontend: &Frontend) -> ElementKey {
    frontend_bytes(plan.family(), frontend.address, plan.protocol(), frontend.port)
}

/// The key of a frontend as its elements hold it.
pub(crate) fn frontend_bytes(family: Family, address: FrontendAddress, protocol: Protocol, port: u16) -> ElementKey {
    let address = match (address, family) {
        (FrontendAddress::Ip(ip), _) => ip,
        (FrontendAddress::NodePort, Family::V4) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (FrontendAddress::NodePort, Family::V6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    ElementKey::new().address(address).protocol(protocol).port(port)
}
