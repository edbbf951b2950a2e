//! What must change in the kernel, as ordered operations: one netlink batch, all or nothing.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::Family;

use crate::{BaseChain, Chain, Content, DataKind, Elements, Rule, Ruleset, Set, SetName, Table};

/// One operation on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Creates the table, or takes ownership of the one that is there.
    AddTable(Family),
    /// Removes the table and all in it.
    DelTable(Family),
    /// Creates a chain.
    AddChain(Family, String, Option<BaseChain>),
    /// Removes the rules of a chain.
    FlushChain(Family, String),
    /// Removes a chain without rules.
    DelChain(Family, String),
    /// Appends a rule to a chain.
    AddRule(Family, String, Rule),
    /// Creates a set of that size.
    AddSet(Family, SetName, u32),
    /// Removes a set no rule refers to, with its elements.
    DelSet(Family, SetName),
    /// Adds elements to a set or data map.
    AddElements(Family, SetName, Elements),
    /// Removes elements, named by key alone.
    DelElements(Family, SetName, Elements),
    /// Adds elements to a verdict map.
    AddVerdicts(Family, SetName, BTreeMap<u32, String>),
    /// Removes elements from a verdict map.
    DelVerdicts(Family, SetName, Vec<u32>),
}

/// Operations in the order the kernel must see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The operations.
    pub ops: Vec<Op>,
}

impl Transaction {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Elements it adds or removes, of sets and verdict maps together.
    #[must_use]
    pub fn element_count(&self) -> usize {
        let elements = self.ops.iter().map(|op| match op {
            Op::AddElements(_, _, elements) | Op::DelElements(_, _, elements) => elements.len(),
            Op::AddVerdicts(_, _, verdicts) => verdicts.len(),
            Op::DelVerdicts(_, _, numbers) => numbers.len(),
            _ => 0,
        });
        elements.sum()
    }
}

/// Applies `transaction` to `ruleset` as the kernel would.
///
/// # Errors
/// The first operation the kernel would refuse, as a sentence: something that must exist does not, or the
/// other way round. `ruleset` is then left as it was.
pub fn apply(ruleset: &mut Ruleset, transaction: &Transaction) -> Result<(), String> {
    let mut next = ruleset.clone();
    for op in &transaction.ops {
        apply_op(&mut next, op)?;
    }
    check_references(&next)?;
    *ruleset = next;
    Ok(())
}

fn apply_op(ruleset: &mut Ruleset, op: &Op) -> Result<(), String> {
    match op {
        Op::AddTable(family) => {
            ruleset.tables.entry(*family).or_default();
        }
        Op::DelTable(family) => {
            ruleset.tables.remove(family).ok_or_else(|| format!("no {family:?} table to delete"))?;
        }
        Op::AddChain(family, name, base) => {
            let chain = Chain { base: *base, rules: Vec::new() };
            if table(ruleset, *family)?.chains.insert(name.clone(), chain).is_some() {
                return Err(format!("chain {name} exists"));
            }
        }
        Op::FlushChain(family, name) => chain(ruleset, *family, name)?.rules.clear(),
        Op::DelChain(family, name) => {
            if !chain(ruleset, *family, name)?.rules.is_empty() {
                return Err(format!("chain {name} still has rules"));
            }
            table(ruleset, *family)?.chains.remove(name);
        }
        Op::AddRule(family, name, rule) => chain(ruleset, *family, name)?.rules.push(rule.clone()),
        Op::AddSet(family, name, size) => {
            let content = match name.data() {
                DataKind::Verdict => Content::Verdicts(BTreeMap::new()),
                _ if name.is_dynamic() => Content::Dynamic,
                _ => Content::Flat(Elements::new(*name, *family)),
            };
            if table(ruleset, *family)?.sets.insert(*name, Set { size: *size, content }).is_some() {
                return Err(format!("set {} exists", name.name()));
            }
        }
        Op::DelSet(family, name) => {
            table(ruleset, *family)?.sets.remove(name).ok_or_else(|| format!("no set {}", name.name()))?;
        }
        Op::AddElements(family, name, elements) => add_elements(ruleset, *family, *name, elements)?,
        Op::DelElements(family, name, keys) => del_elements(ruleset, *family, *name, keys)?,
        Op::AddVerdicts(family, name, verdicts) => {
            let present = verdicts_of(ruleset, *family, *name)?;
            for (number, chain) in verdicts {
                if present.insert(*number, chain.clone()).is_some_and(|old| old != *chain) {
                    return Err(format!("{} already maps {number:#x}", name.name()));
                }
            }
        }
        Op::DelVerdicts(family, name, numbers) => {
            let present = verdicts_of(ruleset, *family, *name)?;
            for number in numbers {
                present.remove(number).ok_or_else(|| format!("{} has no {number:#x}", name.name()))?;
            }
        }
    }
    Ok(())
}

