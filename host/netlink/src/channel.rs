//! Requests and answers on one socket: sequence numbers, dumps, and the drain after a batch.

use std::io;

use crate::outcome::{Answers, Frame};
use crate::socket::Socket;
use crate::wire::{self, Message, Messages, flag, kind};

/// A conversation with nf_tables.
pub(crate) struct Channel {
    socket: Socket,
    sequence: u32,
}

impl Channel {
    /// Starts one; see [`Socket::open`].
    pub(crate) fn open(receive_buffer: usize) -> io::Result<Self> {
        Ok(Self { socket: Socket::open(receive_buffer)?, sequence: 1 })
    }

    /// See [`Socket::port`].
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Takes `count` sequence numbers and returns the first.
    pub(crate) fn reserve(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        self.sequence = first.wrapping_add(count);
        first
    }

    /// Sends a request about `family` (`NFPROTO_*`) with text attributes and hands every message of the
    /// answer to `each`.
    ///
    /// # Errors
    /// What the kernel or the socket says; `ENOBUFS` when part of the answer was lost.
    pub(crate) fn ask(
        &mut self,
        request: u16,
        flags: u16,
        family: u8,
        attributes: &[(u16, &str)],
        each: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (kind, text) in attributes {
            wire::put_text(&mut bytes, *kind, text).map_err(io::Error::other)?;
        }
        // Who reads rules compares generation numbers, which says more than the flag does.
        self.converse(request, flags, family, &bytes, each).map(drop)
    }

    /// Sends a request about `family` with `attributes` as they go on the wire, and hands every message of the answer
    /// to `each`. Returns whether the kernel marked the answer as inconsistent: what it lists changed meanwhile.
    ///
    /// # Errors
    /// As [`Channel::ask`].
    pub(crate) fn converse(
        &mut self,
        request: u16,
        flags: u16,
        family: u8,
        attributes: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> io::Result<bool> {
        let sequence = self.reserve(1);
        let mut bytes = Vec::new();
        wire::start_message(&mut bytes, request, flags, sequence, family, 0);
        bytes.extend_from_slice(attributes);
        wire::finish_message(&mut bytes, 0).map_err(io::Error::other)?;
        self.socket.send(&bytes)?;
        let (mut lost, mut inconsistent) = (None, false);
        // Read to the end even after a loss: an unfinished dump blocks the next one.
        loop {
            let datagram = match self.socket.receive(true) {
                Ok(datagram) => datagram.unwrap_or_default(),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    lost = Some(error);
                    continue;
                }
                Err(error) => return Err(lost.unwrap_or(error)),
            };
            for message in Messages(datagram).filter(|message| message.sequence == sequence) {
                inconsistent |= message.flags & flag::INCONSISTENT != 0;
                match message.kind {
                    kind::ERROR | kind::DONE => {
                        let errno = Frame::read(&message).map_or(0, |frame| frame.errno);
                        return match (errno, lost) {
                            (0, None) => Ok(inconsistent),
                            (0, Some(lost)) => Err(lost),
                            (errno, _) => Err(io::Error::from_raw_os_error(errno)),
                        };
                    }
                    _ => each(message),
                }
            }
        }
    }

    /// The number of the ruleset's present state; every commit by anybody raises it.
    pub(crate) fn generation(&mut self) -> io::Result<u32> {
        const ID: u16 = 1;
        let mut generation = None;
        self.ask(kind::GET_GENERATION, flag::ACK, 0, &[], |message| {
            generation = message.attributes().get(ID).and_then(wire::Attribute::u32);
        })?;
        generation.ok_or_else(|| io::Error::other("the kernel answered without a generation number"))
    }

    /// Sends a batch and reads all that the kernel has to say about it, without waiting: the kernel works on
    /// a batch inside the send call.
    ///
    /// # Errors
    /// When it could not be sent.
    pub(crate) fn transact(&mut self, bytes: &[u8]) -> io::Result<Answers> {
        self.socket.send(bytes)?;
        let mut answers = Answers::default();
        loop {
            match self.socket.receive(false) {
                Ok(Some(datagram)) => {
                    answers.frames.extend(Messages(datagram).filter_map(|message| Frame::read(&message)));
                }
                Ok(None) => return Ok(answers),
                Err(error) => {
                    let overflow = error.raw_os_error() == Some(libc::ENOBUFS);
                    answers.lost = Some(error);
                    // An overflow is reported once, before the frames that did fit.
                    if !overflow {
                        return Ok(answers);
                    }
                }
            }
        }
    }
}
