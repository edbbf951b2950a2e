//! Sockets that send packets from anybody, and see every packet that arrives anywhere.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use etherparse::IpNumber;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    bind, recv, recvfrom, recvmsg, send, sendto, setsockopt, socket, sockopt,
};

use super::wire::{Probe, Sighting, read_frame, read_ip, read_payload};
use super::world::{LINKS, NODE_MAC, World};

/// Larger than any packet here.
const PACKET: usize = 2048;

/// Protocols the node's own stack delivers, of both families.
const PROTOCOLS: [(SockProtocol, IpNumber); 3] =
    [(SockProtocol::Tcp, IpNumber::TCP), (SockProtocol::Udp, IpNumber::UDP), (SockProtocol::Sctp, IpNumber::SCTP)];

/// All sockets of a [`World`].
pub(super) struct Sockets {
    /// Sees every frame that reaches the world.
    world: OwnedFd,
    /// One for each of [`LINKS`], to send frames into the node.
    links: Vec<OwnedFd>,
    /// Sends packets of the node, of IPv4 and of IPv6.
    node_v4: OwnedFd,
    node_v6: OwnedFd,
    /// See what is delivered on the node, after all hooks. Those for errors come first: the kernel delivers a packet
    /// before it refuses it, so whoever reads a refusal before it reads deliveries misses none.
    delivered_v4: Vec<OwnedFd>,
    delivered_v6: Vec<(OwnedFd, IpNumber)>,
}

impl Sockets {
    /// Opens them.
    pub(super) fn open(world: &World) -> Result<Self> {
        let (seen, links) = world.outside.run(|| -> Result<_> {
            let seen = raw(AddressFamily::Packet, Some(SockProtocol::EthAll))?;
            Ok((seen, LINKS.iter().map(|(name, _)| link(name)).collect::<Result<Vec<_>>>()?))
        })?;
        world.node.run(|| {
            let both = |v4, v6| Ok::<_, anyhow::Error>((raw(AddressFamily::Inet, Some(v4))?, raw_v6(v6)?));
            let (node_v4, node_v6) = both(SockProtocol::Raw, SockProtocol::Raw)?;
            let errors = both(SockProtocol::Icmp, SockProtocol::IcmpV6)?;
            let (mut delivered_v4, mut delivered_v6) = (vec![errors.0], vec![(errors.1, IpNumber::IPV6_ICMP)]);
            for (protocol, number) in PROTOCOLS {
                let (v4, v6) = both(protocol, protocol)?;
                delivered_v4.push(v4);
                delivered_v6.push((v6, number));
            }
            Ok(Self { world: seen, links, node_v4, node_v6, delivered_v4, delivered_v6 })
        })
    }

    /// Sends a packet into the node over the link of that number.
    pub(super) fn send_over(&self, link: usize, probe: &Probe) -> Result<()> {
        let frame = probe.frame(LINKS[link].1, NODE_MAC)?;
        send(self.links[link].as_raw_fd(), &frame, MsgFlags::empty()).context("a frame cannot be sent")?;
        Ok(())
    }

    /// Lets the node send a packet with that mark.
    pub(super) fn send_from_node(&self, probe: &Probe, mark: u32) -> Result<()> {
        let packet = probe.ip()?;
        // Bound, so that the kernel routes by the source as it does for other sockets.
        let (socket, sent) = match (probe.source.ip(), probe.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                bind(self.node_v4.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0)))?;
                setsockopt(&self.node_v4, sockopt::Mark, &mark)?;
                ("IPv4", sendto(self.node_v4.as_raw_fd(), &packet, &to, MsgFlags::empty()))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                bind(self.node_v6.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(from, 0, 0, 0)))?;
                setsockopt(&self.node_v6, sockopt::Mark, &mark)?;
                ("IPv6", sendto(self.node_v6.as_raw_fd(), &packet, &to, MsgFlags::empty()))
            }
            (from, to) => bail!("{from} and {to} are not of one family"),
        };
        match sent {
            // So the sender hears of a packet that a rule dropped or rejected.
            Ok(_) | Err(Errno::EPERM) => Ok(()),
            // So of one that cannot leave because of its source (`route_localnet` is off).
            Err(Errno::EINVAL) if probe.source.is_ipv4() && probe.source.ip().is_loopback() => Ok(()),
            Err(error) => Err(error).with_context(|| format!("the node cannot send {probe:?} over {socket}")),
        }
    }

    /// Everything seen since the last call.
    pub(super) fn sightings(&self) -> Result<Vec<Sighting>> {
        let mut seen = Vec::new();
        let mut buffer = [0; PACKET];
        while let Some((length, from)) = nothing_yet(recvfrom::<LinkAddr>(self.world.as_raw_fd(), &mut buffer))? {
            if from.is_some_and(|from| from.pkttype() == nix::libc::PACKET_HOST) {
                seen.extend(read_frame(&buffer[..length]));
            }
        }
        for socket in &self.delivered_v4 {
            while let Some(length) = nothing_yet(recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()))? {
                seen.extend(read_ip(&buffer[..length]));
            }
        }
        for (socket, protocol) in &self.delivered_v6 {
            while let Some(sighting) = receive_v6(socket, *protocol)? {
                seen.extend(sighting);
            }
        }
        Ok(seen)
    }
}

fn raw(family: AddressFamily, protocol: Option<SockProtocol>) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(family, SockType::Raw, flags, protocol)
        .with_context(|| format!("a raw socket of {family:?} for {protocol:?}"))
}

/// Such a socket gives no IP header; the destination comes beside the packet.
fn raw_v6(protocol: SockProtocol) -> Result<OwnedFd> {
    let socket = raw(AddressFamily::Inet6, Some(protocol))?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    Ok(socket)
}

/// A socket that sends frames over one link and receives none.
fn link(name: &str) -> Result<OwnedFd> {
    let mut interfaces = getifaddrs()?.filter(|interface| interface.interface_name == name);
    let address = interfaces
        .find_map(|interface| interface.address?.as_link_addr().copied())
        .with_context(|| format!("link {name} is not there"))?;
    let socket = raw(AddressFamily::Packet, None)?;
    bind(socket.as_raw_fd(), &address).with_context(|| format!("bind to link {name}"))?;
    Ok(socket)
}

/// `None` when there is nothing to read.
fn receive_v6(socket: &OwnedFd, protocol: IpNumber) -> Result<Option<Option<Sighting>>> {
    let mut buffer = [0; PACKET];
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo);
    let received = recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
    let Some(message) = nothing_yet(received)? else { return Ok(None) };
    let to = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    });
    let from = message.address.map(|address| SocketAddr::from(SocketAddrV6::from(address)).ip());
    let length = message.bytes;
    let addresses = from.zip(to).context("a packet without addresses")?;
    Ok(Some(read_payload(protocol, addresses, 0, &buffer[..length])))
}

fn nothing_yet<T>(result: nix::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::EAGAIN) => Ok(None),
        Err(error) => Err(error).context("a raw socket cannot be read"),
    }
}
