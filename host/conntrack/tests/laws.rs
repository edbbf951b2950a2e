//! Laws of the reconciler: whatever the Services went through and however the kernel fails, exactly the stale flows go.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use weir_conntrack::{Change, Dump, Flow, FlowTable, Report, Table, TrackedPort, find, remove};
use weir_model::{Family, Protocol, ServiceId};
use weir_plan::{FrontendAddress, FrontendKey};

const PORTS: [u16; 2] = [53, 30_053];

/// The first three may be frontends.
fn cluster_ip(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 96, 0, number).into()
}

/// Only the first accepts node ports.
fn node(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 0, number).into()
}

fn endpoint(number: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 244, 0, number).into(), 8053)
}

fn protocols() -> impl Strategy<Value = Protocol> {
    prop_oneof![4 => Just(Protocol::Udp), 2 => Just(Protocol::Tcp), 1 => Just(Protocol::Sctp)]
}

fn frontends() -> impl Strategy<Value = FrontendKey> {
    let address =
        prop_oneof![(0_u8..3).prop_map(|n| FrontendAddress::Ip(cluster_ip(n))), Just(FrontendAddress::NodePort)];
    let protocol = prop_oneof![Just(Protocol::Udp), Just(Protocol::Tcp)];
    (address, protocol, prop::sample::select(&PORTS)).prop_map(|(address, protocol, port)| FrontendKey {
        family: Family::V4,
        address,
        protocol,
        port,
    })
}

fn ports() -> impl Strategy<Value = TrackedPort> {
    let serving = prop::collection::btree_set((0_u8..4).prop_map(endpoint), 0..3);
    (prop::collection::btree_set(frontends(), 0..3), serving).prop_map(|(frontends, serving)| TrackedPort {
        frontends: frontends.into_iter().collect(),
        serving: serving.into_iter().collect(),
    })
}

fn changes() -> impl Strategy<Value = Change> {
    let services =
        prop::collection::btree_map((0_u32..3).prop_map(ServiceId), prop::collection::vec(ports(), 0..3), 0..3);
    (services, prop::collection::vec(frontends(), 0..2))
        .prop_map(|(services, released)| Change { services: services.into_iter().collect(), released })
}

fn flows() -> impl Strategy<Value = Vec<Flow>> {
    let destination = prop_oneof![(0_u8..4).prop_map(cluster_ip), (0_u8..2).prop_map(node)];
    let flow = (protocols(), destination, prop::sample::select(&PORTS), prop::option::of(0_u8..4)).prop_map(
        |(protocol, ip, port, answers)| {
            let destination = SocketAddr::new(ip, port);
            let source = SocketAddr::new(Ipv4Addr::new(10, 244, 9, 9).into(), 0);
            let reply_source = answers.map_or(destination, endpoint);
            Flow { protocol, source, destination, reply_source, zone: 0, id: 0 }
        },
    );
    prop::collection::vec(flow, 0..40).prop_map(|mut flows| {
        for (number, flow) in (1_u16..).zip(&mut flows) {
            flow.source.set_port(number);
            flow.id = number.into();
        }
        flows
    })
}

/// A kernel that fails as it is told to.
#[derive(Default)]
struct Kernel {
    flows: Vec<Flow>,
    /// How often from now on a dump stops half way, fails, or a deletion is refused, one after the other.
    partial_dumps: usize,
    failing_dumps: usize,
    failing_deletes: usize,
    deleted: Vec<Flow>,
}

fn fails(count: &mut usize) -> bool {
    let fails = *count > 0;
    *count = count.saturating_sub(1);
    fails
}

impl FlowTable for Kernel {
    fn dump(&mut self, family: Family, protocol: Protocol, each: &mut dyn FnMut(Flow)) -> io::Result<Dump> {
        if fails(&mut self.failing_dumps) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let partial = fails(&mut self.partial_dumps);
        let chosen: Vec<Flow> =
            self.flows.iter().copied().filter(|flow| (flow.family(), flow.protocol) == (family, protocol)).collect();
        let count = if partial { chosen.len() / 2 } else { chosen.len() };
        chosen.iter().take(count).for_each(|flow| each(*flow));
        // A resize of the kernel's table may show a flow twice.
        chosen.iter().take(count).take(1).for_each(|flow| each(*flow));
        Ok(if partial { Dump::Partial } else { Dump::Complete })
    }

    fn delete(&mut self, flow: &Flow) -> io::Result<bool> {
        if fails(&mut self.failing_deletes) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = self.flows.len();
        self.flows.retain(|other| other != flow);
        self.deleted.push(*flow);
        Ok(self.flows.len() < before)
    }
}

fn pass(kernel: &mut Kernel, table: &Table) -> Report {
    let mut report = Report::default();
    let stale = find(kernel, table, &mut report);
    remove(kernel, table, stale, &mut report);
    report
}

