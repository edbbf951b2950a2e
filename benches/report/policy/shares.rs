//! What each built-in policy takes of a full sync, with the kernel, and what another look takes of those that ask for one.

use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use weir_benches::{NODE, catalog, pipeline};
use weir_model::{Event, Load, Loads, NodeSpec, Protocol, backend_id};
use weir_policy::{BUILT_IN, Policy};

use super::{FEW, list};
use crate::child;
use crate::figure::{Figure, Section, Table, short, short_or_dash};
use crate::section::Scale;
use crate::stages::{Sync, stages, sync};
use crate::timed::Timed;

/// The child that measures one policy.
pub(crate) const ROLE: &str = "policy-share";
/// No child takes that long.
const LIMIT: Duration = Duration::from_secs(120);
/// As long one measures full syncs; one is measured in any case.
const ENOUGH: Duration = Duration::from_secs(4);

/// What to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Task {
    policy: String,
    services: usize,
    unlike: bool,
}

/// What the child found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Share {
    /// From nothing: of all that were measured, the one whose share is in the middle.
    first: Sync,
    /// Another look at everything, where the policy asks for one.
    look: Option<Sync>,
}

/// Adds a table of the policies that `names` holds for.
///
/// # Errors
/// When a child fails.
pub(super) fn measure(scale: Scale, names: impl Fn(&str) -> bool, section: &mut Section) -> Result<()> {
    let services = scale.pick(50, 10_000, 10_000);
    let mut table = Table::new(
        "The share of policies in a full sync of 10 000 Services with ten endpoints each, from nothing to committed: of the \
         rounds of some seconds, the one whose share is in the middle. *Alike*: \
         endpoints of which nothing is known but where they are; policies that ask for no names are asked once for all of them. \
         *Unlike*: they have weights from 1 to 4, stand in three zones, one of them this node's, no two have the same number of \
         connections, and no two Services the same port, so that policies are asked about each. *A look*: the policy asked to be \
         called again, and is, for all Services at once, usually every five seconds; with endpoints unlike, rings change by that.",
        &[
            "policy",
            "alike, ms",
            "share, %",
            "calls, ns an endpoint",
            "unlike, ms",
            "share, %",
            "calls, ns an endpoint",
            "a look, alike, ms",
            "unlike, ms",
        ],
    );
    for (policy, _) in BUILT_IN.iter().filter(|(name, _)| names(name)) {
        let mut cells = vec![(*policy).to_owned()];
        let mut looks = Vec::new();
        for (unlike, word) in [(false, "alike"), (true, "unlike")] {
            let task = Task { policy: (*policy).to_owned(), services, unlike };
            let share = child::run::<Share>(ROLE, &task, LIMIT)?;
            let share = share.with_context(|| format!("{policy} takes longer than {} s", LIMIT.as_secs()))?;
            let Share { first: Sync { total, decide, calls, .. }, look } = &share;
            let (percent, calls) = (decide / total * 100.0, calls * 1e6 / (services * FEW) as f64);
            cells.extend([*total, percent, calls].map(short));
            looks.push(short_or_dash(look.map(|look| look.total)));
            let figure = |what: &str, value, unit| Figure::new(format!("policy/{policy}/{what}/{word}"), value, unit);
            section.figures.push(figure("share", percent, "%").budget(10.0));
            section.figures.push(figure("calls-an-endpoint", calls, "ns").budget(60.0));
            section.figures.extend(look.map(|look| figure("look", look.total, "ms")));
            section.raw.push(serde_json::json!({"policy": policy, "unlike": unlike, "share": share}));
        }
        cells.extend(looks);
        table.row(cells);
    }
    section.tables.push(table);
    Ok(())
}

/// Some connections for every endpoint, and hardly two that have the same.
struct Uneven;

impl Loads for Uneven {
    fn load(&self, _: Protocol, address: IpAddr, port: u16) -> Load {
        let number = backend_id(address, port);
        Load { active: number >> 8 & 15, begun: number & 0xffff, per_minute: number & 255 }
    }
}

/// The child: measures one policy and tells.
///
/// # Errors
/// When a sync fails.
pub(crate) fn share(arguments: &str) -> Result<()> {
    let Task { policy, services, unlike } = serde_json::from_str(arguments)?;
    let catalog = catalog();
    let (_, bytes) = BUILT_IN.iter().find(|(name, _)| *name == policy).context("no such policy")?;
    // Who asks for looks gets one soon.
    let checked = Policy::load(catalog.engine(), &policy, bytes).map_err(anyhow::Error::from)?;
    let settings = checked.check(QUICK).map_err(anyhow::Error::from)?.is_empty().then_some(QUICK);
    let list = |services| {
        let mut list = list(&policy, services, FEW);
        if let Event::Replace { services, slices } = &mut list {
            services.iter_mut().for_each(|service| service.policy_settings = settings.map(str::to_owned));
            let endpoints = slices.iter_mut().flat_map(|slice| slice.endpoints.iter_mut().enumerate());
            for (at, endpoint) in endpoints.filter(|_| unlike) {
                endpoint.weight = 1 + u32::try_from(at % 4).unwrap_or(0);
                endpoint.zone = Some(format!("zone-{}", at % 3));
                endpoint.pod = Some(format!("{NODE}-{at}"));
            }
            // Nobody shares a question.
            for (number, service) in (1..).zip(services).filter(|_| unlike) {
                service.ports.iter_mut().for_each(|port| port.port = number);
            }
        }
        list
    };
    let start = || -> Result<_> {
        let mut pipeline = pipeline(&catalog, Timed::from_nothing()?);
        if unlike {
            pipeline.set_loads(Arc::new(Uneven));
            pipeline.apply(Event::Node(Some(NodeSpec { zone: "zone-0".to_owned(), ..NodeSpec::default() })));
        }
        Ok(pipeline)
    };
    // The first compiles.
    sync(&mut start()?, list(1))?;
    let begun = Instant::now();
    let mut rounds: Vec<Sync> = Vec::new();
    let mut held = loop {
        let mut pipeline = start()?;
        rounds.push(sync(&mut pipeline, list(services))?);
        if begun.elapsed() > ENOUGH {
            break pipeline;
        }
    };
    let look = match held.next_look() {
        None => None,
        Some(due) => {
            thread::sleep(due.saturating_duration_since(Instant::now()) + LATE);
            held.dataplane().reset();
            Some(stages(&mut held, Instant::now())?)
        }
    };
    let share = |round: &Sync| round.decide / round.total;
    rounds.sort_by(|one, other| share(one).total_cmp(&share(other)));
    child::tell(&Share { first: rounds[rounds.len() / 2], look })
}

/// Settings with which policies that ask for looks want the next one after a second.
const QUICK: &str = r#"{"period-seconds": 1}"#;

/// Services of one sync are due together, but for their microseconds.
const LATE: Duration = Duration::from_millis(50);
