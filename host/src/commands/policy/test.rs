//! `weir policy test`.

mod cases;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use weir_model::NodeIdentity;
use weir_policy::Artifact;

use self::cases::{Case, Cases, Expected, ExpectedList, PortName};
use super::decided::{Decided, Spread, decide};
use super::scene::Scene;
use super::table::percent;
use super::{Workshop, artifact};
use crate::cli::OutputFormat;
use crate::cli::policy::TestArgs;

/// How far a share may be from the expected one, in per cent of all connections.
const TOLERANCE: f64 = 0.5;

/// How a case ended.
#[derive(Serialize)]
struct Ended {
    name: String,
    passed: bool,
    /// What is not as expected, one sentence each.
    problems: Vec<String>,
}

/// Runs every case of the file. Fails when one does.
pub(super) fn run(args: &TestArgs) -> anyhow::Result<()> {
    let cases = Cases::read(&args.cases)?;
    let folder = args.cases.parent().unwrap_or(Path::new(""));
    let artifact = artifact(&args.file, "")?;
    let workshop = Workshop::open()?;
    // A policy that cannot be loaded at all is not a failure of its cases.
    workshop.load(&artifact)?;
    let end = |case: &Case| {
        let problems = problems(&workshop, &artifact, &cases, case, folder);
        Ended { name: case.name.clone(), passed: problems.is_empty(), problems }
    };
    let ended: Vec<Ended> = cases.cases.iter().map(end).collect();
    match args.output {
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&ended)?),
        OutputFormat::Text => {
            for Ended { name, passed, problems } in &ended {
                println!("{:<4}  {name}", if *passed { "ok" } else { "FAIL" });
                problems.iter().for_each(|problem| println!("        {problem}"));
            }
        }
    }
    anyhow::ensure!(!ended.is_empty(), "{} holds no cases", args.cases.display());
    let failed = ended.iter().filter(|ended| !ended.passed).count();
    anyhow::ensure!(failed == 0, "{failed} of {} failed", super::count(ended.len(), "case"));
    Ok(())
}

/// What is not as `case` expects it.
fn problems(workshop: &Workshop, artifact: &Artifact, cases: &Cases, case: &Case, folder: &Path) -> Vec<String> {
    let question = cases.question(case, folder);
    let artifact = Artifact { settings: question.settings, ..artifact.clone() };
    let policy = match workshop.load(&artifact) {
        Ok(policy) => policy,
        Err(error) => return vec![format!("{error:#}")],
    };
    let identity = NodeIdentity { name: question.node, zone: question.zone };
    let mut problems = Vec::new();
    let tell = |problem: &weir_source::Problem| problems.push(format!("manifests: {problem}"));
    let scene = match Scene::load(&question.paths, &question.texts, identity, policy.name(), tell) {
        Ok(scene) => scene,
        Err(error) => return vec![format!("manifests: {error:#}")],
    };
    let ports = decide(&mut workshop.decider(&policy), &scene, policy.name()).ports;
    for expected in &case.expect {
        let named: Vec<&Decided> = ports.iter().filter(|port| expected.names(port)).collect();
        if named.is_empty() {
            let known: Vec<String> = ports.iter().map(ToString::to_string).collect();
            problems.push(format!(
                "{expected} is expected, and there is {}",
                if known.is_empty() { "nothing".to_owned() } else { known.join(", ") }
            ));
        }
        for port in named {
            problems.extend(expected.problems(port).into_iter().map(|problem| format!("{port}: {problem}")));
        }
    }
    problems
}

impl Expected {
    /// Whether it is about that port.
    fn names(&self, port: &Decided) -> bool {
        let service =
            if self.service.contains('/') { self.service.clone() } else { format!("default/{}", self.service) };
        let same_port = match &self.port {
            None => true,
            Some(PortName::Number(number)) => port.port == number.to_string(),
            Some(PortName::Name(name)) => port.port == *name,
        };
        service == port.service && same_port && self.family.as_deref().is_none_or(|family| family == port.family)
    }

