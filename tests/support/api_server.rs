//! A Kubernetes API server for tests: real HTTP, real list and watch, no cluster.
//!
//! It serves the kinds Weir uses (`resources`), keeps them with their history (`cluster`), and answers GET, LIST, WATCH,
//! POST, PUT, PATCH and DELETE with the rules of resource versions that clients lean on (`answer`, `watch`). It does so
//! well enough for `kubectl get`, `create`, `apply`, `label`, `annotate` and `delete --wait=false`. It can also do wrong,
//! on demand ([`Faults`]), and remembers what it was asked ([`Asked`]).
//!
//! A [`Cluster`] outlives its server, as etcd does: [`ApiServer::stop`] and a new [`ApiServer`] on the same cluster and
//! address are a restart.

mod answer;
mod cluster;
mod discovery;
mod faults;
mod protobuf;
mod request;
mod resources;
mod selector;
mod watch;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::{Builder, Runtime};

pub use cluster::Cluster;
pub use faults::{Asked, Faults};

/// A running server. Dropped, it ends, and with it all its connections.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    /// Dropped with the server, and all of its tasks with it.
    runtime: Option<Runtime>,
}

impl ApiServer {
    /// Starts a server for `cluster` on a free port of the loopback address.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn start(cluster: &Arc<Cluster>) -> Result<Self> {
        Self::listen(cluster, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port on loopback")?)
    }

    /// Starts a server for `cluster` that accepts from `listener`, which may belong to another network namespace.
    ///
    /// # Errors
    /// When the runtime cannot be made.
    pub fn listen(cluster: &Arc<Cluster>, listener: TcpListener) -> Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (listener, cluster) = {
            let _inside = runtime.enter();
            (tokio::net::TcpListener::from_std(listener)?, cluster.clone())
        };
        runtime.spawn(accept(listener, cluster));
        Ok(Self { address, runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes a kubeconfig that leads here, with the token that stands in `token_file`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig(&self, token_file: Option<&Path>) -> Result<Kubeconfig> {
        let user = token_file.map_or_else(|| "{}".to_owned(), |file| format!("{{tokenFile: {}}}", file.display()));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: '{}'}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test, namespace: weir-system}}}}]\n\
             users: [{{name: test, user: {user}}}]\n",
            self.url()
        );
        let file = temporary("kubeconfig");
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        Ok(Kubeconfig(file))
    }

    /// Ends it as a crash would: every connection is cut.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// A kubeconfig that is removed when dropped.
#[derive(Debug)]
pub struct Kubeconfig(PathBuf);

impl Kubeconfig {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Kubeconfig {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A path nothing has yet, in the directory for temporary files.
#[must_use]
pub fn temporary(name: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("weir-tests-{}-{number}-{name}", std::process::id()))
}

async fn accept(listener: tokio::net::TcpListener, cluster: Arc<Cluster>) {
    loop {
        // Out of descriptors, at worst; a later connection may find one.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let cluster = cluster.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let cluster = cluster.clone();
                async move { answer::answer(cluster, request).await }
            });
            // A client that goes away, or a stream that is cut on purpose.
            let _ =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
