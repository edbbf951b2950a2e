//! Clients: one call, or many counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::{Host, sctp};

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection to a [`Listen::Greeting`](crate::Listen::Greeting) server.
    Tcp,
    /// A TCP connection with one HTTP request, to a [`Listen::Http`](crate::Listen::Http) server.
    Http,
    /// One datagram and its answer.
    Udp,
    /// The first packet of an SCTP association and its answer, to a [`Listen::Sctp`](crate::Listen::Sctp) server.
    Sctp,
}

/// One call: where to, from where, how, and how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Where to.
    pub target: SocketAddr,
    /// How.
    pub transport: Transport,
    /// The client's own address and port; port 0 lets the kernel choose a free one, `None` the address too.
    pub source: Option<SocketAddr>,
    /// How long to wait for each step. Nothing on the testbed takes a millisecond; what takes this long was dropped.
    ///
    /// One exception asks for more than a second: a TCP connection refused by an ICMP error (not by a reset). Between
    /// namespaces the error arrives inside the client's own connect(), while the socket is locked, and the kernel
    /// discards it (`LockDroppedIcmps` in nstat). The client learns of it when it repeats its SYN, 1 s later.
    pub timeout: Duration,
}

/// What a backend answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its name.
    pub backend: String,
    /// The client as the backend saw it.
    pub client: SocketAddr,
}

/// Why a call got no answer, as the client can tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Refused at once: a TCP reset or an ICMP "port unreachable". What `reject` looks like.
    Refused,
    /// Nothing came back in time. What `drop` looks like.
    TimedOut,
    /// An established connection was cut.
    Reset,
    /// A router said that there is no way.
    Unreachable,
    /// The peer closed without answering, or answered something else.
    NoAnswer(String),
    /// Anything else, in the system's words.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Reset => f.write_str("reset"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::NoAnswer(what) => write!(f, "no proper answer: {what:?}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ECONNREFUSED) => Self::Refused,
            // EINPROGRESS: connect() ran into SO_SNDTIMEO. EAGAIN: a read ran into SO_RCVTIMEO.
            Some(Errno::EINPROGRESS | Errno::EAGAIN | Errno::ETIMEDOUT) => Self::TimedOut,
            Some(Errno::ECONNRESET | Errno::EPIPE) => Self::Reset,
            Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EACCES) => Self::Unreachable,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl Call {
    /// A call by TCP, from any address, with two seconds' patience.
    #[must_use]
    pub fn tcp(target: SocketAddr) -> Self {
        Self { target, transport: Transport::Tcp, source: None, timeout: Duration::from_secs(2) }
    }

    /// The same by HTTP.
    #[must_use]
    pub fn http(target: SocketAddr) -> Self {
        Self { transport: Transport::Http, ..Self::tcp(target) }
    }

    /// The same by UDP.
    #[must_use]
    pub fn udp(target: SocketAddr) -> Self {
        Self { transport: Transport::Udp, ..Self::tcp(target) }
    }

    /// The same by SCTP.
    #[must_use]
    pub fn sctp(target: SocketAddr) -> Self {
        Self { transport: Transport::Sctp, ..Self::tcp(target) }
    }

    /// The same call from `source`; port 0 lets the kernel choose.
    #[must_use]
    pub fn from(self, source: IpAddr, port: u16) -> Self {
        Self { source: Some(SocketAddr::new(source, port)), ..self }
    }

    /// The same call with another patience.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Makes the call from the namespace of the calling thread.
    ///
    /// # Errors
    /// [`Failure`] says what the client saw.
    pub fn make(&self) -> Result<Answer, Failure> {
        let answer = match self.transport {
            Transport::Tcp => read_to_end(self.connect()?)?,
            Transport::Http => {
                let mut stream = self.connect()?;
                let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.target);
                stream.write_all(request.as_bytes())?;
                let text = read_to_end(stream)?;
                match text.split_once("\r\n\r\n") {
                    Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => body.to_owned(),
                    _ => return Err(Failure::NoAnswer(text)),
                }
            }
            Transport::Udp => {
                let socket = self.udp_socket()?;
                socket.send(b"?")?;
                let mut buffer = [0; 512];
                let length = socket.recv(&mut buffer)?;
                String::from_utf8_lossy(&buffer[..length]).into_owned()
            }
            Transport::Sctp => sctp::ask(self)?,
        };
        parse(&answer).ok_or(Failure::NoAnswer(answer))
    }

    /// Makes the call from `host`.
    ///
    /// # Errors
    /// As [`Call::make`].
    pub fn make_on(&self, host: &Host) -> Result<Answer, Failure> {
        host.run(|| self.make())
    }

    /// [`Call::make`], with the time it took: for benches, and for telling a reject from a drop.
    pub fn timed(&self) -> (Result<Answer, Failure>, Duration) {
        let start = Instant::now();
        let outcome = self.make();
        (outcome, start.elapsed())
    }

    /// The call's TCP connection from the namespace of the calling thread, for clients with a protocol of their own.
    /// [`Call::timeout`] is set on its reads and writes.
    ///
    /// # Errors
    /// As [`Call::make`].
    pub fn connect(&self) -> Result<TcpStream, Failure> {
        let stream = TcpStream::from(self.socket(SockType::Stream)?);
        stream.set_read_timeout(Some(self.timeout))?;
        Ok(stream)
    }

    /// The call's UDP socket in the namespace of the calling thread, for clients with a protocol of their own. It is
    /// connected: ICMP errors reach it as errors of its next call. [`Call::timeout`] is set on its reads.
    ///
    /// # Errors
    /// As [`Call::make`].
    pub fn udp_socket(&self) -> Result<UdpSocket, Failure> {
        let socket = UdpSocket::from(self.socket(SockType::Datagram)?);
        socket.set_read_timeout(Some(self.timeout))?;
        Ok(socket)
    }

    /// std cannot bind a TCP socket before it connects it.
    fn socket(&self, kind: SockType) -> io::Result<OwnedFd> {
        let family = if self.target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
        let milliseconds = i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX);
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::milliseconds(milliseconds))?;
        if let Some(source) = self.source {
            // A port whose last connection is in TIME_WAIT may be used again.
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
        }
        connect(socket.as_raw_fd(), &SockaddrStorage::from(self.target))?;
        Ok(socket)
    }
}

