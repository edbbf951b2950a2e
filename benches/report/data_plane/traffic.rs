//! A client and a backend that need no second thread, so that no wake-up is measured.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use nix::unistd::Pid;
use weir_testbed::Host;

use crate::figure::{median, micros};

/// Connections that may wait to be accepted; the kernel's own limit.
const BACKLOG: i32 = 4096;
/// Packets of a flow that are timed together: no more than the backend's buffer holds, because a drop costs more.
const PACKETS: u32 = 100;
/// How often that is done; the median counts.
const BURSTS: usize = 50;
/// The first packet of a flow.
const QUESTION: &[u8] = b"?";
/// For the one answer of a flow.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes connections without accepting them while they are timed, and answers the first packet of a flow.
pub(super) struct Backend {
    listener: TcpListener,
    /// One for each address, so that an answer comes from the address that was asked.
    datagrams: Vec<UdpSocket>,
}

impl Backend {
    /// Starts it on `host`: connections are taken on all addresses, datagrams on `addresses`.
    ///
    /// # Errors
    /// When the port is taken.
    pub(super) fn start(host: &Host, addresses: impl Iterator<Item = Ipv4Addr> + Send, port: u16) -> Result<Self> {
        host.run(|| {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            // std's listener takes 128 at most.
            let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)?;
            bind(socket.as_raw_fd(), &SockaddrStorage::from(any))?;
            listen(&socket, Backlog::new(BACKLOG)?)?;
            let datagrams = addresses.map(|address| {
                let socket = UdpSocket::bind((address, port))?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            let datagrams = datagrams.collect::<Result<_>>()?;
            Ok(Self { listener: TcpListener::from(socket), datagrams })
        })
    }

    /// Closes what waits.
    fn drain(&self) {
        while self.listener.accept().is_ok() {}
    }

    /// Who asked the question among the datagrams that are here, and through which socket; all others are passed over.
    fn asked(&self) -> Option<(&UdpSocket, SocketAddr)> {
        let mut buffer = [0; 64];
        let mut asker = None;
        for socket in &self.datagrams {
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                asker = (&buffer[..length] == QUESTION).then_some((socket, from)).or(asker);
            }
        }
        asker
    }

    /// Answers the question, once it is here.
    fn answer(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some((socket, asker)) = self.asked() {
                socket.send_to(b"!", asker)?;
                return Ok(());
            }
        }
        anyhow::bail!("the first packet of a flow is lost")
    }
}

/// So many connections to `target`, each reset as soon as it stands: microseconds of each connect(), and connections a
/// second.
///
/// # Errors
/// When one fails.
pub(super) fn connect(target: SocketAddr, count: usize, backend: &Backend) -> Result<(Vec<f64>, f64)> {
    stay_on_one_processor()?;
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

/// Keeps this thread on the last processor it may use. A packet between namespaces is worked off where it was sent, so a
/// thread that moves takes its caches to another place, and the same rules are 5 µs dearer in one turn than in the next.
fn stay_on_one_processor() -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    if let Some(last) = (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false)) {
        one.set(last)?;
        sched_setaffinity(this, &one)?;
    }
    Ok(())
}

/// Nanoseconds to send one packet of a flow to `target` after its first answer.
///
/// # Errors
/// When the answer does not come.
pub(super) fn flow(target: SocketAddr, backend: &Backend) -> Result<f64> {
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.connect(target)?;
    client.send(QUESTION)?;
    backend.answer()?;
    client.recv(&mut [0; 64]).context("the answer to the first packet of a flow is lost")?;
    let mut samples = Vec::with_capacity(BURSTS);
    for _ in 0..BURSTS {
        let start = Instant::now();
        for _ in 0..PACKETS {
            client.send(b"packet")?;
        }
        samples.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(PACKETS));
        backend.asked();
    }
    Ok(median(&samples))
}
