//! Full syncs: from nothing, over itself as after a restart, and after 1 % of the Services changed.

mod peers;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use weir_benches::memory;
use weir_benches::peer::{Restore, Version};
use weir_benches::{catalog, cluster, pipeline, slice, store};
use weir_model::Event;
use weir_policy::Decider;

use self::peers::{Mode, Peer, Peers};
pub(crate) use self::peers::{PEERS, peers};
use crate::child;
use crate::figure::{Figure, Plot, Section, Table, short, short_or_dash};
use crate::section::Scale;
use crate::stages::{Sync, stages, sync};
use crate::timed::Timed;

/// The child that measures Weir.
pub(crate) const OURS: &str = "full-sync";
/// Endpoints of each Service in what has a budget.
const ENDPOINTS: usize = 10;
/// No child of ours takes that long.
const LIMIT: Duration = Duration::from_secs(120);

/// Services, and endpoints of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Size {
    services: usize,
    endpoints: usize,
}

impl Size {
    fn name(self) -> String {
        format!("{}x{}", self.services, self.endpoints)
    }
}

/// What the child found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ours {
    size: Size,
    /// From nothing: the fastest of some.
    empty: Sync,
    again: Sync,
    changed: Sync,
    /// MB of the process that hold what the sync leaves, the policies' code not counted.
    resident: f64,
    /// The most the process ever had, in MB, everything counted.
    peak: f64,
    /// Bytes of the kernel for each endpoint.
    kernel: f64,
}

/// Measures.
///
/// # Errors
/// When a sync fails.
pub(crate) fn measure(scale: Scale) -> Result<Section> {
    let mut section = Section::new(
        "Full sync",
        "Model to committed, policies included, into an empty network namespace; each size in a process of its own. \
         *Over itself* is what a restart does: everything is read back from the kernel and compared; the peer loads its \
         file a second time. The peer gets a file and runs `nft -f`, for the iptables layout `iptables-restore`; it is stopped at a time limit (*> limit*). Resident \
         memory is what the process holds after the sync beyond what it held before; kernel memory is that of the whole \
         machine before and after, so small sizes drown in noise.",
    );
    let sizes: &[(usize, usize)] = scale.pick(
        &[(10, 10), (100, 10)],
        &[(100, 10), (1_000, 10), (10_000, 10), (30_000, 10), (100_000, 10)],
        &[
            (100, 1),
            (1_000, 1),
            (5_000, 1),
            (10_000, 1),
            (30_000, 1),
            (100_000, 1),
            (100, 2),
            (1_000, 2),
            (5_000, 2),
            (10_000, 2),
            (30_000, 2),
            (100_000, 2),
            (100, 10),
            (1_000, 10),
            (5_000, 10),
            (10_000, 10),
            (30_000, 10),
            (100_000, 10),
            (5_000, 50),
        ],
    );
    // The peer may use up what is left of this many seconds, and so long for one size.
    let (patience, limit) = scale.pick((60.0, 45.0), (100.0, 45.0), (420.0, 60.0));
    let begun = Instant::now();
    let mut stages = Table::new(
        "Milliseconds from nothing, by stages:",
        &["Services × endpoints", "total", "model", "policy", "plan", "compile, diff", "encode", "kernel", "MB sent"],
    );
    let mut beside = Table::new(
        "The same beside the peer, in milliseconds; memory in MB:",
        &[
            "Services × endpoints",
            "Weir",
            "over itself",
            "1 % changed",
            "1.37",
            "1.37 over itself",
            "1.35",
            "iptables",
            "peak",
            "peak 1.37",
            "kernel B/endpoint",
        ],
    );
    let mut plot = Plot::new("full-sync", "Full sync from nothing", "Services", "ms");
    let mut peers = Peers::default();
    // iptables' layout takes minutes where nothing else does: it has seconds of its own.
    let (own, mut spent) = (scale.pick(15.0, 30.0, 120.0), Duration::ZERO);
    let missing = Restore::installed().err();
    section.notes.extend(missing.iter().map(|why| format!("iptables' layout was not measured: {why}.")));
    for &(services, endpoints) in sizes {
        let size = Size { services, endpoints };
        let Some(ours) = child::run::<Ours>(OURS, &size, LIMIT)? else {
            section.notes.push(format!("{}: not done within {} s.", size.name(), LIMIT.as_secs()));
            continue;
        };
        let left = || (patience - (begun.elapsed() - spent).as_secs_f64()).clamp(0.0, limit);
        let new = peers.measure(Mode::Nftables(Version::V1_37), size, left(), &mut section)?;
        // The older layout is slower throughout; one size is enough where time is short.
        let old = if scale == Scale::Full || services <= 1_000 {
            peers.measure(Mode::Nftables(Version::V1_35), size, left(), &mut section)?
        } else {
            None
        };
        let start = Instant::now();
        let iptables = if missing.is_none() {
            let left = (own - spent.as_secs_f64()).clamp(0.0, limit);
            peers.measure(Mode::Iptables, size, left, &mut section)?
        } else {
            None
        };
        spent += start.elapsed();
        let Sync { total, model, decide, plan, compile, encode, commit, bytes, .. } = ours.empty;
        let mut row = vec![size.name()];
        row.extend([total, model, decide, plan, compile, encode, commit, bytes as f64 / 1e6].map(short));
        stages.row(row);
        let empty = |peer: Option<Peer>| peer.map(|peer| peer.empty);
        let mut row = vec![size.name()];
        row.extend([total, ours.again.total, ours.changed.total].map(short));
        row.extend([empty(new), new.and_then(|peer| peer.again), empty(old), empty(iptables)].map(short_or_dash));
        row.extend([Some(ours.peak), new.map(|peer| peer.peak), Some(ours.kernel)].map(short_or_dash));
        beside.row(row);
        figures(&mut section, scale, &ours, empty(new));
        for (name, value) in [("Weir", Some(total)), ("kube-proxy 1.37", empty(new)), ("kube-proxy 1.35", empty(old))] {
            plot.point(&format!("{name}, × {endpoints}"), services as f64, value);
        }
        section.raw.push(serde_json::to_value(&ours)?);
    }
    growth(&mut section, scale);
    plot.curves.retain(|(_, points)| points.len() > 1);
    section.plots.push(plot);
    section.tables = vec![stages, beside];
    Ok(section)
}

