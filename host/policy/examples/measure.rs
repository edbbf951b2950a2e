//! What deciding costs: `cargo run --release -p weir-policy --example measure [SERVICES [ENDPOINTS [BALANCER]]]`.
//!
//! Prints the best of several full decisions over Services with as many endpoints each (the best, because whatever
//! else runs only adds to it): with nothing remembered, then with nothing changed, and what of it each policy took.

use std::env;
use std::hint::black_box;
use std::time::{Duration, Instant};

use weir_model::{
    EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, ServiceId, ServicePortSpec, ServiceSpec, SlicePort,
    SliceSpec, Store,
};
use weir_policy::{Catalog, Decider, Engine, Limits};

const ROUNDS: usize = 40;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let mut number = |otherwise| arguments.next().map_or(Ok(otherwise), |argument| argument.parse::<u32>());
    let (services, endpoints) = (number(10_000)?, number(10)?);
    let only = arguments.next();
    let start = Instant::now();
    let engine = Engine::new(Limits::default())?;
    Catalog::new(&engine, "kubernetes", "random")?;
    println!("compiling the built-in policies: {:?}", start.elapsed());
    for (balancer, settings) in [
        ("random", None),
        ("round-robin", None),
        ("client-ip", None),
        ("weighted", None),
        ("weighted", Some(r#"{"by-node": {"node-1": 2}, "default": 1}"#)),
        ("least-connections", None),
        ("nq", None),
        ("sed", None),
        ("weighted-least-connections", None),
        ("source-hash", None),
        ("canary", None),
        ("zone-aware", None),
        ("zone-aware-by-load", None),
        ("maglev", None),
    ] {
        if only.as_deref().is_some_and(|only| only != balancer) {
            continue;
        }
        let store = cluster(services, endpoints, settings);
        let ids: Vec<ServiceId> = store.service_ids().collect();
        let total = u64::from(services) * u64::from(endpoints);
        let each = |time: Duration| time.as_nanos() as u64 / total.max(1);
        let ports = best(|| ids.iter().for_each(|id| drop(black_box(store.ports(*id)))));
        let catalog = Catalog::new(&engine, "kubernetes", balancer)?;
        let mut of_policies = Vec::new();
        for _ in 0..ROUNDS {
            let mut decider = Decider::new(catalog.clone());
            let (start, before) = (Instant::now(), faults());
            let decisions = decider.decide(&store, &ids);
            let time = start.elapsed();
            assert!(decisions.failures.is_empty(), "{:?}", decisions.failures.first());
            of_policies.push((time, decisions.stats, faults() - before));
        }
        of_policies.sort_by_key(|(time, ..)| *time);
        let Some((decide, stats, faults)) = of_policies.first() else { continue };
        let mut decider = Decider::new(catalog);
        decider.decide(&store, &ids);
        let again = best(|| drop(black_box(decider.decide(&store, &ids))));
        println!("{balancer} {}: {services} x {endpoints}", settings.unwrap_or(""));
        println!(
            "  decide      {decide:>10.2?} {:>4} ns an endpoint (model's ports(): {} ns), {faults} page faults",
            each(*decide),
            each(ports)
        );
        println!("  unchanged   {again:>10.2?} {:>4} ns", each(again));
        for (name, stats) in stats {
            println!(
                "  {name:<11} {:>10.2?} {:>4} ns, {} calls, {} fuel",
                stats.time,
                each(stats.time),
                stats.calls,
                stats.fuel
            );
        }
    }
    Ok(())
}

/// Page faults of this process so far that needed no disk: the tenth field of proc_pid_stat(5).
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit_once(") ").map_or("", |(_, behind)| behind);
    behind_name.split(' ').nth(7).and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn best(mut work: impl FnMut()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..ROUNDS).map(time).min().unwrap_or_default()
}

fn cluster(services: u32, endpoints: u32, settings: Option<&str>) -> Store {
    let mut store = Store::new(NodeIdentity { name: "node-0".to_owned(), zone: "zone-0".to_owned() });
    for service in 0..services {
        let key = ObjectKey { namespace: "default".to_owned(), name: format!("service-{service}") };
        store.apply(Event::Service(ServiceSpec {
            key: key.clone(),
            cluster_ips: vec![std::net::Ipv4Addr::from_bits(0x0a60_0000 + service).into()],
            ports: vec![ServicePortSpec { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
            policy_settings: settings.map(str::to_owned),
            ..ServiceSpec::default()
        }));
        let endpoint = |at: u32| EndpointSpec {
            node: Some(format!("node-{}", at % 100)),
            zone: Some(format!("zone-{}", at % 3)),
            weight: 1 + at % 4,
            ..EndpointSpec::ready(std::net::Ipv4Addr::from_bits(0x0b00_0000 + service * endpoints + at).into())
        };
        store.apply(Event::Slice(SliceSpec {
            key: key.clone(),
            service: key,
            family: Family::V4,
            ports: vec![SlicePort { name: "http".to_owned(), protocol: Protocol::Tcp, port: 8080 }],
            endpoints: (0..endpoints).map(endpoint).collect(),
            triggered: None,
        }));
    }
    store
}
