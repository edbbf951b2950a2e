//! One change at a time: from the event to the commit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use weir::pipeline::Pipeline;
use weir_benches::peer::{Layout, Version, load, update};
use weir_benches::{NODE, POD_NETWORK, catalog, cluster, partial_slice, pipeline, service, slice};
use weir_model::Event;
use weir_netlink::Kernel;

use crate::child;
use crate::figure::{Figure, Plot, Section, Table, micros, percentile, short, short_or_dash};
use crate::section::Scale;

/// The child that measures Weir.
pub(crate) const OURS: &str = "incremental";
/// The child that measures the peer.
pub(crate) const PEERS: &str = "incremental-peer";
const ENDPOINTS: usize = 10;
/// No child of ours takes that long.
const LIMIT: Duration = Duration::from_secs(240);
/// Changes before the measured ones: caches and branch predictors warm, as in a daemon that has run for a while.
const WARM: usize = 20;

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Change {
    Moved,
    Removed,
    Added,
    Hundred,
    ServiceGone,
    ServiceNew,
}

impl Change {
    /// In this order each finds what it needs: what is removed is added again.
    const ALL: [Self; 6] =
        [Self::Moved, Self::Removed, Self::Added, Self::Hundred, Self::ServiceGone, Self::ServiceNew];

    fn name(self) -> &'static str {
        match self {
            Self::Moved => "endpoint-moved",
            Self::Removed => "endpoint-removed",
            Self::Added => "endpoint-added",
            Self::Hundred => "100-endpoints-moved",
            Self::ServiceGone => "service-removed",
            Self::ServiceNew => "service-added",
        }
    }

    /// The events of the change number `at`, of Service `at` or of a hundred that begin there.
    fn events(self, at: usize, services: usize) -> Vec<Event> {
        let number = at % services;
        let gone = |number| {
            let (service, slice) = (service(number), slice(number, ENDPOINTS, 0));
            vec![Event::SliceGone(slice.key), Event::ServiceGone(service.key)]
        };
        match self {
            Self::Moved => vec![Event::Slice(slice(number, ENDPOINTS, at / services + 1))],
            Self::Removed => vec![Event::Slice(partial_slice(number, ENDPOINTS, ENDPOINTS - 1, 0))],
            Self::Added => vec![Event::Slice(slice(number, ENDPOINTS, 0))],
            Self::Hundred => {
                let moved =
                    |step| Event::Slice(slice((at * 100 + step) % services, ENDPOINTS, at * 100 / services + 1));
                (0..100).map(moved).collect()
            }
            Self::ServiceGone => gone(number),
            Self::ServiceNew => {
                vec![Event::Service(service(number)), Event::Slice(slice(number, ENDPOINTS, 0))]
            }
        }
    }
}

/// What a child is to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Task {
    services: usize,
    rounds: usize,
    /// Seconds the peer may take to load what is there before the change. It took 34 to 45 on one machine and more than 60
    /// on a busy one, for 10 000 Services.
    limit: f64,
}

/// Microseconds of each change, of every kind.
type Found = Vec<(Change, Vec<f64>)>;

/// Measures.
///
/// # Errors
/// When a sync fails.
pub(crate) fn measure(scale: Scale) -> Result<Section> {
    let mut section = Section::new(
        "One change",
        "From the event to the committed batch, in microseconds, with ten endpoints a Service; for the peer `nft -f -` of the \
         transaction kube-proxy 1.37 writes for the same change, over its layout of the same Services.",
    );
    let mut table = Table::new("", &["change", "Services", "p50", "p99", "peer p50", "peer p50 ÷ ours"]);
    let mut plot = Plot::new("incremental", "One change, event to committed, p50", "Services", "µs");
    // The design sets budgets for the last two.
    let sizes = scale.pick([100, 200, 1_000], [1_000, 10_000, 100_000], [1_000, 10_000, 100_000]);
    let mut peer_gave_up = false;
    for services in sizes {
        let task = Task { services, rounds: scale.pick(10, 300, 900), limit: scale.pick(20.0, 20.0, 180.0) };
        let ours: Found = child::run(OURS, &task, LIMIT)?.context("the changes took too long")?;
        // What takes the peer minutes to load is not worth the wait.
        let try_peer = !peer_gave_up && services <= scale.pick(100, 1_000, 10_000);
        let patience = Duration::from_secs_f64(task.limit * 3.0);
        let peer: Option<Found> = if try_peer {
            child::run::<Option<Found>>(PEERS, &Task { rounds: 20, ..task }, patience)?.flatten()
        } else {
            None
        };
        if peer.is_none() {
            peer_gave_up = true;
            let why = if try_peer { "it did not load them in time" } else { "loading them takes it too long" };
            section.notes.push(format!("The peer was not measured at {services} Services: {why}."));
        }
        for (change, mut samples) in ours {
            let (p50, p99) = (percentile(&mut samples, 0.5), percentile(&mut samples, 0.99));
            let of_peer = peer.iter().flatten().find(|(of, _)| *of == change);
            let of_peer = of_peer.map(|(_, samples)| percentile(&mut samples.clone(), 0.5));
            let name = |what| format!("incremental/{}/{what}/{services}x{ENDPOINTS}", change.name());
            let mut figure = Figure::new(name("p50"), p50, "µs").beside(of_peer);
            let mut tail = Figure::new(name("p99"), p99, "µs");
            if services > sizes[0] && matches!(change, Change::Moved | Change::Removed | Change::Added) {
                (figure, tail) = (figure.budget(100.0), tail.budget(1_000.0));
            }
            let ratio = figure.ratio;
            table.row([
                change.name().to_owned(),
                services.to_string(),
                short(p50),
                short(p99),
                short_or_dash(of_peer),
                short_or_dash(ratio),
            ]);
            section.figures.extend([figure, tail]);
            plot.point(change.name(), services as f64, Some(p50));
            if change == Change::Moved {
                plot.point("endpoint-moved, kube-proxy 1.37", services as f64, of_peer);
            }
            section.raw.push(serde_json::json!({"services": services, "change": change, "us": samples}));
        }
    }
    flat(&mut section, sizes[1], sizes[2]);
    section.plots.push(plot);
    section.tables.push(table);
    Ok(section)
}

