//! SCTP by raw packets: the two packets that open an association, which are all a proxy has a say in.
//!
//! A kernel needs no SCTP sockets to translate SCTP, and many have none; so both ends are raw sockets here. The client
//! sends an INIT; the server answers with an INIT ACK whose state cookie is the line every [`Server`](crate::Server)
//! answers with. Packets are built after RFC 9260.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, recv, recvfrom, send,
    sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::{Call, Failure};

/// Larger than any packet here.
const PACKET: usize = 2048;
/// Chunk types, RFC 9260, 3.2.
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// Type of the parameter that carries the state cookie, RFC 9260, 3.3.3.1.
const STATE_COOKIE: u16 = 7;
/// Bytes of the common header, and of an INIT or INIT ACK chunk before its parameters.
const HEADER: usize = 12;
const CHUNK: usize = 20;
/// The tag every client here asks to be answered with. One association at a time and port, so one will do.
const TAG: u32 = 0x7765_6972;
/// Source ports of clients that leave the choice to us.
const FREE_PORTS: u16 = 50_000;

/// What this module must know of a packet.
#[derive(Debug, PartialEq, Eq)]
struct Opening {
    ports: [u16; 2],
    kind: u8,
    /// The tag its sender wants to be answered with.
    tag: u32,
    /// The state cookie of an INIT ACK.
    cookie: Vec<u8>,
}

impl Opening {
    /// The packet with its checksum. `verification` is the tag the other side asked for; 0 in an INIT.
    fn bytes(&self, verification: u32) -> Vec<u8> {
        let parameter = if self.cookie.is_empty() { 0 } else { 4 + self.cookie.len() };
        let length = u16::try_from(CHUNK + parameter).expect("a cookie is one line");
        let mut bytes = Vec::new();
        bytes.extend(self.ports[0].to_be_bytes());
        bytes.extend(self.ports[1].to_be_bytes());
        bytes.extend(verification.to_be_bytes());
        bytes.extend([0; 4]); // place of the checksum
        bytes.extend([self.kind, 0]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend(64_000_u32.to_be_bytes()); // receiver window
        bytes.extend([0, 1, 0, 1]); // streams out and in
        bytes.extend(self.tag.to_be_bytes()); // first sequence number
        if parameter > 0 {
            bytes.extend(STATE_COOKIE.to_be_bytes());
            bytes.extend(u16::try_from(parameter).expect("shorter than the chunk").to_be_bytes());
            bytes.extend(&self.cookie);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes[8..HEADER].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a packet from its common header on; `None` when it is no opening, or damaged.
    fn read(bytes: &[u8]) -> Option<Self> {
        let two = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let mut blank = bytes.to_vec();
        blank.get_mut(8..HEADER)?.fill(0);
        let checksum = u32::from_le_bytes(bytes[8..HEADER].try_into().ok()?);
        let kind = *bytes.get(HEADER)?;
        if crc32c::crc32c(&blank) != checksum || ![INIT, INIT_ACK].contains(&kind) {
            return None;
        }
        let tag = u32::from_be_bytes(bytes.get(HEADER + 4..HEADER + 8)?.try_into().ok()?);
        let parameter = HEADER + CHUNK;
        let cookie = match two(parameter) {
            Some(STATE_COOKIE) => bytes.get(parameter + 4..parameter + usize::from(two(parameter + 2)?))?.to_vec(),
            _ => Vec::new(),
        };
        Some(Self { ports: [two(0)?, two(2)?], kind, tag, cookie })
    }
}

/// The first packet of an association between two ports, from the common header on, with its checksum. `tag` is what
/// its sender wants to be answered with.
#[must_use]
pub fn sctp_init(from: u16, to: u16, tag: u32) -> Vec<u8> {
    Opening { ports: [from, to], kind: INIT, tag, cookie: Vec::new() }.bytes(0)
}

/// Sends an INIT from the namespace of the calling thread and returns the cookie of the answer.
pub(crate) fn ask(call: &Call) -> Result<String, Failure> {
    static NEXT: AtomicU16 = AtomicU16::new(FREE_PORTS);
    let free = || NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |port| Some(port.max(FREE_PORTS - 1) + 1));
    let chosen = call.source.map(|source| source.port()).filter(|port| *port != 0);
    let port = chosen.unwrap_or_else(|| free().expect("the update never refuses"));
    let socket = raw(call.target.ip())?;
    if let Some(source) = call.source {
        bind(socket.as_raw_fd(), &address(source.ip())).map_err(io::Error::from)?;
    }
    // Connected, so that ICMP errors reach it.
    connect(socket.as_raw_fd(), &address(call.target.ip())).map_err(io::Error::from)?;
    let server = call.target.port();
    send(socket.as_raw_fd(), &sctp_init(port, server, TAG), MsgFlags::empty()).map_err(io::Error::from)?;
    let start = Instant::now();
    let mut buffer = [0; PACKET];
    loop {
        let left = call.timeout.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
        wait_at_most(&socket, left.ok_or(Failure::TimedOut)?)?;
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(io::Error::from)?;
        let answer = Opening::read(payload(&buffer[..length], call.target.ip()));
        if let Some(answer) = answer.filter(|answer| (answer.kind, answer.ports) == (INIT_ACK, [server, port])) {
            return Ok(String::from_utf8_lossy(&answer.cookie).into_owned());
        }
    }
}

/// The raw sockets of a server, one a family: they see every SCTP packet that reaches the host.
#[derive(Debug)]
pub(crate) struct Sockets([OwnedFd; 2]);

impl Sockets {
    /// Opens them in the namespace of the calling thread. `patience` is how long the server may take to notice that it
    /// should end.
    pub(crate) fn open(patience: Duration) -> io::Result<Self> {
        let open = |like: IpAddr| {
            let socket = raw(like)?;
            wait_at_most(&socket, patience)?;
            Ok::<_, io::Error>(socket)
        };
        Ok(Self([open([0; 4].into())?, open([0; 16].into())?]))
    }

    /// Answers every INIT for `port` with the line that `line` makes of the client's address, until `stop`.
    pub(crate) fn answer(&self, port: u16, stop: &AtomicBool, line: impl Fn(SocketAddr) -> String + Sync) {
        let line = &line;
        thread::scope(|scope| {
            for socket in &self.0 {
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // Nothing came, or an ICMP error of an earlier answer did.
                        let _ = answer_one(socket, port, line);
                    }
                });
            }
        });
    }
}

