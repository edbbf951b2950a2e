//! Flows the kernel tracks: which lead to endpoints that are gone, and how many each endpoint has ([`load`]).
//!
//! NAT rules see the first packet of a flow only. A UDP flow with a fixed source port (DNS forwarders, QUIC, SIP,
//! statsd) therefore stays with an endpoint that went away for as long as its client keeps sending, unless its
//! conntrack entry is removed. In come the Services after each sync; a [`Table`] holds which frontends there are and
//! who may answer for them; a pass compares every tracked flow with it ([`find`]) and ends those that are stale
//! ([`remove`]). Nothing is remembered of single flows: a pass that was missed or failed is made up for by the next.
//!
//! The kernel is behind [`FlowTable`], the clock is an argument.
#![forbid(unsafe_code)]

mod change;
mod flow;
pub mod load;
mod pass;
mod schedule;
mod table;

pub use change::{Change, TrackedPort, released};
pub use flow::{Dump, Flow, FlowTable};
pub use pass::{Report, find, remove};
pub use schedule::{FOLLOW_UP, Schedule};
pub use table::Table;
