//! Packets as bytes: what is sent for a case, and what a packet seen somewhere tells of the one that was sent.
//!
//! Every packet carries a token where no translation touches it: TCP in the sequence number, UDP in the payload, SCTP
//! in the initiate tag. So whatever arrives, and whatever an error quotes, is known again.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use etherparse::{IpNumber, LaxIpSlice, PacketBuilder, PacketBuilderStep};
use weir_model::Protocol;
use weir_testbed::sctp_init;

/// Hop limit of what is sent.
const HOPS: u8 = 64;
/// An Ethernet header without tags.
const ETHERNET_HEADER: usize = 14;

/// What names one packet.
pub(super) type Token = u32;

/// The first packet of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) token: Token,
    pub(super) protocol: Protocol,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// A packet that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// One of ours, on its way or at its end.
    Arrived {
        token: Token,
        source: SocketAddr,
        destination: SocketAddr,
        /// The six bits of DSCP, which nobody but [`super::world`] sets.
        dscp: u8,
    },
    /// An answer that says nobody listens: TCP reset or ICMP port unreachable.
    Refused { token: Token },
    /// Another ICMP error, which no rule of Weir makes.
    Error { token: Token, kind: u8, code: u8 },
}

impl Sighting {
    /// The packet it is about.
    pub(super) fn token(&self) -> Token {
        match *self {
            Self::Arrived { token, .. } | Self::Refused { token } | Self::Error { token, .. } => token,
        }
    }
}

impl Probe {
    /// From the IP header on, checksums right.
    pub(super) fn ip(&self) -> Result<Vec<u8>> {
        let step = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), HOPS),
            (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), HOPS),
            (from, to) => bail!("{from} and {to} are not of one family"),
        };
        self.write(step)
    }

    /// [`Probe::ip`] in an Ethernet frame.
    pub(super) fn frame(&self, from: [u8; 6], to: [u8; 6]) -> Result<Vec<u8>> {
        let (mut frame, ip) = (Vec::new(), self.ip()?);
        let kind: u16 = if self.source.is_ipv4() { 0x0800 } else { 0x86dd };
        frame.extend(to);
        frame.extend(from);
        frame.extend(kind.to_be_bytes());
        frame.extend(ip);
        Ok(frame)
    }

    fn write(&self, step: PacketBuilderStep<etherparse::IpHeaders>) -> Result<Vec<u8>> {
        let (from, to) = (self.source.port(), self.destination.port());
        let mut bytes = Vec::new();
        let written = match self.protocol {
            Protocol::Tcp => step.tcp(from, to, self.token, 64_000).syn().write(&mut bytes, &[]),
            Protocol::Udp => step.udp(from, to).write(&mut bytes, &self.token.to_be_bytes()),
            Protocol::Sctp => step.write(&mut bytes, IpNumber::SCTP, &sctp_init(from, to, self.token)),
        };
        written.map_err(|error| anyhow::anyhow!("{error}")).context("a packet cannot be put together")?;
        Ok(bytes)
    }
}

/// Reads an Ethernet frame; `None` when it is nothing of ours.
pub(super) fn read_frame(frame: &[u8]) -> Option<Sighting> {
    read_ip(frame.get(ETHERNET_HEADER..)?)
}

/// Reads a packet from its IP header on.
pub(super) fn read_ip(bytes: &[u8]) -> Option<Sighting> {
    let (ip, _) = LaxIpSlice::from_slice(bytes).ok()?;
    let dscp = match &ip {
        LaxIpSlice::Ipv4(v4) => v4.header().dcp().value(),
        LaxIpSlice::Ipv6(v6) => v6.header().dscp().value(),
    };
    let payload = ip.payload();
    read_payload(payload.ip_number, (ip.source_addr(), ip.destination_addr()), dscp, payload.payload)
}

