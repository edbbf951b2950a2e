//! `weir demo`: the main job on one screen, with real connections.

mod race;
mod scene;
mod table;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use weir_model::{Event, SliceSpec};
use weir_netlink::Kernel;
use weir_source::Loaded;
use weir_testbed::{Call, Probe};

use self::scene::Scene;
use self::table::Row;
use crate::cli::DemoArgs;
use crate::config::Config;

/// What the examples call the demo's node.
const NODE_NAME: &str = "demo-node";

/// Connections per line of the table.
const CALLS: usize = 300;

/// The Service that loses an endpoint at the end, and which one.
const CHANGED: (&str, &str) = ("my-nginx", "10.244.1.13");

/// Connections a second while it does.
const PROBE_RATE: u32 = 200;

/// Builds a node out of network namespaces, programs it and sends connections through it. Everything vanishes with
/// the process.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let start = Instant::now();
    let config = Config {
        node_name: NODE_NAME.to_owned(),
        pod_cidrs: vec!["10.244.0.0/16".parse()?, "fd00:244::/32".parse()?],
        service_cidrs: vec!["10.0.0.0/16".parse()?, "10.96.0.0/12".parse()?],
        ..Config::default()
    };
    let loaded = super::load(std::slice::from_ref(&args.manifests), &config)?;
    // Before any thread exists: only then may a process without root have a user namespace.
    weir_testbed::enter()?;
    let scene = Scene::build(&loaded)?;
    println!("{}", scene.picture());

    let addresses = scene.node.kernel().run(crate::node::addresses)?;
    let kernel = scene.node.kernel().run(Kernel::open)?;
    let mut pipeline = super::pipeline(&config, super::catalog(&config, None)?, &addresses, kernel);
    super::apply(&mut pipeline, &config, &addresses, loaded.clone());
    let outcome = pipeline.sync()?;
    outcome.log_problems();
    let elements = outcome.transaction.element_count();
    println!(
        "programmed {} ports of {} Services: {elements} elements in one netlink batch, decided in {:?}, committed in {:?}\n",
        outcome.ports,
        loaded.services.len(),
        outcome.timings.decide,
        outcome.timings.commit,
    );

    println!("{}", table::HEAD);
    let mut strange = 0;
    for plan in pipeline.installed().plans().cloned().collect::<Vec<_>>() {
        let decided = pipeline.decision(&plan.key).cloned().context("a planned port was decided")?;
        for frontend in &plan.frontends {
            let row = Row::measure(&scene, &mut pipeline, &plan, frontend, &decided, CALLS)?;
            strange += usize::from(!row.as_expected());
            println!("{row}");
        }
    }
    strange += usize::from(!live_change(&scene, &mut pipeline, &loaded)?);
    strange += usize::from(!race::run(&scene, &mut pipeline)?);
    println!("\nnothing is left behind; {:.0} s in all", start.elapsed().as_secs_f64());
    ensure!(strange == 0, "{strange} lines are not as expected (marked with ✗)");
    Ok(())
}

/// Takes an endpoint away while connections come in, and shows what was sent and who answers now.
fn live_change(
    scene: &Scene,
    pipeline: &mut crate::pipeline::Pipeline<Kernel>,
    loaded: &Loaded,
) -> anyhow::Result<bool> {
    let (service, gone) = CHANGED;
    let Some(slice) = loaded.slices.iter().find(|slice| slice.service.name == service) else { return Ok(true) };
    let Some(target) = scene.cluster_ip(loaded, service) else { return Ok(true) };
    let call = Call::http(target).within(Duration::from_secs(1));
    println!("\n{gone} leaves {service} while {PROBE_RATE} connections a second go to {target}:");
    let probe = Probe::connections(scene.client(), call, PROBE_RATE);
    std::thread::sleep(Duration::from_millis(500));
    let endpoints = slice.endpoints.iter().filter(|endpoint| endpoint.address.to_string() != gone).cloned().collect();
    pipeline.apply(Event::Slice(SliceSpec { endpoints, ..slice.clone() }));
    let outcome = pipeline.sync()?;
    std::thread::sleep(Duration::from_millis(500));
    let report = probe.stop();
    for line in weir_nft::text::transaction(&outcome.transaction).lines() {
        println!("  {line}");
    }
    let tally = weir_testbed::Tally::repeat(scene.client(), CALLS, call);
    println!("  decided in {:?}, committed in {:?}", outcome.timings.decide, outcome.timings.commit);
    println!(
        "  {} connections meanwhile, {} failed",
        report.tally.answered() + report.tally.failed(),
        report.tally.failed()
    );
    println!("  {CALLS} connections afterwards: {}", table::shares(&tally));
    Ok(report.tally.failed() == 0 && tally.answers.len() + 1 == slice.endpoints.len())
}
