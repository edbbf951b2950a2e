//! A transaction as one netlink batch in one buffer, and the way back from a message to its operation.

use std::collections::BTreeMap;
use std::ffi::CString;

use nftnl::{Chain, MsgType, Rule, Table};
use weir_model::Family;
use weir_nft::{BaseChain, CommitError, Elements, Hook, Op, SetName, TABLE, Transaction};

use crate::assemble::assemble;
use crate::bytecode::{Expr, Verdict};
use crate::elements::{self, Target};
use crate::ffi::{self, Scratch, proto_family};
use crate::schema::Schema;
use crate::wire::{self, flag, kind};

/// Most bytes of a name (`NFT_NAME_MAXLEN`, which counts the byte that ends it).
const NAME_MAX: usize = 255;

/// One message of a batch.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// The operation it belongs to.
    op: usize,
    /// Position in that operation of its first element.
    first_element: usize,
    /// Where it begins in the buffer.
    start: usize,
}

/// An encoded transaction.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    begin: u32,
    messages: Vec<Sent>,
}

impl Batch {
    /// Encodes `transaction`. The batch's begin gets sequence number `begin`, its messages those after it.
    /// `table_flags` are for tables it adds.
    ///
    /// # Errors
    /// [`CommitError::Encode`], with the operation that has no encoding.
    pub(crate) fn encode(
        transaction: &Transaction,
        begin: u32,
        table_flags: &BTreeMap<Family, u32>,
    ) -> Result<Self, CommitError> {
        let batch = Self { bytes: Vec::with_capacity(estimate(transaction)), begin, messages: Vec::new() };
        let table = CString::new(TABLE).map_err(|error| CommitError::Encode { op: 0, why: error.to_string() })?;
        let mut encoder = Encoder { batch, scratch: None, table, table_flags, op: 0 };
        let put_frame = |encoder: &mut Encoder<'_>, kind, sequence| {
            let bytes = &mut encoder.batch.bytes;
            let start = wire::start_message(bytes, kind, 0, sequence, 0, wire::SUBSYSTEM);
            wire::finish_message(bytes, start)
        };
        let encoded = put_frame(&mut encoder, kind::BATCH_BEGIN, begin)
            .and_then(|()| {
                transaction.ops.iter().enumerate().try_for_each(|(position, op)| {
                    encoder.op = position;
                    encoder.op(op)
                })
            })
            .and_then(|()| {
                encoder.batch.acknowledge_last();
                let end = encoder.next_sequence();
                put_frame(&mut encoder, kind::BATCH_END, end)
            });
        match encoded {
            Ok(()) => Ok(encoder.batch),
            Err(why) => Err(CommitError::Encode { op: encoder.op, why }),
        }
    }

    /// The whole buffer.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole buffer, taken out.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Sequence number of its begin.
    pub(crate) fn begin(&self) -> u32 {
        self.begin
    }

    /// Messages between begin and end.
    pub(crate) fn messages(&self) -> usize {
        self.messages.len()
    }

    /// The operation the message with that sequence number belongs to, and the element byte `offset` of the
    /// message belongs to.
    pub(crate) fn locate(&self, sequence: u32, offset: Option<usize>) -> Option<(usize, Option<usize>)> {
        let position = usize::try_from(sequence.wrapping_sub(self.begin).checked_sub(1)?).ok()?;
        let sent = self.messages.get(position)?;
        let message = &self.bytes[sent.start..];
        let len = usize::try_from(wire::native_u32(message.get(..4)?)?).ok()?;
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        let element = if matches!(kind, kind::NEW_ELEMENTS | kind::DEL_ELEMENTS) {
            offset.and_then(|offset| elements::element_at(&message[..len], offset)).map(|at| sent.first_element + at)
        } else {
            None
        };
        Some((sent.op, element))
    }

    fn acknowledge_last(&mut self) {
        if let Some(last) = self.messages.last() {
            let flags = &mut self.bytes[last.start + 6..last.start + 8];
            let acknowledged = u16::from_ne_bytes([flags[0], flags[1]]) | flag::ACK;
            flags.copy_from_slice(&acknowledged.to_ne_bytes());
        }
    }
}

/// About how many bytes the batch takes, so that a large one is not copied while it grows.
fn estimate(transaction: &Transaction) -> usize {
    transaction
        .ops
        .iter()
        .map(|op| match op {
            Op::AddElements(_, _, list) => list.len() * (list.key_len() + list.data_len() + 20),
            Op::DelElements(_, _, list) => list.len() * (list.key_len() + 12),
            _ => 512,
        })
        .sum::<usize>()
        + 4096
}

struct Encoder<'a> {
    batch: Batch,
    /// Made when first needed: transactions of elements alone, the frequent ones, do without.
    scratch: Option<Scratch>,
    table: CString,
    table_flags: &'a BTreeMap<Family, u32>,
    op: usize,
}

