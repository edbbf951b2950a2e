//! `weir policy check`.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use weir_policy::{Artifact, Inspection, Kind, Packing, Policy, Role};

use super::decided::{Decided, decide};
use super::scene::Scene;
use super::table::bytes;
use super::{Workshop, artifact};
use crate::cli::OutputFormat;
use crate::cli::policy::CheckArgs;

/// What a ConfigMap may hold altogether (Kubernetes: `MaxSecretSize` of the API's validation).
const CONFIG_MAP_BYTES: usize = 1 << 20;

/// Share of its fuel beyond which a policy is called hungry, in per cent.
const HUNGRY: u64 = 50;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    level: Level,
    /// What was looked at, in a word.
    about: &'static str,
    /// What was found, in a sentence.
    text: String,
}

/// The whole answer.
#[derive(Default, Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

impl Findings {
    fn tell(&mut self, level: Level, about: &'static str, text: impl Into<String>) {
        self.findings.push(Finding { level, about, text: text.into() });
    }

    fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.level == Level::Error).count()
    }
}

/// Looks at everything Weir would look at, and at what only shows with time. Fails when something is wrong.
pub(super) fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let artifact = artifact(&args.subject.file, &args.subject.settings)?;
    let workshop = Workshop::open()?;
    let mut findings = Findings::default();
    if look(&workshop, &artifact, &mut findings)
        && let Some(policy) = load(&workshop, &artifact, &mut findings)
    {
        behaviour(&workshop, &policy, &mut findings);
    }
    match args.output {
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
        OutputFormat::Text => {
            for Finding { level, about, text } in &findings.findings {
                let mark = match level {
                    Level::Ok => "ok",
                    Level::Warning => "warning",
                    Level::Error => "ERROR",
                };
                println!("{mark:<8} {about:<12} {text}");
            }
        }
    }
    let errors = findings.errors();
    anyhow::ensure!(errors == 0, "policy {} fails {}", artifact.name, super::count(errors, "check"));
    Ok(())
}

/// What the bytes tell. Returns whether there is something to load.
fn look(workshop: &Workshop, artifact: &Artifact, findings: &mut Findings) -> bool {
    let seen = match Inspection::of(artifact, workshop.engine.limits().component) {
        Ok(seen) => seen,
        Err(error) => {
            findings.tell(Level::Error, "file", error.to_string());
            return false;
        }
    };
    let packed = match seen.packing {
        Packing::Plain => String::new(),
        packing => format!(", {} packed by {packing}", bytes(seen.packed_size as u64)),
    };
    findings.tell(Level::Ok, "digest", format!("sha256:{}", seen.digest));
    if seen.packed_size > CONFIG_MAP_BYTES {
        let advice = if seen.packing == Packing::Plain { "pack it with `zstd -19`, or bring" } else { "bring" };
        let text =
            format!("{}{packed}: no ConfigMap holds that (1 MiB); {advice} it another way", bytes(seen.size as u64));
        findings.tell(Level::Warning, "size", text);
    } else {
        findings.tell(Level::Ok, "size", format!("{}{packed}; fits a ConfigMap", bytes(seen.size as u64)));
    }
    if seen.kind == Kind::Component {
        let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        findings.tell(Level::Ok, "imports", list(&seen.imports));
        findings.tell(Level::Ok, "exports", list(&seen.exports));
    }
    true
}

/// What loading tells.
fn load(workshop: &Workshop, artifact: &Artifact, findings: &mut Findings) -> Option<Policy> {
    let start = Instant::now();
    let policy = match Policy::from_artifact(&workshop.engine, artifact, &[]) {
        Ok(policy) => policy,
        Err(error) => {
            findings.tell(Level::Error, error.reason(), error.to_string());
            return None;
        }
    };
    findings.tell(Level::Ok, "compile", format!("compiled and started in {:.0?}", start.elapsed()));
    match policy.about() {
        Some(about) => findings.tell(Level::Ok, "about", super::inspect::label(about)),
        None => findings.tell(Level::Ok, "about", "nothing: a policy of contract 0.1 cannot say what it is"),
    }
    let roles = [Role::TrafficPolicy, Role::Balancer].into_iter().filter(|role| policy.plays(*role));
    findings.tell(Level::Ok, "roles", roles.map(|role| role.to_string()).collect::<Vec<_>>().join(" and "));
    findings.tell(Level::Ok, "contract", format!("weir:policy {}", policy.contract()));
    let taken = match (policy.settings(), policy.about()) {
        ("", Some(_)) => "it works without",
        ("", None) => "none were given",
        (_, Some(_)) => "it takes them",
        (_, None) => "they are JSON; whether it takes them shows when it decides",
    };
    findings.tell(Level::Ok, "settings", taken);
    Some(policy)
}

