//! Where the objects come from.

use std::path::PathBuf;

use anyhow::{Context, bail};
use tokio::sync::mpsc;
use tracing::info;
use weir_model::Event;
use weir_source::kubernetes::{self, Access, Options, SourceHealth, Timing};
use weir_source::{ConfigMapEvent, Selection};

use crate::cli::RunArgs;
use crate::commands;
use crate::config::ClientConnection;
use crate::notices::Notices;

/// A source, chosen and not yet followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Files, or one directory of them.
    Manifests(Vec<PathBuf>),
    /// An API server.
    Cluster {
        /// Where it is.
        access: Access,
        /// Where policies are; by the credentials when `None`.
        namespace: Option<String>,
    },
}

impl Origin {
    /// The source the flags ask for, else the kubeconfig of the configuration; without any, the cluster of the pod this process runs in.
    ///
    /// # Errors
    /// When there is no flag and no such pod.
    pub(super) fn of(args: &RunArgs, configured: &ClientConnection) -> anyhow::Result<Self> {
        if args.manifests.is_some() || !args.files.is_empty() {
            return Ok(Self::Manifests(commands::paths(args.manifests.as_ref(), &args.files)));
        }
        let configured = Some(&configured.kubeconfig).filter(|path| !path.is_empty()).map(PathBuf::from);
        let access = Access { kubeconfig: args.kubeconfig.clone().or(configured), server: args.master.clone() };
        if access == Access::default() && !Access::is_in_cluster() {
            bail!(
                "nothing to follow: this is no pod with a service account, and none of --kubeconfig, --master, \
                 --manifests and -f is given"
            );
        }
        Ok(Self::Cluster { access, namespace: args.namespace.clone() })
    }

    /// Follows the source until the receiver of `events` is gone; returns once that is under way, with the way to tell
    /// the cluster something. `health` learns how old our knowledge of a cluster is.
    ///
    /// # Errors
    /// When it cannot begin: no thread, no credentials. An API server that cannot be reached is no error.
    pub(super) async fn follow(
        self,
        selection: Selection,
        events: mpsc::Sender<Event>,
        config_maps: mpsc::Sender<ConfigMapEvent>,
        health: SourceHealth,
    ) -> anyhow::Result<Notices> {
        match self {
            Self::Manifests(paths) => {
                weir_source::watch(paths, selection, events, config_maps).context("cannot follow the manifests")?;
                Ok(Notices::nowhere())
            }
            Self::Cluster { access, namespace } => {
                // Reads the credentials once: what is wrong with them should end the program now, not show up later.
                let own = access.namespace().await?;
                let namespace = namespace.unwrap_or(own);
                info!(?access, namespace, "following the cluster");
                let options = Options { selection, namespace, timing: Timing::default(), health: health.clone() };
                let (notices, told) = Notices::to_cluster(&options.namespace);
                tokio::spawn(kubernetes::announce(access.clone(), options.selection.node.clone(), told));
                tokio::spawn(health.watchdog());
                tokio::spawn(kubernetes::watch(access, options, events, config_maps));
                Ok(notices)
            }
        }
    }
}
