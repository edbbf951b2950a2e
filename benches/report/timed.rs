//! A data plane that notes what the kernel's part of a sync takes.

use std::time::{Duration, Instant};

use weir_netlink::{Kernel, encode};
use weir_nft::{CommitError, Dataplane, DumpError, Op, Receipt, Ruleset, Transaction};

/// The kernel, with a stop watch.
pub(crate) struct Timed {
    kernel: Kernel,
    /// Whether to encode everything once more to learn what that takes. It costs time that is not Weir's.
    pub(crate) apart: bool,
    /// Time in commits since it was last taken; with [`Timed::apart`] without encoding.
    pub(crate) commit: Duration,
    /// Time it takes to encode, where [`Timed::apart`].
    pub(crate) encode: Duration,
    /// What measuring that cost: not a part of any sync.
    pub(crate) overhead: Duration,
    /// Time in dumps.
    pub(crate) dump: Duration,
    /// Bytes that were sent.
    pub(crate) bytes: usize,
}

impl Timed {
    /// The kernel of this network namespace.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let zero = Duration::ZERO;
        let kernel = Kernel::open()?;
        Ok(Self { kernel, apart: false, commit: zero, encode: zero, overhead: zero, dump: zero, bytes: 0 })
    }

    /// The same without Weir's tables, all clocks at zero, and with [`Timed::apart`].
    ///
    /// # Errors
    /// When the tables cannot be removed.
    pub(crate) fn from_nothing() -> anyhow::Result<Self> {
        let mut dataplane = Self::open()?;
        remove_tables(&mut dataplane)?;
        dataplane.reset();
        dataplane.apart = true;
        Ok(dataplane)
    }

    /// Sets all clocks to zero.
    pub(crate) fn reset(&mut self) {
        (self.commit, self.encode, self.overhead, self.dump) = Default::default();
        self.bytes = 0;
    }
}

impl Dataplane for Timed {
    fn commit(&mut self, transaction: &Transaction) -> Result<Receipt, CommitError> {
        let mut encoding = Duration::ZERO;
        if self.apart {
            let start = Instant::now();
            drop(encode(transaction)?);
            encoding = start.elapsed();
            self.overhead += encoding;
            self.encode += encoding;
        }
        let start = Instant::now();
        let receipt = self.kernel.commit(transaction)?;
        self.commit += start.elapsed().saturating_sub(encoding);
        self.bytes += receipt.bytes;
        Ok(receipt)
    }

    fn dump(&mut self) -> Result<Ruleset, DumpError> {
        let start = Instant::now();
        let dumped = self.kernel.dump();
        self.dump += start.elapsed();
        dumped
    }

    fn is_untouched(&mut self) -> std::io::Result<bool> {
        self.kernel.is_untouched()
    }
}

/// Removes Weir's tables from the kernel of this network namespace.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn remove_tables(dataplane: &mut impl Dataplane) -> Result<(), CommitError> {
    let families = weir_model::Family::ALL.into_iter();
    let ops = families.flat_map(|family| [Op::AddTable(family), Op::DelTable(family)]).collect();
    dataplane.commit(&Transaction { ops }).map(drop)
}