fn answer_one(socket: &OwnedFd, port: u16, line: impl Fn(SocketAddr) -> String) -> io::Result<()> {
    let mut buffer = [0; PACKET];
    let (length, from) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer)?;
    let peer = from.and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|from| IpAddr::V4(from.ip()));
        v4.or_else(|| from.as_sockaddr_in6().map(|from| IpAddr::V6(from.ip())))
    });
    let peer = peer.ok_or(Errno::EAFNOSUPPORT)?;
    let init = Opening::read(payload(&buffer[..length], peer));
    let Some(init) = init.filter(|init| init.kind == INIT && init.ports[1] == port) else { return Ok(()) };
    let [from, to] = init.ports;
    let cookie = line(SocketAddr::new(peer, from)).into_bytes();
    let answer = Opening { ports: [to, from], kind: INIT_ACK, tag: TAG.rotate_left(8), cookie };
    // As with any server, an answer that cannot be sent is lost.
    sendto(socket.as_raw_fd(), &answer.bytes(init.tag), &address(peer), MsgFlags::empty())?;
    Ok(())
}

fn raw(like: IpAddr) -> io::Result<OwnedFd> {
    let family = if like.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    Ok(socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp)?)
}

fn wait_at_most(socket: &OwnedFd, time: Duration) -> io::Result<()> {
    let microseconds = i64::try_from(time.as_micros()).unwrap_or(i64::MAX).max(1);
    Ok(setsockopt(socket, sockopt::ReceiveTimeout, &TimeVal::microseconds(microseconds))?)
}

/// A raw socket has no port.
fn address(ip: IpAddr) -> SockaddrStorage {
    SockaddrStorage::from(SocketAddr::new(ip, 0))
}

/// What follows the IP header: IPv4's raw sockets hand it over with the packet, IPv6's do not.
fn payload(packet: &[u8], like: IpAddr) -> &[u8] {
    let header = if like.is_ipv4() { packet.first().map_or(0, |first| usize::from(first & 0xf) * 4) } else { 0 };
    packet.get(header..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for cookie in [&b""[..], b"1", b"backend-1 10.244.0.10:40000"] {
            let opening = Opening { ports: [1, 2], kind: INIT_ACK, tag: 3, cookie: cookie.to_vec() };
            let mut bytes = opening.bytes(4);
            assert_eq!((Opening::read(&bytes), bytes.len() % 4), (Some(opening), 0));
            bytes[0] ^= 1;
            assert_eq!(Opening::read(&bytes), None, "its checksum is wrong");
        }
        for length in 0..HEADER + CHUNK {
            assert_eq!(Opening::read(&sctp_init(1, 2, 3)[..length]), None);
        }
    }
}
