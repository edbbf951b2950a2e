//! Policies: a call, an endpoint, an instance; beside the same done natively; and one that is replaced while it runs.

mod shares;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weir_benches::{catalog, cluster, pipeline, store};
use weir_model::{Conditions, Event, ServiceId, Store};
use weir_nft::Ruleset;
use weir_nft::sim::Memory;
use weir_policy::{BUILT_IN, Decider, Engine, Limits, Policy};

pub(crate) use self::shares::{ROLE as SHARE, share};
use crate::figure::{Figure, Section, Table, median, micros, short};
use crate::section::Scale;

/// Services of the full syncs.
const SERVICES: usize = 1_000;
/// Endpoints of a Service: the difference of the two tells what one costs.
const FEW: usize = 10;
const MANY: usize = 100;
/// How long one measurement may be repeated: some policies take a hundred times as long as others.
const ENOUGH: Duration = Duration::from_secs(1);
/// A policy alone decides both: where it is one of the two, the other is the default one.
const TRAFFIC: &str = "kubernetes";

/// Measures.
///
/// # Errors
/// When a policy does not load.
pub(crate) fn measure(scale: Scale) -> Result<Section> {
    let rounds = scale.pick(1, 5, 20);
    let mut section = Section::new(
        "Policies",
        "Deciding all of 1 000 Services with 10 and with 100 endpoints, by a decider that remembers nothing and asks about every \
         port, however alike, the fastest of some rounds; the difference is what an endpoint costs. Every row but the first decides with `kubernetes` and the balancer it names. *Natively*: the \
         same decision in Rust, straight from the model to a list of slots, without a contract, a sandbox or a memory. A single \
         port: one Service decided anew, which starts an instance of each policy.",
    );
    let mut table = Table::new(
        "",
        &[
            "policy",
            "ns an endpoint",
            "µs a port of 10",
            "natively, ns an endpoint",
            "natively, µs a port of 10",
            "a single port, µs",
            "compile, ms",
            "replaced under 1 000 Services, ms",
        ],
    );
    let names = |name: &str| match scale {
        Scale::Smoke => matches!(name, "kubernetes" | "random"),
        Scale::Quick => matches!(name, "kubernetes" | "random" | "round-robin" | "maglev" | "zone-aware"),
        Scale::Full => true,
    };
    let native = [FEW, MANY].map(|endpoints| natively(endpoints, rounds));
    let native_endpoint = (native[1] - native[0]) / ((MANY - FEW) * SERVICES) as f64 * 1e3;
    for (name, bytes) in BUILT_IN.iter().filter(|(name, _)| names(name)) {
        let few = decide(name, FEW, rounds);
        let many = decide(name, MANY, rounds);
        let an_endpoint = (many - few) / ((MANY - FEW) * SERVICES) as f64 * 1e3;
        let single = single(name, rounds * 20);
        let engine = Engine::new(Limits { ..Limits::default() })?;
        let start = Instant::now();
        Policy::load(&engine, name, bytes).map_err(anyhow::Error::from)?;
        let compile = start.elapsed();
        let reload = reload(name, bytes)?;
        let figure = |what: &str, value, unit| Figure::new(format!("policy/{name}/{what}"), value, unit);
        let mut figures = vec![
            figure("endpoint", an_endpoint, "ns").beside(Some(native_endpoint)),
            figure("port-of-10", few / SERVICES as f64, "µs").beside(Some(native[0] / SERVICES as f64)),
            figure("single-port", single, "µs"),
            figure("compile", compile.as_secs_f64() * 1e3, "ms"),
            figure("reload", reload.as_secs_f64() * 1e3, "ms"),
        ];
        // The policies every node has unless told otherwise.
        if matches!(*name, "kubernetes" | "random") {
            figures[0].budget = Some(60.0);
        }
        table.row([
            (*name).to_owned(),
            short(an_endpoint),
            short(few / SERVICES as f64),
            short(native_endpoint),
            short(native[0] / SERVICES as f64),
            short(single),
            short(compile.as_secs_f64() * 1e3),
            short(reload.as_secs_f64() * 1e3),
        ]);
        section.figures.extend(figures);
        section.raw.push(serde_json::json!({"policy": name, "few_us": few, "many_us": many, "native_us": native,
            "single_us": single}));
    }
    section.tables.push(table);
    shares::measure(scale, names, &mut section)?;
    Ok(section)
}

