//! `weir run`.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};
use weir_netlink::Kernel;

use crate::cli::RunArgs;
use crate::config::Config;
use crate::follow::Follower;
use crate::follow::conntrack::Conntrack;
use crate::{node, runner};

/// Events that may wait for the pipeline before the source has to.
const BACKLOG: usize = 1024;

/// Follows the manifests until told to stop.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let config = args.input.node.load()?;
    let identity = node::identity(&config);
    info!(node = %identity.name, zone = %identity.zone, config = %serde_json::to_string(&config)?, "starting");
    let kernel = Kernel::open()?;
    let mut pipeline = super::pipeline(&config, &node::addresses()?, kernel)?;
    // A second Weir on this node must end here, not wait for its turn.
    pipeline.claim()?;
    let mut followers = followers(&config)?;
    // One thread is enough: syncs are short, and nothing else has to happen meanwhile.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (sender, events) = mpsc::channel(BACKLOG);
        let paths = super::paths(args.input.manifests.as_ref(), &args.input.files);
        weir_source::watch(paths, sender).context("cannot follow the manifests")?;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        runner::run(&mut pipeline, events, &mut followers, stop).await;
        anyhow::Ok(())
    })
}

/// Whoever keeps something in line with the Services besides the rules. What this kernel cannot do is told once and
/// done without.
fn followers(config: &Config) -> anyhow::Result<Vec<Box<dyn Follower>>> {
    let mut followers: Vec<Box<dyn Follower>> = Vec::new();
    match weir_netlink::Conntrack::open() {
        Ok(flows) => followers.push(Box::new(Conntrack::start(flows, &config.conntrack)?)),
        Err(error) => warn!(%error, "UDP flows to endpoints that are gone go on until they expire"),
    }
    Ok(followers)
}
