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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

pub use cluster::Cluster;
pub use faults::{Asked, Faults};

/// A running server. Dropped, it ends, and with it all its connections.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    /// Its certificate, in PEM, where it speaks TLS.
    certificate: Option<String>,
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

    /// The same by TLS, with a certificate of its own making that [`ApiServer::kubeconfig`] names as its authority.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub fn start_tls(cluster: &Arc<Cluster>) -> Result<Self> {
        Self::listen_tls(cluster, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port on loopback")?)
    }

    /// The same for one client only: whoever cannot show `client` is not talked to.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub fn start_tls_for(cluster: &Arc<Cluster>, client: &ClientCertificate) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port on loopback")?;
        let mut trusted = RootCertStore::empty();
        trusted.add(client.made.cert.der().clone())?;
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider).build()?;
        Self::listen_tls_with(cluster, listener, verifier)
    }

    /// The same on a `listener`, which may belong to another network namespace. The certificate is for its address.
    ///
    /// # Errors
    /// When there can be no certificate for the address, or the runtime cannot be made.
    pub fn listen_tls(cluster: &Arc<Cluster>, listener: TcpListener) -> Result<Self> {
        Self::listen_tls_with(cluster, listener, WebPkiClientVerifier::no_client_auth())
    }

    fn listen_tls_with(
        cluster: &Arc<Cluster>,
        listener: TcpListener,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([listener.local_addr()?.ip().to_string()])?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        let mut server = Self::accept_from(cluster, listener, Some(TlsAcceptor::from(Arc::new(config))))?;
        server.certificate = Some(made.cert.pem());
        Ok(server)
    }

    /// Starts a server for `cluster` that accepts from `listener`, which may belong to another network namespace.
    ///
    /// # Errors
    /// When the runtime cannot be made.
    pub fn listen(cluster: &Arc<Cluster>, listener: TcpListener) -> Result<Self> {
        Self::accept_from(cluster, listener, None)
    }

    fn accept_from(cluster: &Arc<Cluster>, listener: TcpListener, tls: Option<TlsAcceptor>) -> Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (listener, cluster) = {
            let _inside = runtime.enter();
            (tokio::net::TcpListener::from_std(listener)?, cluster.clone())
        };
        runtime.spawn(accept(listener, cluster, tls));
        Ok(Self { address, certificate: None, runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its certificate, in PEM, where it speaks TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Writes a kubeconfig that leads here, with the token that stands in `token_file`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig(&self, token_file: Option<&Path>) -> Result<Kubeconfig> {
        let user = token_file.map_or_else(|| "{}".to_owned(), |file| format!("{{tokenFile: {}}}", file.display()));
        let authority = self.certificate.as_ref().map(|_| temporary("authority.pem"));
        let named = authority.as_ref().map(|file| format!(", certificate-authority: {}", file.display()));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: '{}'{}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test, namespace: weir-system}}}}]\n\
             users: [{{name: test, user: {user}}}]\n",
            self.url(),
            named.unwrap_or_default()
        );
        let kubeconfig = Kubeconfig { file: temporary("kubeconfig"), authority };
        std::fs::write(&kubeconfig.file, text).with_context(|| kubeconfig.file.display().to_string())?;
        if let (Some(file), Some(certificate)) = (&kubeconfig.authority, &self.certificate) {
            std::fs::write(file, certificate).with_context(|| file.display().to_string())?;
        }
        Ok(kubeconfig)
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

/// A certificate by which a client tells who it is, with its key.
pub struct ClientCertificate {
    made: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl ClientCertificate {
    /// A new one, which is its own authority.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self> {
        Ok(Self { made: rcgen::generate_simple_self_signed(["system:kube-proxy".to_owned()])? })
    }

    /// The certificate and the key, in PEM.
    #[must_use]
    pub fn pem(&self) -> [String; 2] {
        [self.made.cert.pem(), self.made.signing_key.serialize_pem()]
    }
}

/// A kubeconfig that is removed when dropped.
#[derive(Debug)]
pub struct Kubeconfig {
    file: PathBuf,
    authority: Option<PathBuf>,
}

impl Kubeconfig {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }
}

impl Drop for Kubeconfig {
    fn drop(&mut self) {
        for file in [Some(&self.file), self.authority.as_ref()].into_iter().flatten() {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// A path nothing has yet, in the directory for temporary files.
#[must_use]
pub fn temporary(name: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("weir-tests-{}-{number}-{name}", std::process::id()))
}

async fn accept(listener: tokio::net::TcpListener, cluster: Arc<Cluster>, tls: Option<TlsAcceptor>) {
    loop {
        // Out of descriptors, at worst; a later connection may find one.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (cluster, tls) = (cluster.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, cluster).await,
                // A client that does not like our certificate goes.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, cluster).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, cluster: Arc<Cluster>) {
    let service = service_fn(|request| {
        let cluster = cluster.clone();
        async move { answer::answer(cluster, request).await }
    });
    // Fails when the client goes away, or when a stream is cut on purpose.
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}
