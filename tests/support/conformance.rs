//! Runs cases through the whole pure pipeline: store, policy in Wasm, plan, ruleset, simulator.

use std::net::SocketAddr;
use std::path::Path;

use weir::pipeline::Pipeline;
use weir_model::Store;
use weir_nft::sim::{Entry, Env, Memory, Outcome, Packet, Verdict, simulate};
use weir_nft::{Installed, Ruleset};
use weir_policy::Failure;

use crate::cases::{File, Fixture, Group, PacketCase, Seen};
use crate::policies;

/// Source port of all packets; no rule but the flow hash looks at it.
const SOURCE_PORT: u16 = 40_000;

/// What a run counts and prints.
#[derive(Debug, Default)]
pub struct Report {
    /// Packets that ended as they should.
    pub passed: usize,
    /// Packets that did not, each with what is needed to find out why.
    pub failed: Vec<String>,
    /// Packets Weir does not cover yet, each with the reason.
    pub skipped: Vec<String>,
    /// Fields the files use and this runner does not know.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether nothing was run, not even to be skipped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.passed == 0 && self.failed.is_empty() && self.skipped.is_empty()
    }

    /// Runs the groups of a file whose `file/group` contains `filter`.
    ///
    /// # Errors
    /// When the file cannot be read. A group that cannot be set up counts as one failure.
    pub fn run_file(&mut self, path: &Path, filter: &str) -> anyhow::Result<()> {
        let file = File::read(path)?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        for group in &file.groups {
            let at = format!("{name} / {}", group.id);
            if !at.contains(filter) {
                continue;
            }
            self.notes
                .extend(group.unknown_fields().iter().map(|field| format!("{at}: field {field} is unknown here")));
            if let Err(error) = self.run_group(&at, &file.fixture, group) {
                self.failed.push(format!("{at}: {error:#}\n"));
            }
        }
        Ok(())
    }

    fn run_group(&mut self, at: &str, fixture: &Fixture, group: &Group) -> anyhow::Result<()> {
        let config = group.config(fixture)?;
        let store = Store::new(weir::node::identity(&config));
        let facts = weir::node::facts(&config, &fixture.local_ips, &store);
        let mut pipeline = Pipeline::new(store, policies::decider()?, Installed::new(facts), Memory::default());
        let env = Env { local_addresses: fixture.local_ips.iter().copied().collect(), ..Env::default() };

        pipeline.apply(group.cluster()?);
        sync(&mut pipeline)?;
        for packet in &group.packets {
            self.check(at, group, packet, pipeline.dataplane().ruleset(), &env)?;
        }
        if !group.after_slice_delete.is_empty() {
            group.slices_gone()?.into_iter().for_each(|event| pipeline.apply(event));
            sync(&mut pipeline)?;
        }
        for packet in &group.after_slice_delete {
            self.check(at, group, packet, pipeline.dataplane().ruleset(), &env)?;
        }
        Ok(())
    }

    fn check(
        &mut self,
        at: &str,
        group: &Group,
        case: &PacketCase,
        ruleset: &Ruleset,
        env: &Env,
    ) -> anyhow::Result<()> {
        let from_node = case.src.is_loopback() || env.local_addresses.contains(&case.src);
        let packet = Packet {
            entry: if from_node { Entry::Node } else { Entry::Network },
            protocol: case.proto.into(),
            source: SocketAddr::new(case.src, SOURCE_PORT),
            destination: SocketAddr::new(case.dst, case.port),
            mark: 0,
        };
        let outcomes = simulate(ruleset, &packet, env)?;
        let (expected, seen) = (group.expectation(case), Seen { endings: outcomes.iter().map(ending).collect() });
        if expected.is_met_by(&seen) {
            self.passed += 1;
        } else {
            let Packet { protocol, source, destination, .. } = packet;
            let mut text = format!("{at} / {}\n", case.name);
            text += &format!(
                "  packet    {protocol} {source} -> {destination}{}\n",
                if from_node { ", sent by the node" } else { "" }
            );
            text += &format!("  expected  {expected}\n  seen      {seen}\n");
            outcomes.iter().for_each(|outcome| text += &trace(outcome));
            self.failed.push(text);
        }
        Ok(())
    }
}

/// One sync. A policy that fails or an address that is refused would hide what the case is about.
fn sync(pipeline: &mut Pipeline<Memory>) -> anyhow::Result<()> {
    let outcome = pipeline.sync()?;
    if let Some(failure) = outcome.failures.first() {
        let (Failure { service, port, policy, message, .. }, all) = (failure, outcome.failures.len());
        anyhow::bail!("policy {policy} fails for {service}:{port}: {message} ({all} failures in all)");
    }
    if let Some(rejection) = outcome.rejections.first() {
        anyhow::bail!("{rejection}");
    }
    let wanted = pipeline.installed().ruleset();
    anyhow::ensure!(*pipeline.dataplane().ruleset() == wanted, "the transactions do not add up to the ruleset");
    Ok(())
}

fn ending(outcome: &Outcome) -> (String, bool) {
    match outcome.verdict {
        Verdict::Delivered { to, masqueraded } => (to.map(|to| to.to_string()).unwrap_or_default(), masqueraded),
        Verdict::Reject => ("REJECT".to_owned(), false),
        Verdict::Drop => ("DROP".to_owned(), false),
    }
}

fn trace(outcome: &Outcome) -> String {
    let (ending, _) = ending(outcome);
    let share = outcome.share;
    let mut text = format!(
        "  way to    {} ({} of {})\n",
        if ending.is_empty() { "unchanged" } else { &ending },
        share.count,
        share.of
    );
    outcome.trace.iter().for_each(|line| text += &format!("            {line}\n"));
    text
}
