//! Where the API server is, and who we are there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::sync::Mutex;
use tracing::{info, warn};

/// How the API server is found, and with which credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A kubeconfig file, whose current context counts; without one, the service account of the pod we run in.
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server, instead of the one the credentials come with.
    pub server: Option<String>,
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {file}: {error}")]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: Box<KubeconfigError>,
    },
    /// There is no service account.
    #[error("not in a pod with a service account: {0}")]
    InCluster(#[from] InClusterError),
    /// The URL of the API server is none.
    #[error("{url:?} is not the URL of an API server: {error}")]
    Server {
        /// The text.
        url: String,
        /// What is wrong with it.
        error: http::uri::InvalidUri,
    },
    /// The credentials cannot be used.
    #[error("cannot set up a client: {0}")]
    Client(Box<kube::Error>),
}

impl Access {
    /// Whether this process runs in a pod with a service account, by the environment kubelets give (client-go:
    /// `InClusterConfig`).
    #[must_use]
    pub fn is_in_cluster() -> bool {
        std::env::var_os("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty())
    }

    /// The namespace of the kubeconfig's context, or of the pod we run in.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn namespace(&self) -> Result<String, AccessError> {
        self.config().await.map(|config| config.default_namespace)
    }

    /// Everything the client needs, read anew.
    async fn config(&self) -> Result<Config, AccessError> {
        let server = self.server.as_deref().map(parse).transpose()?;
        let mut config = match (&self.kubeconfig, server.clone()) {
            (Some(file), _) => by_kubeconfig(file).await?,
            // As client-go does with a bare `--master`: no credentials at all.
            (None, Some(server)) if !Self::is_in_cluster() => Config::new(server),
            (None, _) => Config::incluster()?,
        };
        if let Some(server) = server {
            config.cluster_url = server;
        }
        Ok(config)
    }

    async fn client(&self, answer: Duration) -> Result<Client, AccessError> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(answer);
        // Waiting is our own business: we know what `Retry-After` says, and who else waits.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| AccessError::Client(Box::new(error)))
    }
}

async fn by_kubeconfig(file: &Path) -> Result<Config, AccessError> {
    let problem = |error| AccessError::Kubeconfig { file: file.to_owned(), error: Box::new(error) };
    let kubeconfig = Kubeconfig::read_from(file).map_err(problem)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(problem)
}

fn parse(url: &str) -> Result<http::Uri, AccessError> {
    url.parse().map_err(|error| AccessError::Server { url: url.to_owned(), error })
}

/// The client all kinds share, and how it is made anew.
///
/// The client itself looks at a token file once a minute. A new one looks at everything at once, and has none of the old
/// one's idle connections, which may be dead without anybody knowing.
#[derive(Debug)]
pub(super) struct Connection {
    access: Access,
    answer: Duration,
    current: Mutex<Option<Numbered>>,
}

/// A client, and the how manieth it is.
#[derive(Clone)]
pub(super) struct Numbered {
    pub(super) client: Client,
    number: u64,
}

impl std::fmt::Debug for Numbered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Numbered").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Connection {
    /// No client yet. `answer`: how long connecting may take.
    pub(super) fn new(access: Access, answer: Duration) -> Self {
        Self { access, answer, current: Mutex::default() }
    }

    /// The client as it is now.
    pub(super) async fn client(&self) -> Result<Numbered, AccessError> {
        let mut current = self.current.lock().await;
        match &*current {
            Some(known) => Ok(known.clone()),
            None => Ok(current.insert(Numbered { client: self.access.client(self.answer).await?, number: 0 }).clone()),
        }
    }

    /// Makes the client anew, unless somebody else who failed with the same one did so already.
    pub(super) async fn renew(&self, failed: &Numbered) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|known| known.number != failed.number) {
            return;
        }
        match self.access.client(self.answer).await {
            Ok(client) => {
                info!("credentials and address of the API server were read anew");
                *current = Some(Numbered { client, number: failed.number + 1 });
            }
            Err(error) => warn!(%error, "credentials cannot be read anew; going on with the old ones"),
        }
    }
}
