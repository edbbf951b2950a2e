//! `weir policy bench`.

use std::time::Instant;

use serde::Serialize;
use weir_policy::Stats;

use super::decided::decide;
use super::scene::Scene;
use super::table::{Table, bytes};
use super::{Workshop, artifact};
use crate::cli::OutputFormat;
use crate::cli::policy::BenchArgs;

/// The figures. Times are in microseconds unless they say otherwise.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    policy: String,
    digest: String,
    /// Bytes of the component as it is delivered.
    size: usize,
    services: u32,
    endpoints: u32,
    rounds: u32,
    /// Milliseconds from bytes to a checked policy.
    compile_millis: f64,
    /// Of the best round.
    calls: u64,
    call_micros: f64,
    endpoint_nanos: f64,
    fuel_per_call: u64,
    fuel_per_endpoint: f64,
    /// Of the calls' allowance.
    fuel_per_cent: f64,
    /// The most memory a call had, in bytes.
    memory: u64,
}

/// Measures a policy on made-up Services.
pub(super) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let workshop = Workshop::open()?;
    let artifact = artifact(&args.subject.file, &args.subject.settings)?;
    let start = Instant::now();
    let policy = workshop.load(&artifact)?;
    let compile = start.elapsed();
    let scene = Scene::uniform(args.services, args.endpoints, policy.name());
    let mut best: Option<Stats> = None;
    for _ in 0..args.rounds {
        let verdicts = decide(&mut workshop.decider(&policy), &scene, policy.name());
        if let Some((port, failure)) = verdicts.ports.iter().find_map(|port| Some((port, port.failures.first()?))) {
            anyhow::bail!("{port}: {} failed ({}): {}", failure.policy, failure.reason, failure.message);
        }
        best = best.into_iter().chain([verdicts.stats]).min_by_key(|stats| stats.time);
    }
    let best = best.unwrap_or_default();
    anyhow::ensure!(
        best.calls > 0,
        "policy {} was never asked: without endpoints there is nothing to balance",
        policy.name()
    );
    let endpoints = f64::from(args.services) * f64::from(args.endpoints);
    let limits = workshop.engine.limits();
    let allowance = best.calls * limits.fuel
        + limits.fuel_per_endpoint * (best.asked + u64::from(args.services) * u64::from(args.endpoints));
    let float = |number: u64| u32::try_from(number).map_or_else(|_| f64::INFINITY, f64::from);
    let micros = best.time.as_secs_f64() * 1e6;
    let report = Report {
        policy: policy.name().to_owned(),
        digest: policy.digest().to_string(),
        size: artifact.component.len(),
        services: args.services,
        endpoints: args.endpoints,
        rounds: args.rounds,
        compile_millis: compile.as_secs_f64() * 1e3,
        calls: best.calls,
        call_micros: micros / float(best.calls),
        endpoint_nanos: micros * 1e3 / endpoints.max(1.0),
        fuel_per_call: best.fuel / best.calls,
        fuel_per_endpoint: float(best.fuel / 1_000) * 1e3 / endpoints.max(1.0),
        fuel_per_cent: 100.0 * float(best.fuel / 1_000) / float(allowance / 1_000),
        memory: best.memory,
    };
    match args.output {
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        OutputFormat::Text => print!("{}", table(&report)),
    }
    Ok(())
}

fn table(report: &Report) -> Table {
    let mut table = Table::new(&["POLICY", &report.policy]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("digest", format!("sha256:{}", report.digest));
    row("size", bytes(report.size as u64));
    row("compiled in", format!("{:.1} ms", report.compile_millis));
    row(
        "asked about",
        format!("{} Services with {} endpoints each (calls: {})", report.services, report.endpoints, report.calls),
    );
    row("time a call", format!("{:.1} µs (best of {} rounds)", report.call_micros, report.rounds));
    row("time an endpoint", format!("{:.0} ns", report.endpoint_nanos));
    row("fuel a call", report.fuel_per_call.to_string());
    row("fuel an endpoint", format!("{:.0}", report.fuel_per_endpoint));
    row("of its fuel", format!("{:.2} %", report.fuel_per_cent));
    row("peak memory", bytes(report.memory));
    table
}
