//! `weir run`.

mod origin;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use origin::Origin;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};
use weir_netlink::Kernel;
use weir_policy::{Catalog, CodeCache};
use weir_source::kubernetes::SourceHealth;

use crate::cli::RunArgs;
use crate::config::{Config, DefaultPolicies, PolicyRecords};
use crate::follow::{
    Follower, conntrack::Conntrack, health_ports::HealthPorts, load::LoadFollower, localhost_ports::LocalhostPorts,
};
use crate::health::ProxyHealth;
use crate::metrics::{Metrics, Sources};
use crate::node::{self, Surroundings};
use crate::policies::compiler::{Aside, Compiler};
use crate::policies::oci::source::Copies;
use crate::policies::{self, Loading, Policies};
use crate::records::Records;
use crate::runner::{LEAST_INTERVAL, Runner};
use crate::serve;

/// Events that may wait for the pipeline before the source has to.
const BACKLOG: usize = 1024;

/// Follows the cluster, or manifests, until told to stop.
pub(crate) fn run(args: &RunArgs, config: Config) -> anyhow::Result<()> {
    if args.cleanup {
        return super::cleanup::run();
    }
    if args.init_only {
        return super::init::run(&config.conntrack);
    }
    if let Some(file) = &args.write_config_to {
        let text = serde_saphyr::to_string(&config)?;
        return std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()));
    }
    if let Some(score) = config.oom_score_adj
        && let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string())
    {
        warn!(%error, score, "cannot set oomScoreAdj; it stays as it was");
    }
    let origin = Origin::of(args, &config.client_connection)?;
    let identity = node::identity(&config);
    info!(node = %identity.name, zone = %identity.zone, config = %serde_json::to_string(&config)?, "starting");
    let kernel = Kernel::open()?;
    let cache = code_cache(&config.policies);
    let engine = super::engine(&config, cache.as_ref())?;
    let catalog = Catalog::awaiting(&engine, &config.policies.traffic, &config.policies.balancer)?;
    compile_defaults(catalog.clone())?;
    let mut pipeline = super::pipeline(&config, catalog, &node::addresses()?, kernel);
    let PolicyRecords { directory, most } = &config.policy_records;
    if !directory.is_empty() {
        let records = Records::open(directory.into(), usize::try_from(*most)?);
        pipeline.set_recorder(Arc::new(records.with_context(|| format!("policyRecords.directory: {directory}"))?));
    }
    // A second Weir on this node must end here, not wait for its turn.
    pipeline.claim()?;
    // Syncs stay on this thread. What listens has the other: it neither waits for a sync nor holds one up.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let (sender, events) = mpsc::channel(BACKLOG);
        let directory = args.policies.clone();
        // The kernel's own name of this program, which holds when the file was replaced.
        let compiler = Compiler::new(engine, cache, Aside::Program("/proc/self/exe".into()));
        let DefaultPolicies { mut oci, oci_directory, enabled, .. } = config.policies.clone();
        // What is not used need not be fetched.
        oci.retain(|_| enabled);
        let loading = Loading { compiler, node: identity.name.clone(), enabled };
        let sources = 1 + usize::from(directory.is_some()) + usize::from(!oci.is_empty());
        let (policies, deliveries) = Policies::start(loading, sources)?;
        if !oci.is_empty() {
            let copies = (!oci_directory.is_empty()).then(|| Copies::open(oci_directory.clone().into()));
            let copies = copies.transpose().with_context(|| format!("policies.ociDirectory: {oci_directory}"))?;
            tokio::spawn(policies::oci::source::follow(oci, copies, deliveries.clone()));
        }
        if let Some(directory) = directory {
            policies::directory::watch(directory, deliveries.clone())?;
        }
        let (config_map_sender, config_maps) = mpsc::channel(BACKLOG);
        tokio::spawn(policies::forward(config_maps, deliveries));
        let source = SourceHealth::default();
        let notices = origin.follow(super::selection(&config), sender, config_map_sender, source.clone()).await?;
        notices.started(&identity.name);
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        // kube-proxy: twice the sync period (`server.go`, `healthzServer`).
        let health = ProxyHealth::new(config.sync_period.0 * 2);
        let (mut followers, mut sources) = followers(&config, &health)?;
        sources.cluster = source;
        let metrics = Arc::new(Metrics::new(sources, config.kube_proxy_metrics));
        followers.push(Box::new(metrics.inventory()));
        let subject =
            serve::Subject { health: health.clone(), metrics: Arc::clone(&metrics), board: policies.board.clone() };
        let (_servers, inspector) = serve::open(&config, subject)?;
        let least_interval = config.min_sync_period.0.max(LEAST_INTERVAL);
        let surroundings = Surroundings::open(config)?;
        let loads = Arc::new(LoadFollower::new());
        pipeline.set_loads(loads.clone());
        Runner { least_interval, surroundings, policies, notices, followers, loads, health, metrics, inspector }
            .run(&mut pipeline, events, stop)
            .await;
        anyhow::Ok(())
    })
}

/// Compiles the node's default policies aside: it takes longer than the rest of the start, and the list of Services is
/// on its way meanwhile.
fn compile_defaults(catalog: Catalog) -> std::io::Result<()> {
    let compile = move || {
        if let Err(error) = catalog.compile_defaults() {
            error!(%error, "the default policies do not compile");
        }
    };
    std::thread::Builder::new().name("default-policies".to_owned()).spawn(compile).map(drop)
}

/// The directory for compiled policies, if there should be one. One that cannot be used is told, and done without.
fn code_cache(policies: &DefaultPolicies) -> Option<CodeCache> {
    let path = Some(&policies.cache_directory).filter(|path| !path.is_empty())?;
    let opened = CodeCache::open(Path::new(path));
    if let Err(error) = &opened {
        warn!("policies.cacheDirectory: {error}; policies are compiled again at each start");
    }
    opened.ok()
}

/// Whoever keeps something in line with the Services besides the rules. What this kernel cannot do is told once and
/// done without.
fn followers(config: &Config, health: &ProxyHealth) -> anyhow::Result<(Vec<Box<dyn Follower>>, Sources)> {
    let health_ports = HealthPorts::new(health.clone());
    let mut sources = Sources { health_ports: Arc::clone(health_ports.refused()), ..Sources::default() };
    let mut followers: Vec<Box<dyn Follower>> =
        vec![Box::new(health_ports), Box::new(LocalhostPorts::by_config(config))];
    match weir_netlink::Conntrack::open() {
        Ok(flows) => {
            let conntrack = Conntrack::start(flows, &config.conntrack)?;
            sources.conntrack = Some(Arc::clone(conntrack.counters()));
            followers.push(Box::new(conntrack));
        }
        Err(error) => warn!(%error, "UDP flows to endpoints that are gone go on until they expire"),
    }
    Ok((followers, sources))
}
