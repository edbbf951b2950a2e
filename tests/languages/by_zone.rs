use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, ensure};
use weir_model::{
    EndpointSpec, Event, Family, IndexFunction, NodeIdentity, ObjectKey, Protocol, ServicePortSpec, ServiceSpec,
    SlicePort, SliceSpec, Store,
};
use weir_policy::{Catalog, Decider, Engine, Limits, Policy, Role};

/// What Services call the policy.
const NAME: &str = "by-zone";

/// Zones of the endpoints of a small Service, in the order of their addresses.
const ZONES: [Option<&str>; 4] = [Some("zone-a"), Some("zone-b"), Some("zone-a"), None];

/// Settings, the slots that each endpoint of [`ZONES`] gets, and the reason.
const DECISIONS: [(&str, [usize; 4], &str); 5] = [
    ("", [1, 1, 1, 1], "0 of 4 endpoints in zones with weights"),
    ("{}", [1, 1, 1, 1], "0 of 4 endpoints in zones with weights"),
    (r#"{"zones": {"zone-a": 3, "zone-b": 1}}"#, [3, 1, 3, 1], "3 of 4 endpoints in zones with weights"),
    (r#"{"zones": {"zone-a": 0}, "default": 5}"#, [0, 1, 0, 1], "2 of 4 endpoints in zones with weights"),
    (r#"{"default": 2, "zones": {"zone-b": 1, "zone-c": 9}}"#, [2, 1, 2, 2], "1 of 4 endpoints in zones with weights"),
];

/// Bad settings, and what must be said of them: the field, and what is wrong with it.
const MISTAKES: [(&str, &str, &str); 11] = [
    ("{", "", "expected a JSON object"),
    ("[]", "", "expected a JSON object"),
    ("3", "", "expected a JSON object"),
    (r#"{"zone": {"zone-a": 3}}"#, "zone", "unknown field; known are zones and default"),
    (r#"{"zones": 3}"#, "zones", "expected an object of weights by zone"),
    (r#"{"zones": {"zone-a": -1}}"#, "zones.zone-a", "expected a whole number from 0 to 1000"),
    (r#"{"zones": {"zone-a": 1001}}"#, "zones.zone-a", "expected a whole number from 0 to 1000"),
    (r#"{"zones": {"zone-b": 1.5}}"#, "zones.zone-b", "expected a whole number from 0 to 1000"),
    (r#"{"zones": {"zone-b": "3"}}"#, "zones.zone-b", "expected a whole number from 0 to 1000"),
    (r#"{"zones": {"zone-b": null}}"#, "zones.zone-b", "expected a whole number from 0 to 1000"),
    (r#"{"default": true}"#, "default", "expected a whole number from 0 to 1000"),
];

/// Endpoints of the large Service.
const MANY: u16 = 1_000;

/// Loads `component` and holds it to all of the above.
///
/// # Errors
/// Where it does anything else.
pub(crate) fn check(language: &str, component: &[u8]) -> anyhow::Result<()> {
    let engine = Engine::new(Limits::default())?;
    let policy = Policy::load(&engine, NAME, component)?;
    let about = policy.about().context("it says nothing of itself")?;
    ensure!(about.name == NAME && about.licence == "Apache-2.0", "it says it is {about:?}");
    ensure!(policy.plays(Role::Balancer) && !policy.plays(Role::TrafficPolicy), "it plays other roles");
    mistakes(&policy)?;
    let mut catalog = Catalog::new(&engine, "kubernetes", "random")?;
    catalog.set(policy);
    decisions(catalog).with_context(|| language.to_owned())
}

/// Bad settings are told with the field, good ones are not complained about.
fn mistakes(policy: &Policy) -> anyhow::Result<()> {
    for (settings, _, _) in DECISIONS {
        let problems = policy.check(settings)?;
        ensure!(problems.is_empty(), "{settings}: {problems:?}");
    }
    for (settings, path, message) in MISTAKES {
        let problems = policy.check(settings)?;
        let said: Vec<_> = problems.iter().map(|problem| (&*problem.path, &*problem.message)).collect();
        ensure!(said == [(path, message)], "{settings}: {said:?}");
    }
    Ok(())
}

/// Services with all of the settings, good and bad, and a large one, in one batch.
fn decisions(catalog: Catalog) -> anyhow::Result<()> {
    let node = NodeIdentity { name: "node-1".to_owned(), zone: "zone-a".to_owned() };
    let mut store = Store::new(node);
    for (at, (settings, _, _)) in (0..).zip(DECISIONS) {
        apply(&mut store, at, settings, &ZONES);
    }
    let large = number(DECISIONS.len());
    let zones: Vec<_> = (0..MANY).map(|at| if at % 2 == 0 { Some("zone-a") } else { Some("zone-b") }).collect();
    apply(&mut store, large, r#"{"zones": {"zone-a": 2}}"#, &zones);
    let mut decider = Decider::new(catalog);
    let dirty = store.take_dirty();
    let decided = decider.decide(&store, &dirty);
    ensure!(decided.failures.is_empty(), "{:?}", decided.failures);
    for (at, (settings, wanted, reason)) in (0..).zip(DECISIONS) {
        let seen = slots(&store, &decided, at)?;
        ensure!(seen.0 == wanted && &*seen.1 == reason, "{settings}: {seen:?}");
    }
    let (seen, reason) = slots(&store, &decided, large)?;
    ensure!(seen.iter().enumerate().all(|(at, slots)| *slots == 2 - at % 2), "the large Service: {seen:?}");
    ensure!(&*reason == "500 of 1000 endpoints in zones with weights", "the large Service: {reason}");

    // A Service with bad settings fails alone, and its port is still decided.
    let (bad, path, message) = MISTAKES[7];
    apply(&mut store, 0, bad, &ZONES);
    apply(&mut store, 1, DECISIONS[2].0, &ZONES);
    let dirty = store.take_dirty();
    let decided = decider.decide(&store, &dirty);
    let [failure] = &decided.failures[..] else { anyhow::bail!("{bad}: {:?}", decided.failures) };
    ensure!(failure.service.name == name(0) && failure.message.contains(&format!("{path}: {message}")), "{failure:?}");
    ensure!(slots(&store, &decided, 0)?.0 == [1, 1, 1, 1], "the port with bad settings has lost its endpoints");
    ensure!(slots(&store, &decided, 1)?.0 == DECISIONS[2].1, "the port beside it was decided otherwise");
    Ok(())
}

fn number(at: usize) -> u8 {
    u8::try_from(at).expect("a few Services")
}

fn name(at: u8) -> String {
    format!("service-{at}")
}

/// Adds the Service of that number, or changes it.
fn apply(store: &mut Store, at: u8, settings: &str, zones: &[Option<&str>]) {
    let key = ObjectKey { namespace: "default".to_owned(), name: name(at) };
    let endpoint = |(host, zone): (u16, &Option<&str>)| {
        let [high, low] = host.to_be_bytes();
        EndpointSpec {
            node: Some(format!("node-{}", host % 10)),
            zone: zone.map(str::to_owned),
            ..EndpointSpec::ready(IpAddr::from(Ipv4Addr::new(10, at, high, low)))
        }
    };
    store.apply(Event::Slice(SliceSpec {
        key: key.clone(),
        service: key.clone(),
        family: Family::V4,
        ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: (0..).zip(zones).map(endpoint).collect(),
        triggered: None,
    }));
    store.apply(Event::Service(ServiceSpec {
        key,
        cluster_ips: vec![IpAddr::from(Ipv4Addr::new(10, 96, 0, at))],
        ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
        policy: Some(NAME.to_owned()),
        policy_settings: (!settings.is_empty()).then(|| settings.to_owned()),
        ..ServiceSpec::default()
    }));
}

/// How many slots each endpoint of that Service has, in the order of their addresses, and why.
fn slots(store: &Store, decided: &weir_policy::Decisions, at: u8) -> anyhow::Result<(Vec<usize>, String)> {
    let key = ObjectKey { namespace: "default".to_owned(), name: name(at) };
    let id = store.find(&key).with_context(|| format!("{key} is not there"))?;
    let decision = decided.ports.iter().find(|(port, _)| port.service == id);
    let (_, decision) = decision.with_context(|| format!("{key} was not decided"))?;
    let ring = decision.cluster.as_ref().with_context(|| format!("{key} has no endpoints"))?;
    ensure!(ring.index == IndexFunction::Random && ring.affinity_seconds == 0, "{key}: {:?}", ring.index);
    let mut backends: Vec<_> = (0_u16..).zip(&decision.backends).map(|(at, backend)| (backend.address, at)).collect();
    backends.sort();
    let count = |(_, at): &(IpAddr, u16)| ring.slots.iter().filter(|slot| *slot == at).count();
    Ok((backends.iter().map(count).collect(), decision.reason.to_string()))
}