/// Reads what follows an IP header of that protocol and those addresses.
pub(super) fn read_payload(
    protocol: IpNumber,
    (from, to): (IpAddr, IpAddr),
    dscp: u8,
    bytes: &[u8],
) -> Option<Sighting> {
    const TCP_RESET: u8 = 4;
    match protocol {
        IpNumber::ICMP => read_error(bytes, (3, 3), 3..=3),
        IpNumber::IPV6_ICMP => read_error(bytes, (1, 4), 1..=4),
        IpNumber::TCP if bytes.get(13)? & TCP_RESET != 0 => {
            Some(Sighting::Refused { token: number(bytes, 8)?.wrapping_sub(1) })
        }
        _ => Some(Sighting::Arrived {
            token: token(protocol, bytes)?,
            source: SocketAddr::new(from, port(bytes, 0)?),
            destination: SocketAddr::new(to, port(bytes, 2)?),
            dscp,
        }),
    }
}

/// Reads an ICMP error, whose `kinds` quote the packet they are about; `unreachable` says "port unreachable".
fn read_error(bytes: &[u8], unreachable: (u8, u8), kinds: std::ops::RangeInclusive<u8>) -> Option<Sighting> {
    let (kind, code) = (*bytes.first()?, *bytes.get(1)?);
    if !kinds.contains(&kind) {
        return None;
    }
    let (quoted, _) = LaxIpSlice::from_slice(bytes.get(8..)?).ok()?;
    let token = token(quoted.payload().ip_number, quoted.payload().payload)?;
    Some(if (kind, code) == unreachable { Sighting::Refused { token } } else { Sighting::Error { token, kind, code } })
}

fn token(protocol: IpNumber, bytes: &[u8]) -> Option<Token> {
    match protocol {
        IpNumber::TCP => number(bytes, 4),
        IpNumber::UDP => number(bytes, 8),
        IpNumber::SCTP => number(bytes, 16),
        _ => None,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn port(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACS: ([u8; 6], [u8; 6]) = ([2; 6], [4; 6]);

    fn probes() -> impl Iterator<Item = Probe> {
        let addresses = [("203.0.113.2:4000", "172.30.0.41:80"), ("[2001:db8::7]:4000", "[fd00:172::1]:80")];
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        addresses.into_iter().flat_map(move |(source, destination)| {
            let parse = |text: &str| text.parse().expect("an address");
            protocols.map(|protocol| Probe {
                token: 0x1234_5678,
                protocol,
                source: parse(source),
                destination: parse(destination),
            })
        })
    }

    #[test]
    fn what_is_sent_is_known_again() {
        for Probe { token, protocol, source, destination } in probes() {
            let frame = Probe { token, protocol, source, destination }.frame(MACS.0, MACS.1).expect("a frame");
            assert_eq!(read_frame(&frame), Some(Sighting::Arrived { token, source, destination, dscp: 0 }));
        }
    }

    /// An error quotes the packet, cut off at will.
    #[test]
    fn errors_are_known_again() {
        for probe in probes() {
            let (protocol, kind, code) =
                if probe.source.is_ipv4() { (IpNumber::ICMP, 3, 3) } else { (IpNumber::IPV6_ICMP, 1, 4) };
            let quoted = probe.ip().expect("a packet");
            let header = if probe.source.is_ipv4() { 20 } else { 40 };
            let error = [&[kind, code, 0, 0, 0, 0, 0, 0], &quoted[..header + 20.min(quoted.len() - header)]].concat();
            let addresses = (probe.destination.ip(), probe.source.ip());
            let seen = read_payload(protocol, addresses, 0, &error);
            assert_eq!(seen, Some(Sighting::Refused { token: probe.token }), "{probe:?}");
            let other = [&[kind, 0], &error[2..]].concat();
            let seen = read_payload(protocol, addresses, 0, &other);
            assert_eq!(seen, Some(Sighting::Error { token: probe.token, kind, code: 0 }), "{probe:?}");
        }
    }

    /// The packet of RFC 9260's checksum: a wrong one is dropped on the way, which would look like a rule that drops.
    #[test]
    fn sctp_checksum_covers_the_packet() {
        let mut bytes = sctp_init(1, 2, 3);
        let checksum = u32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes"));
        bytes[8..12].fill(0);
        assert_eq!((checksum, bytes.len()), (crc32c::crc32c(&bytes), 32));
    }
}
