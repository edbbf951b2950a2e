//! From the ruleset that is there to the one that is wanted.
//!
//! Used at start against a dump of the kernel, by audits, and when a set must grow; the daily changes come
//! from [`crate::Installed`], which never looks at what did not change.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use weir_model::Family;

use crate::{Chain, Content, Elements, Op, Ruleset, Set, SetName, Statement, Table, Transaction};

/// The operations that turn `have` into `want`; empty when they are equal.
#[must_use]
pub fn diff(have: &Ruleset, want: &Ruleset) -> Transaction {
    let mut ops = Vec::new();
    for family in Family::ALL {
        match (have.tables.get(&family), want.tables.get(&family)) {
            (Some(_), None) => ops.push(Op::DelTable(family)),
            (None, Some(want)) => {
                ops.push(Op::AddTable(family));
                table_ops(family, &Table::default(), want, &mut ops);
            }
            (Some(have), Some(want)) => table_ops(family, have, want, &mut ops),
            (None, None) => {}
        }
    }
    Transaction { ops }
}

fn table_ops(family: Family, have: &Table, want: &Table, ops: &mut Vec<Op>) {
    let rebuilt = rebuilt_sets(have, want);
    let rewritten = rewritten_chains(have, want, &rebuilt);
    let moved = |name: &str| match (have.chains.get(name), want.chains.get(name)) {
        (Some(have), Some(want)) => have.base != want.base,
        _ => false,
    };
    // What stands in the way goes first: rules, then the sets they held.
    for name in have.chains.keys().filter(|name| rewritten.contains(name.as_str()) || !want.chains.contains_key(*name))
    {
        ops.push(Op::FlushChain(family, name.clone()));
    }
    let gone_sets = have.sets.keys().filter(|name| rebuilt.contains(name) || !want.sets.contains_key(name));
    ops.extend(gone_sets.map(|name| Op::DelSet(family, *name)));
    for name in have.chains.keys().filter(|name| moved(name)) {
        ops.push(Op::DelChain(family, name.clone()));
    }
    // Chains and sets before the rules that name them; rules before elements, or the kernel walks every
    // element once for each rule.
    for (name, chain) in want.chains.iter().filter(|(name, _)| moved(name) || !have.chains.contains_key(*name)) {
        ops.push(Op::AddChain(family, name.clone(), chain.base));
    }
    for (name, set) in want.sets.iter().filter(|(name, _)| rebuilt.contains(name) || !have.sets.contains_key(name)) {
        ops.push(Op::AddSet(family, *name, set.size));
    }
    for (name, chain) in want.chains.iter().filter(|(name, _)| rewritten.contains(name.as_str())) {
        ops.extend(chain.rules.iter().map(|rule| Op::AddRule(family, name.clone(), rule.clone())));
    }
    for (name, set) in &want.sets {
        let present = have.sets.get(name).filter(|_| !rebuilt.contains(name));
        set_ops(family, *name, present, set, ops);
    }
    for name in have.chains.keys().filter(|name| !want.chains.contains_key(*name)) {
        ops.push(Op::DelChain(family, name.clone()));
    }
}

/// Sets whose declaration changed. The kernel cannot change a declaration, so they are built anew.
fn rebuilt_sets(have: &Table, want: &Table) -> BTreeSet<SetName> {
    let changed = |(name, set): (&SetName, &Set)| have.sets.get(name).is_some_and(|old| old.size != set.size);
    want.sets.iter().filter(|(name, set)| changed((name, set))).map(|(name, _)| *name).collect()
}

/// Chains that need all their rules again: new ones, changed ones, and those that name a rebuilt set.
fn rewritten_chains<'a>(have: &Table, want: &'a Table, rebuilt: &BTreeSet<SetName>) -> BTreeSet<&'a str> {
    let differs = |name: &str, chain: &Chain| have.chains.get(name).is_none_or(|old| old != chain);
    let names_rebuilt = |chain: &Chain| {
        let mut statements = chain.rules.iter().flat_map(|rule| &rule.statements);
        statements.any(|statement| statement.set().is_some_and(|set| rebuilt.contains(&set)))
    };
    let chains = want.chains.iter();
    chains.filter(|(name, chain)| differs(name, chain) || names_rebuilt(chain)).map(|(name, _)| name.as_str()).collect()
}

fn set_ops(family: Family, name: SetName, have: Option<&Set>, want: &Set, ops: &mut Vec<Op>) {
    match (have.map(|set| &set.content), &want.content) {
        (None, Content::Flat(wanted)) if !wanted.is_empty() => ops.push(Op::AddElements(family, name, wanted.clone())),
        (Some(Content::Flat(present)), Content::Flat(wanted)) => {
            let (gone, come) = flat_difference(family, name, present, wanted);
            if !gone.is_empty() {
                ops.push(Op::DelElements(family, name, gone));
            }
            if !come.is_empty() {
                ops.push(Op::AddElements(family, name, come));
            }
        }
        (present, Content::Verdicts(wanted)) => {
            let empty = BTreeMap::new();
            let present = if let Some(Content::Verdicts(present)) = present { present } else { &empty };
            let gone: Vec<u32> = present
                .iter()
                .filter(|(number, chain)| wanted.get(number) != Some(chain))
                .map(|(number, _)| *number)
                .collect();
            let come: BTreeMap<u32, String> = wanted
                .iter()
                .filter(|(number, chain)| present.get(number) != Some(chain))
                .map(|(n, c)| (*n, c.clone()))
                .collect();
            if !gone.is_empty() {
                ops.push(Op::DelVerdicts(family, name, gone));
            }
            if !come.is_empty() {
                ops.push(Op::AddVerdicts(family, name, come));
            }
        }
        // A dynamic set is the packet path's business; a set cannot change its kind.
        _ => {}
    }
}

/// Merges two sorted lists into keys that go (or change) and elements that come (or change).
fn flat_difference(family: Family, set: SetName, have: &Elements, want: &Elements) -> (Elements, Elements) {
    let (mut gone, mut come) = (Elements::keys_of(set, family), Elements::new(set, family));
    let (mut old, mut new) = (have.iter().peekable(), want.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return (gone, come),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let leaving = if order == Ordering::Greater { None } else { old.next() };
        let coming = if order == Ordering::Less { None } else { new.next() };
        if leaving == coming {
            continue;
        }
        if let Some((key, _)) = leaving {
            gone.push(key, &[]);
        }
        if let Some((key, data)) = coming {
            come.push(key, data);
        }
    }
}

impl Statement {
    /// The set the statement refers to, if any.
    #[must_use]
    pub fn set(&self) -> Option<SetName> {
        match self {
            Self::InSet { set, .. } => Some(*set),
            Self::PriorityFrom { map, .. } | Self::Dnat { map, .. } | Self::PriorityVerdict(map) => Some(*map),
            Self::AffinityUpdate { .. } | Self::AffinityDelete { .. } => Some(SetName::Affinity),
            _ => None,
        }
    }

    /// The chain the statement goes to, if any.
    #[must_use]
    pub fn chain(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}
