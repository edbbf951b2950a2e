use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use etherparse::{PacketBuilder, TcpHeader, TcpHeaderSlice};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket};
use weir_testbed::Host;
use weir_tests::lab::{Backend, Lab, Service};

/// Where the pod listens.
const PORT: u16 = 8085;
/// Patience with a step that takes microseconds.
const SOON: Duration = Duration::from_secs(5);
/// Beyond any window.
const FAR: u32 = 500_000_000;

/// Kubernetes e2e: "should drop INVALID conntrack entries" (kubernetes#74839). A pod sends a segment far outside of the
/// TCP window. Conntrack calls it INVALID and translates it not; the client sees a stranger and resets what it takes for
/// his connection, which is its own. kube-proxy's nftables mode has no rule that drops such segments, nor has Weir: what
/// keeps the connection alive in both is `conntrack.tcpBeLiberal`. Without it the connection is lost, which shows that
/// the segment is one of those.
pub(crate) fn should_drop_invalid_conntrack_entries() {
    for liberal in [false, true] {
        let service = Service::new("boom", ["10.96.0.10"]).tcp(80).target_port(PORT).on(&[Backend::new(1)]);
        let lab = Lab::up(&[service]).unwrap();
        // What `weir run --init-only` writes for `conntrack.tcpBeLiberal: true`.
        let value = if liberal { "1" } else { "0" };
        lab.node().kernel().set_sysctls(&[("netfilter/nf_conntrack_tcp_be_liberal", value)]).unwrap();
        let pod = lab.node().pod("backend-1");
        let listener = pod.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))).unwrap();
        let wire = Wire::open(pod);
        let target = SocketAddr::from(([10, 96, 0, 10], 80));
        let mut client = lab.client().run(|| TcpStream::connect_timeout(&target, SOON)).unwrap();
        let (mut server, peer) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(SOON)).unwrap();
        }
        let acknowledged = wire.next(|segment| segment.source_port == peer.port() && segment.ack && !segment.syn);

        wire.send_from_nowhere(pod.v4(), peer, &acknowledged);
        if liberal {
            // The client got it through the Service and says once more what it has.
            wire.next(|segment| segment.source_port == peer.port() && segment.ack && !segment.rst);
            for text in ["one", "two"] {
                server.write_all(text.as_bytes()).unwrap();
                let mut received = [0; 3];
                client.read_exact(&mut received).unwrap();
                client.write_all(&received).unwrap();
                server.read_exact(&mut received).unwrap();
                assert_eq!(received, text.as_bytes());
            }
        } else {
            wire.next(|segment| segment.source_port == peer.port() && segment.rst);
            assert_eq!(server.read(&mut [0; 3]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }
}

/// Sees every TCP segment that reaches a pod, and sends segments that no connection of its would.
struct Wire(OwnedFd);

impl Wire {
    fn open(pod: &Host) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Self(pod.run(|| socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Tcp)).unwrap())
    }

    /// The next segment of that kind, those in between passed over.
    fn next(&self, wanted: impl Fn(&TcpHeader) -> bool) -> TcpHeader {
        let (start, mut buffer) = (Instant::now(), [0; 2048]);
        while start.elapsed() < SOON {
            let Ok(length) = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let header = usize::from(buffer[0] & 0xf) * 4;
            let segment = TcpHeaderSlice::from_slice(&buffer[header..length]).unwrap().to_header();
            if wanted(&segment) {
                return segment;
            }
        }
        panic!("no such segment came within {SOON:?}");
    }

    /// A segment of the connection to `peer` whose number is nowhere near, in answer to `last`.
    fn send_from_nowhere(&self, pod: Ipv4Addr, peer: SocketAddr, last: &TcpHeader) {
        let IpAddr::V4(to) = peer.ip() else { panic!("{peer} is not IPv4") };
        let number = last.acknowledgment_number.wrapping_add(FAR);
        let builder = PacketBuilder::ipv4(pod.octets(), to.octets(), 64).tcp(PORT, peer.port(), number, 64_000);
        let mut packet = Vec::new();
        builder.ack(last.sequence_number).write(&mut packet, &[]).unwrap();
        // The kernel writes the IP header itself.
        let segment = &packet[20..];
        sendto(self.0.as_raw_fd(), segment, &SockaddrIn::from(std::net::SocketAddrV4::new(to, 0)), MsgFlags::empty())
            .unwrap();
    }
}
