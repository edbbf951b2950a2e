//! A client and a backend that need no second thread, so that no wake-up is measured.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use weir_testbed::Host;

use crate::figure::micros;

/// Connections that may wait to be accepted; the kernel's own limit.
const BACKLOG: i32 = 4096;
/// Packets of a flow that are timed together.
const PACKETS: u32 = 5_000;
/// For the one answer of a flow.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes connections without accepting them while they are timed, and answers the first packet of a flow.
pub(super) struct Backend {
    listener: TcpListener,
    datagrams: UdpSocket,
}

impl Backend {
    /// Starts it on every address of `host`.
    ///
    /// # Errors
    /// When the port is taken.
    pub(super) fn start(host: &Host, port: u16) -> Result<Self> {
        host.run(|| {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            // std's listener takes 128 at most.
            let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)?;
            bind(socket.as_raw_fd(), &SockaddrStorage::from(any))?;
            listen(&socket, Backlog::new(BACKLOG)?)?;
            let datagrams = UdpSocket::bind(any)?;
            datagrams.set_read_timeout(Some(PATIENCE))?;
            Ok(Self { listener: TcpListener::from(socket), datagrams })
        })
    }

    /// Closes what waits.
    fn drain(&self) {
        while self.listener.accept().is_ok() {}
    }
}

/// So many connections to `target`, each reset as soon as it stands: microseconds of each connect(), and connections a
/// second.
///
/// # Errors
/// When one fails.
pub(super) fn connect(target: SocketAddr, count: usize, backend: &mut Backend) -> Result<(Vec<f64>, f64)> {
    let mut samples = Vec::with_capacity(count);
    let target = SockaddrStorage::from(target);
    // Without a wait in the kernel for what the peer has not acknowledged, and without TIME_WAIT.
    let reset = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    let start = Instant::now();
    for _ in 0..count {
        let client: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&client, sockopt::Linger, &reset)?;
        let begin = Instant::now();
        nix::sys::socket::connect(client.as_raw_fd(), &target).context("connect")?;
        samples.push(micros(begin.elapsed()));
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    backend.drain();
    Ok((samples, rate))
}

/// Nanoseconds to send one packet of a flow to `target` after its first answer.
///
/// # Errors
/// When the answer does not come.
pub(super) fn flow(target: SocketAddr, backend: &mut Backend) -> Result<f64> {
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.connect(target)?;
    client.send(b"?")?;
    let mut buffer = [0; 64];
    // Datagrams of the flow before may be left.
    backend.datagrams.set_nonblocking(true)?;
    let mut last = None;
    while let Ok((_, from)) = backend.datagrams.recv_from(&mut buffer) {
        last = Some(from);
    }
    backend.datagrams.send_to(b"!", last.context("the first packet of a flow is lost")?)?;
    client.recv(&mut buffer).context("the answer")?;
    let start = Instant::now();
    for _ in 0..PACKETS {
        client.send(b"packet")?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(PACKETS))
}
