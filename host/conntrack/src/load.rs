//! How many connections each endpoint has, from what the kernel tells of flows.
//!
//! [`Tracker`] turns what is told of single flows into changes of endpoints; [`Tallies`] adds them up. The kernel is
//! behind [`FlowEvents`], the clock is an argument.
//!
//! # Events or dumps
//!
//! Measured on Linux 6.18 with short TCP connections over loopback, each one redirected: client, server and both
//! directions of the kernel's work. One connection alone costs 1, everything else is a share of that. At 10 000 new
//! connections a second, 0.1 was about 5 % of one processor on the machine that measured.
//!
//! | way | in the packets' path | reader | `connect()` takes longer by |
//! |---|---|---|---|
//! | nobody asks | 0 | 0 | 0 |
//! | NEW events | 0.06 | 0.02 | 0.15 |
//! | NEW, UPDATE, DESTROY events, all delivered | 0.30 | 0.10 | 0.40 |
//! | the same, a socket filter lets through what counts | 0.29 | 0.03 | 0.40 |
//! | one dump, for each entry in the table | 0 | 0.04 | not measurable |
//!
//! (DESTROY events come with the end of the entry, two minutes after the connection, and cost as much as NEW ones.
//! Without UPDATE events nobody could tell an open connection from the remains of a closed one.)
//!
//! Entries of closed connections stay for two minutes. At a steady rate a dump every ten seconds meets each of them
//! twelve times, which is dearer than all of its events, and what it tells is ten seconds old; there is no filter by
//! TCP state. So events count, and a dump sets them right: at the beginning, after events were lost, and now and then.
//!
//! Waking the reader for every event is the dearest part of all (0.6 of a connection); it therefore reads what has
//! come together in a few hundredths of a second.

mod tally;
mod tracker;

use std::io;
use std::net::SocketAddr;

use weir_model::Protocol;

use crate::{Dump, Flow};

pub use tally::{IDLE, Tallies};
pub use tracker::{Change, Changes, Tracker};

/// Who answers connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Over which protocol.
    pub protocol: Protocol,
    /// Where.
    pub address: SocketAddr,
}

/// What is told of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It began just now.
    Began,
    /// It is there, and not closed. A connection nobody has answered yet counts as well: it may wait because its
    /// endpoint is busy.
    Open,
    /// It is there, but both ends have closed it, or one has reset it (TCP only; others are open until they are gone).
    Closed,
    /// Its entry is gone.
    Gone,
}

/// Whether all that happened was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Everything.
    All,
    /// Events were lost; only a dump can tell what they were.
    Lost,
}

/// What happens to the redirected flows of one network namespace, from the moment it was opened.
pub trait FlowEvents {
    /// Waits a moment for something to happen, then returns. What happened lies there for [`FlowEvents::receive`].
    ///
    /// # Errors
    /// When nothing will ever be told any more.
    fn wait(&mut self) -> io::Result<()>;

    /// Hands at most `limit` events that have come to `each`, in their order, and returns how many and whether any
    /// before them were lost.
    ///
    /// # Errors
    /// When events cannot be read.
    fn receive(&mut self, limit: usize, each: &mut dyn FnMut(&Flow, State)) -> io::Result<(usize, Received)>;

    /// Hands every redirected flow that is there to `each`, [`State::Open`] or [`State::Closed`], some perhaps twice.
    ///
    /// # Errors
    /// When the flows cannot be read at all.
    fn dump(&mut self, each: &mut dyn FnMut(&Flow, State)) -> io::Result<Dump>;
}
