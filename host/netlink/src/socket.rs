//! The netlink socket: mnl's, with the options and reads its safe API lacks.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use libc::{c_int, c_ushort, c_void};

/// How long a read waits for an answer the kernel owes us; it normally lies there already.
const ANSWER_SECONDS: i64 = 10;
/// Larger than any datagram of a dump (32 KiB) and than any error frame.
const DATAGRAM: usize = 1 << 16;
/// What the kernel keeps of the send buffer for itself, with room to spare.
const SEND_OVERHEAD: usize = 4096;

/// A socket bound to netfilter's netlink bus. Closes on drop, which releases table ownership.
pub(crate) struct Socket {
    socket: mnl::Socket,
    send_buffer: usize,
    datagram: Vec<u64>,
}

// SAFETY: `mnl::Socket` owns a heap object of a file descriptor and an address, tied to no thread; `&mut self`
// guards every use.
unsafe impl Send for Socket {}

impl Socket {
    /// Opens one whose receive buffer holds `receive_buffer` bytes, or as many as the system allows.
    pub(crate) fn open(receive_buffer: usize) -> io::Result<Self> {
        let mut this = Self {
            socket: mnl::Socket::new(mnl::Bus::Netfilter)?,
            send_buffer: 0,
            datagram: vec![0; DATAGRAM / size_of::<u64>()],
        };
        // Errors come without the rejected message, which may be 64 KiB, and with the offset in it.
        this.set(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
        this.set(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
        this.set_buffer(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, receive_buffer)?;
        this.set_timeout(ANSWER_SECONDS)?;
        this.send_buffer = this.get(libc::SO_SNDBUF)?;
        Ok(this)
    }

    /// The socket's netlink address; what the kernel knows a table's owner by.
    pub(crate) fn port(&self) -> u32 {
        self.socket.portid()
    }

    /// Takes out datagrams that `program` drops before they need room or wake anybody. See socket(7), SO_ATTACH_FILTER.
    pub(crate) fn filter(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        let len = c_ushort::try_from(program.len()).map_err(io::Error::other)?;
        // The kernel copies the program in the call; it never writes to it.
        let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
        self.set_option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// Subscribes to a multicast group. Whoever reads the socket then reads what the kernel sends to all of the group.
    pub(crate) fn join(&self, group: c_int) -> io::Result<()> {
        self.set(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Waits at most `patience` for a datagram, which stays there, or for an error, and returns whether one came.
    ///
    /// # Errors
    /// What poll(2) says.
    pub(crate) fn wait(&self, patience: Duration) -> io::Result<bool> {
        let milliseconds = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: `poll` is one descriptor, as the second argument says, and lives through the call.
        match unsafe { libc::poll(&raw mut poll, 1, milliseconds) } {
            0 => Ok(false),
            1.. => Ok(true),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Sends `bytes` by one system call, after growing the send buffer as needed. The kernel has worked on
    /// them when this returns.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let needed = bytes.len().saturating_add(SEND_OVERHEAD);
        if needed > self.send_buffer {
            self.set_buffer(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, needed)?;
            self.send_buffer = self.get(libc::SO_SNDBUF)?;
        }
        if needed > self.send_buffer {
            return Err(io::Error::other(format!(
                "a batch of {} bytes does not fit into the socket's send buffer of {}; raise net.core.wmem_max to {needed} or grant \
                 CAP_NET_ADMIN in the user namespace that owns the network namespace",
                bytes.len(),
                self.send_buffer,
            )));
        }
        let sent = self.socket.send(bytes)?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::Error::other(format!("only {sent} of {} bytes were taken", bytes.len())))
        }
    }

    /// The next datagram, if there is one: with `wait`, one must come within seconds.
    ///
    /// # Errors
    /// `ENOBUFS` when datagrams were lost; `TimedOut` when none came.
    pub(crate) fn receive(&mut self, wait: bool) -> io::Result<Option<&[u8]>> {
        let flags = libc::MSG_TRUNC | if wait { 0 } else { libc::MSG_DONTWAIT };
        let room = self.datagram.len() * size_of::<u64>();
        let buffer: *mut u64 = self.datagram.as_mut_ptr();
        let len = loop {
            // SAFETY: the buffer is ours, writable and `room` bytes long.
            let len = unsafe { libc::recv(self.socket.as_raw_fd(), buffer.cast::<c_void>(), room, flags) };
            if let Ok(len) = usize::try_from(len) {
                break len;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock if wait => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("the kernel gave no answer in {ANSWER_SECONDS} s"),
                    ));
                }
                io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(error),
            }
        };
        if len > room {
            return Err(io::Error::other(format!("the kernel sent {len} bytes at once; {room} were expected at most")));
        }
        // SAFETY: the same allocation, whose bytes were all initialised when it was made; `len <= room`.
        Ok(Some(unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), len) }))
    }

    /// Sets a buffer size beyond the system's limit, or up to it without the privilege.
    fn set_buffer(&self, force: c_int, plain: c_int, bytes: usize) -> io::Result<()> {
        let size = c_int::try_from(bytes)
            .map_err(|_| io::Error::other(format!("a buffer of {bytes} bytes is more than a socket can have")))?;
        match self.set(libc::SOL_SOCKET, force, size) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => self.set(libc::SOL_SOCKET, plain, size),
            other => other,
        }
    }

    fn set(&self, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
        self.set_option(level, option, &value)
    }

    fn set_timeout(&self, seconds: i64) -> io::Result<()> {
        let value = libc::timeval { tv_sec: seconds, tv_usec: 0 };
        self.set_option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &value)
    }

    /// `T` must be the plain C type of the option; what it points to, if anything, must live through the call.
    fn set_option<T: Copy>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        let len = libc::socklen_t::try_from(size_of::<T>()).expect("options are a few bytes");
        let value: *const T = value;
        // SAFETY: the pointer and length describe `value`, which lives through the call, and so does what it points to.
        let result = unsafe { libc::setsockopt(self.socket.as_raw_fd(), level, option, value.cast::<c_void>(), len) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn get(&self, option: c_int) -> io::Result<usize> {
        let mut value: c_int = 0;
        let mut len = libc::socklen_t::try_from(size_of::<c_int>()).expect("4");
        let target: *mut c_int = &raw mut value;
        // SAFETY: the pointers are to locals that live through the call, and `len` is the value's size.
        let result = unsafe {
            libc::getsockopt(self.socket.as_raw_fd(), libc::SOL_SOCKET, option, target.cast::<c_void>(), &raw mut len)
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        usize::try_from(value).map_err(|_| io::Error::other("the kernel reported a negative buffer size"))
    }
}
