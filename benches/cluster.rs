//! Following a cluster: how long the first list takes, and how much memory a process needs that holds nothing but what
//! it read. The API server is another process, so that its objects do not count.
//!
//! `WEIR_BENCH_SIZES=1000x10,10000x10` chooses the sizes: Services, and endpoints of each.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use weir_benches::objects::{service, slice};
use weir_model::{Event, NodeIdentity, Store};
use weir_source::Selection;
use weir_source::kubernetes::{Access, Options, watch};
use weir_tests::api_server::{ApiServer, Cluster};

/// Leads the follower to its server.
const FOLLOW: &str = "WEIR_BENCH_FOLLOW";
const NODE: &str = "node-0";
const KILOBYTES_A_MEGABYTE: f64 = 1024.0;

/// What the follower tells.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    /// From the beginning to the last event.
    seconds: f64,
    /// Services it knows.
    services: usize,
    /// Resident, in MB.
    resident: f64,
    /// The most that ever was resident, in MB.
    peak: f64,
}

fn main() -> Result<()> {
    if let Ok(url) = std::env::var(FOLLOW) {
        return follow(url);
    }
    let sizes = std::env::var("WEIR_BENCH_SIZES").unwrap_or_else(|_| "1000x10,10000x10".to_owned());
    println!("{:>16} {:>24} {:>9} {:>12} {:>9}", "Services", "", "seconds", "resident MB", "peak MB");
    for size in sizes.split(',') {
        let (services, endpoints) = size.split_once('x').with_context(|| format!("{size:?} is not like 1000x10"))?;
        measure(services.parse()?, endpoints.parse()?).with_context(|| size.to_owned())?;
    }
    Ok(())
}

fn measure(services: usize, endpoints: usize) -> Result<()> {
    let cluster = Cluster::new();
    cluster.apply((0..services).flat_map(|number| [service(number), slice(number, endpoints, 0)]));
    let server = ApiServer::start(&cluster)?;
    let mut follower = Command::new(std::env::current_exe()?);
    let mut follower = follower.env(FOLLOW, server.url()).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(follower.stdout.take().context("its output")?).lines();
    for what in ["nothing", "first list", "listed again after 410"] {
        let line = lines.next().context("the follower ended")??;
        let Report { seconds, services: known, resident, peak } = serde_json::from_str(&line).context(line)?;
        println!("{services:>11}x{endpoints:<4} {what:>24} {seconds:>9.2} {resident:>12.1} {peak:>9.1}");
        if what == "first list" {
            anyhow::ensure!(known == services, "it knows {known} Services");
            cluster.compact();
            cluster.end_watches_with(410);
        }
    }
    follower.wait()?;
    Ok(())
}

/// Follows the server at `url` and tells before anything, after the first list, and after the second.
fn follow(url: String) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut store = Store::new(NodeIdentity { name: NODE.to_owned(), ..NodeIdentity::default() });
    tell(Instant::now(), &store)?;
    let (events, mut received) = mpsc::channel(1024);
    let (config_maps, _) = mpsc::channel(1);
    let selection = Selection { node: NODE.to_owned(), ..Selection::default() };
    let options = Options { selection, namespace: "weir-system".to_owned(), ..Options::default() };
    let mut start = Instant::now();
    runtime.spawn(watch(Access { kubeconfig: None, server: Some(url) }, options, events, config_maps));
    let mut again = None;
    while again != Some(0) {
        let event = received.blocking_recv().context("the source ended")?;
        let object = matches!(event, Event::Service(_) | Event::Slice(_));
        store.apply(event);
        if let Some(left) = again.as_mut().filter(|_| object) {
            if *left == 2 * store.service_ids().count() {
                // Without the wait before it.
                start = Instant::now();
            }
            *left -= 1;
        } else if again.is_none() && store.is_listed() {
            again = Some(2 * store.service_ids().count());
            tell(start, &store)?;
        }
    }
    tell(start, &store)
}

fn tell(start: Instant, store: &Store) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>().ok()
    };
    let megabytes =
        |name: &str| of(name).map(|kilobytes| kilobytes / KILOBYTES_A_MEGABYTE).context("/proc/self/status");
    let report = Report {
        seconds: start.elapsed().as_secs_f64(),
        services: store.service_ids().count(),
        resident: megabytes("VmRSS")?,
        peak: megabytes("VmHWM")?,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
