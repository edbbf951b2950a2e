//! What the store promises, by example and by property.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::{Endpoint, Protocol, ServicePortSpec, SlicePort, backend_id};

const NODE: &str = "node-a";

fn store() -> Store {
    Store::new(NodeIdentity { name: NODE.to_owned(), zone: "zone-1".to_owned() })
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn service(name: &str) -> ServiceSpec {
    ServiceSpec {
        key: key(name),
        cluster_ips: vec![ip("10.0.0.1")],
        ports: vec![ServicePortSpec { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
        ..ServiceSpec::default()
    }
}

fn slice(name: &str, of: &str, endpoints: Vec<EndpointSpec>) -> SliceSpec {
    SliceSpec {
        key: key(name),
        service: key(of),
        family: Family::V4,
        ports: vec![SlicePort { name: "http".to_owned(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints,
        triggered: None,
    }
}

fn endpoint(address: &str) -> EndpointSpec {
    EndpointSpec::ready(ip(address))
}

fn apply(store: &mut Store, events: impl IntoIterator<Item = Event>) {
    events.into_iter().for_each(|event| store.apply(event));
}

/// The endpoints of the only port of the Service `web`.
fn endpoints_of_web(store: &Store) -> Vec<Endpoint> {
    let id = store.find(&key("web")).expect("web exists");
    let [port] = <[Port; 1]>::try_from(store.ports(id)).expect("web has one port");
    port.endpoints
}

#[test]
fn a_slice_may_come_before_its_service() {
    let events = [Event::Service(service("web")), Event::Slice(slice("web-1", "web", vec![endpoint("10.1.0.1")]))];
    let (mut forwards, mut backwards) = (store(), store());
    apply(&mut forwards, events.clone());
    apply(&mut backwards, events.into_iter().rev());
    assert_eq!(endpoints_of_web(&forwards), endpoints_of_web(&backwards));
    assert_eq!(endpoints_of_web(&forwards).len(), 1);
}

#[test]
fn only_a_real_change_is_dirty() {
    let mut store = store();
    let some = slice("web-1", "web", vec![endpoint("10.1.0.1")]);
    apply(&mut store, [Event::Service(service("web")), Event::Slice(some.clone()), Event::Service(service("other"))]);
    let ids = [store.find(&key("web")), store.find(&key("other"))].map(|id| id.expect("known"));
    assert_eq!(store.take_dirty(), ids);

    let same = Event::Replace { services: vec![service("other"), service("web")], slices: vec![some.clone()] };
    apply(&mut store, [Event::Service(service("web")), Event::Slice(some), same]);
    assert_eq!(store.take_dirty(), []);

    apply(&mut store, [Event::Slice(slice("web-1", "web", vec![endpoint("10.1.0.2")]))]);
    assert_eq!(store.take_dirty(), [ids[0]]);
}

#[test]
fn a_gone_service_is_dirty_once_and_keeps_its_number_while_a_slice_names_it() {
    let mut store = store();
    apply(
        &mut store,
        [Event::Service(service("web")), Event::Slice(slice("web-1", "web", vec![endpoint("10.1.0.1")]))],
    );
    let id = store.find(&key("web")).expect("known");
    store.take_dirty();

    apply(&mut store, [Event::ServiceGone(key("web")), Event::ServiceGone(key("web"))]);
    assert_eq!(store.take_dirty(), [id]);
    assert_eq!((store.find(&key("web")), store.service(id), store.ports(id)), (None, None, Vec::new()));
    assert_eq!(store.service_ids().count(), 0);

    apply(&mut store, [Event::Service(service("web"))]);
    assert_eq!(store.find(&key("web")), Some(id));
    assert_eq!(endpoints_of_web(&store).len(), 1);

    apply(&mut store, [Event::Replace { services: Vec::new(), slices: Vec::new() }]);
    assert_eq!(store.take_dirty(), [id]);
    assert_eq!(store.service_ids().count(), 0);
}

#[test]
fn a_slice_may_move_to_another_service() {
    let mut store = store();
    apply(&mut store, [Event::Service(service("web")), Event::Service(service("other"))]);
    apply(&mut store, [Event::Slice(slice("web-1", "web", vec![endpoint("10.1.0.1")]))]);
    store.take_dirty();
    apply(&mut store, [Event::Slice(slice("web-1", "other", vec![endpoint("10.1.0.1")]))]);
    assert_eq!(store.take_dirty().len(), 2);
    assert_eq!(endpoints_of_web(&store), []);
    apply(&mut store, [Event::SliceGone(key("web-1")), Event::SliceGone(key("web-1"))]);
    assert_eq!(store.take_dirty(), [store.find(&key("other")).expect("known")]);
}

/// F08 of the fault list: a proxy that forgets nothing grows with every Service that ever was.
#[test]
fn churn_leaves_nothing_behind() {
    let mut store = store();
    for round in 0..100_000 {
        let name = format!("web-{}", round % 7);
        apply(
            &mut store,
            [
                Event::Slice(slice(
                    "slice",
                    &name,
                    vec![EndpointSpec { node: Some(NODE.to_owned()), ..endpoint("10.1.0.1") }],
                )),
                Event::Service(service(&name)),
                Event::ServiceGone(key(&name)),
                Event::SliceGone(key("slice")),
            ],
        );
        store.take_dirty();
    }
    assert_eq!((store.ids.len(), store.entries.len(), store.slice_owner.len(), store.dirty.len()), (0, 0, 0, 0));
    // "", the port's name and the node's.
    assert_eq!(store.names.find("web-0"), None);
    assert_eq!(store.names.get(NameId(3)), "");
}

#[test]
fn an_endpoint_is_small() {
    assert!(
        size_of::<SliceEndpoint>() <= 32,
        "a million endpoints must fit: {} bytes each",
        size_of::<SliceEndpoint>()
    );
    let mut store = store();
    let many = (0..100).map(|n| endpoint(&format!("10.1.0.{n}"))).collect();
    apply(&mut store, [Event::Slice(slice("web-1", "web", many))]);
    let stored = store.entries.values().flat_map(|entry| entry.slices.values()).next().expect("one slice");
    assert_eq!(size_of_val(&*stored.endpoints), 100 * size_of::<SliceEndpoint>());
}

#[test]
fn headless_and_external_name_have_no_ports() {
    let mut store = store();
    let headless = ServiceSpec { cluster_ips: Vec::new(), ..service("headless") };
    let named = ServiceSpec { kind: ServiceKind::ExternalName, ..service("named") };
    apply(&mut store, [Event::Service(headless), Event::Service(named)]);
    let ids: Vec<ServiceId> = store.service_ids().collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.into_iter().all(|id| store.ports(id).is_empty()));
}

#[test]
fn each_family_gets_the_endpoints_of_its_own_slices() {
    let mut store = store();
    let dual = ServiceSpec { cluster_ips: vec![ip("fd00::1"), ip("10.0.0.1")], ..service("web") };
    let six = SliceSpec { family: Family::V6, ..slice("web-6", "web", vec![endpoint("fd00:1::1")]) };
    apply(
        &mut store,
        [Event::Service(dual), Event::Slice(six), Event::Slice(slice("web-4", "web", vec![endpoint("10.1.0.1")]))],
    );
    let id = store.find(&key("web")).expect("known");
    let seen: Vec<(Family, Vec<IpAddr>)> = store
        .ports(id)
        .into_iter()
        .map(|port| (port.key.family, port.endpoints.iter().map(|endpoint| endpoint.address).collect()))
        .collect();
    assert_eq!(seen, [(Family::V6, vec![ip("fd00:1::1")]), (Family::V4, vec![ip("10.1.0.1")])]);
}

#[test]
fn ports_match_by_name_and_protocol() {
    let mut store = store();
    let mut udp = slice("web-udp", "web", vec![endpoint("10.1.0.1")]);
    udp.ports[0].protocol = Protocol::Udp;
    let mut other_name = slice("web-metrics", "web", vec![endpoint("10.1.0.2")]);
    other_name.ports[0].name = "metrics".to_owned();
    let right = slice("web-http", "web", vec![endpoint("10.1.0.3")]);
    apply(
        &mut store,
        [Event::Service(service("web")), Event::Slice(udp), Event::Slice(other_name), Event::Slice(right)],
    );
    let seen: Vec<(IpAddr, u16)> = endpoints_of_web(&store).iter().map(|found| (found.address, found.port)).collect();
    assert_eq!(seen, [(ip("10.1.0.3"), 8080)]);
}

#[test]
fn conditions_tell_what_is_near() {
    let mut store = store();
    let hints = |zones: &[&str], nodes: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        EndpointSpec { hint_zones: owned(zones), hint_nodes: owned(nodes), ..endpoint("10.1.0.1") }
    };
    for (spec, expected) in [
        (endpoint("10.1.0.1"), Conditions::ready()),
        (EndpointSpec { node: Some(NODE.to_owned()), ..endpoint("10.1.0.1") }, Conditions::ready() | Conditions::LOCAL),
        (EndpointSpec { node: Some("node-b".to_owned()), ..endpoint("10.1.0.1") }, Conditions::ready()),
        (hints(&["zone-2"], &[]), Conditions::ready() | Conditions::ZONE_HINTS),
        (hints(&["zone-2", "zone-1"], &[]), Conditions::ready() | Conditions::ZONE_HINTS | Conditions::HINTS_THIS_ZONE),
        (hints(&[], &["node-b"]), Conditions::ready() | Conditions::NODE_HINTS),
        (hints(&[], &[NODE]), Conditions::ready() | Conditions::NODE_HINTS | Conditions::HINTS_THIS_NODE),
    ] {
        apply(&mut store, [Event::Service(service("web")), Event::Slice(slice("web-1", "web", vec![spec.clone()]))]);
        assert_eq!(endpoints_of_web(&store)[0].conditions, expected, "{spec:?}");
    }
}

/// A node that does not know its own name or zone must not take "unknown" for "here".
#[test]
fn nothing_is_local_to_a_node_without_a_name() {
    let mut store = Store::new(NodeIdentity::default());
    let nameless = EndpointSpec { node: Some(String::new()), hint_zones: vec![String::new()], ..endpoint("10.1.0.1") };
    apply(&mut store, [Event::Service(service("web")), Event::Slice(slice("web-1", "web", vec![nameless]))]);
    assert_eq!(endpoints_of_web(&store)[0].conditions, Conditions::ready() | Conditions::ZONE_HINTS);
}

#[test]
fn the_same_endpoint_in_two_slices_counts_once_and_the_local_one_wins() {
    let local = EndpointSpec {
        node: Some(NODE.to_owned()),
        conditions: Conditions::SERVING | Conditions::TERMINATING,
        ..endpoint("10.1.0.1")
    };
    let (here, there) = (slice("web-1", "web", vec![local]), slice("web-2", "web", vec![endpoint("10.1.0.1")]));
    for order in [[here.clone(), there.clone()], [there, here]] {
        let mut store = store();
        apply(&mut store, [Event::Service(service("web"))]);
        apply(&mut store, order.map(Event::Slice));
        let [only] = <[Endpoint; 1]>::try_from(endpoints_of_web(&store)).expect("one endpoint");
        assert!(only.conditions.has(Conditions::LOCAL | Conditions::TERMINATING));
    }
}

#[test]
fn colliding_numbers_are_told_apart_in_address_order() {
    // Found by search.
    let (first, second) = (ip("69.43.124.130"), ip("121.124.56.217"));
    assert_eq!(backend_id(first, 8080), backend_id(second, 8080));
    let mut store = store();
    let specs = [second, first].map(|address| EndpointSpec { address, ..endpoint("10.1.0.1") });
    apply(&mut store, [Event::Service(service("web")), Event::Slice(slice("web-1", "web", specs.to_vec()))]);
    let id = backend_id(first, 8080);
    let seen: Vec<(IpAddr, u32)> = endpoints_of_web(&store).iter().map(|found| (found.address, found.id)).collect();
    assert_eq!(seen, [(first, id), (second, id + 1)]);
}

/// A source validates this away; the store must stand it all the same.
#[test]
fn a_port_listed_twice_does_no_harm() {
    let mut store = store();
    let mut twice = service("web");
    twice.ports.push(twice.ports[0].clone());
    apply(&mut store, [Event::Service(twice), Event::Slice(slice("web-1", "web", vec![endpoint("10.1.0.1")]))]);
    let id = store.find(&key("web")).expect("known");
    assert_eq!(store.ports(id).iter().map(|port| port.endpoints.len()).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn names_held_elsewhere_stay_as_they_are() {
    let mut store = store();
    apply(&mut store, [Event::Service(service("web"))]);
    let held = Arc::clone(store.names());
    apply(&mut store, [Event::Service(service("other"))]);
    assert!(Arc::ptr_eq(&held, store.names()), "known names must not copy the table");
    apply(&mut store, [Event::Service(ServiceSpec { policy: Some("weighted".to_owned()), ..service("web") })]);
    assert_eq!((held.find("weighted"), store.names().find("weighted").is_some()), (None, true));
}

/// Few names and addresses, so that events meet.
fn any_event() -> impl Strategy<Value = Event> {
    let service_name = || prop_oneof![Just("web"), Just("api"), Just("db")];
    let slice_name = || prop_oneof![Just("s1"), Just("s2"), Just("s3")];
    let any_endpoint = (
        1_u8..5,
        prop_oneof![Just(None), Just(Some(NODE.to_owned())), Just(Some("node-b".to_owned()))],
        0_u8..8,
        0_u32..3,
    )
        .prop_map(|(last, node, flags, weight)| EndpointSpec {
            node,
            conditions: Conditions(flags),
            weight,
            ..endpoint(&format!("10.1.0.{last}"))
        });
    let any_service = (service_name(), 1_u16..3, any::<bool>()).prop_map(|(name, port, headless)| {
        let mut spec = service(name);
        spec.ports[0].port = port;
        if headless {
            spec.cluster_ips.clear();
        }
        spec
    });
    let any_slice = (
        slice_name(),
        service_name(),
        proptest::collection::vec(any_endpoint, 0..4),
        prop_oneof![Just("http"), Just("")],
    )
        .prop_map(|(name, of, endpoints, port)| {
            let mut spec = slice(name, of, endpoints);
            port.clone_into(&mut spec.ports[0].name);
            spec
        });
    prop_oneof![
        3 => any_service.prop_map(Event::Service),
        1 => service_name().prop_map(|name| Event::ServiceGone(key(name))),
        5 => any_slice.prop_map(Event::Slice),
        1 => slice_name().prop_map(|name| Event::SliceGone(key(name))),
    ]
}

/// Which object an event is about. A source keeps the order of events of one object only.
fn subject(event: &Event) -> (bool, &ObjectKey) {
    match event {
        Event::Service(spec) => (false, &spec.key),
        Event::ServiceGone(key) => (false, key),
        Event::Slice(spec) => (true, &spec.key),
        Event::SliceGone(key) => (true, key),
        Event::Node(_) | Event::ServiceCidrs(_) | Event::Replace { .. } | Event::Listed => {
            unreachable!("not generated")
        }
    }
}

/// What the last event of each object leaves.
fn final_lists(events: &[Event]) -> Event {
    let mut last: BTreeMap<(bool, ObjectKey), &Event> = BTreeMap::new();
    for event in events {
        let (kind, key) = subject(event);
        last.insert((kind, key.clone()), event);
    }
    let (mut services, mut slices) = (Vec::new(), Vec::new());
    for event in last.into_values() {
        match event {
            Event::Service(spec) => services.push(spec.clone()),
            Event::Slice(spec) => slices.push(spec.clone()),
            _ => {}
        }
    }
    Event::Replace { services, slices }
}

/// An endpoint with its names spelled out.
type Shown = (Endpoint, String, String);

/// All that can be seen of a store, with names instead of numbers: numbers depend on the order of events.
fn view(store: &Store) -> BTreeMap<String, Vec<(String, ServicePort, Vec<Shown>)>> {
    let name = |id| store.names().get(id).to_owned();
    let show = |endpoint: &Endpoint| {
        let plain = Endpoint { node: NameId(0), zone: NameId(0), ..*endpoint };
        (plain, name(endpoint.node), name(endpoint.zone))
    };
    let ports = |id| {
        let ports: Vec<Port> = store.ports(id);
        ports
            .into_iter()
            .map(|port| {
                let spec = ServicePort { name: NameId(0), ..port.spec };
                (name(port.key.name), spec, port.endpoints.iter().map(show).collect())
            })
            .collect()
    };
    store.service_ids().map(|id| (store.service(id).expect("listed").key.to_string(), ports(id))).collect()
}

/// A list that comes piece by piece is complete when somebody says so, and not before.
#[test]
fn a_list_in_pieces_ends_with_a_word() {
    let (mut whole, mut pieces) = (store(), store());
    let (service, slice) = (service("a"), slice("a-1", "a", vec![endpoint("10.1.0.1")]));
    whole.apply(Event::Replace { services: vec![service.clone()], slices: vec![slice.clone()] });
    for event in [Event::Slice(slice), Event::Service(service)] {
        pieces.apply(event);
        assert!(!pieces.is_listed());
    }
    pieces.apply(Event::Listed);
    assert!(pieces.is_listed());
    assert_eq!(view(&pieces), view(&whole));
}

proptest! {
    /// Events of different objects may come in any order, and a complete list says the same as its parts.
    #[test]
    fn the_order_of_events_does_not_matter(
        (events, ranks) in proptest::collection::vec(any_event(), 0..40)
            .prop_flat_map(|events| { let n = events.len(); (Just(events), proptest::collection::vec(any::<u8>(), n)) })
    ) {
        let mut straight = store();
        apply(&mut straight, events.clone());

        // Another interleaving: each object's events keep their order, the objects are dealt anew.
        let mut queues: BTreeMap<(bool, ObjectKey), std::collections::VecDeque<Event>> = BTreeMap::new();
        for event in &events {
            let (kind, key) = subject(event);
            queues.entry((kind, key.clone())).or_default().push_back(event.clone());
        }
        let mut shuffled = store();
        for rank in ranks {
            let turn = usize::from(rank) % queues.len();
            let subject = queues.keys().nth(turn).cloned().expect("in range");
            let queue = queues.get_mut(&subject).expect("listed");
            shuffled.apply(queue.pop_front().expect("empty queues are dropped"));
            if queue.is_empty() {
                queues.remove(&subject);
            }
        }
        prop_assert!(queues.is_empty());

        let mut listed = store();
        listed.apply(final_lists(&events));
        prop_assert_eq!(view(&straight), view(&shuffled));
        prop_assert_eq!(view(&straight), view(&listed));
    }

    /// Whatever changes what a Service's ports look like makes it dirty, and a complete list of what is there
    /// already changes nothing.
    #[test]
    fn every_visible_change_is_dirty(events in proptest::collection::vec(any_event(), 0..40)) {
        let mut store = store();
        for event in &events {
            let before = view(&store);
            let names: BTreeMap<String, ServiceId> = store.ids.iter().map(|(key, id)| (key.to_string(), *id)).collect();
            store.apply(event.clone());
            let dirty = store.take_dirty();
            prop_assert!(dirty.is_sorted());
            let after = view(&store);
            for name in before.keys().chain(after.keys()) {
                if before.get(name) != after.get(name) {
                    let now = store.ids.iter().find(|(key, _)| key.to_string() == *name).map(|(_, id)| *id);
                    let id = now.or_else(|| names.get(name).copied()).expect("it had a number");
                    prop_assert!(dirty.contains(&id), "{} changed unnoticed by {:?}", name, event);
                }
            }
        }
        let before = view(&store);
        store.apply(final_lists(&events));
        prop_assert_eq!(store.take_dirty(), Vec::new());
        prop_assert_eq!(view(&store), before);
    }

    /// Endpoints come sorted, without duplicates, and with numbers of their own.
    #[test]
    fn endpoints_are_sorted_and_numbered(events in proptest::collection::vec(any_event(), 0..40)) {
        let mut store = store();
        apply(&mut store, events);
        for port in store.service_ids().flat_map(|id| store.ports(id)) {
            prop_assert!(port.endpoints.is_sorted_by_key(|endpoint| (endpoint.address, endpoint.port)));
            let ids: BTreeSet<u32> = port.endpoints.iter().map(|endpoint| endpoint.id).collect();
            prop_assert_eq!(ids.len(), port.endpoints.len());
        }
    }
}

#[test]
fn what_triggered_a_change_is_told_once_and_is_no_change_itself() {
    let mut store = store();
    let at = |address: &str, at| SliceSpec { triggered: Some(at), ..slice("web-1", "web", vec![endpoint(address)]) };
    apply(&mut store, [Event::Service(service("web")), Event::Slice(at("10.1.0.1", 5))]);
    assert_eq!((store.take_triggers(), store.dirty_count()), (vec![Trigger { family: Family::V4, at: 5 }], 1));
    assert_eq!(store.take_dirty().len(), 1);
    apply(&mut store, [Event::Slice(at("10.1.0.1", 6))]);
    assert_eq!((store.take_triggers(), store.dirty_count()), (Vec::new(), 0), "nothing changed but the time");
    apply(&mut store, [Event::Slice(at("10.1.0.2", 7))]);
    assert_eq!(store.take_triggers(), [Trigger { family: Family::V4, at: 7 }]);
}
