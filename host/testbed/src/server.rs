//! Backends: small servers that answer with their name and the client's address as they see it.
//!
//! Every answer is one line, `NAME ADDRESS:PORT`; [`Call`](crate::Call) reads it back.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{Shutdown, shutdown};

use crate::Host;
use crate::sctp::Sockets;

/// How long a server without a listening socket may take to notice that it should end.
const STOP_DELAY: Duration = Duration::from_millis(20);
/// How long an HTTP connection may stay silent before the server closes it.
const HTTP_IDLE: Duration = Duration::from_secs(60);

/// What a server listens for, on every address of its host, IPv4 and IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// HTTP/1.1 with keep-alive on this TCP port; any request is answered with 200 and the line.
    Http(u16),
    /// Raw TCP: the line is written as soon as a connection is accepted, then the connection is closed. One round
    /// trip less than HTTP and no thread per connection, for counting thousands.
    Greeting(u16),
    /// The same, this long after the connection is accepted: a backend that takes its time. A thread a connection.
    Slow {
        /// The TCP port.
        port: u16,
        /// Time until the line is written.
        delay: Duration,
    },
    /// UDP: each datagram is answered with the line, a space, and the datagram's own content.
    Udp(u16),
    /// SCTP: the first packet of each association is answered, with the line in it. No further packet is.
    Sctp(u16),
}

/// A running server; dropping it closes its port, after which the host refuses connections to it.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    listener: Option<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on `host`; it accepts when this returns. It names itself as the host is named.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(host: &Host, listen: Listen) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let name: Arc<str> = host.name().into();
        let any = |port: u16| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let context = || format!("{listen:?} on {}", host.name());
        let (listener, thread) = match listen {
            Listen::Udp(port) => {
                let socket = host.run(|| UdpSocket::bind(any(port))).with_context(context)?;
                socket.set_read_timeout(Some(STOP_DELAY)).with_context(context)?;
                let stop = Arc::clone(&stop);
                (None, thread::spawn(move || answer_datagrams(&socket, &name, &stop)))
            }
            Listen::Sctp(port) => {
                let sockets = host.run(|| Sockets::open(STOP_DELAY)).with_context(context)?;
                let stop = Arc::clone(&stop);
                (None, thread::spawn(move || sockets.answer(port, &stop, |peer| line(&name, peer))))
            }
            Listen::Http(port) | Listen::Greeting(port) | Listen::Slow { port, .. } => {
                let listener = host.run(|| TcpListener::bind(any(port))).with_context(context)?;
                let (accepting, stop) = (listener.try_clone().with_context(context)?, Arc::clone(&stop));
                (Some(listener), thread::spawn(move || accept(&accepting, &name, listen, &stop)))
            }
        };
        Ok(Self { stop, listener, thread: Some(thread) })
    }

    /// Starts every one of `listen` on `host`.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_all(host: &Host, listen: &[Listen]) -> Result<Vec<Self>> {
        listen.iter().map(|&listen| Self::start(host, listen)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(listener) = &self.listener {
            // On Linux this wakes a thread that waits in accept(); a mere close would not. It fails only if the
            // socket does not listen any more, which is what is wanted.
            let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The line of an answer, without a line break. IPv4 peers of a dual-stack socket are written as IPv4.
fn line(name: &str, peer: SocketAddr) -> String {
    format!("{name} {}", SocketAddr::new(peer.ip().to_canonical(), peer.port()))
}

fn accept(listener: &TcpListener, name: &Arc<str>, listen: Listen, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, peer)) = listener.accept() else {
            // Out of descriptors, or the end; the loop's condition tells which.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let line = line(name, peer);
        match listen {
            Listen::Http(_) => {
                thread::spawn(move || serve_http(&stream, &line));
            }
            Listen::Slow { delay, .. } => {
                thread::spawn(move || {
                    thread::sleep(delay);
                    writeln!(stream, "{line}")
                });
            }
            // The client may be gone already; that is its affair.
            _ => drop(writeln!(stream, "{line}")),
        }
    }
}

/// Answers request after request. An error ends the connection: the client went, or was silent for [`HTTP_IDLE`].
fn serve_http(stream: &TcpStream, line: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(HTTP_IDLE))?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut close = false;
        let mut lines = 0;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 {
                return Ok(());
            }
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            lines += 1;
            close |= header == "connection: close" || (lines == 1 && header.ends_with("http/1.0"));
        }
        let body = format!("{line}\n");
        let connection = if close { "close" } else { "keep-alive" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
            body.len()
        );
        writer.write_all(answer.as_bytes())?;
        if close {
            return Ok(());
        }
    }
}

fn answer_datagrams(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, peer)) => {
                let mut answer = line(name, peer).into_bytes();
                answer.push(b' ');
                answer.extend_from_slice(&buffer[..length]);
                // As with any UDP server, an answer that cannot be sent is lost.
                let _ = socket.send_to(&answer, peer);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // An ICMP error of an earlier answer.
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}
