//! Calls that were recorded are repeated bit for bit, elsewhere and later.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::sync::{Arc, Mutex};

use weir_model::{
    EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, ServiceId, ServicePortSpec, ServiceSpec, SlicePort,
    SliceSpec, Store,
};
use weir_policy::{CallOutcome, Catalog, Decider, Engine, Limits, Policy, Record, RecordedShare, Recorder, Role};

/// Keeps what it gets.
#[derive(Debug, Default)]
struct Shelf(Mutex<Vec<Record>>);

impl Recorder for Shelf {
    fn record(&self, record: Record) {
        self.0.lock().expect("no panic").push(record);
    }
}

impl Shelf {
    fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// Three Services with five endpoints in two zones each; the second one has `settings`.
fn store(policy: &str, settings: &str) -> Store {
    let mut store = Store::new(NodeIdentity { name: "n1".to_owned(), zone: "b".to_owned() });
    for (at, name) in (1..).zip(["one", "two", "three"]) {
        store.apply(Event::Service(ServiceSpec {
            key: key(name),
            cluster_ips: vec![[10, 0, 0, at].into()],
            ports: vec![ServicePortSpec { name: "web".to_owned(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
            policy: Some(policy.to_owned()),
            policy_settings: (name == "two").then(|| settings.to_owned()),
            affinity_seconds: 30,
            ..ServiceSpec::default()
        }));
        let endpoint = |n: u8| EndpointSpec {
            node: Some(format!("n{n}")),
            zone: Some(if n.is_multiple_of(2) { "a" } else { "b" }.to_owned()),
            weight: u32::from(n),
            ..EndpointSpec::ready([10, 1, at, n].into())
        };
        store.apply(Event::Slice(SliceSpec {
            key: key(name),
            service: key(name),
            family: Family::V4,
            ports: vec![SlicePort { name: "web".to_owned(), protocol: Protocol::Tcp, port: 8080 }],
            endpoints: (1..=5).map(endpoint).collect(),
            triggered: None,
        }));
    }
    store
}

fn decider(engine: &Engine) -> Decider {
    Decider::new(Catalog::new(engine, "kubernetes", "random").expect("the built-in policies"))
}

fn policy(engine: &Engine, name: &str) -> Policy {
    let catalog = Catalog::new(engine, "kubernetes", "random").expect("the built-in policies");
    (**catalog.policy(name).expect("built in")).clone()
}

fn all(store: &Store) -> Vec<ServiceId> {
    store.service_ids().collect()
}

#[test]
fn what_is_recorded_on_request_is_repeated_bit_for_bit() {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let mut decider = decider(&engine);
    let store = store("weighted", r#"{"by-zone": {"a": 3}}"#);
    let records = decider.records(&store, &all(&store));
    assert_eq!(records.len(), 6, "a traffic policy and a balancer for each of three ports");
    for record in &records {
        let text = serde_json::to_string(record).expect("JSON");
        let read: Record = serde_json::from_str(&text).expect("a record");
        assert_eq!(&read, record);
        let asked = if record.role == Role::Balancer { "weighted" } else { "kubernetes" };
        assert_eq!(read.replay(&policy(&engine, asked)).expect("repeated"), record.outcome, "{}", record.place());
    }
    let two = records.iter().find(|record| record.service == "two" && record.role == Role::Balancer);
    let CallOutcome::Spread { share: RecordedShare::Weights(weights), .. } = &two.expect("recorded").outcome else {
        panic!("weights, not {two:?}");
    };
    assert!(weights[1] == 3 && weights[3] == 3, "by zone: {weights:?}");
    let random = two.expect("recorded").replay(&policy(&engine, "random")).expect("another policy may be asked");
    assert!(matches!(random, CallOutcome::Spread { share: RecordedShare::Equal, .. }), "{random:?}");
    assert_eq!(decider.decide(&store, &all(&store)).stats.len(), 2, "asking for records decides nothing");
}

#[test]
fn failures_are_recorded_and_fail_again_alike() {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let mut decider = decider(&engine);
    decider.catalog().add("trap", weir_bad_guests::TRAP).expect("it loads");
    let shelf = Arc::new(Shelf::default());
    decider.set_recorder(shelf.clone());
    let store = store("trap", "trap");
    decider.decide(&store, &all(&store));
    let records = shelf.take();
    let [record] = &records[..] else { panic!("one call alone fails, not {records:?}") };
    assert_eq!((&*record.service, &*record.policy, record.role), ("two", "trap", Role::Balancer));
    let CallOutcome::Failed { reason, .. } = &record.outcome else { panic!("{:?}", record.outcome) };
    assert_eq!(reason, "trap");
    let trap = Policy::load(&engine, "elsewhere", weir_bad_guests::TRAP).expect("it loads");
    assert_eq!(record.replay(&trap).expect("repeated"), record.outcome);
}

#[test]
fn records_that_make_no_sense_name_their_field() {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let store = store("random", "");
    let records = decider(&engine).records(&store, &all(&store));
    let good = records.iter().find(|record| record.role == Role::Balancer).expect("a balancer was asked");
    let random = policy(&engine, "random");
    let told = |change: &dyn Fn(&mut Record)| {
        let mut record = good.clone();
        change(&mut record);
        record.replay(&random).expect_err("refused").to_string()
    };
    for (change, field) in [
        (&(|record: &mut Record| record.version = 9) as &dyn Fn(&mut Record), "version: 9"),
        (&|record| record.id = u32::MAX, "id: "),
        (&|record| record.protocol = 1, "protocol: 1"),
        (&|record| record.members = vec![77], "members: 77"),
        (&|record| record.members = Vec::new(), "members: "),
        (&|record| record.endpoints[0].zone_number = u32::MAX, "endpoints[].zoneNumber: "),
        (&|record| record.role = Role::TrafficPolicy, "is no traffic policy"),
    ] {
        let told = told(change);
        assert!(told.contains(field), "{told:?} does not name {field:?}");
    }
}
