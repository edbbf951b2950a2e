//! Every built-in scheduler that has a twin in IPVS, on real connections: the same three backends in network namespaces,
//! first all equal, then one of them slow. Prints the tables of docs/schedulers.md:
//! `cargo bench -p weir-benches --bench schedulers`.
//!
//! IPVS itself is not here: most kernels of machines that build software lack it. Its side is simulated, beside the same
//! policies, by `cargo run -p weir-policy --example schedulers`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weir::follow::load::LoadFollower;
use weir::pipeline::Pipeline;
use weir_benches::{catalog, store};
use weir_model::{
    Conditions, EndpointSpec, Event, Family, ObjectKey, Protocol, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec,
};
use weir_netlink::Kernel;
use weir_nft::Installed;
use weir_plan::{LocalPods, NodeFacts};
use weir_policy::Decider;
use weir_testbed::{Call, Host, Layout, Listen, Node, Probe, ProbeReport, Server, Tally};

/// Policy, its settings, its twin.
const SCHEDULERS: [(&str, &str, &str); 10] = [
    ("random", "", "–"),
    ("round-robin", "", "rr"),
    ("weighted", "", "–"),
    ("weighted", r#"{"index": "round-robin"}"#, "wrr"),
    ("source-hash", "", "sh"),
    ("maglev", "", "mh"),
    ("least-connections", SOON, "lc"),
    ("weighted-least-connections", SOON, "wlc"),
    ("sed", SOON, "sed"),
    ("nq", SOON, "nq"),
];

/// Those that look at load do so often: nobody wants to wait here.
const SOON: &str = r#"{"period-seconds": 1, "slow-start-seconds": 0}"#;

/// Weight of the first backend; the others have 1. Schedulers without weights send each of them a third.
const WEIGHT: u32 = 2;

/// Connections of the first table, from as many addresses as the outside network has.
const CONNECTIONS: usize = 1_500;
const CLIENTS: usize = 250;

/// The backend that takes its time in the second table.
const SLOW: &str = "backend-3";
const SLOW_DELAY: Duration = Duration::from_millis(300);
const DELAY: Duration = Duration::from_millis(10);

/// Connections a second through a Service, by so many threads: more than the rate times the seconds of the slowest answer.
const RATE: u32 = 60;
const WORKERS: u32 = 40;

/// Time to learn, and time in which is counted.
const WARM_UP: Duration = Duration::from_secs(4);
const COUNTED: Duration = Duration::from_secs(6);

/// Where the backends of Service number `number` listen: a port each, so that none sees the connections of the others.
fn port(number: usize) -> u16 {
    9100 + u16::try_from(number).expect("few")
}

fn target(number: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 96, 200, u8::try_from(number + 1).expect("few")).into(), 80)
}

fn main() -> Result<()> {
    // The namespace comes first, while there is a single thread; it goes with the process.
    if let Err(error) = weir_testbed::enter() {
        eprintln!("not run: {error}");
        return Ok(());
    }
    let node = Node::up(&Layout::default())?;
    let facts = NodeFacts { local_pods: LocalPods::Networks(vec!["10.244.0.0/24".parse()?]), ..NodeFacts::default() };
    let catalog = catalog();
    let kernel = node.kernel().run(Kernel::open)?;
    let mut pipeline = Pipeline::new(store(), Decider::new(catalog), Installed::new(facts), kernel);
    let loads = node.kernel().run(|| {
        let loads = Arc::new(LoadFollower::new());
        loads.set_wanted(true);
        loads
    });
    pipeline.set_loads(loads);
    equal(&node, &mut pipeline)?;
    one_slow(&node, &mut pipeline)
}

fn backends(node: &Node) -> impl Iterator<Item = &Host> {
    node.pods().iter().filter(|pod| pod.name().starts_with("backend"))
}

/// Everybody equally fast, the first of twice the weight: who gets how much, and whether clients stay.
fn equal(node: &Node, pipeline: &mut Pipeline<Kernel>) -> Result<()> {
    let mut servers = Vec::new();
    for number in 0..SCHEDULERS.len() {
        for backend in backends(node) {
            servers.push(Server::start(backend, Listen::Greeting(port(number)))?);
        }
        add(pipeline, node, number, WEIGHT);
    }
    pipeline.sync()?;
    println!("\n{CONNECTIONS} connections from {CLIENTS} clients; weights {WEIGHT}, 1, 1\n");
    println!("| scheduler | twin | b1 | b2 | b3 | clients that met one endpoint only |");
    println!("|---|---|---|---|---|---|");
    for (number, (_, _, twin)) in SCHEDULERS.iter().enumerate() {
        // From the node's side of the load balancer: outside addresses stand for clients.
        let source = |call: usize| Layout::outside(u8::try_from(call % CLIENTS + 2).expect("a byte")).v4;
        let call = |call| Call::tcp(target(number)).from(source(call).into(), 0).within(Duration::from_secs(5));
        let tally = Tally::of(node.outside(), CONNECTIONS, call);
        ensure!(tally.failed() == 0, "{}: {:?}", name(number), tally.failures);
        let loyal = loyal(&tally);
        println!("| {} | {twin} | {} | {loyal} of {CLIENTS} |", name(number), shares(&tally));
    }
    Ok(())
}

