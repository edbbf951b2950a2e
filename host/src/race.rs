//! Schedulers side by side on real connections: the same backends, one of them slow, and what clients get. `weir demo`
//! races three of them, `benches/schedulers.rs` all.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_model::{
    EndpointSpec, Event, Family, ObjectKey, Protocol, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec,
};
use weir_netlink::Kernel;
use weir_testbed::{Call, Host, Listen, Node, Probe, ProbeReport, Server};

use crate::follow::load::LoadFollower;
use crate::pipeline::Pipeline;

/// Settings with which schedulers that look at load do so each second: nobody wants to wait here.
pub const SOON: &str = r#"{"period-seconds": 1, "slow-start-seconds": 0}"#;

/// The backend that takes its time.
pub const SLOW: &str = "backend-3";
/// How long it takes for an answer.
pub const SLOW_DELAY: Duration = Duration::from_millis(300);
/// How long the others take.
pub const DELAY: Duration = Duration::from_millis(10);

/// Connections a second through each Service.
pub const RATE: u32 = 60;
/// Threads that make them: more than the rate times the seconds of the slowest answer.
const WORKERS: u32 = 40;

/// Time for the schedulers to learn before anything is counted.
const WARM_UP: Duration = Duration::from_secs(4);

/// A Service with a scheduler.
#[derive(Clone, Copy, Debug)]
pub struct Runner {
    /// Tells it from the others, 1 to 254.
    pub number: u8,
    /// The policy it asks for.
    pub scheduler: &'static str,
    /// That policy's settings; empty for none.
    pub settings: &'static str,
}

impl Runner {
    /// Where clients connect to.
    #[must_use]
    pub fn target(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::new(10, 96, 200, self.number).into(), 80)
    }

    /// Where its backends listen: a port of its own, so that its connections are counted apart.
    #[must_use]
    pub fn port(&self) -> u16 {
        9100 + u16::from(self.number)
    }

    /// A call through it, patient enough for the slow backend.
    #[must_use]
    pub fn call(&self) -> Call {
        Call::tcp(self.target()).within(Duration::from_secs(5))
    }

    /// Its Service, with an endpoint on each backend of `node`: the first has `first_weight`, the others weight 1.
    #[must_use]
    pub fn objects(&self, node: &Node, first_weight: u32) -> [Event; 2] {
        let key = ObjectKey { namespace: "race".to_owned(), name: format!("{}-{}", self.scheduler, self.number) };
        let endpoint = |(at, backend): (usize, &Host)| EndpointSpec {
            weight: if at == 0 { first_weight } else { 1 },
            ..EndpointSpec::ready(backend.v4().into())
        };
        let slice = SliceSpec {
            key: key.clone(),
            service: key.clone(),
            family: Family::V4,
            ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: self.port() }],
            endpoints: node.backends().enumerate().map(endpoint).collect(),
            triggered: None,
        };
        let (target, name) = (self.target(), String::new());
        let service = ServiceSpec {
            key,
            cluster_ips: vec![target.ip()],
            ports: vec![ServicePortSpec { name, protocol: Protocol::Tcp, port: target.port(), node_port: 0 }],
            policy: Some(self.scheduler.to_owned()),
            policy_settings: Some(self.settings.to_owned()).filter(|settings| !settings.is_empty()),
            ..ServiceSpec::default()
        };
        [Event::Service(service), Event::Slice(slice)]
    }

    /// Starts its servers on the backends of `node`, [`SLOW`] among them.
    fn serve(&self, node: &Node) -> anyhow::Result<Vec<Server>> {
        let server = |backend: &Host| {
            let delay = if backend.name() == SLOW { SLOW_DELAY } else { DELAY };
            Server::start(backend, Listen::Slow { port: self.port(), delay })
        };
        node.backends().map(server).collect()
    }
}

/// Lets `pipeline` count connections through the kernel of `node`, for the schedulers that look at load.
pub fn count_loads(pipeline: &mut Pipeline<Kernel>, node: &Node) {
    let loads = node.kernel().run(|| {
        let loads = Arc::new(LoadFollower::new());
        loads.set_wanted(true);
        loads
    });
    pipeline.set_loads(loads);
}

/// Races `runners` against each other: all are asked from the pod `client` at [`RATE`] until the schedulers have learnt,
/// and then for the time `counted`. Returns what came of the latter, in their order.
///
/// # Errors
/// When a server's port is taken, or a sync fails.
pub fn run(
    runners: &[Runner],
    node: &Node,
    pipeline: &mut Pipeline<Kernel>,
    counted: Duration,
) -> anyhow::Result<Vec<ProbeReport>> {
    let mut servers = Vec::new();
    for runner in runners {
        servers.extend(runner.serve(node)?);
        runner.objects(node, 1).into_iter().for_each(|event| pipeline.apply(event));
    }
    pipeline.sync()?;
    let mut ask = |time| -> anyhow::Result<Vec<ProbeReport>> {
        let probe = |runner: &Runner| Probe::by_workers(node.pod("client"), runner.call(), RATE, WORKERS);
        let probes: Vec<Probe> = runners.iter().map(probe).collect();
        follow(pipeline, time)?;
        Ok(probes.into_iter().map(Probe::stop).collect())
    };
    ask(WARM_UP)?;
    ask(counted)
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

/// Mean, median and 99th percentile in milliseconds; zeros where there is nothing.
#[must_use]
pub fn latencies(all: &[Duration]) -> [f64; 3] {
    let mut sorted: Vec<f64> = all.iter().map(|latency| latency.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |percent: usize| sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default();
    [sorted.iter().sum::<f64>() / sorted.len().max(1) as f64, at(50), at(99)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_told_in_milliseconds() {
        let all: Vec<Duration> = (1..=199).rev().map(Duration::from_millis).collect();
        assert_eq!(latencies(&all).map(f64::round), [100.0, 100.0, 198.0]);
        assert_eq!(latencies(&[]), [0.0; 3]);
    }
}
