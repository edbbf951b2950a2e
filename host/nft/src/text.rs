//! nft syntax of rulesets and transactions.
//!
//! The layout is that of `nft list ruleset` (1.0.6) to the byte, so what Weir says it wrote can be compared with
//! what the tool reads, and `nft -f` loads it. One limit: nft 1.0.6 itself aborts when it *loads* IPv6 rules that
//! update the affinity map or hash a source address in a `dnat` key; the kernel takes them over netlink.

mod element;
mod statement;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;

use weir_model::Family;

use crate::{
    BaseChain, Content, DataKind, Elements, FieldKind, Hook, Op, Rule, Ruleset, Set, SetName, Statement, TABLE, Table,
    Transaction,
};
use element::{ElementText, NumberText};
use statement::StatementText;

/// Elements an operation shows in [`op_shortened`].
const SHOWN_ELEMENTS: usize = 3;

/// The whole ruleset: a script for `nft -f`.
#[must_use]
pub fn ruleset(ruleset: &Ruleset) -> String {
    ruleset.tables.iter().map(|(family, table)| TableText(*family, table).to_string()).collect()
}

/// One line an operation, as commands for `nft -f`.
#[must_use]
pub fn transaction(transaction: &Transaction) -> String {
    transaction.ops.iter().map(|op| OpText { op, shown: usize::MAX }.to_string() + "\n").collect()
}

/// One operation as a command, without a newline.
#[must_use]
pub fn op(op: &Op) -> String {
    OpText { op, shown: usize::MAX }.to_string()
}

/// One operation for logs: of many elements it names the first few and counts the rest.
#[must_use]
pub fn op_shortened(op: &Op) -> String {
    OpText { op, shown: SHOWN_ELEMENTS }.to_string()
}

/// One rule, with its comment.
#[must_use]
pub fn rule(rule: &Rule, family: Family) -> String {
    RuleText(rule, family).to_string()
}

/// One statement.
#[must_use]
pub fn statement(statement: &Statement, family: Family) -> String {
    StatementText(statement, family).to_string()
}

/// One element of a set or data map: `KEY` or `KEY : DATA`. `data` may be empty for a map, too: how a deletion
/// names its element.
///
/// # Panics
/// When `key` or `data` is shorter than that set's: a programming error.
#[must_use]
pub fn element(set: SetName, family: Family, key: &[u8], data: &[u8]) -> String {
    ElementText { set, family, key, data }.to_string()
}

/// Name of a family in nft syntax.
fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

struct TableText<'a>(Family, &'a Table);

impl fmt::Display for TableText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(family, table) = *self;
        writeln!(f, "table {} {TABLE} {{", family_name(family))?;
        let mut separator = "";
        for name in SetName::ALL {
            let Some(set) = table.sets.get(&name) else { continue };
            f.write_str(separator)?;
            separator = "\n";
            write_set(f, name, family, set)?;
        }
        for (name, chain) in &table.chains {
            writeln!(f, "{separator}\tchain {name} {{")?;
            separator = "\n";
            if let Some(base) = &chain.base {
                writeln!(f, "\t\t{}", BaseText(base))?;
            }
            for rule in &chain.rules {
                writeln!(f, "\t\t{}", RuleText(rule, family))?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

fn write_set(f: &mut fmt::Formatter<'_>, name: SetName, family: Family, set: &Set) -> fmt::Result {
    writeln!(f, "\t{} {} {{", set_keyword(name), name.name())?;
    writeln!(f, "\t\t{}", TypeText(name, family))?;
    writeln!(f, "\t\tsize {}", set.size)?;
    if let Some(flags) = set_flags(name) {
        writeln!(f, "\t\tflags {flags}")?;
    }
    if !set.content.is_empty() {
        writeln!(f, "\t\telements = {{ {} }}", ContentText { name, family, content: &set.content })?;
    }
    writeln!(f, "\t}}")
}

/// Elements as nft lists them: sorted, several a line where they are short.
struct ContentText<'a> {
    name: SetName,
    family: Family,
    content: &'a Content,
}

impl fmt::Display for ContentText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_line = match (self.name.key(), self.family) {
            ([FieldKind::ClassId | FieldKind::Slot], _) => 5,
            ([FieldKind::Address], Family::V4) => 2,
            _ => 1,
        };
        let separator = |at: usize| match at {
            0 => "",
            _ if at.is_multiple_of(per_line) => ",\n\t\t\t     ",
            _ => ", ",
        };
        match self.content {
            Content::Flat(elements) => {
                let mut sorted: Vec<(&[u8], &[u8])> = elements.iter().collect();
                // The kernel lists networks in the order they came in, which is that of their keys.
                if self.name.key() != [FieldKind::Address] && !self.name.is_interval() {
                    // nft reads a concatenation as one little-endian number.
                    sorted.sort_by(|(a, _), (b, _)| a.iter().rev().cmp(b.iter().rev()));
                }
                for (at, (key, data)) in sorted.into_iter().enumerate() {
                    let element = ElementText { set: self.name, family: self.family, key, data };
                    write!(f, "{}{element}", separator(at))?;
                }
            }
            Content::Verdicts(verdicts) => {
                for (at, (number, chain)) in verdicts.iter().enumerate() {
                    write!(f, "{}{} : goto {chain}", separator(at), NumberText(*number))?;
                }
            }
            Content::Dynamic => {}
        }
        Ok(())
    }
}