    /// What is otherwise.
    fn problems(&self, port: &Decided) -> Vec<String> {
        let mut problems = Vec::new();
        let mut compare = |what: &str, expected: Option<&String>, got: &str| {
            if let Some(expected) = expected.filter(|expected| *expected != got) {
                problems.push(format!("{what}: {expected} is expected, got {got}"));
            }
        };
        compare("internal clients", self.internal.as_ref(), port.internal);
        compare("external clients", self.external.as_ref(), port.external);
        for (expected, (name, list)) in [&self.cluster, &self.local].into_iter().zip(port.lists()) {
            problems.extend(expected.iter().flat_map(|expected| expected.problems(name, list)));
        }
        if let Some(reason) = self.reason.as_ref().filter(|reason| !port.reason.contains(*reason)) {
            problems.push(format!("reason: one with {reason:?} is expected, got {:?}", port.reason));
        }
        problems.extend(self.failure_problem(port));
        problems
    }

    fn failure_problem(&self, port: &Decided) -> Option<String> {
        let told = |failure: &super::decided::Failed| format!("{}: {}", failure.reason, failure.message);
        let is_expected = |failure: &&super::decided::Failed| {
            self.failure.as_deref().is_none_or(|reason| reason == failure.reason)
                && self.message.as_deref().is_none_or(|message| failure.message.contains(message))
        };
        let wanted = self.failure.is_some() || self.message.is_some();
        match (wanted, port.failures.first()) {
            (false, Some(failure)) => Some(format!("{} failed ({})", failure.policy, told(failure))),
            (true, None) => {
                Some(format!("failure: {} is expected, and there is none", self.failure.as_deref().unwrap_or("one")))
            }
            (true, Some(first)) if !port.failures.iter().any(|failure| is_expected(&failure)) => {
                let parts = self.failure.iter().chain(&self.message).map(|part| format!("{part:?}"));
                Some(format!("failure: {} is expected, got {}", parts.collect::<Vec<_>>().join(" with "), told(first)))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.service)?;
        match &self.port {
            Some(PortName::Number(number)) => write!(f, ":{number}")?,
            Some(PortName::Name(name)) => write!(f, ":{name}")?,
            None => {}
        }
        self.family.iter().try_for_each(|family| write!(f, " ({family})"))
    }
}

impl ExpectedList {
    /// What is otherwise in the list called `name`.
    fn problems(&self, name: &str, list: Option<&Spread>) -> Vec<String> {
        let nothing = BTreeMap::new();
        let shares = list.map_or(&nothing, |list| &list.shares);
        let mut problems = Vec::new();
        if let (Some(expected), Some(list)) = (&self.index, list)
            && *expected != list.index
        {
            problems.push(format!("{name} list: index function {expected} is expected, got {}", list.index));
        }
        if let (Some(expected), Some(list)) = (self.affinity_seconds, list)
            && expected != list.affinity_seconds
        {
            problems
                .push(format!("{name} list: affinity of {expected} s is expected, got {} s", list.affinity_seconds));
        }
        if list.is_none() && (self.index.is_some() || self.affinity_seconds.is_some()) {
            problems.push(format!("{name} list: it is empty"));
        }
        let of = |endpoint: &str| {
            shares.iter().filter(|(name, _)| is(name, endpoint)).fold(0.0, |sum, (_, share)| sum + *share)
        };
        let listed = self.endpoints.iter().flatten().map(|endpoint| (endpoint, None));
        let shared = self.shares.iter().flatten().map(|(endpoint, share)| (endpoint, Some(*share)));
        for (endpoint, expected) in listed.chain(shared) {
            let got: f64 = of(endpoint);
            match expected {
                None if got == 0.0 => problems.push(format!("{name} list: {endpoint} is expected, and is not in it")),
                Some(expected) if (expected - got).abs() > TOLERANCE => {
                    let (expected, got) = (percent(expected), percent(got));
                    problems.push(format!("{name} list: {endpoint} should get {expected} %, and gets {got} %"));
                }
                _ => {}
            }
        }
        let named: Vec<&String> =
            self.endpoints.iter().flatten().chain(self.shares.iter().flat_map(BTreeMap::keys)).collect();
        if self.endpoints.is_some() || self.shares.is_some() {
            let others = shares.iter().filter(|(name, _)| !named.iter().any(|endpoint| is(name, endpoint)));
            problems.extend(others.map(|(endpoint, share)| {
                format!("{name} list: {endpoint} is not expected, and gets {} %", percent(*share))
            }));
        }
        problems
    }
}

/// Whether the endpoint `address:port` is meant by a text that may leave the port out.
fn is(endpoint: &str, meant: &str) -> bool {
    let address = endpoint.rsplit_once(':').map_or(endpoint, |(address, _)| address);
    endpoint == meant || address == meant || address.trim_matches(['[', ']']) == meant
}