/// The two sizes the design sets budgets for, in Services of [`ENDPOINTS`] endpoints, and milliseconds they may take.
fn budgets(scale: Scale) -> [(usize, f64); 2] {
    scale.pick(
        [(10, 250.0), (100, 3_000.0)],
        [(10_000, 250.0), (100_000, 3_000.0)],
        [(10_000, 250.0), (100_000, 3_000.0)],
    )
}

fn figures(section: &mut Section, scale: Scale, ours: &Ours, peer: Option<f64>) {
    let (size, total) = (ours.size, ours.empty.total);
    let [small, large] = budgets(scale);
    let has_budget = |(services, _): &(usize, f64)| (size.services, size.endpoints) == (*services, ENDPOINTS);
    let budget = [small, large].into_iter().find(has_budget).map(|(_, budget)| budget);
    let name = |what: &str| format!("full-sync/{what}/{}", size.name());
    let mut figure = Figure::new(name("from-nothing"), total, "ms").beside(peer);
    figure.budget = budget;
    let ratio = figure.ratio;
    section.figures.push(figure);
    section.figures.push(Figure::new(name("over-itself"), ours.again.total, "ms"));
    section.figures.push(Figure::new(name("one-percent-changed"), ours.changed.total, "ms"));
    let (pods, per_endpoint) = ((size.services * size.endpoints) as f64, 1e6 / (size.services * size.endpoints) as f64);
    if budget.is_none() {
        return;
    }
    if let (true, Some(ratio)) = (size.services == small.0, ratio) {
        section.figures.push(Figure::new(name("faster-than-1.37"), ratio, "times").budget(50.0));
    }
    section.figures.push(Figure::new(name("policy-share"), ours.empty.decide / total * 100.0, "%").budget(10.0));
    // Read in either way: of the calls alone, or of all that deciding takes.
    for (what, time) in [("policy-calls-an-endpoint", ours.empty.calls), ("policy-time-an-endpoint", ours.empty.decide)]
    {
        section.figures.push(Figure::new(name(what), time * per_endpoint, "ns").budget(60.0));
    }
    section.figures.push(Figure::new(name("kernel-memory-an-endpoint"), ours.kernel, "B").budget(100.0));
    section.figures.push(Figure::new(name("resident-memory-an-endpoint"), ours.resident * 1e6 / pods, "B"));
}

/// How the time grows with the Services: 1 is in proportion. From the largest to the one a tenth of it.
fn growth(section: &mut Section, scale: Scale) {
    let [small, large] = budgets(scale).map(|(services, _)| services);
    let time = |services: usize| {
        let name = format!("full-sync/from-nothing/{services}x{ENDPOINTS}");
        section.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    };
    if let (Some(less), Some(more)) = (time(small), time(large)) {
        // The budgets say the same: 3 s for what is ten times 250 ms.
        let exponent = (more / less).ln() / (large as f64 / small as f64).ln();
        let name = format!("full-sync/exponent/{small}-{large}x{ENDPOINTS}");
        section.figures.push(Figure::new(name, exponent, "").budget(1.1));
    }
}

/// The child: measures one size and tells.
///
/// # Errors
/// When a sync fails.
pub(crate) fn ours(arguments: &str) -> Result<()> {
    let size: Size = serde_json::from_str(arguments)?;
    let catalog = catalog();
    // Compiles what is compiled when it is first needed.
    let mut warm = store();
    warm.apply(cluster(1, 1));
    Decider::new(catalog.clone()).decide(&warm, &warm.service_ids().collect::<Vec<_>>());

    let before = memory::process("self")?.resident;
    // Tables, hooks and connection tracking are there before the first Service that counts.
    sync(&mut pipeline(&catalog, Timed::open()?), cluster(1, 1))?;
    let kernel_before = memory::kernel()?;
    let mut held = pipeline(&catalog, Timed::open()?);
    sync(&mut held, cluster(size.services, size.endpoints))?;
    let memory::Process { resident, peak } = memory::process("self")?;
    let kernel = (memory::kernel()? - kernel_before) / (size.services * size.endpoints) as f64;
    // A daemon that starts again: nothing known, everything in the kernel.
    drop(held);
    let mut started = pipeline(&catalog, Timed::open()?);
    let again = sync(&mut started, cluster(size.services, size.endpoints))?;
    let changed = {
        let count = (size.services / 100).max(1);
        let moved: Vec<Event> = (0..count).map(|at| Event::Slice(slice(at * 100, size.endpoints, 1))).collect();
        started.dataplane().reset();
        let start = Instant::now();
        moved.into_iter().for_each(|event| started.apply(event));
        stages(&mut started, start)?
    };
    drop(started);
    let rounds = if size.services * size.endpoints > 100_000 { 2 } else { 5 };
    let mut empty: Option<Sync> = None;
    for _ in 0..rounds {
        let one = sync(&mut pipeline(&catalog, Timed::from_nothing()?), cluster(size.services, size.endpoints))?;
        empty = empty.filter(|best| best.total <= one.total).or(Some(one));
    }
    let empty = empty.context("no round")?;
    child::tell(&Ours { size, empty, again, changed, resident: resident - before, peak, kernel })
}
