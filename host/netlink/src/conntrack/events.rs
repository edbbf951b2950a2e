//! What happens to redirected flows, by ctnetlink's multicast groups.

use std::io;
use std::time::Duration;

use libc::sock_filter;
use weir_conntrack::load::{FlowEvents, Received, State};
use weir_conntrack::{Dump, Flow};

use super::message::{self, REDIRECTED, TCP_TIME_WAIT, flow_attribute, request};
use super::{Conntrack, ConntrackError};
use crate::socket::Socket;
use crate::wire::{Message, Messages, flag};

/// `NFNLGRP_CONNTRACK_NEW`, `NFNLGRP_CONNTRACK_UPDATE` and `NFNLGRP_CONNTRACK_DESTROY`.
const GROUPS: [libc::c_int; 3] = [1, 2, 3];

/// How long [`ConntrackEvents::wait`] waits.
const PATIENCE: Duration = Duration::from_millis(200);

/// Events of redirected flows, in the network namespace the process was in when it was opened. While it is open, the
/// kernel makes a message of everything that happens to any flow in there; a filter on the socket drops most of them.
pub struct ConntrackEvents {
    events: Socket,
    table: Conntrack,
}

impl ConntrackEvents {
    /// Room for events that nobody has read yet: those of about ten thousand connections. The kernel takes the memory
    /// only while they lie there.
    pub const RECEIVE_BUFFER: usize = 16 << 20;

    /// Subscribes. `receive_buffer` is how many bytes of unread events the kernel keeps, or as many as the system
    /// allows; [`ConntrackEvents::RECEIVE_BUFFER`] is right for a node.
    ///
    /// # Errors
    /// See [`ConntrackError`].
    pub fn open(receive_buffer: usize) -> Result<Self, ConntrackError> {
        // First: it tells best what is missing.
        let table = Conntrack::open()?;
        let events = Socket::open(receive_buffer).map_err(ConntrackError::Socket)?;
        events.filter(&program()).map_err(ConntrackError::Socket)?;
        for group in GROUPS {
            events.join(group).map_err(|error| match error.raw_os_error() {
                Some(libc::EPERM) => ConntrackError::Permission,
                _ => ConntrackError::Unsupported(error),
            })?;
        }
        Ok(Self { events, table })
    }
}

impl FlowEvents for ConntrackEvents {
    fn wait(&mut self) -> io::Result<()> {
        self.events.wait(PATIENCE).map(drop)
    }

    fn receive(&mut self, limit: usize, each: &mut dyn FnMut(&Flow, State)) -> io::Result<(usize, Received)> {
        let (mut count, mut received) = (0, Received::All);
        while count < limit {
            match self.events.receive(false) {
                Ok(Some(datagram)) => {
                    count += 1;
                    Messages(datagram)
                        .filter_map(|message| event(&message))
                        .for_each(|(flow, state)| each(&flow, state));
                }
                Ok(None) => break,
                // Told once, before the events that did fit.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => received = Received::Lost,
                Err(error) => return Err(error),
            }
        }
        Ok((count, received))
    }

    fn dump(&mut self, each: &mut dyn FnMut(&Flow, State)) -> io::Result<Dump> {
        let filter = message::redirected_filter().map_err(io::Error::other)?;
        self.table.list(0, &filter, |message| {
            if let Some(flow) = redirected(message) {
                each(&flow, message::state(message.attributes()));
            }
        })
    }
}

/// The flow of a message, if it was redirected.
fn redirected(message: &Message<'_>) -> Option<Flow> {
    let attributes = message.attributes();
    if !message::is_redirected(attributes) {
        return None;
    }
    message::flow(attributes).filter(Flow::is_translated)
}

/// What a message of the multicast groups tells.
fn event(message: &Message<'_>) -> Option<(Flow, State)> {
    let state = match message.kind {
        request::DELETE => State::Gone,
        request::NEW if message.flags & flag::CREATE != 0 => State::Began,
        request::NEW => message::state(message.attributes()),
        _ => return None,
    };
    redirected(message).map(|flow| (flow, state))
}

/// Lets through what begins, closes or ends a redirected flow, which is one update of five, without the rest being
/// copied or anybody woken.
///
/// Numbers of a message's header are in the machine's byte order, and a program takes what it loads for big-endian.
fn program() -> [sock_filter; 20] {
    /// Where a message's type and flags are, and its first attribute.
    const TYPE: u32 = 4;
    const FLAGS: u32 = 6;
    const ATTRIBUTES: u32 = 20;
    /// From an attribute's begin to its payload; and, from `CTA_PROTOINFO`'s, through the protocol's nest to the
    /// payload of the first attribute in it, which is the state.
    const PAYLOAD: u32 = 4;
    const STATE: u32 = 12;
    /// Where the attribute of type X is, looking from A on; 0 when there is none.
    const FIND: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_NLATTR) as u32;
    let native = |number: u16| u32::from(u16::from_be_bytes(number.to_ne_bytes()));
    let statement = |parts: u32, k| sock_filter { code: code(parts), jt: 0, jf: 0, k };
    let load = |parts: u32, k| statement(libc::BPF_LD | parts, k);
    let load_type = |kind: u16| statement(libc::BPF_LDX | libc::BPF_IMM, kind.into());
    let copy_to_x = statement(libc::BPF_MISC | libc::BPF_TAX, 0);
    // Steps to skip, if the condition holds and if not.
    let skip =
        |condition: u32, k, jt, jf| sock_filter { code: code(libc::BPF_JMP | libc::BPF_K | condition), jt, jf, k };
    let give = |bytes| statement(libc::BPF_RET | libc::BPF_K, bytes);
    [
        // Not redirected: drop.
        load(libc::BPF_IMM, ATTRIBUTES),
        load_type(flow_attribute::STATUS),
        load(libc::BPF_B | libc::BPF_ABS, FIND),
        skip(libc::BPF_JEQ, 0, 15, 0),
        copy_to_x,
        load(libc::BPF_W | libc::BPF_IND, PAYLOAD),
        skip(libc::BPF_JSET, REDIRECTED, 0, 12),
        // No update, but an end or a begin: give.
        load(libc::BPF_H | libc::BPF_ABS, TYPE),
        skip(libc::BPF_JEQ, native(request::NEW), 0, 9),
        load(libc::BPF_H | libc::BPF_ABS, FLAGS),
        skip(libc::BPF_JSET, native(flag::CREATE), 7, 0),
        // An update of something else than the protocol's state, or to one before the close: drop.
        load(libc::BPF_IMM, ATTRIBUTES),
        load_type(flow_attribute::PROTOCOL_STATE),
        load(libc::BPF_B | libc::BPF_ABS, FIND),
        skip(libc::BPF_JEQ, 0, 4, 0),
        copy_to_x,
        load(libc::BPF_B | libc::BPF_IND, STATE),
        skip(libc::BPF_JGE, TCP_TIME_WAIT.into(), 0, 1),
        give(u32::MAX),
        give(0),
    ]
}

fn code(parts: u32) -> u16 {
    u16::try_from(parts).expect("a code has 16 bits")
}
