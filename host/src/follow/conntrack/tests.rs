#![allow(clippy::expect_used, reason = "tests panic")]

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use weir_conntrack::{Dump, Flow};
use weir_model::{
    Conditions, EndpointSpec, Event, Family, NodeIdentity, ObjectKey, ServicePortSpec, ServiceSpec, SlicePort,
    SliceSpec, Store,
};
use weir_nft::{Installed, Transaction};
use weir_plan::FrontendAddress;

use super::*;
use crate::follow::polling::until;

/// Flows that can be looked at from outside, and how many deletions are refused first.
#[derive(Clone, Default)]
struct Kernel(Arc<Mutex<(Vec<Flow>, usize)>>);

impl FlowTable for Kernel {
    fn dump(&mut self, family: Family, protocol: Protocol, each: &mut dyn FnMut(Flow)) -> io::Result<Dump> {
        let flows = self.0.lock().expect("no panic").0.clone();
        flows.into_iter().filter(|flow| (flow.family(), flow.protocol) == (family, protocol)).for_each(each);
        Ok(Dump::Complete)
    }

    fn delete(&mut self, flow: &Flow) -> io::Result<bool> {
        let (flows, refused) = &mut *self.0.lock().expect("no panic");
        if *refused > 0 {
            *refused -= 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = flows.len();
        flows.retain(|other| other != flow);
        Ok(flows.len() < before)
    }
}

/// A cluster of one Service, whose rules the kernel refuses: nothing is ever installed.
struct Cluster {
    store: Store,
    installed: Installed,
}

impl Cluster {
    fn new(protocol: Protocol) -> Self {
        let mut store = Store::new(NodeIdentity::default());
        let port = ServicePortSpec { name: String::new(), protocol, port: 53, node_port: 30_053 };
        store.apply(Event::Service(ServiceSpec {
            key: key("dns"),
            cluster_ips: vec!["10.96.0.10".parse().expect("an address")],
            ports: vec![port],
            ..ServiceSpec::default()
        }));
        Self { store, installed: Installed::new(NodeFacts::default()) }
    }

    /// Makes the endpoints those with these numbers, in this state.
    fn endpoints(&mut self, protocol: Protocol, numbers: &[u8], conditions: Conditions) {
        let endpoint = |number: &u8| EndpointSpec { conditions, ..EndpointSpec::ready([10, 244, 0, *number].into()) };
        self.store.apply(Event::Slice(SliceSpec {
            key: key("dns-1"),
            service: key("dns"),
            family: Family::V4,
            ports: vec![SlicePort { name: String::new(), protocol, port: 8053 }],
            endpoints: numbers.iter().map(endpoint).collect(),
            triggered: None,
        }));
    }

    /// Shows the follower what has become dirty.
    fn sync<T>(&mut self, tell: impl FnOnce(&Synced<'_>) -> T) -> T {
        let services = self.store.take_dirty();
        let transaction = Transaction::default();
        let (store, installed) = (&self.store, &self.installed);
        tell(&Synced { store, installed, services: &services, transaction: &transaction })
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// A flow to the Service that endpoint `number` answers.
fn flow(number: u8) -> Flow {
    Flow {
        protocol: Protocol::Udp,
        source: ([10, 244, 0, 9], 4000).into(),
        destination: ([10, 96, 0, 10], 53).into(),
        reply_source: ([10, 244, 0, number], 8053).into(),
        zone: 0,
        id: number.into(),
    }
}

#[test]
fn refused_deletions_are_tried_again_and_cost_no_healthy_flow() {
    let kernel = Kernel(Arc::new(Mutex::new((vec![flow(1), flow(2), flow(3)], 3))));
    let mut follower = Conntrack::start(kernel.clone(), &ConntrackSettings::default()).expect("a thread");
    let mut cluster = Cluster::new(Protocol::Udp);
    cluster.endpoints(Protocol::Udp, &[2], Conditions::SERVING | Conditions::TERMINATING);
    cluster.sync(|synced| follower.synced(synced));
    until("the stale flows stay", || kernel.0.lock().expect("no panic").0 == [flow(2)]);
    let counters = Arc::clone(follower.counters());
    drop(follower);
    let count = |counter: &AtomicU64| counter.load(Ordering::Acquire);
    // Three refusals of two flows: two in the first pass, one in the second, and none is forgotten.
    assert_eq!((count(&counters.deleted), count(&counters.failed)), (2, 3));
}

#[test]
fn other_protocols_are_no_news() {
    let follower = |reset_stale_tcp| {
        let settings = ConntrackSettings { reset_stale_tcp, ..ConntrackSettings::default() };
        Conntrack::start(Kernel::default(), &settings).expect("a thread")
    };
    for (protocol, reset, told) in [
        (Protocol::Udp, false, true),
        (Protocol::Tcp, false, false),
        (Protocol::Tcp, true, true),
        (Protocol::Sctp, true, false),
    ] {
        let mut follower = follower(reset);
        let mut cluster = Cluster::new(protocol);
        let first = cluster.sync(|synced| follower.news(synced)).expect("the first sync is always news");
        assert_eq!(!first.change.services.is_empty(), told, "{protocol} {reset}");
        cluster.endpoints(protocol, &[1], Conditions::ready());
        assert_eq!(cluster.sync(|synced| follower.news(synced)).is_some(), told, "{protocol} {reset}");
        cluster.store.apply(Event::ServiceGone(key("dns")));
        let gone = cluster.sync(|synced| follower.news(synced)).map(|message| message.change.services);
        assert_eq!(gone.is_some_and(|services| matches!(&services[..], [(_, ports)] if ports.is_empty())), told);
    }
}

/// Its flows would have nowhere to go if they were ended.
#[test]
fn a_port_the_kernel_refused_keeps_its_frontends() {
    let mut follower = Conntrack::start(Kernel::default(), &ConntrackSettings::default()).expect("a thread");
    let mut cluster = Cluster::new(Protocol::Udp);
    cluster.endpoints(Protocol::Udp, &[1, 2], Conditions::ready());
    let message = cluster.sync(|synced| follower.news(synced)).expect("news");
    let [(_, ports)] = &message.change.services[..] else { panic!("one Service") };
    let places: Vec<_> = ports[0].frontends.iter().map(|frontend| (frontend.address, frontend.port)).collect();
    let ip = FrontendAddress::Ip([10, 96, 0, 10].into());
    assert_eq!(places, [(ip, 53), (FrontendAddress::NodePort, 30_053)]);
    assert_eq!(ports[0].serving, [([10, 244, 0, 1], 8053).into(), ([10, 244, 0, 2], 8053).into()]);
}
