//! Runs cases through the whole pure pipeline: store, policy in Wasm, plan, ruleset, simulator.

use std::net::SocketAddr;

use weir::pipeline::Pipeline;
use weir_nft::sim::{Entry, Env, Memory, Outcome, Packet, Remembered, Verdict, simulate};
use weir_nft::{Dataplane, Installed, Ruleset};
use weir_policy::Failure;

use crate::cases::{Fixture, Group, PacketCase, Seen, leader};
use crate::policies;
use crate::report::Report;

/// Source port of all packets; no rule but the flow hash looks at it.
const SOURCE_PORT: u16 = 40_000;

/// Runs one group on the simulator; a [`crate::report::Runner`].
///
/// # Errors
/// When the group makes no sense, a policy fails, or the rules cannot be built.
pub fn run_group(at: &str, fixture: &Fixture, group: &Group, report: &mut Report) -> anyhow::Result<()> {
    let config = group.config(fixture)?;
    let (store, facts) = fixture.node(&config);
    let mut pipeline = Pipeline::new(store, policies::decider()?, Installed::new(facts), Memory::default());
    let env = Env { local_addresses: fixture.local_ips.iter().copied().collect(), ..Env::default() };
    let mut run = |pipeline: &mut Pipeline<Memory>, packets: &[PacketCase]| -> anyhow::Result<()> {
        sync(pipeline)?;
        let wanted = pipeline.installed().ruleset();
        let ruleset = pipeline.dataplane().ruleset();
        anyhow::ensure!(*ruleset == wanted, "the transactions do not add up to the ruleset");
        packets.iter().try_for_each(|case| check(at, fixture, group, packets, case, ruleset, &env, report))
    };

    pipeline.apply(group.cluster()?);
    run(&mut pipeline, &group.packets)?;
    if !group.after_slice_delete.is_empty() {
        group.slices_gone()?.into_iter().for_each(|event| pipeline.apply(event));
        run(&mut pipeline, &group.after_slice_delete)?;
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "a case and everything it depends on")]
fn check(
    at: &str,
    fixture: &Fixture,
    group: &Group,
    packets: &[PacketCase],
    case: &PacketCase,
    ruleset: &Ruleset,
    env: &Env,
    report: &mut Report,
) -> anyhow::Result<()> {
    let at = format!("{at} / {}", case.name);
    let packet = packet(fixture, case)?;
    let mut strays = Vec::new();
    let outcomes = match leader(packets, case)? {
        None => simulate(ruleset, &packet, env)?,
        Some(leader) => {
            let mut outcomes = Vec::new();
            for first in simulate(ruleset, &self::packet(fixture, leader)?, env)? {
                let after = simulate(ruleset, &packet, &remembering(env, first.remembered))?;
                let stray = after.iter().find(|after| ending(after).0 != ending(&first).0);
                strays.extend(stray.map(|stray| format!("{} follows {}", ending(stray).0, ending(&first).0)));
                outcomes.extend(after);
            }
            outcomes
        }
    };
    let (expected, seen) = (group.expectation(case), Seen { endings: outcomes.iter().map(ending).collect() });
    if expected.is_met_by(&seen) && strays.is_empty() {
        report.pass(&at, &expected, &seen);
        return Ok(());
    }
    let Packet { protocol, source, destination, .. } = packet;
    let sender = if packet.entry == Entry::Node { ", sent by the node" } else { "" };
    let mut text = format!("{at}\n  packet    {protocol} {source} -> {destination}{sender}\n");
    text += &format!("  expected  {expected}\n  seen      {seen}\n");
    strays.iter().for_each(|stray| text += &format!("  not the same: {stray}\n"));
    outcomes.iter().for_each(|outcome| text += &trace(outcome));
    report.fail(text);
    Ok(())
}

fn packet(fixture: &Fixture, case: &PacketCase) -> anyhow::Result<Packet> {
    Ok(Packet {
        entry: if case.from_node(fixture) { Entry::Node } else { Entry::Network },
        protocol: case.proto.into(),
        source: SocketAddr::new(case.src, SOURCE_PORT),
        destination: SocketAddr::new(case.dst, case.port),
        mark: case.mark()?,
    })
}

/// The world after a connection that was remembered.
fn remembering(env: &Env, remembered: Option<Remembered>) -> Env {
    let mut env = env.clone();
    env.affinity.extend(remembered.map(|Remembered { key, endpoint, .. }| (key, endpoint)));
    env
}

/// One sync. A policy that fails or an address that is refused would hide what the cases are about.
pub(crate) fn sync<D: Dataplane>(pipeline: &mut Pipeline<D>) -> anyhow::Result<()> {
    let outcome = pipeline.sync()?;
    if let Some(failure) = outcome.failures.first() {
        let (Failure { service, port, policy, message, .. }, all) = (failure, outcome.failures.len());
        anyhow::bail!("policy {policy} fails for {service}:{port}: {message} ({all} failures in all)");
    }
    if let Some(rejection) = outcome.rejections.first() {
        anyhow::bail!("{rejection}");
    }
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