/// What asking it tells: about Services of every kind, twice, and one by one.
fn behaviour(workshop: &Workshop, policy: &Policy, findings: &mut Findings) {
    let scene = Scene::of_all_kinds(policy.name());
    let ask = || decide(&mut workshop.decider(policy), &scene, policy.name());
    let first = ask();
    let (ports, endpoints) = (first.ports.len(), scene.endpoints());
    let failed = failures(&first.ports);
    if failed.is_empty() {
        findings.tell(Level::Ok, "answers", format!("good ones for {ports} ports with {endpoints} endpoints"));
    }
    for ((reason, message), (count, example)) in failed {
        findings.tell(
            Level::Error,
            reason,
            format!("no answer for {count} of {ports} ports, such as {example}: {message}"),
        );
    }
    let limits = workshop.engine.limits();
    let allowed = first.stats.calls * limits.fuel + limits.fuel_per_endpoint * (first.stats.asked + endpoints as u64);
    let share = first.stats.fuel.saturating_mul(100) / allowed.max(1);
    let calls = super::count(usize::try_from(first.stats.calls).unwrap_or(usize::MAX), "call");
    let text = format!("{} of the {allowed} units that {calls} may use ({share} %)", first.stats.fuel);
    findings.tell(if share < HUNGRY { Level::Ok } else { Level::Warning }, "fuel", text);
    let (memory, allowed) = (first.stats.memory, limits.memory as u64);
    let text = format!("{} of the {} a call may have", bytes(memory), bytes(allowed));
    findings.tell(if memory * 100 < allowed * HUNGRY { Level::Ok } else { Level::Warning }, "memory", text);
    if first.stats.blind {
        let text = "it looks up names, pods or annotations, and gets nothing: `about` must ask for them in `inputs`";
        findings.tell(Level::Warning, "inputs", text);
    }
    match difference(&first.ports, &ask().ports) {
        None => findings.tell(Level::Ok, "determinism", "equal input in a fresh instance gives the equal answer"),
        Some(what) => findings.tell(Level::Error, "determinism", format!("equal input gives another answer: {what}")),
    }
    let one_by_one: Vec<Decided> = scene
        .services
        .iter()
        .flat_map(|id| {
            let alone = workshop.decider(policy).decide(&scene.store, &[*id]);
            super::decided::in_words(&scene.store, &alone)
        })
        .collect();
    let mut one_by_one = one_by_one;
    one_by_one.sort_by(|a, b| a.place().cmp(&b.place()));
    match difference(&first.ports, &one_by_one) {
        None => findings.tell(Level::Ok, "batches", "a port gets the same answer alone as among others"),
        Some(what) => {
            findings.tell(
                Level::Error,
                "batches",
                format!("a port gets another answer alone than among others: {what}"),
            );
        }
    }
}

/// The failures of a policy, alike ones together: how many, and where for example.
fn failures(ports: &[Decided]) -> BTreeMap<(&'static str, String), (usize, String)> {
    let mut found: BTreeMap<(&'static str, String), (usize, String)> = BTreeMap::new();
    for port in ports {
        for failure in &port.failures {
            let text = format!("{}: {}", failure.reason, failure.message);
            found.entry(("answers", text)).or_insert_with(|| (0, port.to_string())).0 += 1;
        }
    }
    found
}

/// The first port that was not decided alike, and how.
fn difference(one: &[Decided], other: &[Decided]) -> Option<String> {
    let differs = |(a, b): &(&Decided, &Decided)| !a.does_as(b) || a.reason != b.reason || a.failures != b.failures;
    let (a, b) = one.iter().zip(other).find(differs)?;
    let what = super::diff::differences(a, b);
    let what = if what.is_empty() { format!("reason {:?} → {:?}", a.reason, b.reason) } else { what.join("; ") };
    Some(format!("{a}: {what}"))
}
