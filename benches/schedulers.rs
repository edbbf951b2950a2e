//! Every built-in scheduler that has a twin in IPVS, on real connections: the same three backends in network namespaces,
//! first all equal, then one of them slow. Prints the tables of docs/schedulers.md:
//! `cargo bench -p weir-benches --bench schedulers`.
//!
//! IPVS itself is not here: most kernels of machines that build software lack it. Its side is simulated, beside the same
//! policies, by `cargo run -p weir-policy --example schedulers`.

use std::time::Duration;

use anyhow::{Result, ensure};
use weir::pipeline::Pipeline;
use weir::race::{self, DELAY, RATE, Runner, SLOW, SLOW_DELAY, SOON};
use weir_benches::{catalog, store};
use weir_netlink::Kernel;
use weir_nft::Installed;
use weir_plan::{LocalPods, NodeFacts};
use weir_policy::Decider;
use weir_testbed::{Layout, Listen, Node, ProbeReport, Server, Tally};

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

/// Weight of the first backend; the others have 1. Schedulers without weights send each of them a third.
const WEIGHT: u32 = 2;

/// Connections of the first table, from as many addresses as the outside network has.
const CONNECTIONS: usize = 1_500;
const CLIENTS: usize = 250;

/// Time in which is counted in the second table.
const COUNTED: Duration = Duration::from_secs(6);

/// A Service for each of them, and its twin.
fn runners() -> impl Iterator<Item = (Runner, &'static str)> {
    let runner = |(number, (scheduler, settings, twin))| (Runner { number, scheduler, settings }, twin);
    (1..).zip(SCHEDULERS).map(runner)
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
    race::count_loads(&mut pipeline, &node);
    equal(&node, &mut pipeline)?;
    one_slow(&node, &mut pipeline)
}

/// Everybody equally fast, the first of twice the weight: who gets how much, and whether clients stay.
fn equal(node: &Node, pipeline: &mut Pipeline<Kernel>) -> Result<()> {
    let mut servers = Vec::new();
    for (runner, _) in runners() {
        for backend in node.backends() {
            servers.push(Server::start(backend, Listen::Greeting(runner.port()))?);
        }
        runner.objects(node, WEIGHT).into_iter().for_each(|event| pipeline.apply(event));
    }
    pipeline.sync()?;
    println!("\n{CONNECTIONS} connections from {CLIENTS} clients; weights {WEIGHT}, 1, 1\n");
    println!("| scheduler | twin | b1 | b2 | b3 | clients that met one endpoint only |");
    println!("|---|---|---|---|---|---|");
    for (runner, twin) in runners() {
        // From the node's side of the load balancer: outside addresses stand for clients.
        let source = |call: usize| Layout::outside(u8::try_from(call % CLIENTS + 2).expect("a byte")).v4;
        let tally = Tally::of(node.outside(), CONNECTIONS, |call| runner.call().from(source(call).into(), 0));
        ensure!(tally.failed() == 0, "{}: {:?}", name(&runner), tally.failures);
        let loyal = loyal(&tally);
        println!("| {} | {twin} | {} | {loyal} of {CLIENTS} |", name(&runner), shares(&tally));
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
    for (runner, twin) in runners() {
        for ProbeReport { tally, latencies, .. } in race::run(&[runner], node, pipeline, COUNTED)? {
            ensure!(tally.failed() == 0, "{}: {:?}", name(&runner), tally.failures);
            let [mean, median, most] = race::latencies(&latencies);
            let shares = shares(&tally);
            println!("| {} | {twin} | {shares} | {mean:.0} ms | {median:.0} ms | {most:.0} ms |", name(&runner));
        }
    }
    Ok(())
}

/// The scheduler as a table names it.
fn name(runner: &Runner) -> String {
    let in_turn = if runner.settings.contains("round-robin") { ", in turn" } else { "" };
    format!("`{}`{in_turn}", runner.scheduler)
}

/// The part of each backend, as cells of a table.
fn shares(tally: &Tally) -> String {
    ["backend-1", "backend-2", "backend-3"]
        .map(|backend| format!("{:.0} %", 100.0 * tally.share_of(backend)))
        .join(" | ")
}
