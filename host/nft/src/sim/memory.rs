//! A data plane without a kernel, for tests and dry runs.

use crate::{CommitError, Dataplane, DumpError, Receipt, Ruleset, Transaction, apply, text};

/// Holds rules and applies transactions as the kernel would; packets go through with [`super::simulate`].
#[derive(Clone, Debug, Default)]
pub struct Memory {
    ruleset: Ruleset,
}

impl Memory {
    /// Starts with `ruleset` in place.
    #[must_use]
    pub fn new(ruleset: Ruleset) -> Self {
        Self { ruleset }
    }

    /// What it holds.
    #[must_use]
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }
}

impl Dataplane for Memory {
    /// The receipt counts operations as messages, and no bytes: nothing is encoded.
    fn commit(&mut self, transaction: &Transaction) -> Result<Receipt, CommitError> {
        // One at a time would leave half of it behind, so the operation at fault is looked for afterwards.
        if let Err(why) = apply(&mut self.ruleset, transaction) {
            let op = (1..=transaction.ops.len())
                .find(|ops| {
                    apply(&mut self.ruleset.clone(), &Transaction { ops: transaction.ops[..*ops].to_vec() }).is_err()
                })
                .map_or(0, |ops| ops - 1);
            let what = transaction.ops.get(op).map(text::op_shortened).unwrap_or_default();
            return Err(CommitError::Rejected { op, element: None, what, error: std::io::Error::other(why) });
        }
        Ok(Receipt { bytes: 0, messages: transaction.ops.len() })
    }

    fn dump(&mut self) -> Result<Ruleset, DumpError> {
        Ok(self.ruleset.clone())
    }

    /// Always: nobody else can reach it.
    fn is_untouched(&mut self) -> std::io::Result<bool> {
        Ok(true)
    }
}