fn set_flags(name: SetName) -> Option<&'static str> {
    match (name.is_dynamic(), name.is_interval()) {
        (true, _) => Some("dynamic,timeout"),
        (_, true) => Some("interval"),
        _ => None,
    }
}

fn set_keyword(name: SetName) -> &'static str {
    if name.data() == DataKind::None { "set" } else { "map" }
}

/// The declaration of a set's key and data.
struct TypeText(SetName, Family);

impl fmt::Display for TypeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, family) = *self;
        // A number drawn by numgen has no type name, so these are declared by an expression of that type.
        let by_expression = name.key().contains(&FieldKind::Slot);
        f.write_str(if by_expression { "typeof " } else { "type " })?;
        let address = match (by_expression, family) {
            (true, Family::V4) => "ip daddr",
            (true, Family::V6) => "ip6 daddr",
            (false, Family::V4) => "ipv4_addr",
            (false, Family::V6) => "ipv6_addr",
        };
        let names = |field: FieldKind| match (field, by_expression) {
            (FieldKind::Address | FieldKind::Network, _) => address,
            (FieldKind::Protocol, true) => "meta l4proto",
            (FieldKind::Protocol, false) => "inet_proto",
            (FieldKind::Port, true) => "th dport",
            (FieldKind::Port, false) => "inet_service",
            (FieldKind::Slot, _) => "numgen random mod 2",
            (FieldKind::ClassId, true) => "meta priority",
            (FieldKind::ClassId, false) => "classid",
        };
        f.write_str(&name.key().iter().map(|field| names(*field)).collect::<Vec<_>>().join(" . "))?;
        match name.data() {
            DataKind::None => Ok(()),
            DataKind::Verdict => f.write_str(" : verdict"),
            DataKind::ClassId => write!(f, " : {}", names(FieldKind::ClassId)),
            DataKind::Target => write!(f, " : {} . {}", names(FieldKind::Address), names(FieldKind::Port)),
        }
    }
}

struct BaseText<'a>(&'a BaseChain);

impl fmt::Display for BaseText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BaseChain { hook, priority } = *self.0;
        write!(f, "type nat hook {} priority ", hook.name())?;
        write_priority(f, hook, priority)?;
        f.write_str("; policy accept;")
    }
}

/// nft names priorities within 10 of a standard one, where that one is usual for the hook.
fn write_priority(f: &mut fmt::Formatter<'_>, hook: Hook, priority: i32) -> fmt::Result {
    const STANDARD: [(&str, i32, Option<Hook>); 6] = [
        ("raw", -300, None),
        ("mangle", -150, None),
        ("dstnat", -100, Some(Hook::Prerouting)),
        ("filter", 0, None),
        ("security", 50, None),
        ("srcnat", 100, Some(Hook::Postrouting)),
    ];
    for (name, standard, only) in STANDARD {
        let distance = priority - standard;
        if only.is_none_or(|only| only == hook) && distance.abs() <= 10 {
            return match distance {
                0 => f.write_str(name),
                1.. => write!(f, "{name} + {distance}"),
                _ => write!(f, "{name} - {}", -distance),
            };
        }
    }
    write!(f, "{priority}")
}

