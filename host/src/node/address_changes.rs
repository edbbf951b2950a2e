//! Tells when addresses or routes of this node change.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
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
#[derive(Debug)]
pub struct AddressChanges {
    socket: AsyncFd<OwnedFd>,
    /// When a change that was seen is told. Kept here, so that a [`changed`](Self::changed) that is dropped half-way
    /// loses nothing.
    due: Option<Instant>,
}

impl AddressChanges {
    /// Subscribes. Call it before the first [`addresses`](super::addresses), on the runtime: then no change is missed.
    ///
    /// # Errors
    /// When the kernel gives no such socket, or outside of a tokio runtime with I/O.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS.cast_unsigned()))?;
        Ok(Self { socket: AsyncFd::register_with_interest(socket, Interest::READABLE)?, due: None })
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
                self.socket.async_io(Interest::READABLE, drain).await?;
                *self.due.insert(Instant::now() + GATHER)
            }
        };
        sleep_until(due).await;
        self.due = None;
        // What came meanwhile is part of this change; nothing having come is as good.
        match drain(self.socket.get_ref()) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

/// Takes everything that waits. `WouldBlock` when there was nothing.
fn drain(socket: &OwnedFd) -> io::Result<()> {
    // A message that does not fit is cut off, which is all right: nobody reads it.
    let mut ignored = [0; 64];
    let mut any = false;
    loop {
        match recv(socket.as_raw_fd(), &mut ignored, MsgFlags::MSG_DONTWAIT) {
            // ENOBUFS: messages came faster than they were taken, and some are lost. Something did change.
            Ok(_) | Err(Errno::ENOBUFS) => any = true,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if any => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