/// The list of `services` Services that ask for policy `name`, where it is not the default one.
fn list(name: &str, services: usize, endpoints: usize) -> Event {
    let mut list = cluster(services, endpoints);
    if let Event::Replace { services, .. } = &mut list {
        for service in services.iter_mut().filter(|_| name != TRAFFIC) {
            service.policy = Some(name.to_owned());
        }
    }
    list
}

fn listed(name: &str, services: usize, endpoints: usize) -> (Store, Vec<ServiceId>) {
    let mut store = store();
    store.apply(list(name, services, endpoints));
    let dirty = store.take_dirty();
    (store, dirty)
}

/// At most `rounds` measurements; fewer where they take longer than [`ENOUGH`], but one at least.
fn of_rounds(rounds: usize, mut once: impl FnMut() -> f64) -> Vec<f64> {
    let begun = Instant::now();
    let mut samples = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        samples.push(once());
        if begun.elapsed() > ENOUGH {
            break;
        }
    }
    samples
}

/// The fastest: whatever else the machine does only adds to work that is always the same.
fn fastest(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Microseconds to decide everything.
fn decide(name: &str, endpoints: usize, rounds: usize) -> f64 {
    let catalog = catalog();
    let (store, dirty) = listed(name, SERVICES, endpoints);
    // The first compiles.
    Decider::new(catalog.clone()).decide(&store, &dirty);
    let once = || {
        let mut decider = Decider::new(catalog.clone());
        decider.ask_each();
        let start = Instant::now();
        let decisions = decider.decide(&store, &dirty);
        let took = micros(start.elapsed());
        assert!(decisions.failures.is_empty(), "{name} fails: {:?}", decisions.failures.first());
        took
    };
    fastest(&of_rounds(rounds, once))
}

/// Microseconds to decide one Service of one endpoint with nothing remembered.
fn single(name: &str, rounds: usize) -> f64 {
    let catalog = catalog();
    let (store, dirty) = listed(name, 1, 1);
    Decider::new(catalog.clone()).decide(&store, &dirty);
    let once = || {
        let mut decider = Decider::new(catalog.clone());
        let start = Instant::now();
        black_box(decider.decide(&store, &dirty));
        micros(start.elapsed())
    };
    median(&of_rounds(rounds, once))
}

/// Microseconds to do natively what `kubernetes` and `random` come to: of each port the usable endpoints, one slot each.
fn natively(endpoints: usize, rounds: usize) -> f64 {
    let (store, dirty) = listed(TRAFFIC, SERVICES, endpoints);
    let once = || {
        let start = Instant::now();
        let mut rings: Vec<(weir_model::PortKey, Vec<u32>)> = Vec::with_capacity(dirty.len());
        for port in dirty.iter().flat_map(|id| store.ports(*id)) {
            let with = |flag| {
                let chosen =
                    port.endpoints.iter().enumerate().filter(move |(_, endpoint)| endpoint.conditions.has(flag));
                chosen.map(|(at, _)| u32::try_from(at).unwrap_or(u32::MAX)).collect::<Vec<_>>()
            };
            let ready = with(Conditions::READY);
            let ring = if ready.is_empty() { with(Conditions::SERVING) } else { ready };
            rings.push((port.key, ring));
        }
        black_box(rings);
        micros(start.elapsed())
    };
    fastest(&of_rounds(rounds, once))
}

/// The time to put another policy in the place of one: it is compiled, tried on every Service that uses it, and its
/// decisions are planned and compared.
fn reload(name: &str, bytes: &[u8]) -> Result<Duration> {
    let catalog = catalog();
    let mut pipeline = pipeline(&catalog, Memory::new(Ruleset::default()));
    pipeline.apply(list(name, SERVICES, FEW));
    pipeline.sync()?;
    let start = Instant::now();
    let policy = Policy::load(catalog.engine(), name, bytes).map_err(anyhow::Error::from)?;
    let users = pipeline.set_policy(policy).map_err(anyhow::Error::from).context("the same policy again")?;
    pipeline.sync()?;
    let took = start.elapsed();
    anyhow::ensure!(users == SERVICES, "{users} Services use {name}");
    Ok(took)
}
