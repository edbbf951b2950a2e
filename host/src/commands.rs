//! One module a subcommand, and what they share.

pub(crate) mod check_config;
pub(crate) mod cleanup;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod init;
pub(crate) mod policy;
pub(crate) mod render;
pub(crate) mod run;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tracing::warn;
use weir_model::Store;
use weir_nft::sim::Memory;
use weir_nft::{Dataplane, Installed};
use weir_policy::{Catalog, CodeCache, Decider, Engine, Policy};
use weir_source::{Loaded, Manifests, Problem, Selection};

use crate::cli::InputArgs;
use crate::config::{Config, DefaultPolicies};
use crate::node;
use crate::pipeline::Pipeline;
use crate::policies::{Delivery, Offer, directory};

/// The engine with the limits of `config`, which finds in `cache` what was compiled before.
fn engine(config: &Config, cache: Option<&CodeCache>) -> std::io::Result<Engine> {
    Ok(Engine::with_cache(config.policies.limits(), cache)?.with_ceilings(config.policies.ceilings()))
}

/// The built-in policies and those in `directory`. What is no policy there is logged and left out.
fn catalog(config: &Config, directory: Option<&Path>) -> anyhow::Result<Catalog> {
    let engine = engine(config, None)?;
    let DefaultPolicies { traffic, balancer, .. } = &config.policies;
    let Some(directory) = directory.filter(|_| config.policies.enabled) else {
        return Ok(Catalog::new(&engine, traffic, balancer)?);
    };
    let mut catalog = Catalog::awaiting(&engine, traffic, balancer)?;
    let found = directory::read(directory).with_context(|| format!("policies in {}", directory.display()))?;
    let off = found.iter().any(|delivery| matches!(delivery, Delivery::Switch(true)));
    let node = node::identity(config).name;
    for delivery in found {
        let (name, loaded) = match delivery {
            Delivery::Set(Offer { artifact, rollout, .. }) if off || rollout.off => {
                catalog.switch_off(&artifact.name);
                continue;
            }
            Delivery::Set(Offer { mut artifact, canary, rollout }) => {
                if let Some(canary) = canary.filter(|_| rollout.takes_canary(&node, &artifact.name)) {
                    artifact.component = canary;
                }
                let loaded = Policy::from_artifact(&engine, &artifact, &[]).map_err(|why| why.to_string());
                (artifact.name, loaded)
            }
            Delivery::Bad { name, why } => (name, Err(why)),
            Delivery::Gone(_) | Delivery::Switch(_) | Delivery::Listed => continue,
        };
        match loaded {
            Ok(policy) => catalog.set(policy),
            Err(why) => warn!(policy = name, "policy refused: {why}"),
        }
    }
    Ok(catalog)
}

/// A pipeline by `config` for a node with those `addresses`, with the policies of `catalog`.
fn pipeline<D: Dataplane>(config: &Config, catalog: Catalog, addresses: &[IpAddr], dataplane: D) -> Pipeline<D> {
    let store = Store::new(node::identity(config));
    let installed = Installed::new(node::facts(config, addresses, &store));
    let mut decider = Decider::new(catalog);
    decider.set_max_removed_percent(config.policies.max_removed_percent);
    Pipeline::new(store, decider, installed, dataplane)
}

/// A pipeline that has planned what `input` asks for on a node with those `addresses`, in memory only. What is wrong with
/// some of it is logged.
fn planned(input: &InputArgs, config: &Config, addresses: &[IpAddr]) -> anyhow::Result<Pipeline<Memory>> {
    let loaded = load(&paths(input.manifests.as_ref(), &input.files), config)?;
    let catalog = catalog(config, input.policies.as_deref())?;
    let mut pipeline = pipeline(config, catalog, addresses, Memory::default());
    apply(&mut pipeline, config, addresses, loaded);
    pipeline.sync()?.log_problems();
    Ok(pipeline)
}

/// Applies all of `loaded`, and what it tells of the node.
fn apply<D: Dataplane>(pipeline: &mut Pipeline<D>, config: &Config, addresses: &[IpAddr], loaded: Loaded) {
    loaded.into_events().into_iter().for_each(|event| pipeline.apply(event));
    pipeline.set_facts(node::facts(config, addresses, pipeline.store()));
}

/// What a node with that configuration takes of a source.
fn selection(config: &Config) -> Selection {
    Selection { node: node::identity(config).name, service_proxy_name: config.service_proxy_name.clone() }
}

/// Reads manifests once; what is wrong with some is logged, and the others are returned.
fn load(paths: &[PathBuf], config: &Config) -> anyhow::Result<Loaded> {
    for path in paths {
        std::fs::metadata(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    }
    let loaded = Manifests::load(paths, &selection(config));
    loaded.problems.iter().for_each(Problem::log);
    Ok(loaded)
}

/// The paths of `--manifests DIR` or `-f FILE…`.
fn paths(directory: Option<&PathBuf>, files: &[PathBuf]) -> Vec<PathBuf> {
    directory.map_or_else(|| files.to_vec(), |directory| vec![directory.clone()])
}
