//! One connection: a client on loopback, an endpoint, and the bytes between them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::endpoints::Endpoints;
use crate::follow::listener::{Serve, reset};

/// How long an endpoint may take to accept (kube-proxy: `dialTimeout`).
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Seconds of silence after which a peer is asked whether it is still there, and between two such questions.
const KEEP_ALIVE_SECONDS: u32 = 15;

/// What a node port leads to at the moment.
pub(super) struct Relay(Mutex<State>);

struct State {
    name: Arc<str>,
    endpoints: Endpoints,
}

impl Relay {
    /// A relay for the port `name` to `endpoints`.
    pub(super) fn new(name: Arc<str>, endpoints: Endpoints) -> Self {
        Self(Mutex::new(State { name, endpoints }))
    }

    /// Sends new connections to `endpoints` from now on.
    pub(super) fn update(&self, name: Arc<str>, endpoints: Endpoints) {
        self.with(|state| {
            state.name = name;
            state.endpoints.replace(endpoints);
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Connects to an endpoint; to another one if the first refuses.
    async fn connect(&self) -> io::Result<TcpStream> {
        let first = self.with(|state| state.endpoints.pick(Instant::now()));
        match dial(first).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                match self.with(|state| state.endpoints.pick_instead_of(first, Instant::now())) {
                    Some(second) => dial(second).await,
                    None => Err(error),
                }
            }
            outcome => outcome,
        }
    }
}

impl Serve for Relay {
    const FIELD: &'static str = "spec.ports[].nodePort";

    fn service(&self) -> String {
        self.with(|state| state.name.to_string())
    }

    async fn serve(self: Arc<Self>, mut client: TcpStream) {
        let mut endpoint = match self.connect().await {
            Ok(endpoint) => endpoint,
            Err(error) => {
                debug!(port = %self.service(), %error, "no endpoint could be reached; the connection is reset");
                return reset(&client);
            }
        };
        let prepared = prepare(&client).and_then(|()| prepare(&endpoint));
        let copied = match prepared {
            Ok(()) => copy_bidirectional(&mut client, &mut endpoint).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = copied {
            debug!(port = %self.service(), %error, "a relayed connection broke");
            reset(&client);
            reset(&endpoint);
        }
    }
}

async fn dial(endpoint: SocketAddr) -> io::Result<TcpStream> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{endpoint}: {error}"));
    match timeout(DIAL_TIMEOUT, TcpStream::connect(endpoint)).await {
        Ok(outcome) => outcome.map_err(named),
        Err(_) => Err(named(io::ErrorKind::TimedOut.into())),
    }
}

/// Small writes are passed on at once, and a peer that vanished is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEP_ALIVE_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEP_ALIVE_SECONDS)?;
    Ok(())
}
