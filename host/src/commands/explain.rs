//! `weir explain`.

use std::fmt::Write;
use std::net::SocketAddr;

use serde::Serialize;
use weir_model::{Decision, Family, Origin};
use weir_netlink::Kernel;
use weir_nft::sim::{Entry, Env, Memory, Outcome, Packet, Verdict, simulate};
use weir_nft::{Dataplane, Ruleset};
use weir_plan::{Frontend, FrontendAddress, NodeFacts, NodePortAddresses, PortPlan, Treatment};

use crate::cli::{ExplainArgs, OutputFormat};
use crate::config::Config;
use crate::node;
use crate::pipeline::Pipeline;

/// The whole answer.
#[derive(Debug, Serialize)]
struct Explanation {
    from: String,
    to: String,
    /// Whose address it is; absent when no Service has it, or when the rules were read from the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    frontend: Option<Owner>,
    outcomes: Vec<Ending>,
}

/// The Service port behind an address, and who decided what happens there.
#[derive(Debug, Serialize)]
struct Owner {
    port: String,
    kind: String,
    treatment: String,
    decided_by: String,
    reason: String,
}

/// One thing that can happen.
#[derive(Debug, Serialize)]
struct Ending {
    verdict: String,
    share: f64,
    masqueraded: bool,
    rules: Vec<String>,
}

/// Explains by manifests, if there are any, else by what is in the kernel.
pub(crate) fn run(args: &ExplainArgs, config: &Config) -> anyhow::Result<()> {
    let addresses = if args.node_addresses.is_empty() { node::addresses()? } else { args.node_addresses.clone() };
    let (from, to) = (args.from, args.to);
    let own = addresses.contains(&from) || from.is_loopback();
    let packet = Packet {
        entry: if own { Entry::Node } else { Entry::Network },
        protocol: to.protocol,
        source: SocketAddr::new(from, 0),
        destination: SocketAddr::new(to.address, to.port),
        mark: 0,
    };
    let env = Env {
        local_addresses: addresses.iter().copied().collect(),
        interface: args.interface.clone(),
        ..Env::default()
    };
    let (ruleset, frontend): (Ruleset, Option<Owner>) = if args.input.is_given() {
        let pipeline = super::planned(&args.input, config, &addresses)?;
        let ruleset = pipeline.installed().ruleset();
        (ruleset, owner(&pipeline, &packet))
    } else {
        (Kernel::open()?.dump()?, None)
    };
    let outcomes = simulate(&ruleset, &packet, &env)?;
    let explanation = Explanation {
        from: from.to_string(),
        to: format!("{}/{}", packet.destination, to.protocol),
        frontend,
        outcomes: outcomes.iter().map(ending).collect(),
    };
    match args.output {
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&explanation)?),
        OutputFormat::Text => print!("{}", text(&explanation)?),
    }
    Ok(())
}

fn ending(outcome: &Outcome) -> Ending {
    let (verdict, masqueraded) = match outcome.verdict {
        Verdict::Delivered { to: Some(to), masqueraded } => (format!("to {to}"), masqueraded),
        Verdict::Delivered { to: None, masqueraded } => ("not touched".to_owned(), masqueraded),
        Verdict::Reject => ("rejected".to_owned(), false),
        Verdict::Drop => ("dropped".to_owned(), false),
    };
    Ending { verdict, share: outcome.share.as_f64(), masqueraded, rules: outcome.trace.clone() }
}

fn owner(pipeline: &Pipeline<Memory>, packet: &Packet) -> Option<Owner> {
    let facts = pipeline.installed().node();
    let here = |frontend: &&Frontend| is_at(frontend, facts, packet);
    let (plan, frontend) = pipeline.installed().plans().find_map(|plan| {
        let fits =
            plan.protocol() == packet.protocol && plan.family() == weir_model::Family::of(packet.destination.ip());
        fits.then(|| plan.frontends.iter().find(here)).flatten().map(|frontend| (plan, frontend))
    })?;
    let decision = pipeline.decision(&plan.key)?;
    Some(Owner {
        port: plan.name.to_string(),
        kind: frontend.kind.to_string(),
        treatment: treatment(plan, frontend),
        decided_by: decided_by(decision),
        reason: decision.reason.to_string(),
    })
}

fn is_at(frontend: &Frontend, facts: &NodeFacts, packet: &Packet) -> bool {
    let address = packet.destination.ip();
    let ours = match frontend.address {
        FrontendAddress::Ip(ip) => ip == address,
        FrontendAddress::NodePort => match facts.node_ports(Family::of(address)) {
            NodePortAddresses::Listed(listed) => listed.contains(&address),
            NodePortAddresses::All => true,
        },
    };
    ours && frontend.port == packet.destination.port()
}

fn treatment(plan: &PortPlan, frontend: &Frontend) -> String {
    let endpoints = |ring: &Option<weir_plan::PlanRing>| {
        ring.as_ref().map_or(0, |ring| {
            let mut slots = ring.slots.clone();
            slots.sort_unstable();
            slots.dedup();
            slots.len()
        })
    };
    let (cluster, local) = (endpoints(&plan.cluster), endpoints(&plan.local));
    let short = |short_cut| if short_cut { "; pods and this node reach all endpoints" } else { "" };
    match frontend.treatment {
        Treatment::Cluster => format!("{cluster} endpoints of the cluster"),
        Treatment::Local => format!("{local} endpoints on this node"),
        Treatment::ExternalCluster => format!("{cluster} endpoints of the cluster, masqueraded"),
        Treatment::ExternalLocal { short_cut } => {
            format!("{local} endpoints on this node, source kept{}", short(short_cut))
        }
        Treatment::Drop { short_cut } => format!("dropped, as no endpoint is on this node{}", short(short_cut)),
        Treatment::Reject => "rejected, as there is no endpoint".to_owned(),
    }
}

fn decided_by(decision: &Decision) -> String {
    match &decision.origin {
        Origin::Policy { traffic, balancer } => format!("traffic policy {traffic}, balancer {balancer}"),
        Origin::LastGood => "the last good answer of a policy that failed since".to_owned(),
        Origin::Fallback(policy) => format!("{policy}, in place of a policy that failed"),
        Origin::LastResort => "nobody: every policy failed, so ready endpoints serve at random".to_owned(),
    }
}

fn text(explanation: &Explanation) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(out, "{} → {}", explanation.from, explanation.to)?;
    if let Some(owner) = &explanation.frontend {
        writeln!(out, "  {} of {}: {}", owner.kind, owner.port, owner.treatment)?;
        write!(out, "  decided by {}", owner.decided_by)?;
        writeln!(out, "{}", if owner.reason.is_empty() { String::new() } else { format!(": {}", owner.reason) })?;
    }
    writeln!(out, "\nwhat can happen:")?;
    for ending in &explanation.outcomes {
        let masqueraded = if ending.masqueraded { ", masqueraded" } else { "" };
        writeln!(out, "  {:>5.1} %  {}{masqueraded}", ending.share * 100.0, ending.verdict)?;
    }
    if let Some(first) = explanation.outcomes.first() {
        writeln!(
            out,
            "\nthe rules on the way{}:",
            if explanation.outcomes.len() > 1 { " (of the first)" } else { "" }
        )?;
        if first.rules.is_empty() {
            writeln!(out, "  none of Weir's")?;
        }
        first.rules.iter().try_for_each(|rule| writeln!(out, "  {rule}"))?;
    }
    Ok(out)
}
