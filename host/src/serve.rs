//! What the daemon tells over HTTP: health on one address, metrics and its inner state on another.

mod debug;
mod health;
mod http;
mod question;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::mpsc;
use tracing::info;

use self::debug::DebugPages;
use self::health::HealthPages;
use self::http::{Pages, Site};
pub use self::question::{Inspector, Question};
use crate::config::Config;
use crate::follow::listener::{Connections, Listener};
use crate::health::ProxyHealth;
use crate::metrics::Metrics;
use crate::policies::Board;

/// Connections each of the two addresses serves at once.
const MAX_CONNECTIONS: usize = 64;

/// The listeners. Dropping it closes them and their connections.
#[derive(Debug)]
pub struct Servers(#[expect(dead_code, reason = "held for their drop")] Vec<(Listener, Arc<Connections>)>);

/// What the daemon has to tell of.
#[derive(Debug)]
pub struct Subject {
    /// Whether the rules follow the cluster.
    pub health: ProxyHealth,
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// The policies from outside.
    pub board: Board,
}

/// Opens the addresses `config` names. An address that is taken is tried again until it is free, unless
/// `bindAddressHardFail` is set. Must be called on a tokio runtime. The inspector must be asked to answer between two
/// syncs; it is what `/debug/` lives by.
///
/// # Errors
/// With `bindAddressHardFail`, when an address cannot be listened on.
pub fn open(config: &Config, subject: Subject) -> anyhow::Result<(Servers, Inspector)> {
    let Subject { health, metrics, board } = subject;
    let (inspector, questions) = Inspector::new();
    let mut listeners = Vec::new();
    if let Some(address) = config.healthz_bind_address.0 {
        let pages = HealthPages { health: health.clone(), metrics: Arc::clone(&metrics) };
        listeners.push(listen(address, pages, config).with_context(|| format!("healthzBindAddress {address}"))?);
    }
    if let Some(address) = config.metrics_bind_address.0 {
        let settings = serde_json::to_string_pretty(config)?;
        let pages = DebugPages { health, metrics, board, settings, questions };
        listeners.push(listen(address, pages, config).with_context(|| format!("metricsBindAddress {address}"))?);
    }
    Ok((Servers(listeners), inspector))
}

/// `0.0.0.0` takes in both families, as it does in Go, where kube-proxy's configuration comes from.
fn listen<P: Pages>(address: SocketAddr, pages: P, config: &Config) -> io::Result<(Listener, Arc<Connections>)> {
    let both = address.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let wide = if both { SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port()) } else { address };
    let connections = Connections::new(MAX_CONNECTIONS);
    let site = Arc::new(Site(pages));
    let listener = if config.bind_address_hard_fail {
        Listener::open_now(wide, site, Arc::clone(&connections))?
    } else {
        Listener::open(wide, site, Arc::clone(&connections))
    };
    info!(%address, field = P::FIELD, "serving");
    Ok((listener, connections))
}

/// Where questions go. Room for one: whoever comes while it is taken is told to come again.
type Questions = mpsc::Sender<Question>;