/// A jump to a chain that is not there, or a rule on a set that is not there, would not have been accepted.
fn check_references(ruleset: &Ruleset) -> Result<(), String> {
    for table in ruleset.tables.values() {
        let exists = |name: &str| table.chains.contains_key(name);
        for (name, chain) in &table.chains {
            for statement in chain.rules.iter().flat_map(|rule| &rule.statements) {
                if let Some(target) = statement.chain().filter(|target| !exists(target)) {
                    return Err(format!("chain {name} goes to {target}, which does not exist"));
                }
                if let Some(set) = statement.set().filter(|set| !table.sets.contains_key(set)) {
                    return Err(format!("chain {name} uses set {}, which does not exist", set.name()));
                }
            }
        }
        for (name, set) in &table.sets {
            if set.content.len() > set.size as usize {
                return Err(format!("set {} is full", name.name()));
            }
            if let Content::Verdicts(verdicts) = &set.content
                && let Some((number, target)) = verdicts.iter().find(|(_, target)| !exists(target))
            {
                return Err(format!("{} maps {number:#x} to {target}, which does not exist", name.name()));
            }
        }
    }
    Ok(())
}

fn table(ruleset: &mut Ruleset, family: Family) -> Result<&mut Table, String> {
    ruleset.tables.get_mut(&family).ok_or_else(|| format!("no {family:?} table"))
}

fn chain<'a>(ruleset: &'a mut Ruleset, family: Family, name: &str) -> Result<&'a mut Chain, String> {
    table(ruleset, family)?.chains.get_mut(name).ok_or_else(|| format!("no chain {name}"))
}

fn content(ruleset: &mut Ruleset, family: Family, name: SetName) -> Result<&mut Content, String> {
    let set = table(ruleset, family)?.sets.get_mut(&name).ok_or_else(|| format!("no set {}", name.name()))?;
    Ok(&mut set.content)
}

fn verdicts_of(ruleset: &mut Ruleset, family: Family, name: SetName) -> Result<&mut BTreeMap<u32, String>, String> {
    match content(ruleset, family, name)? {
        Content::Verdicts(verdicts) => Ok(verdicts),
        _ => Err(format!("{} is no verdict map", name.name())),
    }
}

fn flat_of(ruleset: &mut Ruleset, family: Family, name: SetName) -> Result<&mut Elements, String> {
    match content(ruleset, family, name)? {
        Content::Flat(elements) => Ok(elements),
        _ => Err(format!("{} takes no such elements", name.name())),
    }
}

fn add_elements(ruleset: &mut Ruleset, family: Family, name: SetName, added: &Elements) -> Result<(), String> {
    let present = flat_of(ruleset, family, name)?;
    for (key, data) in added.iter() {
        if present.find(key).is_some_and(|old| old != data) {
            return Err(format!("{} already maps {key:02x?}", name.name()));
        }
    }
    for (key, data) in added.iter() {
        present.push(key, data);
    }
    present.sort();
    Ok(())
}

fn del_elements(ruleset: &mut Ruleset, family: Family, name: SetName, keys: &Elements) -> Result<(), String> {
    let present = flat_of(ruleset, family, name)?;
    let gone: BTreeSet<&[u8]> = keys.iter().map(|(key, _)| key).collect();
    let mut left = Elements::new(name, family);
    for (key, data) in present.iter().filter(|(key, _)| !gone.contains(key)) {
        left.push(key, data);
    }
    if present.len() - left.len() != gone.len() {
        return Err(format!("{} lacks an element to delete", name.name()));
    }
    *present = left;
    Ok(())
}
