//! How much a policy may write into the log in one call.

/// Lines.
const LINES: u32 = 100;

/// Bytes of all lines together.
const BYTES: usize = 64 << 10;

/// What has been written of it.
#[derive(Debug, Default)]
pub(crate) struct LogBudget {
    lines: u32,
    bytes: usize,
}

impl LogBudget {
    /// Whether a line of so many bytes may be written; then it counts.
    pub(crate) fn allows(&mut self, bytes: usize) -> bool {
        let allowed = self.lines < LINES && self.bytes + bytes <= BYTES;
        if allowed {
            self.lines += 1;
            self.bytes += bytes;
        }
        allowed
    }
}
