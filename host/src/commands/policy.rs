//! `weir policy`: what those who write policies need, without a cluster and without root.
//!
//! Every command asks through the same engine, limits and checks as the daemon, so what works here works there.

mod bench;
mod check;
mod component;
mod decided;
mod diff;
mod inspect;
mod new;
mod registry;
mod replay;
mod run;
mod scene;
mod table;
mod test;

use std::path::Path;

use anyhow::{Context, bail};
use weir_policy::{Artifact, BUILT_IN, Catalog, Decider, Engine, Limits, Policy};

use crate::cli::policy::PolicyCommand;

/// Largest file that is read as a component: the limit of components themselves counts only once it is unpacked.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// How the name of a built-in policy begins here: the name itself is taken.
const BUILT_IN_PREFIX: &str = "built-in ";

/// `1 call`, `2 calls`.
fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// Runs one command of the workshop.
pub(crate) fn run(command: &PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::New(args) => new::run(args),
        PolicyCommand::Component(args) => component::run(args),
        PolicyCommand::Check(args) => check::run(args),
        PolicyCommand::Inspect(args) => inspect::run(args),
        PolicyCommand::Run(args) => run::run(args),
        PolicyCommand::Test(args) => test::run(args),
        PolicyCommand::Bench(args) => bench::run(args),
        PolicyCommand::Push(args) => registry::push(args),
        PolicyCommand::Pull(args) => registry::pull(args),
        PolicyCommand::Diff(args) => diff::run(args),
    }
}

/// The policy in a file, or the built-in one of that name, with `settings` for Services that give none. It is called
/// what its file is called.
fn artifact(file: &Path, settings: &str) -> anyhow::Result<Artifact> {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let built_in = |name: &str| BUILT_IN.iter().find(|(built_in, _)| *built_in == name);
    let settings = settings.trim().to_owned();
    if !file.exists()
        && file.components().count() == 1
        && let Some((name, component)) = built_in(&name)
    {
        let name = format!("{BUILT_IN_PREFIX}{name}");
        return Ok(Artifact { name, component: component.to_vec(), settings, ..Artifact::default() });
    }
    let shown = || format!("policy {}", file.display());
    let size = std::fs::metadata(file).with_context(shown)?.len();
    if size > MAX_FILE_BYTES {
        bail!("policy {}: {size} bytes are more than the {MAX_FILE_BYTES} a policy may have", file.display());
    }
    let component = std::fs::read(file).with_context(shown)?;
    let stem = name.split_once(".wasm").map_or(&*name, |(stem, _)| stem);
    // The names of the built-in policies are taken; a file that is called like one keeps its ending.
    let name = if stem.is_empty() || built_in(stem).is_some() { name.clone() } else { stem.to_owned() };
    Ok(Artifact { name, component, settings, ..Artifact::default() })
}

/// The engine of the daemon, with its limits, and the built-in policies.
struct Workshop {
    engine: Engine,
    catalog: Catalog,
}

impl Workshop {
    fn open() -> anyhow::Result<Self> {
        let engine = Engine::new(Limits::default())?;
        let catalog = Catalog::new(&engine, "kubernetes", "random")?;
        Ok(Self { engine, catalog })
    }

    /// Compiles and checks what `artifact` holds.
    fn load(&self, artifact: &Artifact) -> anyhow::Result<Policy> {
        Policy::from_artifact(&self.engine, artifact, &[]).with_context(|| format!("policy {}", artifact.name))
    }

    /// A decider that knows `policy` besides the built-in ones, remembers nothing, and asks about every port.
    fn decider(&self, policy: &Policy) -> Decider {
        let mut catalog = self.catalog.clone();
        catalog.set(policy.clone());
        let mut decider = Decider::new(catalog);
        decider.ask_each();
        decider
    }
}
