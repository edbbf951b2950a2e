//! A TCP port that is wanted: opened as soon as it is free, and closed with its last owner.

pub(crate) mod http;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing::{info, warn};

/// Wait before anybody hears of a port that is not free: it may be one that was closed just now, for the same Service.
const QUIET_RETRY: Duration = Duration::from_millis(20);

/// First wait after a port could not be opened; doubles with each further failure.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Longest wait between two attempts: a port that somebody else gives up is taken after this long at the latest.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Pause after a connection could not be accepted; most often this process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections the kernel keeps while nobody accepts them.
const BACKLOG: i32 = 128;

/// Somebody who answers on a port.
pub(crate) trait Serve: Send + Sync + 'static {
    /// The field of a Service that asks for the port, for logs.
    const FIELD: &'static str;

    /// `namespace/name` of the Service that has the port now, for logs.
    fn service(&self) -> String;

    /// Called when the port cannot be had, once for each time it is wanted.
    fn refused(&self) {}

    /// Serves one connection to its end.
    fn serve(self: Arc<Self>, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static;
}

/// A wanted port. Dropping it closes the port, and leaves the connections to [`Connections`].
#[derive(Debug)]
pub(crate) struct Listener(JoinHandle<()>);

impl Listener {
    /// Listens on `address` (`[::]` means both families) before it returns, where that is possible; else warns once
    /// and tries again until it is. Must be called on a tokio runtime.
    pub(crate) fn open<S: Serve>(address: SocketAddr, server: Arc<S>, connections: Arc<Connections>) -> Self {
        let first = open(address);
        Self(tokio::spawn(async move {
            let listener = match first {
                Ok(listener) => listener,
                Err(_) => retry(address, &*server).await,
            };
            accept(&listener, &server, &connections).await;
        }))
    }
}

impl Listener {
    /// Listens on `address`, as [`Self::open`] does, or not at all.
    ///
    /// # Errors
    /// When the address cannot be had now.
    pub(crate) fn open_now<S: Serve>(
        address: SocketAddr,
        server: Arc<S>,
        connections: Arc<Connections>,
    ) -> io::Result<Self> {
        let listener = open(address)?;
        Ok(Self(tokio::spawn(async move { accept(&listener, &server, &connections).await })))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn retry<S: Serve>(address: SocketAddr, server: &S) -> TcpListener {
    let port = address.port();
    sleep(QUIET_RETRY).await;
    let error = match open(address) {
        Ok(listener) => return listener,
        Err(error) => error,
    };
    server.refused();
    warn!(service = %server.service(), field = S::FIELD, port, %address, %error, "cannot listen; trying again until the port is free");
    let mut wait = FIRST_RETRY;
    loop {
        sleep(wait).await;
        if let Ok(listener) = open(address) {
            info!(service = %server.service(), field = S::FIELD, port, %address, "listens after all");
            return listener;
        }
        wait = (wait * 2).min(LAST_RETRY);
    }
}

async fn accept<S: Serve>(listener: &TcpListener, server: &Arc<S>, connections: &Connections) {
    let (mut failing, mut full) = (false, false);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                let accepted = connections.add(stream, |stream| Arc::clone(server).serve(stream));
                if !accepted && !full {
                    let (service, limit) = (server.service(), connections.limit);
                    warn!(%service, field = S::FIELD, limit, "too many connections at once; further ones are reset");
                }
                full = !accepted;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(service = %server.service(), field = S::FIELD, %error, "cannot accept a connection; trying again");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A listening socket. `[::]` takes IPv4 as well, whatever `net.ipv6.bindv6only` says, and is `0.0.0.0` on a kernel
/// without IPv6.
fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = match bound(address) {
        Err(Errno::EAFNOSUPPORT) if address.ip().is_unspecified() => {
            bound(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
        }
        bound => bound,
    };
    TcpListener::from_std(bound?)
}

fn bound(address: SocketAddr) -> nix::Result<std::net::TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    // Connections of an earlier listener that are in TIME_WAIT do not hold the port.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &!address.ip().is_unspecified())?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}

/// The connections of a port. They end with the last clone of the `Arc` around it.
#[derive(Debug)]
pub(crate) struct Connections {
    tasks: Mutex<JoinSet<()>>,
    limit: usize,
}

impl Connections {
    /// None yet, and never more than `limit` at once.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { tasks: Mutex::default(), limit })
    }

    /// Serves one more connection on a task of its own; `false` when there are too many, and it was reset.
    fn add<F: Future<Output = ()> + Send + 'static>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(TcpStream) -> F,
    ) -> bool {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= self.limit {
            reset(&stream);
            return false;
        }
        tasks.spawn(serve(stream));
        true
    }
}

/// Makes the end of `stream` a reset, so that the peer does not take it for a proper one.
pub(crate) fn reset(stream: &TcpStream) {
    // It fails only for a socket that has no peer any more, who then needs not be told.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Holds every connection until its peer goes.
    struct Silent;

    impl Serve for Silent {
        const FIELD: &'static str = "test";

        fn service(&self) -> String {
            String::new()
        }

        async fn serve(self: Arc<Self>, mut stream: TcpStream) {
            let _ = stream.read(&mut [0]).await;
        }
    }

    /// What a client reads within a moment: its end, an error, or (`None`) nothing yet.
    async fn read(client: &mut TcpStream, patience: Duration) -> Option<io::Result<usize>> {
        let mut buffer = [0];
        tokio::time::timeout(patience, client.read(&mut buffer)).await.ok()
    }

    #[tokio::test]
    async fn connections_over_the_limit_are_reset_and_room_is_made_again() {
        let long = Duration::from_secs(5);
        let listener = open((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let connections = Connections::new(2);
        let accepting = Arc::clone(&connections);
        let task = tokio::spawn(async move { accept(&listener, &Arc::new(Silent), &accepting).await });
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(TcpStream::connect(address).await.expect("connects"));
        }
        let mut third = TcpStream::connect(address).await.expect("the kernel accepts");
        let end = read(&mut third, long).await.expect("an end").expect_err("a reset");
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        assert!(read(&mut held[0], Duration::from_millis(50)).await.is_none(), "the others stay");
        // The two go, and after them another is served.
        held.clear();
        let start = std::time::Instant::now();
        loop {
            let mut next = TcpStream::connect(address).await.expect("connects");
            if read(&mut next, Duration::from_millis(50)).await.is_none() {
                break;
            }
            assert!(start.elapsed() < long, "there is never room again");
        }
        task.abort();
    }

    #[tokio::test]
    async fn connections_end_with_their_owner_and_not_with_the_listener() {
        let listener = open((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let connections = Connections::new(2);
        let listening = Listener::open(address, Arc::new(Silent), Arc::clone(&connections));
        let mut client = TcpStream::connect(address).await.expect("connects");
        // It is accepted once the task ran; only then there is something to keep.
        let start = std::time::Instant::now();
        while connections.tasks.lock().expect("not poisoned").is_empty() {
            assert!(start.elapsed() < Duration::from_secs(5), "nobody accepts");
            tokio::task::yield_now().await;
        }
        drop(listening);
        assert!(read(&mut client, Duration::from_millis(50)).await.is_none());
        assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
        drop(connections);
        assert!(read(&mut client, Duration::from_secs(5)).await.is_some());
    }
}
