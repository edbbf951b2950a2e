//! A tracked flow, and where flows are read and removed.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use weir_model::{Family, Protocol};

/// One conntrack entry, as far as Services are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its protocol.
    pub protocol: Protocol,
    /// Who sent the first packet.
    pub source: SocketAddr,
    /// Where the first packet was sent to, before any translation.
    pub destination: SocketAddr,
    /// Who is expected to answer: the endpoint, if the destination was translated, else the destination itself.
    pub reply_source: SocketAddr,
    /// Its conntrack zone; 0 is the usual one.
    pub zone: u16,
    /// The kernel's number for this very entry. A later flow between the same addresses has another one.
    pub id: u32,
}

impl Flow {
    /// Its family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.destination.ip())
    }

    /// Whether its destination was translated.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        self.reply_source != self.destination
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, source, destination, reply_source, .. } = self;
        write!(f, "{protocol} {source} to {destination}, answered by {reply_source}")
    }
}

/// How far a dump got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// Every flow that was there from begin to end has been seen.
    Complete,
    /// The kernel says that some may be missing; what was read is good.
    Partial,
}

/// The flows of one network namespace.
pub trait FlowTable {
    /// Hands every flow of `family` and `protocol` to `each`, in no order, some perhaps twice.
    ///
    /// # Errors
    /// When the flows cannot be read at all.
    fn dump(&mut self, family: Family, protocol: Protocol, each: &mut dyn FnMut(Flow)) -> io::Result<Dump>;

    /// Removes that very flow and returns whether it was there; a newer one between the same addresses stays.
    ///
    /// # Errors
    /// When it is there and stays.
    fn delete(&mut self, flow: &Flow) -> io::Result<bool>;
}
