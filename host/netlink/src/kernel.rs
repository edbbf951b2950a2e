//! The data plane of a real node.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use weir_model::Family;
use weir_nft::{CommitError, Dataplane, DumpError, Op, Receipt, Ruleset, TABLE, Transaction};

use crate::batch::Batch;
use crate::bytecode::family_name;
use crate::channel::Channel;
use crate::describe::describe;
use crate::dump::{dump, table_state};
use crate::ffi;
use crate::outcome::{Frame, Outcome, judge};
use crate::wire::{self, flag, kind};

/// `NFT_TABLE_F_OWNER`: only the socket that owns the table can change it.
const OWNER: u32 = 2;
/// `NFT_TABLE_F_PERSIST`: the table outlives its owner, and the next one can adopt it.
const PERSIST: u32 = 4;
/// A receive buffer for some ten thousand error frames.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How to talk to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether to own the tables where the kernel can (6.9 and later), so that nobody else can change or
    /// flush them while the [`Kernel`] lives.
    pub own_tables: bool,
    /// Bytes of the socket's receive buffer. Too small a one costs detail in error messages.
    pub receive_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { own_tables: true, receive_buffer: RECEIVE_BUFFER }
    }
}

/// Why there is no data plane.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No netlink socket could be had.
    #[error("cannot open a netlink socket to netfilter: {0}")]
    Socket(io::Error),
    /// This process may not read or write rules.
    #[error("programming nftables needs CAP_NET_ADMIN in the network namespace: run as root or grant the capability")]
    Permission,
    /// The kernel does not answer as nf_tables does.
    #[error("the kernel has no nf_tables (module nf_tables, CONFIG_NF_TABLES): {0}")]
    Unsupported(io::Error),
}

/// nf_tables of the network namespace the process was in when it was opened.
///
/// It keeps one socket for its life. Tables it creates or adopts belong to that socket (see
/// [`Options::own_tables`]); when it is dropped they stay, without an owner.
pub struct Kernel {
    channel: Channel,
    options: Options,
    /// Whether the kernel knows ownership that persists; found out when first needed.
    ownership: Option<bool>,
    /// The generation of all rules at the last [`Dataplane::is_untouched`], and how often this one committed since:
    /// each commit that changes something, by anybody, raises the generation by one.
    seen: Option<(u32, u32)>,
}

impl Kernel {
    /// Opens it with the default [`Options`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open() -> Result<Self, OpenError> {
        Self::open_with(Options::default())
    }

    /// Opens it. Nothing is changed in the kernel, and a table that somebody else owns can still be read.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with(options: Options) -> Result<Self, OpenError> {
        let mut channel = Channel::open(options.receive_buffer).map_err(OpenError::Socket)?;
        channel.generation().map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => OpenError::Permission,
            _ => OpenError::Unsupported(error),
        })?;
        Ok(Self { channel, options, ownership: None, seen: None })
    }

    /// The number of the present state of all rules in the network namespace. Every commit, by anybody to any
    /// table, raises it.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn generation(&mut self) -> io::Result<u32> {
        self.channel.generation()
    }

    /// The flags for each table that `transaction` adds. The kernel refuses to change them on a table that is
    /// there, so they follow what is.
    fn table_flags(&mut self, transaction: &Transaction) -> io::Result<BTreeMap<Family, u32>> {
        let mut flags = BTreeMap::new();
        let mut removed = BTreeSet::new();
        for op in &transaction.ops {
            match op {
                Op::DelTable(family) => {
                    removed.insert(*family);
                }
                Op::AddTable(family) => {
                    let present =
                        if removed.contains(family) { None } else { table_state(&mut self.channel, *family)? };
                    let own = self.options.own_tables
                        && match present {
                            Some(state) => state.flags & PERSIST != 0,
                            None => self.knows_ownership()?,
                        };
                    flags.insert(
                        *family,
                        if own { OWNER | PERSIST } else { present.map_or(0, |state| state.flags & PERSIST) },
                    );
                }
                _ => {}
            }
        }
        Ok(flags)
    }

    /// Asks by adding an owned table in a batch without an end, which the kernel checks and then drops.
    fn knows_ownership(&mut self) -> io::Result<bool> {
        if let Some(known) = self.ownership {
            return Ok(known);
        }
        let begin = self.channel.reserve(2);
        let mut bytes = Vec::new();
        let start = wire::start_message(&mut bytes, kind::BATCH_BEGIN, 0, begin, 0, wire::SUBSYSTEM);
        wire::finish_message(&mut bytes, start).map_err(io::Error::other)?;
        let probe = ffi::Table::new(c"weir-ownership-probe", Family::V4, OWNER | PERSIST);
        let sequence = begin.wrapping_add(1);
        ffi::Scratch::new().append(&probe, nftnl::MsgType::Add, flag::CREATE | flag::ACK, sequence, &mut bytes);
        let outcome = judge(begin, 1, &self.channel.transact(&bytes)?);
        let known = outcome == Outcome::Applied;
        tracing::debug!(known, ?outcome, "asked the kernel for owned tables");
        self.ownership = Some(known);
        Ok(known)
    }

    /// The error about one message of `batch`.
    fn rejected(&mut self, transaction: &Transaction, batch: &Batch, frame: &Frame) -> CommitError {
        let located = batch.locate(frame.sequence, frame.offset);
        let (op, element) = located.expect("an outcome names only messages of its batch");
        if let Some(text) = &frame.text {
            tracing::debug!(op, text, "the kernel explains");
        }
        let mut error = io::Error::from_raw_os_error(frame.errno);
        let operation = &transaction.ops[op];
        let family = operation_family(operation);
        if frame.errno == libc::EPERM
            && let Some(owner) = self.other_owner(family)
        {
            let text = format!(
                "another process (netlink port {owner}) owns table {} {TABLE}: is a second Weir running?",
                family_name(family)
            );
            error = io::Error::new(io::ErrorKind::PermissionDenied, text);
        }
        CommitError::Rejected { op, element, what: describe(operation, element), error }
    }

    /// The owner of Weir's table of `family`, if that is somebody else.
    fn other_owner(&mut self, family: Family) -> Option<u32> {
        let owner = table_state(&mut self.channel, family).ok()??.owner?;
        (owner != self.channel.port()).then_some(owner)
    }
}