/// Clients whose connections all went to one backend. Calls are made one after the other, client by client.
fn loyal(tally: &Tally) -> usize {
    let met = |client: usize| tally.order.iter().skip(client).step_by(CLIENTS);
    (0..CLIENTS).filter(|client| met(*client).all(|backend| backend == &tally.order[*client])).count()
}

/// Equal weights, one of them slow: who spares it, and what that does for clients.
fn one_slow(node: &Node, pipeline: &mut Pipeline<Kernel>) -> Result<()> {
    println!("\n{RATE} connections a second for {COUNTED:?}; {SLOW} takes {SLOW_DELAY:?}, the others {DELAY:?}\n");
    println!("| scheduler | twin | b1 | b2 | b3 | mean | p50 | p99 |");
    println!("|---|---|---|---|---|---|---|---|");
    // One after the other, so that none waits for the processors of the others.
    for (number, (_, _, twin)) in SCHEDULERS.iter().enumerate() {
        let mut servers = Vec::new();
        for backend in backends(node) {
            let delay = if backend.name() == SLOW { SLOW_DELAY } else { DELAY };
            servers.push(Server::start(backend, Listen::Slow { port: port(number), delay })?);
        }
        add(pipeline, node, number, 1);
        pipeline.sync()?;
        let call = Call::tcp(target(number)).within(Duration::from_secs(5));
        let probe = || Probe::by_workers(node.pod("client"), call, RATE, WORKERS);
        let learning = probe();
        follow(pipeline, WARM_UP)?;
        drop(learning.stop());
        let counting = probe();
        follow(pipeline, COUNTED)?;
        let ProbeReport { tally, latencies, .. } = counting.stop();
        ensure!(tally.failed() == 0, "{}: {:?}", name(number), tally.failures);
        let [mean, median, most] = figures(&latencies);
        println!("| {} | {twin} | {} | {mean:.0} ms | {median:.0} ms | {most:.0} ms |", name(number), shares(&tally));
    }
    Ok(())
}

/// The scheduler as a table names it.
fn name(number: usize) -> String {
    let (policy, settings, _) = SCHEDULERS[number];
    if settings.contains("round-robin") { format!("`{policy}`, in turn") } else { format!("`{policy}`") }
}

/// Lets policies look again when they want to, for so long.
fn follow(pipeline: &mut Pipeline<Kernel>, time: Duration) -> Result<()> {
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

/// The part of each backend, as cells of a table.
fn shares(tally: &Tally) -> String {
    let of = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let share = |backend| 100.0 * of(tally.answers_of(backend)) / of(tally.answered().max(1));
    ["backend-1", "backend-2", "backend-3"].map(|backend| format!("{:.0} %", share(backend))).join(" | ")
}

/// Mean, median and 99th percentile in milliseconds.
fn figures(all: &[Duration]) -> [f64; 3] {
    let mut sorted: Vec<f64> = all.iter().map(|latency| latency.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |percent: usize| sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default();
    [sorted.iter().sum::<f64>() / sorted.len() as f64, at(50), at(99)]
}

/// Adds Service number `number`, or changes the weight of its first endpoint.
fn add(pipeline: &mut Pipeline<Kernel>, node: &Node, number: usize, first_weight: u32) {
    let key = |part: &str| ObjectKey { namespace: "race".to_owned(), name: format!("{number}{part}") };
    let (policy, settings, _) = SCHEDULERS[number];
    pipeline.apply(Event::Service(ServiceSpec {
        key: key(""),
        cluster_ips: vec![target(number).ip()],
        ports: vec![ServicePortSpec {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: target(number).port(),
            node_port: 0,
        }],
        policy: Some(policy.to_owned()),
        policy_settings: Some(settings.to_owned()).filter(|settings| !settings.is_empty()),
        ..ServiceSpec::default()
    }));
    let endpoint = |(at, backend): (usize, &Host)| EndpointSpec {
        address: IpAddr::V4(backend.v4()),
        node: None,
        zone: None,
        conditions: Conditions::ready(),
        hint_zones: Vec::new(),
        hint_nodes: Vec::new(),
        weight: if at == 0 { first_weight } else { 1 },
        pod: None,
    };
    pipeline.apply(Event::Slice(SliceSpec {
        key: key("-slice"),
        service: key(""),
        family: Family::V4,
        ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: port(number) }],
        endpoints: backends(node).enumerate().map(endpoint).collect(),
        triggered: None,
    }));
}