/// The Services after `changes`, and every frontend that is gone.
fn outcome(changes: &[Change]) -> (BTreeMap<ServiceId, Vec<TrackedPort>>, BTreeSet<FrontendKey>) {
    let (mut services, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for change in changes {
        services.extend(change.services.iter().cloned());
        seen.extend(change.released.iter().copied());
        seen.extend(change.services.iter().flat_map(|(_, ports)| ports).flat_map(|port| port.frontends.clone()));
    }
    let there: BTreeSet<FrontendKey> = services.values().flatten().flat_map(|port| port.frontends.clone()).collect();
    (services, seen.difference(&there).copied().collect())
}

/// The rule, said again without any index.
fn is_stale(flow: &Flow, tcp: bool, changes: &[Change]) -> bool {
    if !(flow.protocol == Protocol::Udp || (tcp && flow.protocol == Protocol::Tcp)) {
        return false;
    }
    let (services, gone) = outcome(changes);
    let at =
        |address| FrontendKey { family: Family::V4, address, protocol: flow.protocol, port: flow.destination.port() };
    let mut places = vec![at(FrontendAddress::Ip(flow.destination.ip()))];
    if flow.destination.ip() == node(0) {
        places.push(at(FrontendAddress::NodePort));
    }
    for place in &places {
        let ports: Vec<_> = services.values().flatten().filter(|port| port.frontends.contains(place)).collect();
        if !ports.is_empty() {
            let healthy = ports.iter().any(|port| port.serving.contains(&flow.reply_source));
            return !healthy && (flow.protocol == Protocol::Udp || flow.is_translated());
        }
    }
    flow.is_translated() && places.iter().any(|place| gone.contains(place))
}

fn table(tcp: bool, changes: &[Change]) -> Table {
    let protocols: &[Protocol] = if tcp { &[Protocol::Udp, Protocol::Tcp] } else { &[Protocol::Udp] };
    let mut table = Table::new(protocols);
    table.set_node_addresses(BTreeSet::from([node(0)]));
    for (second, change) in (0..).zip(changes) {
        table.apply(change.clone(), Duration::from_secs(second));
    }
    table
}

proptest! {
    #[test]
    fn exactly_the_stale_flows_go(tcp: bool, changes in prop::collection::vec(changes(), 1..6), flows in flows()) {
        let mut kernel = Kernel { flows: flows.clone(), ..Kernel::default() };
        let table = table(tcp, &changes);
        let report = pass(&mut kernel, &table);
        prop_assert!(report.is_complete());
        let (stale, healthy): (Vec<Flow>, Vec<Flow>) = flows.iter().partition(|flow| is_stale(flow, tcp, &changes));
        prop_assert_eq!(&kernel.flows, &healthy);
        prop_assert_eq!(report.deleted.len(), stale.len());
        // A second look finds nothing more.
        let again = pass(&mut kernel, &table);
        prop_assert!(again.is_complete() && again.deleted.is_empty(), "{:?}", again);
    }

    #[test]
    fn failures_only_delay(
        changes in prop::collection::vec(changes(), 1..4),
        flows in flows(),
        failures in (0_usize..3, 0_usize..3, 0_usize..6),
    ) {
        let (partial_dumps, failing_dumps, failing_deletes) = failures;
        let mut kernel =
            Kernel { flows: flows.clone(), partial_dumps, failing_dumps, failing_deletes, ..Kernel::default() };
        let table = table(true, &changes);
        // Each pass uses up at least one of the failures, or meets none.
        let passes = partial_dumps + failing_dumps + failing_deletes + 1;
        let complete = (0..passes).any(|_| pass(&mut kernel, &table).is_complete());
        prop_assert!(complete);
        let healthy: Vec<Flow> = flows.into_iter().filter(|flow| !is_stale(flow, true, &changes)).collect();
        prop_assert_eq!(kernel.flows, healthy);
        prop_assert!(kernel.deleted.iter().all(|flow| is_stale(flow, true, &changes)));
    }

    #[test]
    fn an_equal_state_is_no_change(changes in prop::collection::vec(changes(), 1..6)) {
        let mut table = table(true, &changes);
        let (services, _) = outcome(&changes);
        let same = Change { services: services.into_iter().collect(), released: Vec::new() };
        prop_assert!(!table.apply(same, Duration::from_secs(99)));
    }
}

/// A flow that recovers between the look and the deletion stays.
#[test]
fn what_is_well_again_stays() {
    let frontend = FrontendKey {
        family: Family::V4,
        address: FrontendAddress::Ip(cluster_ip(0)),
        protocol: Protocol::Udp,
        port: 53,
    };
    let serving = |endpoints: &[SocketAddr]| Change {
        services: vec![(ServiceId(1), vec![TrackedPort { frontends: vec![frontend], serving: endpoints.to_vec() }])],
        released: Vec::new(),
    };
    let destination = SocketAddr::new(cluster_ip(0), 53);
    let flow =
        Flow { protocol: Protocol::Udp, source: endpoint(9), destination, reply_source: endpoint(1), zone: 0, id: 7 };
    let mut kernel = Kernel { flows: vec![flow], ..Kernel::default() };
    let mut table = table(false, &[serving(&[endpoint(2)])]);
    let mut report = Report::default();
    let stale = find(&mut kernel, &table, &mut report);
    assert_eq!(stale, [flow, flow]);
    assert!(table.apply(serving(&[endpoint(1)]), Duration::ZERO));
    remove(&mut kernel, &table, stale, &mut report);
    assert_eq!(kernel.flows, [flow]);
}

/// After its time, a frontend that went is nobody's business.
#[test]
fn released_frontends_are_forgotten() {
    let key = FrontendKey {
        family: Family::V4,
        address: FrontendAddress::Ip(cluster_ip(0)),
        protocol: Protocol::Udp,
        port: 53,
    };
    let flow = Flow {
        protocol: Protocol::Udp,
        source: endpoint(9),
        destination: SocketAddr::new(cluster_ip(0), 53),
        reply_source: endpoint(1),
        zone: 0,
        id: 7,
    };
    let released = || Change { services: Vec::new(), released: vec![key] };
    let mut table = table(false, &[released()]);
    assert!(table.is_stale(&flow));
    table.forget_released(Duration::ZERO);
    assert!(!table.is_stale(&flow) && table.selections().is_empty());
    table.apply(released(), Duration::from_secs(5));
    table.forget_released(Duration::from_secs(4));
    assert!(table.is_stale(&flow));
}
