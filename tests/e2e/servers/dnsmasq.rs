use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use weir_testbed::{Call, Failure, Host};

use super::program::Program;

/// The name everybody asks for.
const NAME: &str = "who.example";
/// Patience with an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// dnsmasq in a pod, by UDP and TCP on 53; it answers every question for [`NAME`] with the pod's own address.
pub(super) struct Dnsmasq(#[expect(dead_code, reason = "held for its Drop")] Program);

impl Dnsmasq {
    /// Starts it, without any file of the machine's.
    pub(super) fn start(pod: &Host) -> Self {
        // With `--no-daemon` it neither becomes another user nor writes a file.
        let arguments = ["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"].map(str::to_owned);
        let own = [format!("--address=/{NAME}/{}", pod.v4())];
        Self(Program::start(pod, "dnsmasq", &[&arguments[..], &own].concat(), 53))
    }
}

/// A question for the address of [`NAME`], over and over the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    call: Call,
    tcp: bool,
}

impl Question {
    /// In a datagram to that server, each time from another port.
    pub(super) fn by_udp(server: SocketAddr) -> Self {
        Self { call: Call::udp(server).within(PATIENCE), tcp: false }
    }

    /// On a TCP connection to that server.
    pub(super) fn by_tcp(server: SocketAddr) -> Self {
        Self { tcp: true, ..Self::by_udp(server) }
    }

    /// The same question, each time from that port of the client.
    pub(super) fn at_port(self, port: u16) -> Self {
        let any: IpAddr =
            if self.call.target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Self { call: self.call.from(any, port), ..self }
    }

    /// Asks from that host, and returns the address it is told.
    ///
    /// # Errors
    /// When no answer comes, or one that is none.
    pub(super) fn ask(self, client: &Host) -> Result<IpAddr, Failure> {
        let answer = client.run(|| if self.tcp { self.on_a_connection() } else { self.in_a_datagram() })?;
        address_in(&answer).ok_or_else(|| Failure::NoAnswer(format!("{answer:02x?}")))
    }

    fn in_a_datagram(self) -> Result<Vec<u8>, Failure> {
        let socket = self.call.udp_socket()?;
        socket.send(&query())?;
        let mut answer = vec![0; 512];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    }

    /// Each message has its length in front (RFC 1035, 4.2.2).
    fn on_a_connection(self) -> Result<Vec<u8>, Failure> {
        let mut stream = self.call.connect()?;
        let query = query();
        let length = u16::try_from(query.len()).unwrap();
        stream.write_all(&[&length.to_be_bytes()[..], &query].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }
}

/// A query for the A record of [`NAME`] (RFC 1035, 4.1).
fn query() -> Vec<u8> {
    // Number 1, recursion desired, one question, nothing else.
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in NAME.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.as_bytes());
    }
    // End of the name, type A, class IN.
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// The address in an answer that has no error and exactly one record, which is then its last four bytes.
fn address_in(answer: &[u8]) -> Option<IpAddr> {
    let (head, rest) = answer.split_at_checked(12)?;
    let (errors, records) = (head[3] & 0xf, u16::from_be_bytes([head[6], head[7]]));
    let address: [u8; 4] = *rest.last_chunk()?;
    (errors == 0 && records == 1 && head[0..2] == [0, 1]).then(|| address.into())
}