impl Encoder<'_> {
    fn op(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::AddTable(family) => {
                let flags = self.table_flags.get(family).copied().unwrap_or(0);
                let table = ffi::Table::new(&self.table, *family, flags);
                self.object(&table, MsgType::Add, flag::CREATE);
                Ok(())
            }
            Op::DelTable(family) => {
                let table = Table::new(&self.table, proto_family(*family));
                self.object(&table, MsgType::Del, 0);
                Ok(())
            }
            Op::AddChain(family, name, base) => self.chain(*family, name, |encoder, chain| {
                if let Some(base) = base {
                    hang(chain, *base);
                }
                encoder.object(&*chain, MsgType::Add, flag::CREATE);
                Ok(())
            }),
            Op::DelChain(family, name) => self.chain(*family, name, |encoder, chain| {
                encoder.object(&*chain, MsgType::Del, 0);
                Ok(())
            }),
            // The deletion of a rule without a handle is the deletion of all in the chain.
            Op::FlushChain(family, name) => self.chain(*family, name, |encoder, chain| {
                encoder.object(&Rule::new(chain), MsgType::Del, 0);
                Ok(())
            }),
            Op::AddRule(family, name, rule) => {
                let code = assemble(rule, *family)?;
                self.chain(*family, name, |encoder, chain| encoder.rule(chain, &code, &rule.comment))
            }
            Op::AddSet(family, set, size) => {
                let id = u32::try_from(self.batch.messages.len() + 1).map_err(|_| "too many messages".to_owned())?;
                let name = c_name(set.name())?;
                let set = ffi::Set::declared(&self.table, &name, *family, &Schema::of(*set, *family), *size, id);
                self.object(&set, MsgType::Add, flag::CREATE);
                Ok(())
            }
            Op::DelSet(family, set) => {
                let set = ffi::Set::named(&self.table, &c_name(set.name())?, *family);
                self.object(&set, MsgType::Del, 0);
                Ok(())
            }
            Op::AddElements(family, set, list) => self.flat(*family, *set, kind::NEW_ELEMENTS, list),
            Op::DelElements(family, set, list) => self.flat(*family, *set, kind::DEL_ELEMENTS, list),
            Op::AddVerdicts(family, set, list) => {
                for chain in list.values() {
                    c_name(chain)?;
                }
                let list: Vec<_> = list.iter().map(|(number, chain)| (*number, Some(chain.as_str()))).collect();
                self.verdicts(*family, *set, kind::NEW_ELEMENTS, &list)
            }
            Op::DelVerdicts(family, set, list) => {
                let list: Vec<_> = list.iter().map(|number| (*number, None)).collect();
                self.verdicts(*family, *set, kind::DEL_ELEMENTS, &list)
            }
        }
    }

    /// Messages are numbered through from the batch's begin.
    fn next_sequence(&self) -> u32 {
        let position = u32::try_from(self.batch.messages.len()).expect("4 billion messages do not fit into memory");
        self.batch.begin.wrapping_add(position).wrapping_add(1)
    }

    fn sent(&mut self, first_element: usize, start: usize) {
        self.batch.messages.push(Sent { op: self.op, first_element, start });
    }

    fn object(&mut self, object: &impl nftnl::NlMsg, kind: MsgType, flags: u16) {
        let (start, sequence) = (self.batch.bytes.len(), self.next_sequence());
        self.scratch.get_or_insert_with(Scratch::new).append(object, kind, flags, sequence, &mut self.batch.bytes);
        self.sent(0, start);
    }

    fn chain(
        &mut self,
        family: Family,
        name: &str,
        then: impl FnOnce(&mut Self, &mut Chain<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let table = Table::new(&self.table, proto_family(family));
        let mut chain = Chain::new(c_name(name)?, &table);
        then(self, &mut chain)
    }

    fn rule(&mut self, chain: &Chain<'_>, code: &[Expr], comment: &str) -> Result<(), String> {
        let mut rule = Rule::new(chain);
        for expression in code {
            if let Expr::Verdict(Verdict::Jump(target) | Verdict::Goto(target)) = expression {
                c_name(target)?;
            }
            rule.add_expr(expression);
        }
        if !comment.is_empty() {
            let text = CString::new(comment).map_err(|_| format!("comment {comment:?} contains a zero byte"))?;
            rule.set_comment(text).map_err(|why| format!("comment {comment:?}: {why}"))?;
        }
        self.object(&rule, MsgType::Add, flag::CREATE | flag::APPEND);
        Ok(())
    }

    /// No message for no elements: a deletion that names none would empty the set.
    fn flat(&mut self, family: Family, set: SetName, kind: u16, list: &Elements) -> Result<(), String> {
        let target = Target { family, set, kind };
        let mut first = 0;
        while first < list.len() {
            let (start, sequence) = (self.batch.bytes.len(), self.next_sequence());
            let count = elements::put_flat(&mut self.batch.bytes, target, sequence, list, first)?;
            self.sent(first, start);
            first += count;
        }
        Ok(())
    }

    fn verdicts(
        &mut self,
        family: Family,
        set: SetName,
        kind: u16,
        list: &[(u32, Option<&str>)],
    ) -> Result<(), String> {
        let target = Target { family, set, kind };
        let mut first = 0;
        while first < list.len() {
            let (start, sequence) = (self.batch.bytes.len(), self.next_sequence());
            let count = elements::put_verdicts(&mut self.batch.bytes, target, sequence, list[first..].iter().copied())?;
            self.sent(first, start);
            first += count;
        }
        Ok(())
    }
}

/// A name as the kernel takes it.
fn c_name(name: &str) -> Result<CString, String> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(format!("name {name:?} has {} bytes; the kernel takes 1 to {NAME_MAX}", name.len()));
    }
    CString::new(name).map_err(|_| format!("name {name:?} contains a zero byte"))
}

fn hang(chain: &mut Chain<'_>, base: BaseChain) {
    let hook = match base.hook {
        Hook::Prerouting => nftnl::Hook::PreRouting,
        Hook::Output => nftnl::Hook::Out,
        Hook::Postrouting => nftnl::Hook::PostRouting,
    };
    chain.set_hook(hook, base.priority);
    chain.set_type(nftnl::ChainType::Nat);
    chain.set_policy(nftnl::Policy::Accept);
}

#[cfg(test)]
mod tests;