/// "The same at both": one endpoint among `more` Services against one among `less`.
fn flat(section: &mut Section, less: usize, more: usize) {
    let at = |services: usize| {
        let name = format!("incremental/endpoint-moved/p50/{services}x{ENDPOINTS}");
        section.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    };
    if let (Some(small), Some(large)) = (at(less), at(more)) {
        section.figures.push(Figure::new(format!("incremental/growth/{less}-{more}"), large / small, "").budget(1.25));
    }
}

/// The child: every kind of change, `rounds` times.
///
/// # Errors
/// When a sync fails, or changes nothing.
pub(crate) fn ours(arguments: &str) -> Result<()> {
    let Task { services, rounds, .. } = serde_json::from_str(arguments)?;
    let mut pipeline = pipeline(&catalog(), Kernel::open()?);
    pipeline.apply(cluster(services, ENDPOINTS));
    pipeline.sync()?;
    let mut found = Found::new();
    for change in Change::ALL {
        let rounds = if change == Change::Hundred { rounds / 10 } else { rounds };
        let mut samples = Vec::with_capacity(rounds);
        for at in 0..rounds + WARM {
            let took = one(&mut pipeline, change.events(at, services))
                .with_context(|| format!("{} number {at}", change.name()))?;
            if at >= WARM {
                samples.push(micros(took));
            }
        }
        found.push((change, samples));
        // The next kind begins where this one did.
        for number in 0..services.min((rounds + WARM) * if change == Change::Hundred { 100 } else { 1 }) {
            if matches!(change, Change::Moved | Change::Hundred) {
                pipeline.apply(Event::Slice(slice(number, ENDPOINTS, 0)));
            }
        }
        pipeline.sync()?;
    }
    child::tell(&found)
}

fn one(pipeline: &mut Pipeline<Kernel>, events: Vec<Event>) -> Result<Duration> {
    let start = Instant::now();
    events.into_iter().for_each(|event| pipeline.apply(event));
    let outcome = pipeline.sync()?;
    let took = start.elapsed();
    pipeline.tidy();
    ensure!(!outcome.transaction.is_empty(), "it changed nothing");
    Ok(took)
}

/// The child: the same changes as `nft -f -` gets them; `null` when the layout does not load in time.
///
/// # Errors
/// When `nft` refuses.
pub(crate) fn peers(arguments: &str) -> Result<()> {
    let Task { services, rounds, limit } = serde_json::from_str(arguments)?;
    let layout = Layout { version: Version::V1_37, pods: POD_NETWORK, node: NODE };
    if load(&layout.full(&cluster(services, ENDPOINTS)), Duration::from_secs_f64(limit))?.is_none() {
        return child::tell(&None::<Found>);
    }
    let mut found = Found::new();
    for change in Change::ALL {
        let mut samples = Vec::new();
        for at in 0..rounds {
            let mut text = String::new();
            for event in change.events(at, services) {
                match event {
                    Event::Slice(slice) => {
                        let number = number_of(&slice.service.name)?;
                        layout.service(&mut text, &service(number), &slice, change == Change::ServiceNew);
                    }
                    Event::ServiceGone(key) => layout.gone(&mut text, &service(number_of(&key.name)?)),
                    _ => {}
                }
            }
            samples.push(micros(update(&text)?));
        }
        found.push((change, samples));
    }
    child::tell(&Some(found))
}

/// Of `service-17`.
fn number_of(name: &str) -> Result<usize> {
    let number = name.rsplit_once('-').with_context(|| name.to_owned())?.1;
    Ok(number.parse()?)
}
