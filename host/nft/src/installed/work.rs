//! The difference a change makes, gathered port by port and turned into operations at the end.

use std::collections::BTreeMap;

use weir_model::Family;
use weir_plan::NodeFacts;

use super::ClassUse;
use crate::base::guards;
use crate::class::Class;
use crate::{Chain, ElementKey, Elements, Op, SetName, Transaction};

/// The difference in both families.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) families: BTreeMap<Family, FamilyWork>,
}

/// The difference in one family.
#[derive(Debug, Default)]
pub(super) struct FamilyWork {
    /// Data before and after. One port may give up an element that another takes over.
    elements: BTreeMap<(SetName, ElementKey), (Option<ElementKey>, Option<ElementKey>)>,
    /// Classes that were touched, with their use before.
    classes: BTreeMap<Class, ClassUse>,
    /// Whether the guards of source ranges come (`true`) or go.
    guards: Option<bool>,
}

impl FamilyWork {
    /// Remembers how a class was used before this change touched it.
    pub(super) fn note(&mut self, class: &Class, used: Option<&ClassUse>) {
        if !self.classes.contains_key(class) {
            self.classes.insert(class.clone(), used.copied().unwrap_or_default());
        }
    }

    /// Notes that the element held `before` and now holds `after`.
    pub(super) fn change(
        &mut self,
        set: SetName,
        key: ElementKey,
        before: Option<ElementKey>,
        after: Option<ElementKey>,
    ) {
        self.elements.entry((set, key)).or_insert((before, None)).1 = after;
    }

    fn ops(self, family: Family, node: &NodeFacts, now: impl Fn(&Class) -> ClassUse, ops: &mut Vec<Op>) {
        // Rules come before elements: bound the other way round, the kernel walks every element once a rule.
        for (class, before) in &self.classes {
            if now(class).is_used() && !before.is_used() {
                add_chain(family, &class.chain(), Chain { base: None, rules: class.rules(node, family) }, ops);
            }
        }
        if self.guards == Some(true) {
            guards().into_iter().for_each(|(name, chain)| add_chain(family, name, chain, ops));
        }
        let mut removed: BTreeMap<SetName, Elements> = BTreeMap::new();
        let mut added: BTreeMap<SetName, Elements> = BTreeMap::new();
        for ((set, key), (before, after)) in &self.elements {
            if before == after {
                continue;
            }
            if before.is_some() {
                let keys = removed.entry(*set).or_insert_with(|| Elements::keys_of(*set, family));
                keys.push(key.as_bytes(), &[]);
            }
            if let Some(data) = after {
                let elements = added.entry(*set).or_insert_with(|| Elements::new(*set, family));
                elements.push(key.as_bytes(), data.as_bytes());
            }
        }
        ops.extend(removed.into_iter().map(|(set, keys)| Op::DelElements(family, set, keys)));
        ops.extend(added.into_iter().map(|(set, elements)| Op::AddElements(family, set, elements)));
        for map in [SetName::Classes, SetName::ShortCutClasses] {
            let (mut gone, mut come) = (Vec::new(), BTreeMap::new());
            for (class, before) in &self.classes {
                let (before, after) = (before.number_in(map), now(class).number_in(map));
                if before != after {
                    gone.extend(before);
                    come.extend(after.map(|number| (number, class.chain())));
                }
            }
            if !gone.is_empty() {
                gone.sort_unstable();
                ops.push(Op::DelVerdicts(family, map, gone));
            }
            if !come.is_empty() {
                ops.push(Op::AddVerdicts(family, map, come));
            }
        }
        if self.guards == Some(false) {
            guards().iter().for_each(|(name, _)| remove_chain(family, name, ops));
        }
        // The other way round: what others go to, comes first and goes last.
        for (class, before) in self.classes.iter().rev() {
            if before.is_used() && !now(class).is_used() {
                remove_chain(family, &class.chain(), ops);
            }
        }
    }
}

fn add_chain(family: Family, name: &str, Chain { base, rules }: Chain, ops: &mut Vec<Op>) {
    ops.push(Op::AddChain(family, name.to_owned(), base));
    ops.extend(rules.into_iter().map(|rule| Op::AddRule(family, name.to_owned(), rule)));
}

fn remove_chain(family: Family, name: &str, ops: &mut Vec<Op>) {
    ops.extend([Op::FlushChain(family, name.to_owned()), Op::DelChain(family, name.to_owned())]);
}

impl Work {
    /// Notes whether there was something to guard by source ranges in `family`, and whether there is now.
    pub(super) fn guards(&mut self, family: Family, before: bool, now: bool) {
        if before != now {
            self.families.entry(family).or_default().guards = Some(now);
        }
    }

    /// The operations, in the order the kernel must see them. `now` gives the present use of a class.
    pub(super) fn into_transaction(
        self,
        node: &NodeFacts,
        now: impl Fn(Family, &Class) -> Option<ClassUse>,
    ) -> Transaction {
        let mut ops = Vec::new();
        for (family, work) in self.families {
            work.ops(family, node, |class| now(family, class).unwrap_or_default(), &mut ops);
        }
        Transaction { ops }
    }
}
