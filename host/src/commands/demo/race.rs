//! Three schedulers side by side: the same backends, one of them slow, and what clients get.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_model::{
    Conditions, EndpointSpec, Event, Family, ObjectKey, Protocol, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec,
};
use weir_netlink::Kernel;
use weir_testbed::{Call, Host, Listen, Probe, ProbeReport, Server};

use super::scene::Scene;
use super::table;
use crate::follow::load::LoadFollower;
use crate::pipeline::Pipeline;

/// Who runs, with which settings.
const SCHEDULERS: [(&str, &str); 3] =
    [("random", ""), ("round-robin", ""), ("least-connections", r#"{"period-seconds": 1, "slow-start-seconds": 0}"#)];

/// The backend that takes its time.
const SLOW: &str = "backend-3";
const SLOW_DELAY: Duration = Duration::from_millis(300);
const DELAY: Duration = Duration::from_millis(10);

/// Connections a second through each Service.
const RATE: u32 = 60;

/// Threads that make them: more than the rate times the seconds of the slowest answer.
const WORKERS: u32 = 40;

/// Time for the schedulers to learn, and time in which is counted.
const WARM_UP: Duration = Duration::from_secs(4);
const COUNTED: Duration = Duration::from_secs(4);

/// A Service that runs.
struct Runner {
    scheduler: &'static str,
    target: SocketAddr,
}

/// Runs them and prints what came of it. Returns whether it came out as it should: nothing failed, and the scheduler that
/// looks at load spared the slow backend.
pub(super) fn run(scene: &Scene, pipeline: &mut Pipeline<Kernel>) -> anyhow::Result<bool> {
    let backends: Vec<&Host> = scene.node.pods().iter().filter(|pod| pod.name().starts_with("backend")).collect();
    let (mut runners, mut servers) = (Vec::new(), Vec::new());
    for (number, (scheduler, settings)) in (1..).zip(SCHEDULERS) {
        // A port each, so that none sees the connections of the others.
        let port = 9100 + u16::from(number);
        for backend in &backends {
            let delay = if backend.name() == SLOW { SLOW_DELAY } else { DELAY };
            servers.push(Server::start(backend, Listen::Slow { port, delay })?);
        }
        let target = SocketAddr::new(Ipv4Addr::new(10, 96, 200, number).into(), 80);
        let addresses = backends.iter().map(|backend| backend.v4().into());
        objects(scheduler, settings, target, addresses.collect(), port)
            .into_iter()
            .for_each(|event| pipeline.apply(event));
        runners.push(Runner { scheduler, target });
    }
    let loads = scene.node.kernel().run(|| {
        let loads = Arc::new(LoadFollower::new());
        loads.set_wanted(true);
        loads
    });
    pipeline.set_loads(loads);
    pipeline.sync()?;
    println!(
        "\nthree schedulers, the same backends, {} takes {SLOW_DELAY:?} and the others {DELAY:?}; {RATE} connections a second each:",
        table::short(SLOW)
    );
    let probes = || -> Vec<Probe> {
        let call = |target| Call::tcp(target).within(Duration::from_secs(5));
        runners.iter().map(|one| Probe::by_workers(scene.client(), call(one.target), RATE, WORKERS)).collect()
    };
    let learning = probes();
    follow(pipeline, WARM_UP)?;
    learning.into_iter().for_each(|probe| drop(probe.stop()));
    let counting = probes();
    follow(pipeline, COUNTED)?;
    let reports: Vec<ProbeReport> = counting.into_iter().map(Probe::stop).collect();
    println!("  {:<20} {:<28} {:>8} {:>8} {:>8}", "scheduler", "connections", "mean", "p50", "p99");
    let mut slow = BTreeMap::new();
    let mut failed = 0;
    for (runner, report) in runners.iter().zip(&reports) {
        failed += report.tally.failed();
        slow.insert(runner.scheduler, table::share_of(&report.tally, SLOW));
        let [mean, median, most] = latencies(&report.latencies);
        let shares = table::shares(&report.tally);
        println!("  {:<20} {shares:<28} {mean:>5.0} ms {median:>5.0} ms {most:>5.0} ms", runner.scheduler);
    }
    Ok(failed == 0 && slow["least-connections"] < slow["random"] / 2.0)
}

/// Lets policies look again when they want to, for so long.
fn follow(pipeline: &mut Pipeline<Kernel>, time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    loop {
        let next = pipeline.next_look().unwrap_or(end).min(end);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        if Instant::now() >= end {
            return Ok(());
        }
        pipeline.sync()?;
    }
}

/// Mean, median and 99th percentile in milliseconds.
fn latencies(all: &[Duration]) -> [f64; 3] {
    let mut sorted: Vec<f64> = all.iter().map(|latency| latency.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)));
    let mean = sorted.iter().sum::<f64>() / f64::from(u32::try_from(sorted.len().max(1)).unwrap_or(u32::MAX));
    [mean, at(50).copied().unwrap_or_default(), at(99).copied().unwrap_or_default()]
}

/// A Service at `target` with endpoints at those addresses.
fn objects(scheduler: &str, settings: &str, target: SocketAddr, addresses: Vec<IpAddr>, port: u16) -> [Event; 2] {
    let key = ObjectKey { namespace: "race".to_owned(), name: scheduler.to_owned() };
    let endpoint = |address| EndpointSpec {
        address,
        node: None,
        zone: None,
        conditions: Conditions::ready(),
        hint_zones: Vec::new(),
        hint_nodes: Vec::new(),
        weight: 1,
        pod: None,
    };
    let slice = SliceSpec {
        key: key.clone(),
        service: key.clone(),
        family: Family::V4,
        ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port }],
        endpoints: addresses.into_iter().map(endpoint).collect(),
        triggered: None,
    };
    let service = ServiceSpec {
        key,
        cluster_ips: vec![target.ip()],
        ports: vec![ServicePortSpec {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: target.port(),
            node_port: 0,
        }],
        policy: Some(scheduler.to_owned()),
        policy_settings: Some(settings.to_owned()).filter(|settings| !settings.is_empty()),
        ..ServiceSpec::default()
    };
    [Event::Service(service), Event::Slice(slice)]
}
