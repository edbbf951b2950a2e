//! The whole pipeline on files: source, model, the policies in Wasm, plan and nft.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use weir::config::Config;
use weir::pipeline::{Outcome, Pipeline};
use weir_model::{Event, Store};
use weir_nft::sim::Memory;
use weir_nft::{Installed, Ruleset, text};
use weir_source::{Loaded, Manifests, Problem, Selection, Severity};
use weir_tests::policies;

/// A node, the same on every machine.
pub(crate) struct Node {
    config: Config,
    addresses: Vec<IpAddr>,
}

impl Node {
    /// The node with those settings; it has one address of each family.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub(crate) fn load(config: &Path) -> anyhow::Result<Self> {
        let addresses =
            ["192.168.0.2", "2001:db8::1"].iter().map(|address| address.parse()).collect::<Result<_, _>>()?;
        Ok(Self {
            config: weir::config::read(&[config.to_path_buf()], &weir::config::Flags::default())?.config,
            addresses,
        })
    }

    /// A pipeline that has seen nothing.
    ///
    /// # Errors
    /// When the policies do not load.
    pub(crate) fn pipeline(&self) -> anyhow::Result<Pipeline<Memory>> {
        let store = Store::new(weir::node::identity(&self.config));
        let installed = Installed::new(weir::node::facts(&self.config, &self.addresses, &store));
        Ok(Pipeline::new(store, policies::decider()?, installed, Memory::default()))
    }
}

/// Manifests and what came of them.
pub(crate) struct Rendering {
    pipeline: Pipeline<Memory>,
    /// What the operator is told, a line each.
    remarks: Vec<String>,
}

impl Rendering {
    /// Reads manifests and syncs once.
    ///
    /// # Errors
    /// When the sync fails. Objects that are bad are no error but a remark.
    pub(crate) fn of(node: &Node, manifests: &[PathBuf]) -> anyhow::Result<Self> {
        let loaded = Manifests::load(manifests, &Selection::default());
        let mut rendering = Self { pipeline: node.pipeline()?, remarks: remarks(&loaded) };
        loaded.into_events().into_iter().for_each(|event| rendering.pipeline.apply(event));
        let outcome = sync(&mut rendering.pipeline)?;
        rendering.remarks.extend(complaints(&outcome));
        Ok(rendering)
    }

    /// The ruleset, below what the operator is told.
    pub(crate) fn text(&self) -> String {
        below(&self.remarks, &text::ruleset(&self.ruleset()))
    }

    /// The ruleset.
    pub(crate) fn ruleset(&self) -> Ruleset {
        self.pipeline.installed().ruleset()
    }

    /// Applies the objects of another file on top and gives the transaction that is sent for them, below what
    /// the operator is told.
    ///
    /// # Errors
    /// When the sync fails.
    pub(crate) fn change(&mut self, manifests: &Path) -> anyhow::Result<String> {
        let loaded = Manifests::load(&[manifests.to_owned()], &Selection::default());
        let mut told = remarks(&loaded);
        events(loaded).into_iter().for_each(|event| self.pipeline.apply(event));
        let outcome = sync(&mut self.pipeline)?;
        told.extend(complaints(&outcome));
        Ok(below(&told, &text::transaction(&outcome.transaction)))
    }
}

/// The objects as events of their own.
pub(crate) fn events(loaded: Loaded) -> Vec<Event> {
    let services = loaded.services.into_iter().map(Event::Service);
    services.chain(loaded.slices.into_iter().map(Event::Slice)).collect()
}

/// One sync, after which the data plane holds what the pipeline believes it does.
///
/// # Errors
/// When the sync fails, or the transactions do not add up to the ruleset.
pub(crate) fn sync(pipeline: &mut Pipeline<Memory>) -> anyhow::Result<Outcome> {
    let outcome = pipeline.sync()?;
    let wanted = pipeline.installed().ruleset();
    anyhow::ensure!(*pipeline.dataplane().ruleset() == wanted, "the transactions do not add up to the ruleset");
    Ok(outcome)
}

/// What is wrong with manifests. Of a file's path only the name, so that the text is the same in every checkout.
fn remarks(loaded: &Loaded) -> Vec<String> {
    let told = |problem: &&Problem| problem.severity != Severity::Note;
    let local = |problem: &Problem| {
        let file = problem.file.file_name().map(PathBuf::from).unwrap_or_default();
        Problem { file, ..problem.clone() }.to_string()
    };
    loaded.problems.iter().filter(told).map(local).collect()
}

/// What is wrong with single ports.
fn complaints(outcome: &Outcome) -> Vec<String> {
    let failures = outcome
        .failures
        .iter()
        .map(|failure| format!("{}:{}: policy {}: {}", failure.service, failure.port, failure.policy, failure.message));
    failures.chain(outcome.rejections.iter().map(ToString::to_string)).collect()
}

/// `text` below the remarks, which become comments; one of several lines becomes several.
fn below(remarks: &[String], text: &str) -> String {
    let comments: String = remarks.iter().flat_map(|remark| remark.lines()).map(|line| format!("# {line}\n")).collect();
    comments + text
}