struct RuleText<'a>(&'a Rule, Family);

impl fmt::Display for RuleText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for statement in &self.0.statements {
            write!(f, "{separator}{}", StatementText(statement, self.1))?;
            separator = " ";
        }
        if !self.0.comment.is_empty() {
            // nft knows no way to write a quote in a string.
            write!(f, "{separator}comment \"{}\"", self.0.comment.replace('"', "'"))?;
        }
        Ok(())
    }
}

/// A command; of elements only the first `shown`.
struct OpText<'a> {
    op: &'a Op,
    shown: usize,
}

impl OpText<'_> {
    fn elements(
        &self,
        f: &mut fmt::Formatter<'_>,
        verb: &str,
        family: Family,
        set: SetName,
        elements: &Elements,
    ) -> fmt::Result {
        let all = elements.iter().map(|(key, data)| ElementText { set, family, key, data }.to_string());
        self.list(f, verb, family, set, all)
    }

    fn list(
        &self,
        f: &mut fmt::Formatter<'_>,
        verb: &str,
        family: Family,
        set: SetName,
        all: impl ExactSizeIterator<Item = String>,
    ) -> fmt::Result {
        let left = all.len().saturating_sub(self.shown);
        write!(f, "{verb} element {} {TABLE} {} {{ ", family_name(family), set.name())?;
        for (at, element) in all.take(self.shown).enumerate() {
            write!(f, "{}{element}", if at == 0 { "" } else { ", " })?;
        }
        if left > 0 {
            write!(f, ", … {left} more")?;
        }
        f.write_str(" }")
    }

    fn verdicts(
        &self,
        f: &mut fmt::Formatter<'_>,
        family: Family,
        set: SetName,
        verdicts: &BTreeMap<u32, String>,
    ) -> fmt::Result {
        let all = verdicts.iter().map(|(number, chain)| format!("{} : goto {chain}", NumberText(*number)));
        self.list(f, "add", family, set, all)
    }
}

impl fmt::Display for OpText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.op {
            Op::AddTable(family) => write!(f, "add table {} {TABLE}", family_name(*family)),
            Op::DelTable(family) => write!(f, "delete table {} {TABLE}", family_name(*family)),
            Op::AddChain(family, name, base) => {
                write!(f, "add chain {} {TABLE} {name}", family_name(*family))?;
                base.as_ref().map_or(Ok(()), |base| write!(f, " {{ {} }}", BaseText(base)))
            }
            Op::FlushChain(family, name) => write!(f, "flush chain {} {TABLE} {name}", family_name(*family)),
            Op::DelChain(family, name) => write!(f, "delete chain {} {TABLE} {name}", family_name(*family)),
            Op::AddRule(family, chain, rule) => {
                write!(f, "add rule {} {TABLE} {chain} {}", family_name(*family), RuleText(rule, *family))
            }
            Op::AddSet(family, name, size) => {
                let keyword = set_keyword(*name);
                let flags = set_flags(*name).map(|flags| format!(" flags {flags};")).unwrap_or_default();
                let kind = TypeText(*name, *family);
                write!(
                    f,
                    "add {keyword} {} {TABLE} {} {{ {kind}; size {size};{flags} }}",
                    family_name(*family),
                    name.name()
                )
            }
            Op::DelSet(family, name) => {
                write!(f, "delete {} {} {TABLE} {}", set_keyword(*name), family_name(*family), name.name())
            }
            Op::AddElements(family, set, elements) => self.elements(f, "add", *family, *set, elements),
            Op::DelElements(family, set, elements) => self.elements(f, "delete", *family, *set, elements),
            Op::AddVerdicts(family, set, verdicts) => self.verdicts(f, *family, *set, verdicts),
            Op::DelVerdicts(family, set, numbers) => {
                let all = numbers.iter().map(|number| NumberText(*number).to_string());
                self.list(f, "delete", *family, *set, all)
            }
        }
    }
}
