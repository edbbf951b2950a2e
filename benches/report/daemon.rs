//! The whole daemon as a process: start, memory, rest, work, and the way of a change from the API server to the kernel.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weir_benches::objects;
use weir_netlink::Kernel;
use weir_tests::api_server::{ApiServer, Cluster, temporary};

use crate::figure::{Figure, Section, Table, median, micros, percentile, short};
use crate::process::Daemon;
use crate::section::Scale;
use crate::timed::remove_tables;

/// The child that is the daemon.
pub(crate) const WEIR: &str = "weir";
const ENDPOINTS: usize = 10;
/// Changes a second that load it.
const RATE: u32 = 100;
/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often to look at the kernel while a change is on its way.
const LOOK: Duration = Duration::from_micros(50);

/// This process is the daemon: its arguments are those of `weir`.
pub(crate) fn weir() -> ExitCode {
    weir::cli::main()
}

/// Measures.
///
/// # Errors
/// When the daemon does not get ready, or a change does not reach the kernel.
pub(crate) fn measure(scale: Scale) -> Result<Section> {
    let services = scale.pick(100, 2_000, 10_000);
    let mut section = Section::new(
        "The daemon",
        "`weir run` as a process of its own. From its start to `/readyz` saying yes, which it does when the kernel holds everything; \
         resident memory ten endpoints a Service need beyond an empty start; processor time while nothing happens, and while \
         endpoints change 100 times a second. *To the kernel*: from the moment the API server has the change to the moment the \
         kernel's rules change, seen by a poll each 50 µs; Weir waits 10 ms between two syncs.",
    );
    std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().context("run ip")?;
    let mut kernel = Kernel::open()?;

    let cluster = Cluster::new();
    let server = ApiServer::start(&cluster)?;
    let empty = Daemon::start(&["--master", &server.url()])?;
    let start_empty = empty.ready()?;
    let resident_empty = empty.memory()?.resident;
    empty.stop()?;

    cluster.apply((0..services).flat_map(|number| [objects::service(number), objects::slice(number, ENDPOINTS, 0)]));
    remove_tables(&mut kernel)?;
    let daemon = Daemon::start(&["--master", &server.url()])?;
    let start_api = daemon.ready()?;
    let memory = daemon.memory()?;
    let rest = Duration::from_millis(scale.pick(50, 3_000, 10_000));
    let idle = daemon.share(|| std::thread::sleep(rest))?;
    let mut waits = latencies(&mut kernel, &cluster, services, scale.pick(3, 50, 300))?;
    let changes = scale.pick(10, 3 * RATE, 10 * RATE);
    let busy = daemon.share(|| change_steadily(&cluster, services, changes))?;
    let after = daemon.memory()?;
    daemon.stop()?;
    drop(server);

    // The same from files.
    let folder = temporary("manifests");
    write_manifests(&folder, services, ENDPOINTS)?;
    remove_tables(&mut kernel)?;
    let daemon = Daemon::start(&["--manifests", &folder.display().to_string()])?;
    let start_files = daemon.ready();
    daemon.stop()?;
    std::fs::remove_dir_all(&folder)?;
    let start_files = start_files?;

    let size = format!("{services}x{ENDPOINTS}");
    let figure = |what: &str, value, unit| Figure::new(format!("daemon/{what}/{size}"), value, unit);
    let grown = memory.resident - resident_empty;
    let whole = 100_000.0 / (services * ENDPOINTS) as f64;
    let (p50, p99) = (percentile(&mut waits, 0.5), percentile(&mut waits, 0.99));
    section.figures = vec![
        Figure::new("daemon/start-to-ready/empty", start_empty.as_secs_f64() * 1e3, "ms"),
        figure("start-to-ready/api", start_api.as_secs_f64() * 1e3, "ms"),
        figure("start-to-ready/manifests", start_files.as_secs_f64() * 1e3, "ms"),
        Figure::new("daemon/resident/empty", resident_empty, "MB"),
        figure("resident-beyond-empty", grown, "MB").budget(64.0 / whole),
        figure("resident-peak", memory.peak, "MB"),
        figure("resident-after-changes", after.resident, "MB"),
        figure("processor-idle", idle * 100.0, "% of one"),
        figure("processor-at-100-changes-a-second", busy * 100.0, "% of one"),
        figure("api-to-kernel/p50", p50 / 1e3, "ms"),
        figure("api-to-kernel/p99", p99 / 1e3, "ms"),
    ];
    let mut table = Table::new("", &["what", "measured"]);
    for figure in &section.figures {
        table.row([figure.name.clone(), format!("{} {}", short(figure.value), figure.unit)]);
    }
    section.tables.push(table);
    section.raw.push(serde_json::json!({"api_to_kernel_us": waits, "median_us": median(&waits)}));
    Ok(section)
}

/// Changes one endpoint after the other and waits for each to reach the kernel, in microseconds.
fn latencies(kernel: &mut Kernel, cluster: &Cluster, services: usize, count: usize) -> Result<Vec<f64>> {
    let mut waits = Vec::new();
    for at in 0..count {
        let before = kernel.generation()?;
        let moved = objects::slice(at % services, ENDPOINTS, at / services + 1);
        let start = Instant::now();
        cluster.apply([moved]);
        while kernel.generation()? == before {
            anyhow::ensure!(start.elapsed() < PATIENCE, "change {at} did not reach the kernel");
            std::thread::sleep(LOOK);
        }
        waits.push(micros(start.elapsed()));
    }
    Ok(waits)
}

/// [`RATE`] endpoints a second move.
fn change_steadily(cluster: &Cluster, services: usize, changes: u32) {
    let start = Instant::now();
    for at in 0..changes {
        std::thread::sleep((start + Duration::from_secs(1) / RATE * at).saturating_duration_since(Instant::now()));
        // Another generation than the latencies left.
        let number = at as usize % services;
        cluster.apply([objects::slice(number, ENDPOINTS, at as usize / services)]);
    }
}

/// `services` Services of [`objects`] with so many endpoints each, in a file for each hundred.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn write_manifests(folder: &Path, services: usize, endpoints: usize) -> Result<()> {
    const A_FILE: usize = 100;
    std::fs::create_dir_all(folder)?;
    for first in (0..services).step_by(A_FILE) {
        let objects = (first..services.min(first + A_FILE))
            .flat_map(|number| [objects::service(number), objects::slice(number, endpoints, 0)]);
        // JSON is YAML.
        let documents: Vec<String> = objects.map(|object| object.to_string()).collect();
        std::fs::write(folder.join(format!("services-{first}.yaml")), documents.join("\n---\n"))?;
    }
    Ok(())
}
