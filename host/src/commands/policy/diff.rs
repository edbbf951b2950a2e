//! `weir policy diff`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::decided::{Decided, Spread, decide};
use super::replay;
use super::scene::Scene;
use super::table::percent;
use super::{Workshop, artifact};
use crate::cli::OutputFormat;
use crate::cli::policy::DiffArgs;

/// The whole answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    old: String,
    new: String,
    /// Ports that were compared.
    ports: usize,
    changed: Vec<Change>,
}

/// A port that would change.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    service: String,
    port: String,
    family: &'static str,
    protocol: String,
    /// What, one sentence each.
    differences: Vec<String>,
    old: Decided,
    new: Decided,
}

/// Shows what would change. That something would is no failure.
pub(super) fn run(args: &DiffArgs) -> anyhow::Result<()> {
    if !args.records.is_empty() {
        return replay::diff(args);
    }
    let workshop = Workshop::open()?;
    let new_settings = args.new_settings.as_deref().unwrap_or(&args.settings);
    let ask = |file, settings| -> anyhow::Result<(String, Vec<Decided>)> {
        let policy = workshop.load(&artifact(file, settings)?)?;
        let scene = Scene::of_args(&args.scene, policy.name())?;
        let ports = decide(&mut workshop.decider(&policy), &scene, policy.name()).ports;
        Ok((format!("{} sha256:{}", policy.name(), policy.digest()), ports))
    };
    let (old, before) = ask(&args.old, &args.settings)?;
    let (new, after) = ask(&args.new, new_settings)?;
    let report = Report { old, new, ports: before.len(), changed: changes(&before, &after) };
    match args.output {
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        OutputFormat::Text => {
            println!("- {}\n+ {}", report.old, report.new);
            for change in &report.changed {
                println!("\n{}", change.old);
                change.differences.iter().for_each(|difference| println!("  {difference}"));
            }
            let services: BTreeSet<&str> = report.changed.iter().map(|change| &*change.service).collect();
            let (changed, services) = (report.changed.len(), super::count(services.len(), "Service"));
            println!("\n{changed} of {} would change, of {services}", super::count(report.ports, "port"));
        }
    }
    Ok(())
}

/// The ports that two policies do not decide alike. Both were asked about the same ports.
fn changes(before: &[Decided], after: &[Decided]) -> Vec<Change> {
    before
        .iter()
        .zip(after)
        .filter(|(old, new)| !old.does_as(new) || old.failures != new.failures)
        .map(|(old, new)| Change {
            service: old.service.clone(),
            port: old.port.clone(),
            family: old.family,
            protocol: old.protocol.clone(),
            differences: differences(old, new),
            old: old.clone(),
            new: new.clone(),
        })
        .collect()
}

/// What is not the same, one sentence each.
pub(super) fn differences(old: &Decided, new: &Decided) -> Vec<String> {
    let mut told = Vec::new();
    let mut tell = |what: &str, was: &str, is: &str| {
        if was != is {
            told.push(format!("{what}: {was} → {is}"));
        }
    };
    tell("internal clients", old.internal, new.internal);
    tell("external clients", old.external, new.external);
    let yes_no = |yes| if yes { "yes" } else { "no" };
    tell("short cut for pods", yes_no(old.short_cut), yes_no(new.short_cut));
    for ((name, old), (_, new)) in old.lists().into_iter().zip(new.lists()) {
        match (old, new) {
            (Some(old), Some(new)) => told.extend(list_differences(name, old, new)),
            (Some(_), None) => told.push(format!("{name} list: gone")),
            (None, Some(new)) => told.push(format!("{name} list: new, {}", super::table::shares(new))),
            (None, None) => {}
        }
    }
    told.extend(
        old.failures
            .iter()
            .filter(|failure| !new.failures.contains(failure))
            .map(|failure| format!("{} does not fail any more ({})", failure.policy, failure.reason)),
    );
    told.extend(
        new.failures
            .iter()
            .filter(|failure| !old.failures.contains(failure))
            .map(|failure| format!("{} fails ({}): {}", failure.policy, failure.reason, failure.message)),
    );
    told
}

fn list_differences(name: &str, old: &Spread, new: &Spread) -> Vec<String> {
    let mut told = Vec::new();
    if old.index != new.index {
        told.push(format!("{name} list: index function {} → {}", old.index, new.index));
    }
    if old.affinity_seconds != new.affinity_seconds {
        told.push(format!("{name} list: affinity {} s → {} s", old.affinity_seconds, new.affinity_seconds));
    }
    let both: BTreeMap<&String, (Option<f64>, Option<f64>)> = old
        .shares
        .keys()
        .chain(new.shares.keys())
        .map(|endpoint| (endpoint, (old.shares.get(endpoint).copied(), new.shares.get(endpoint).copied())))
        .collect();
    for (endpoint, shares) in both {
        match shares {
            (Some(was), Some(is)) if percent(was) != percent(is) => {
                told.push(format!("{name} list: {endpoint} {} % → {} %", percent(was), percent(is)));
            }
            (Some(was), None) => told.push(format!("{name} list: {endpoint} lost, had {} %", percent(was))),
            (None, Some(is)) => told.push(format!("{name} list: {endpoint} gained, gets {} %", percent(is))),
            _ => {}
        }
    }
    if told.is_empty() && old != new {
        told.push(format!("{name} list: {} → {} slots, shares as before", old.slots, new.slots));
    }
    told
}