fn read_to_end(mut stream: TcpStream) -> Result<String, Failure> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Reads the line a [`Server`](crate::Server) writes; what follows its second word is an echo.
pub(crate) fn parse(line: &str) -> Option<Answer> {
    let mut words = line.split_whitespace();
    let backend = words.next()?.to_owned();
    let client = words.next()?.parse().ok()?;
    Some(Answer { backend, client })
}

/// Many calls, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers by backend.
    pub answers: BTreeMap<String, u64>,
    /// The client addresses each backend saw.
    pub clients: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Calls without an answer, by reason.
    pub failures: BTreeMap<Failure, u64>,
    /// Who answered, in the order of the calls that got an answer.
    pub order: Vec<String>,
}

impl Tally {
    /// Makes `count` calls from `host`, one after the other; `call` gets the number of the call, from 0.
    #[must_use]
    pub fn of(host: &Host, count: usize, call: impl Fn(usize) -> Call + Send) -> Self {
        host.run(move || {
            let mut tally = Self::default();
            for number in 0..count {
                tally.add(call(number).make());
            }
            tally
        })
    }

    /// The same call `count` times.
    #[must_use]
    pub fn repeat(host: &Host, count: usize, call: Call) -> Self {
        Self::of(host, count, |_| call)
    }

    /// Answers altogether.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Failures altogether.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// How often `backend` answered.
    #[must_use]
    pub fn answers_of(&self, backend: &str) -> u64 {
        self.answers.get(backend).copied().unwrap_or(0)
    }

    /// The part of all answers that came from `backend`, 0 to 1.
    #[must_use]
    pub fn share_of(&self, backend: &str) -> f64 {
        self.answers_of(backend) as f64 / self.answered().max(1) as f64
    }

    /// Adds the outcome of one call.
    pub fn add(&mut self, outcome: Result<Answer, Failure>) {
        match outcome {
            Ok(Answer { backend, client }) => {
                self.clients.entry(backend.clone()).or_default().insert(client.ip());
                self.order.push(backend.clone());
                *self.answers.entry(backend).or_default() += 1;
            }
            Err(failure) => *self.failures.entry(failure).or_default() += 1,
        }
    }
}
