//! `weir policy run`.

use serde::Serialize;

use super::decided::{Decided, decide};
use super::replay;
use super::scene::Scene;
use super::table::{Table, shares};
use super::{Workshop, artifact};
use crate::cli::OutputFormat;
use crate::cli::policy::RunArgs;

/// The whole answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    policy: String,
    digest: String,
    ports: Vec<Decided>,
}

/// Shows what a policy decides for every Service of the manifests.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    if !args.replay.is_empty() {
        return replay::run(args);
    }
    let workshop = Workshop::open()?;
    let policy = workshop.load(&artifact(&args.subject.file, &args.subject.settings)?)?;
    let scene = Scene::of_args(&args.scene, policy.name())?;
    let ports = decide(&mut workshop.decider(&policy), &scene, policy.name()).ports;
    let failed = ports.iter().filter(|port| !port.failures.is_empty()).count();
    let total = ports.len();
    match args.output {
        OutputFormat::Json => {
            let report = Report { policy: policy.name().to_owned(), digest: policy.digest().to_string(), ports };
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
        OutputFormat::Text => print!("{}", table(&ports)),
    }
    anyhow::ensure!(failed == 0, "policy {} gave no answer for {failed} of {total} ports", policy.name());
    Ok(())
}

/// One row a list, and below it why.
pub(super) fn table(ports: &[Decided]) -> Table {
    let mut table = Table::new(&["SERVICE PORT", "FAMILY", "INTERNAL", "EXTERNAL", "LIST", "INDEX", "ENDPOINTS"]);
    for port in ports {
        let head = [
            format!("{}:{}/{}", port.service, port.port, port.protocol),
            port.family.to_owned(),
            port.internal.to_owned(),
            if port.short_cut { format!("{}, pods: cluster", port.external) } else { port.external.to_owned() },
        ];
        let lists: Vec<_> = port.lists().into_iter().filter_map(|(name, list)| Some((name, list?))).collect();
        if lists.is_empty() {
            table.row(head.clone().into_iter().chain(["-", "-", "none"].map(str::to_owned)));
        }
        for (at, (name, list)) in lists.into_iter().enumerate() {
            let sticky =
                if list.affinity_seconds > 0 { format!(", kept {} s", list.affinity_seconds) } else { String::new() };
            let head = if at == 0 { head.clone() } else { Default::default() };
            let cells = [name.to_owned(), list.index.to_owned(), shares(list) + &sticky];
            table.row(head.into_iter().chain(cells));
        }
        if !port.reason.is_empty() {
            table.note(format!("because: {}", port.reason));
        }
        for failure in &port.failures {
            table.note(format!("{} failed ({}): {}", failure.policy, failure.reason, failure.message));
        }
        if !port.failures.is_empty() {
            table.note(format!("decided by {}", port.decided_by));
        }
    }
    table
}
