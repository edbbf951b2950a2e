//! What the answer to a batch means.

use std::io;

use crate::wire::{Attribute, Attributes, HEADER, Message, align, flag, kind, native_u32};

/// One frame about one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The message's sequence number.
    pub sequence: u32,
    /// The error number; 0 acknowledges.
    pub errno: i32,
    /// Byte of the message the error is about, where the kernel told.
    pub offset: Option<usize>,
    /// The kernel's words, where it has some.
    pub text: Option<String>,
}

impl Frame {
    /// The frame in `message`; `None` when it is not an error, an acknowledgement or the end of a dump.
    pub(crate) fn read(message: &Message<'_>) -> Option<Self> {
        // NLMSGERR_ATTR_MSG, NLMSGERR_ATTR_OFFS.
        const TEXT: u16 = 1;
        const OFFSET: u16 = 2;
        if !matches!(message.kind, kind::ERROR | kind::DONE) {
            return None;
        }
        let errno = message.payload.first_chunk().map_or(0, |errno| i32::from_ne_bytes(*errno).saturating_neg());
        let mut frame = Self { sequence: message.sequence, errno, offset: None, text: None };
        if message.kind == kind::ERROR && message.flags & flag::ACK_TLVS != 0 {
            let quoted = if message.flags & flag::CAPPED != 0 {
                HEADER
            } else {
                usize::try_from(message.payload.get(4..8).and_then(native_u32)?).ok()?
            };
            let attributes = Attributes(message.payload.get(4 + align(quoted)..).unwrap_or_default());
            frame.offset = attributes.get(OFFSET).and_then(|at| usize::try_from(native_u32(at.payload)?).ok());
            frame.text = attributes.get(TEXT).and_then(Attribute::text).map(str::to_owned);
        }
        Some(frame)
    }
}

/// All that came back about a batch.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// The frames, in order.
    pub frames: Vec<Frame>,
    /// Why some are missing, if they are.
    pub lost: Option<io::Error>,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It took effect.
    Applied,
    /// The kernel refused one message; nothing took effect.
    Rejected(Frame),
    /// The kernel refused it as a whole; nothing took effect.
    Refused(Frame),
    /// It took effect or not.
    Unknown(String),
}

/// Judges the answers to a batch that began with sequence number `begin` and holds `messages` messages,
/// numbered from `begin + 1`, the last of which asked for an acknowledgement. Frames of others are ignored.
///
/// An acknowledgement alone proves nothing, because the kernel acknowledges before it commits; but a failing
/// commit is reported on the batch's first header, so together with the absence of errors it does.
pub(crate) fn judge(begin: u32, messages: u32, answers: &Answers) -> Outcome {
    let position = |frame: &Frame| frame.sequence.wrapping_sub(begin);
    let ours = || answers.frames.iter().filter(|frame| position(frame) <= messages + 1);
    let errors = || ours().filter(|frame| frame.errno != 0);
    let whole = |frame: &&Frame| position(frame) == 0 || position(frame) == messages + 1;
    if let Some(frame) = errors().filter(|frame| !whole(frame)).min_by_key(|frame| position(frame)) {
        return Outcome::Rejected(frame.clone());
    }
    if let Some(frame) = errors().find(whole) {
        return Outcome::Refused(frame.clone());
    }
    if let Some(lost) = &answers.lost {
        return Outcome::Unknown(format!("part of the kernel's answer was lost ({lost})"));
    }
    if !ours().any(|frame| position(frame) == messages) {
        return Outcome::Unknown("the kernel did not acknowledge the last operation".to_owned());
    }
    Outcome::Applied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u32, errno: i32) -> Frame {
        Frame { sequence, errno, offset: None, text: None }
    }

    fn answers(frames: Vec<Frame>, lost: bool) -> Answers {
        Answers { frames, lost: lost.then(|| io::Error::from_raw_os_error(libc::ENOBUFS)) }
    }

    #[test]
    fn an_acknowledged_last_message_without_errors_is_applied() {
        assert_eq!(judge(10, 3, &answers(vec![frame(13, 0)], false)), Outcome::Applied);
    }

    #[test]
    fn the_first_failing_operation_is_named_whatever_the_order_of_frames() {
        let seen = answers(
            vec![frame(10, libc::EINVAL), frame(13, libc::ENOENT), frame(12, libc::EEXIST), frame(13, 0)],
            false,
        );
        assert_eq!(judge(10, 3, &seen), Outcome::Rejected(frame(12, libc::EEXIST)));
    }

    #[test]
    fn an_error_on_the_first_header_refuses_the_batch() {
        let seen = answers(vec![frame(13, 0), frame(10, libc::ELOOP)], false);
        assert_eq!(judge(10, 3, &seen), Outcome::Refused(frame(10, libc::ELOOP)));
    }

    #[test]
    fn a_lost_answer_is_unknown_unless_an_error_came_through() {
        assert!(matches!(judge(10, 3, &answers(vec![frame(13, 0)], true)), Outcome::Unknown(_)));
        assert!(matches!(judge(10, 3, &answers(vec![], false)), Outcome::Unknown(_)));
        assert_eq!(
            judge(10, 3, &answers(vec![frame(11, libc::EPERM)], true)),
            Outcome::Rejected(frame(11, libc::EPERM))
        );
    }

    #[test]
    fn frames_of_an_earlier_batch_do_not_count() {
        let seen = answers(vec![frame(9, libc::EINVAL), frame(4, 0)], false);
        assert!(matches!(judge(10, 3, &seen), Outcome::Unknown(_)));
    }

    #[test]
    fn sequence_numbers_may_wrap() {
        assert_eq!(judge(u32::MAX - 1, 3, &answers(vec![frame(1, 0)], false)), Outcome::Applied);
    }
}
