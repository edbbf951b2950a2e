//! The kernel's table of tracked flows, by ctnetlink.

mod events;
mod message;

use std::io;

use weir_conntrack::{Dump, Flow, FlowTable};
use weir_model::{Family, Protocol};

use crate::bytecode::family_number;
use crate::channel::Channel;
use crate::wire::{Message, flag};
use message::request;

pub use events::ConntrackEvents;

/// Room for a few datagrams of a dump. The kernel goes on with a dump as it is read, so more would gain nothing.
const RECEIVE_BUFFER: usize = 256 << 10;

/// Why flows cannot be read and removed.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// No netlink socket could be had.
    #[error("cannot open a netlink socket to netfilter: {0}")]
    Socket(io::Error),
    /// This process may not ask.
    #[error("reading tracked flows needs CAP_NET_ADMIN in the network namespace")]
    Permission,
    /// The kernel does not answer as ctnetlink does.
    #[error("the kernel has no ctnetlink (module nf_conntrack_netlink, CONFIG_NF_CT_NETLINK): {0}")]
    Unsupported(io::Error),
}

/// The tracked flows of the network namespace the process was in when it was opened.
pub struct Conntrack {
    channel: Channel,
}

impl Conntrack {
    /// Opens the table and makes sure that the kernel has one.
    ///
    /// # Errors
    /// See [`ConntrackError`].
    pub fn open() -> Result<Self, ConntrackError> {
        let channel = Channel::open(RECEIVE_BUFFER).map_err(ConntrackError::Socket)?;
        let mut this = Self { channel };
        this.len().map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => ConntrackError::Permission,
            _ => ConntrackError::Unsupported(error),
        })?;
        Ok(this)
    }

    /// How many flows the kernel tracks, of all protocols.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn len(&mut self) -> io::Result<u32> {
        let mut count = None;
        self.channel.converse(request::STATISTICS, flag::ACK, 0, &[], |message| {
            count = count.or(message::entries(message.attributes()));
        })?;
        count.ok_or_else(|| io::Error::other("the kernel answered without a number of flows"))
    }

    /// Whether the kernel tracks no flow at all.
    ///
    /// # Errors
    /// As [`Conntrack::len`].
    pub fn is_empty(&mut self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Hands the message of every flow of `family` (`NFPROTO_*`, 0 for all) that the kernel finds by `filter` to
    /// `each`.
    fn list(&mut self, family: u8, filter: &[u8], mut each: impl FnMut(&Message<'_>)) -> io::Result<Dump> {
        match self.channel.converse(request::GET, flag::DUMP, family, filter, |message| each(&message)) {
            Ok(false) => Ok(Dump::Complete),
            Ok(true) => Ok(Dump::Partial),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EINTR)) => Ok(Dump::Partial),
            Err(error) => Err(error),
        }
    }
}

impl FlowTable for Conntrack {
    fn dump(&mut self, family: Family, protocol: Protocol, each: &mut dyn FnMut(Flow)) -> io::Result<Dump> {
        let filter = message::protocol_filter(protocol).map_err(io::Error::other)?;
        self.list(family_number(family), &filter, |message| {
            // Kernels before 5.8 know no filter and send flows of every protocol.
            let flow = message::flow(message.attributes());
            if let Some(flow) = flow.filter(|flow| (flow.family(), flow.protocol) == (family, protocol)) {
                each(flow);
            }
        })
    }

    fn delete(&mut self, flow: &Flow) -> io::Result<bool> {
        let name = message::name(flow).map_err(io::Error::other)?;
        match self.channel.converse(request::DELETE, flag::ACK, family_number(flow.family()), &name, |_| {}) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
