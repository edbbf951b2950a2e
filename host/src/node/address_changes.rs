//! Tells when addresses or routes of this node change.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket};
use nix::libc;
use tokio::time::{Instant, sleep_until};

/// How long to gather what comes in bursts: one `ip addr add` alone is an address and two or three routes.
const GATHER: Duration = Duration::from_millis(50);

/// What is followed: addresses, because they accept node ports, and routes, because the default one says which
/// address is the primary one.
const GROUPS: libc::c_int =
    libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR | libc::RTMGRP_IPV4_ROUTE | libc::RTMGRP_IPV6_ROUTE;

/// A subscription to the kernel's messages about addresses and routes of the network namespace it was made in.
///
/// The messages are not read: whoever hears of a change asks [`addresses`](super::addresses) again, which is right
/// however many messages were lost or came twice.
pub struct AddressChanges {
    socket: TokioSocket,
    /// When a change that was seen is told. Kept here, so that a [`changed`](Self::changed) that is dropped half-way
    /// loses nothing.
    due: Option<Instant>,
}

impl AddressChanges {
    /// Subscribes. Call it on the runtime, and before the first [`addresses`](super::addresses): then no change is
    /// missed.
    ///
    /// # Errors
    /// When the kernel gives no such socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUPS.cast_unsigned()))?;
        Ok(Self { socket, due: None })
    }

    /// Waits for a change; everything that follows within 50 ms counts as the same one. May be dropped and called
    /// again at any time.
    ///
    /// # Errors
    /// When the socket fails; it is of no use any more then.
    pub async fn changed(&mut self) -> io::Result<()> {
        let due = match self.due {
            Some(due) => due,
            None => {
                was_one(poll_fn(|context| self.socket.poll_recv(context, &mut &mut [0_u8; 64][..])).await)?;
                *self.due.insert(Instant::now() + GATHER)
            }
        };
        sleep_until(due).await;
        self.due = None;
        while was_one(self.socket.socket_ref().recv(&mut &mut [0_u8; 64][..], 0))? {}
        Ok(())
    }
}

/// Whether a message was received, or too many to keep: then some are lost, but something did change. What did not
/// fit into the buffer is cut off, which is all right: nobody reads it.
fn was_one<T>(received: io::Result<T>) -> io::Result<bool> {
    match received {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
