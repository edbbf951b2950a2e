//! The seam to the kernel: what a data plane can do, and how it can fail.

use crate::{Ruleset, Transaction};

/// Proof that a transaction took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Bytes that were sent.
    pub bytes: usize,
    /// Netlink messages that were sent, the batch's begin and end not counted.
    pub messages: usize,
}

/// Why a transaction did not take effect, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The kernel refused one operation; nothing was applied.
    #[error("the kernel refused operation {op} ({what}): {error}")]
    Rejected {
        /// Position in [`Transaction::ops`].
        op: usize,
        /// The element within that operation, where the kernel told.
        element: Option<usize>,
        /// The operation in nft syntax, shortened.
        what: String,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// The kernel refused the batch as a whole; nothing was applied.
    #[error("the kernel refused the whole batch: {0}")]
    Refused(std::io::Error),
    /// The answer was lost: it may have been applied or not. Dump, and compare.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The batch could not be sent; nothing was applied.
    #[error("cannot send the batch: {0}")]
    Send(std::io::Error),
    /// A name or key does not fit into its netlink attribute; nothing was sent.
    #[error("cannot encode operation {op}: {why}")]
    Encode {
        /// Position in [`Transaction::ops`].
        op: usize,
        /// What does not fit.
        why: String,
    },
}

/// Why the present ruleset could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The request failed.
    #[error("cannot read the ruleset: {0}")]
    Io(std::io::Error),
    /// The table holds something Weir never writes; `what` says which object.
    #[error("the kernel's table holds something Weir did not write: {what}")]
    Foreign {
        /// The object.
        what: String,
    },
    /// It kept changing under the dump.
    #[error("the ruleset changed while it was read, {0} times in a row")]
    Unstable(u32),
}

/// Something that holds rules: the kernel, or the simulator in its place.
pub trait Dataplane {
    /// Applies `transaction`, all or nothing. An empty one is not sent.
    ///
    /// # Errors
    /// See [`CommitError`].
    fn commit(&mut self, transaction: &Transaction) -> Result<Receipt, CommitError>;

    /// Reads Weir's tables; a family without one is absent from the result. Elements of dynamic sets are left out.
    ///
    /// # Errors
    /// See [`DumpError`].
    fn dump(&mut self) -> Result<Ruleset, DumpError>;

    /// Whether what was committed last is sure to be there still. Cheap, whatever the number of rules; `false` says
    /// that only a dump can tell.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn is_untouched(&mut self) -> std::io::Result<bool>;
}
