//! The daemon killed and started again while connections are made, over and over: how many of them fail.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use weir_benches::objects;
use weir_testbed::{Call, Layout, Listen, Node, Probe, Server};
use weir_tests::api_server::temporary;

use crate::daemon::write_manifests;
use crate::figure::{Figure, Section, Table, median, millis, percentile, short};
use crate::process::Daemon;
use crate::section::Scale;

/// The called Service.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const PORT: u16 = 80;
const PORT_OF_ENDPOINTS: u16 = 8080;
const BACKENDS: [&str; 3] = ["backend-1", "backend-2", "backend-3"];
/// Endpoints of every other Service.
const ENDPOINTS: usize = 10;
/// Connections a second.
const RATE: u32 = 400;
/// How long a connection may take. Less than the second after which a lost SYN is sent again, so that one counts.
const PATIENCE: Duration = Duration::from_millis(900);
/// How long the daemon is away, and how long it runs before it goes again.
const PAUSE: Duration = Duration::from_millis(200);

/// Measures.
///
/// # Errors
/// When the daemon does not start.
pub(crate) fn measure(scale: Scale) -> Result<Section> {
    let services = scale.pick(20, 1_000, 10_000);
    let restarts = scale.pick(1, 5, 10);
    let mut section = Section::new(
        "Restart under load",
        "`weir run` on a node of network namespaces is killed (SIGKILL) and started again, over and over, while a pod makes 400 \
         connections a second to a Service with three endpoints; each is answered by its endpoint or counts as failed after 0.9 s, \
         less than the second after which a lost packet is sent again.",
    );
    let node = Node::up(&Layout::default())?;
    let servers = BACKENDS.map(|name| Server::start(node.pod(name), Listen::Greeting(PORT_OF_ENDPOINTS))).into_iter();
    let _servers: Vec<Server> = servers.collect::<Result<_>>()?;
    let folder = temporary("restart");
    write_manifests(&folder, services, ENDPOINTS)?;
    std::fs::write(folder.join("called.yaml"), called(&node).join("\n---\n"))?;

    let arguments = ["--manifests", &folder.display().to_string()];
    let start = || node.kernel().run(|| Daemon::start(&arguments));
    let ready = |daemon: &Daemon| node.kernel().run(|| daemon.ready());
    let mut daemon = start()?;
    ready(&daemon)?;
    let target = SocketAddr::from((ADDRESS, PORT));
    let probe = Probe::connections(node.pod("client"), Call::tcp(target).within(PATIENCE), RATE);
    let begun = Instant::now();
    let mut starts = Vec::new();
    for _ in 0..restarts {
        std::thread::sleep(PAUSE);
        daemon.kill()?;
        std::thread::sleep(PAUSE);
        daemon = start()?;
        starts.push(millis(ready(&daemon)?));
    }
    std::thread::sleep(PAUSE);
    let took = begun.elapsed();
    let report = probe.stop();
    daemon.kill()?;
    std::fs::remove_dir_all(&folder)?;

    let size = format!("{services}x{ENDPOINTS}");
    let figure = |what: &str, value, unit| Figure::new(format!("restart/{what}/{size}"), value, unit);
    let tally = &report.tally;
    section.figures = vec![
        figure("failed-connections", tally.failed() as f64, "connections").budget(0.0),
        figure("answered-connections", tally.answered() as f64 / took.as_secs_f64(), "connections/s"),
        figure("longest-gap", millis(report.longest_gap), "ms"),
        figure("start-to-ready", median(&starts), "ms"),
    ];
    let mut latencies: Vec<f64> = report.latencies.iter().copied().map(millis).collect();
    let mut table = Table::new(
        "",
        &["Services × endpoints", "restarts", "connections", "failed", "p50, ms", "p99, ms", "start to ready, ms"],
    );
    table.row([
        size,
        restarts.to_string(),
        tally.answered().to_string(),
        tally.failed().to_string(),
        short(percentile(&mut latencies, 0.5)),
        short(percentile(&mut latencies, 0.99)),
        short(median(&starts)),
    ]);
    section.tables.push(table);
    section.notes.extend(report.failures().iter().map(|(failure, count)| format!("{count} × {failure:?}")));
    section.raw.push(json!({"start_to_ready_ms": starts, "answered": tally.answered(), "failed": tally.failed()}));
    anyhow::ensure!(tally.answered() > 0, "no connection came to be: {:?}", report.failures());
    Ok(section)
}

/// The called Service and its slice.
fn called(node: &Node) -> [String; 2] {
    // With every field of the others, at another address and with real endpoints.
    let (mut service, mut slice) = (objects::service(0), objects::slice(0, BACKENDS.len(), 0));
    service["metadata"]["name"] = json!("called");
    service["spec"]["clusterIP"] = json!(ADDRESS);
    service["spec"]["clusterIPs"] = json!([ADDRESS]);
    service["spec"]["ports"][0]["port"] = json!(PORT);
    slice["metadata"]["name"] = json!("called-abcde");
    slice["metadata"]["labels"]["kubernetes.io/service-name"] = json!("called");
    slice["ports"][0]["port"] = json!(PORT_OF_ENDPOINTS);
    for (endpoint, name) in BACKENDS.iter().enumerate() {
        slice["endpoints"][endpoint]["addresses"] = json!([IpAddr::V4(node.pod(name).v4())]);
    }
    [service.to_string(), slice.to_string()]
}
