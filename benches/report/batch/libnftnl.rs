//! The same elements as objects of libnftnl, through its safe bindings, in one batch of one send.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Instant;

use anyhow::{Context, Result};
use nftnl::set::Set;
use nftnl::{Batch, MsgType, ProtoFamily, Table};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, send, setsockopt, socket, sockopt,
};

/// Room for what the kernel answers: libnftnl asks for an acknowledgement of every message.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Adds so many addresses to a new set. Seconds to build and encode, and to build, encode and commit.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn addresses(count: usize) -> Result<(f64, f64)> {
    let table = Table::new(c"objects", ProtoFamily::Ipv4);
    let set = |count: usize| {
        let mut set = Set::<Ipv4Addr>::new_named(c"s", 1, &table, ProtoFamily::Ipv4);
        for number in 0..count {
            set.add(&Ipv4Addr::from(0x0b00_0000 + u32::try_from(number).unwrap_or(u32::MAX)));
        }
        set
    };
    let empty = set(0);
    let mut batch = Batch::new();
    batch.add(&table, MsgType::Add);
    batch.add(&empty, MsgType::Add);
    commit(batch)?;

    let start = Instant::now();
    let full = set(count);
    let mut batch = Batch::new();
    batch.add_iter(full.elems_iter(), MsgType::Add);
    let encoding = start.elapsed();
    commit(batch)?;
    let whole = start.elapsed();
    Ok((encoding.as_secs_f64(), whole.as_secs_f64()))
}

/// Sends all pages of a batch at once. nftnl's own way sends each by itself, which the kernel takes for several batches.
fn commit(batch: Batch) -> Result<()> {
    let finalized = batch.finalize();
    let bytes = finalized.iter().collect::<Vec<_>>().concat();
    let protocol = SockProtocol::NetlinkNetFilter;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    setsockopt(&socket, sockopt::SndBufForce, &(bytes.len() * 2)).context("a large send buffer takes root")?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    send(socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
    errors(&socket)
}

/// Reads all answers; the kernel has written them before the send returns.
///
/// # Errors
/// The first error among them.
fn errors(socket: &impl AsRawFd) -> Result<()> {
    const ERROR: u16 = 2;
    const HEADER: usize = 16;
    let mut buffer = vec![0; 1 << 16];
    // Ends with EAGAIN, when there is no more.
    while let Ok(length) = nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
        let answer = &buffer[..length];
        let kind = answer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
        if let (Some(ERROR), Some(code)) = (kind, answer.get(HEADER..HEADER + 4)) {
            let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
            anyhow::ensure!(code == 0, "libnftnl's batch: {}", std::io::Error::from_raw_os_error(-code));
        }
    }
    Ok(())
}
