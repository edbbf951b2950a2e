//! `weir run`.

mod origin;

use origin::Origin;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::info;
use weir_netlink::Kernel;

use crate::cli::RunArgs;
use crate::follow::{Follower, health_ports::HealthPorts, localhost_ports::LocalhostPorts};
use crate::health::ProxyHealth;
use crate::node::{self, Surroundings};
use crate::runner::Runner;

/// Events that may wait for the pipeline before the source has to.
const BACKLOG: usize = 1024;

/// Follows the cluster, or manifests, until told to stop.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let config = args.node.load()?;
    let origin = Origin::of(args)?;
    let identity = node::identity(&config);
    info!(node = %identity.name, zone = %identity.zone, config = %serde_json::to_string(&config)?, "starting");
    let kernel = Kernel::open()?;
    let mut pipeline = super::pipeline(&config, &node::addresses()?, kernel)?;
    // A second Weir on this node must end here, not wait for its turn.
    pipeline.claim()?;
    // Syncs stay on this thread. What listens has the other: it neither waits for a sync nor holds one up.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let (sender, events) = mpsc::channel(BACKLOG);
        origin.follow(super::selection(&config), sender).await?;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let health = ProxyHealth::default();
        let followers: Vec<Box<dyn Follower>> =
            vec![Box::new(HealthPorts::new(health.clone())), Box::new(LocalhostPorts::by_config(&config))];
        let surroundings = Surroundings::open(config)?;
        Runner { surroundings, followers, health }.run(&mut pipeline, events, stop).await;
        anyhow::Ok(())
    })
}
