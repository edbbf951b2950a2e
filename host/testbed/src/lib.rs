//! A small Kubernetes node out of network namespaces: real pods, real clients, real connections, one process.
//!
//! In: a [`Layout`]. Out: a [`Node`] whose hosts run [`Server`]s, dial each other with [`Call`] and are watched by a
//! [`Probe`]. `weir demo`, the kernel tests and the benches stand on it. It knows nothing of Services: which
//! address leads to which backend is the business of whoever programs the kernel in [`Node::kernel`].
//!
//! Call [`enter`] first thing in `main`. From then on the process lives in a network namespace of its own (and,
//! without root, in a user namespace of its own), so the machine's own network is out of reach. A namespace here is
//! an open file descriptor and nothing else: no name in the file system, no process. When the process ends, in
//! whatever way, the kernel takes everything back.
//!
//! ```text
//!  203.0.113.2 ┌─────────┐ eth0      eth0 ┌───────────────────────┐ client    eth0 ┌───────────┐
//!  (+ its /24) │ outside ├────────────────┤ node   192.168.0.2    ├────────────────┤ client    │ 10.244.0.10
//!              └─────────┘                │        2001:db8::1    ├────────────────┤ backend-1 │ 10.244.0.11
//!                                         │  forwards, NATs       ├────────────────┤ backend-2 │ 10.244.0.12
//!                                         │  (Weir's tables here) ├────────────────┤ backend-3 │ 10.244.1.13
//!                                         └───────────────────────┘                └───────────┘ (another node's)
//! ```
//! Links are point to point, as with Calico or the `ptp` plugin, not a bridge: every reply passes the node, so NAT
//! between two pods of one node is undone without `br_netfilter`, which not every machine has.
#![forbid(unsafe_code)]

mod call;
mod enter;
mod host;
mod layout;
mod node;
mod probe;
mod sctp;
mod server;

pub use call::{Answer, Call, Failure, Tally, Transport};
pub use enter::{EnterError, enter, enter_for_tests};
pub use host::Host;
pub use layout::{Addresses, Layout, PodSpec};
pub use node::{NODE_SYSCTLS, Node};
pub use probe::{Probe, ProbeReport};
pub use sctp::sctp_init;
pub use server::{Listen, Server};