/// The bytes of the batch that would carry `transaction` to the kernel, begin and end included: what encoding comes to
/// when nothing is sent. Tables are added without flags.
///
/// # Errors
/// [`CommitError::Encode`], with the operation that has no encoding.
pub fn encode(transaction: &Transaction) -> Result<Vec<u8>, CommitError> {
    Ok(Batch::encode(transaction, 0, &BTreeMap::new())?.into_bytes())
}

impl Dataplane for Kernel {
    fn commit(&mut self, transaction: &Transaction) -> Result<Receipt, CommitError> {
        let nothing = Receipt { bytes: 0, messages: 0 };
        if transaction.is_empty() {
            return Ok(nothing);
        }
        let flags = self.table_flags(transaction).map_err(CommitError::Send)?;
        let batch = Batch::encode(transaction, self.channel.reserve(0), &flags)?;
        if batch.messages() == 0 {
            return Ok(nothing);
        }
        let messages = u32::try_from(batch.messages()).expect("4 billion messages do not fit into memory");
        self.channel.reserve(messages.saturating_add(2));
        let answers = self.channel.transact(batch.bytes()).map_err(CommitError::Send)?;
        match judge(batch.begin(), messages, &answers) {
            Outcome::Applied => {
                // A table that is there already is no change.
                let changes = transaction.ops.iter().any(|op| !matches!(op, Op::AddTable(_)));
                if let (Some((_, commits)), true) = (&mut self.seen, changes) {
                    *commits = commits.wrapping_add(1);
                }
                Ok(Receipt { bytes: batch.bytes().len(), messages: batch.messages() })
            }
            Outcome::Rejected(frame) => Err(self.rejected(transaction, &batch, &frame)),
            Outcome::Refused(frame) => Err(CommitError::Refused(io::Error::from_raw_os_error(frame.errno))),
            Outcome::Unknown(why) => Err(CommitError::Unknown(why)),
        }
    }

    fn dump(&mut self) -> Result<Ruleset, DumpError> {
        dump(&mut self.channel)
    }

    /// Either nobody committed anything to any table since the last call, or both tables are this socket's own, so
    /// that nobody could have changed them.
    fn is_untouched(&mut self) -> io::Result<bool> {
        let generation = self.channel.generation()?;
        let before = self.seen.replace((generation, 0));
        if before.is_some_and(|(seen, commits)| seen.wrapping_add(commits) == generation) {
            return Ok(true);
        }
        for family in Family::ALL {
            let state = table_state(&mut self.channel, family)?;
            if state.and_then(|table| table.owner) != Some(self.channel.port()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn operation_family(op: &Op) -> Family {
    match op {
        Op::AddTable(family)
        | Op::DelTable(family)
        | Op::AddChain(family, ..)
        | Op::FlushChain(family, ..)
        | Op::DelChain(family, ..)
        | Op::AddRule(family, ..)
        | Op::AddSet(family, ..)
        | Op::DelSet(family, ..)
        | Op::AddElements(family, ..)
        | Op::DelElements(family, ..)
        | Op::AddVerdicts(family, ..)
        | Op::DelVerdicts(family, ..) => *family,
    }
}
