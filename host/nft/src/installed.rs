//! What is programmed now, and how a change of some ports turns into a transaction.
//!
//! The state is one plan a port plus counters: elements are made anew from the plan when they are needed, so
//! a million endpoints cost no second copy of their elements. Cost follows the ports that change.

mod work;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use weir_model::{Family, PortKey, ServiceId};
use weir_plan::{NodeFacts, PortPlan};

use self::work::{FamilyWork, Work};
use crate::base::{MIN_SIZE, guards};
use crate::class::Class;
use crate::compile::{classes_of, emit};
use crate::{Chain, Content, ElementKey, Elements, Op, Ruleset, SetName, Transaction, base_ruleset, diff};

/// The programmed state.
#[derive(Debug)]
pub struct Installed {
    node: NodeFacts,
    ports: BTreeMap<PortKey, PortPlan>,
    families: BTreeMap<Family, FamilyState>,
}

/// A transaction and the way back.
#[derive(Debug)]
pub struct Staged {
    /// What to send.
    pub transaction: Transaction,
    /// The ports as they were; hand it to [`Installed::revert`] if the transaction did not take effect.
    pub before: Vec<(PortKey, Option<PortPlan>)>,
}

/// Counters of one family.
#[derive(Debug, Default)]
struct FamilyState {
    classes: BTreeMap<Class, ClassUse>,
    numbers: BTreeSet<u32>,
    /// How many ports want an element of a shared set.
    shared: BTreeMap<(SetName, ElementKey), u32>,
    counts: BTreeMap<SetName, u32>,
    sizes: BTreeMap<SetName, u32>,
}

/// Who uses a class.
#[derive(Clone, Copy, Debug, Default)]
struct ClassUse {
    number: u32,
    frontends: u32,
    short_cuts: u32,
    /// By other classes.
    parts: u32,
}

/// How a plan uses a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// A frontend's connections come to it.
    Frontend,
    /// Those of pods and this node do, past the frontend's own class.
    ShortCut,
    /// A class that is used leads to it.
    Part,
}

/// Elements of one port, or the difference of two.
type Entries = Vec<(SetName, ElementKey, ElementKey)>;

impl Installed {
    /// Nothing but the fixed part of the ruleset.
    #[must_use]
    pub fn new(node: NodeFacts) -> Self {
        Self {
            node,
            ports: BTreeMap::new(),
            families: Family::ALL.map(|family| (family, FamilyState::default())).into(),
        }
    }

    /// The facts the ruleset is built on.
    #[must_use]
    pub fn node(&self) -> &NodeFacts {
        &self.node
    }

    /// Builds on other facts from now on. What is in the kernel is then another ruleset than this one.
    pub fn set_node(&mut self, node: NodeFacts) {
        self.node = node;
    }

    /// The plan of a port.
    #[must_use]
    pub fn plan(&self, port: &PortKey) -> Option<&PortPlan> {
        self.ports.get(port)
    }

    /// Every plan, in order.
    pub fn plans(&self) -> impl Iterator<Item = &PortPlan> + '_ {
        self.ports.values()
    }

    /// The ports of one Service that are programmed.
    pub fn ports_of(&self, service: ServiceId) -> impl Iterator<Item = PortKey> + '_ {
        self.ports
            .range(PortKey::first_of(service)..)
            .map(|(key, _)| *key)
            .take_while(move |key| key.service == service)
    }

    /// How many elements the Services have in each set that has any.
    pub fn element_counts(&self) -> impl Iterator<Item = (Family, SetName, u32)> + '_ {
        self.families.iter().flat_map(|(family, state)| state.counts.iter().map(|(set, count)| (*family, *set, *count)))
    }

    /// Keeps the sizes the kernel's sets have where they still do, so that a restart rewrites nothing.
    pub fn adopt_sizes(&mut self, present: &Ruleset) {
        for (family, table) in &present.tables {
            let Some(state) = self.families.get_mut(family) else { continue };
            for (name, set) in &table.sets {
                let wanted = size_for(state.counts.get(name).copied().unwrap_or(0));
                if !name.is_dynamic() && set.size >= wanted && set.size / 8 <= wanted {
                    state.sizes.insert(*name, set.size);
                }
            }
        }
    }

    /// Takes new plans in (`None` removes a port) and returns what must be sent. When a set has outgrown its
    /// size the transaction builds it anew, larger.
    pub fn stage(&mut self, changes: Vec<(PortKey, Option<PortPlan>)>) -> Staged {
        let mut work = Work::default();
        let guarded = Family::ALL.map(|family| self.is_guarded(family));
        let mut before = Vec::with_capacity(changes.len());
        for (key, plan) in changes {
            let old = self.replace(key, plan, Some(&mut work));
            before.push((key, old));
        }
        if self.outgrown() {
            // Rare (sizes double), so a comparison of everything is good enough. The present ruleset is the
            // one before this change, with the sizes of before.
            let wanted = self.revert(before);
            let have = self.ruleset();
            let before = self.load(wanted);
            return Staged { transaction: diff(&have, &self.ruleset()), before };
        }
        for (family, before) in Family::ALL.into_iter().zip(guarded) {
            work.guards(family, before, self.is_guarded(family));
        }
        let transaction = work.into_transaction(&self.node, |family, class| {
            self.families.get(&family).and_then(|state| state.classes.get(class)).copied()
        });
        Staged { transaction, before }
    }

    /// Takes new plans in without working out a transaction, for a comparison with a dump of the kernel:
    /// sizes fit the content afterwards. Returns the ports as they were, for [`Installed::revert`].
    pub fn load(&mut self, changes: Vec<(PortKey, Option<PortPlan>)>) -> Vec<(PortKey, Option<PortPlan>)> {
        let before = changes.into_iter().map(|(key, plan)| (key, self.replace(key, plan, None))).collect();
        self.grow();
        before
    }

    /// The ports that want something of `op`, which the kernel refused: those of the one element, where it
    /// told which, else of the chain.
    #[must_use]
    pub fn wanting(&self, op: &Op, element: Option<usize>) -> Vec<PortKey> {
        let wanted = |family: Family, test: &dyn Fn(&FamilyState, &PortPlan) -> bool| {
            let Some(state) = self.families.get(&family) else { return Vec::new() };
            let plans = self.ports.values().filter(|plan| plan.family() == family && test(state, plan));
            plans.map(|plan| plan.key).collect()
        };
        match op {
            Op::AddElements(family, set, elements) => {
                let Some((key, _)) = element.and_then(|at| elements.get(at)) else { return Vec::new() };
                let key = ElementKey::from_bytes(key);
                wanted(*family, &|state, plan| {
                    state.entries(plan).iter().any(|entry| (entry.0, entry.1) == (*set, key))
                })
            }
            Op::AddChain(family, name, _) | Op::AddRule(family, name, _) => {
                let is_guard = guards().iter().any(|(guard, _)| guard == name);
                wanted(*family, &|_, plan| {
                    is_guard && plan.frontends.iter().any(|frontend| frontend.guarded)
                        || uses(plan).any(|(class, _)| class.chain() == *name)
                })
            }
            _ => Vec::new(),
        }
    }

    /// Goes back to `before`, because the transaction did not take effect. Returns what had been staged, so
    /// that it can be tried again.
    pub fn revert(&mut self, before: Vec<(PortKey, Option<PortPlan>)>) -> Vec<(PortKey, Option<PortPlan>)> {
        before.into_iter().map(|(key, plan)| (key, self.replace(key, plan, None))).collect()
    }

    /// The whole ruleset as it should stand in the kernel.
    #[must_use]
    pub fn ruleset(&self) -> Ruleset {
        let mut ruleset = base_ruleset(&self.node);
        for (family, table) in &mut ruleset.tables {
            let Some(state) = self.families.get(family) else { continue };
            if state.is_guarded() {
                table.chains.extend(guards().map(|(name, chain)| (name.to_owned(), chain)));
            }
            let (mut classes, mut short_cuts) = (BTreeMap::new(), BTreeMap::new());
            for (class, used) in &state.classes {
                table.chains.insert(class.chain(), Chain { base: None, rules: class.rules(&self.node, *family) });
                if used.frontends > 0 {
                    classes.insert(used.number, class.chain());
                }
                if used.short_cuts > 0 {
                    short_cuts.insert(used.number, class.chain());
                }
            }
            let mut flat: BTreeMap<SetName, Elements> = BTreeMap::new();
            for plan in self.ports.values().filter(|plan| plan.family() == *family) {
                state.emit(plan, &mut |set, key, data| {
                    flat.entry(set).or_insert_with(|| Elements::new(set, *family)).push(key, data);
                });
            }
            for (name, set) in &mut table.sets {
                set.size = state.sizes.get(name).copied().unwrap_or(set.size);
                match name {
                    SetName::Classes => set.content = Content::Verdicts(std::mem::take(&mut classes)),
                    SetName::ShortCutClasses => set.content = Content::Verdicts(std::mem::take(&mut short_cuts)),
                    _ => {
                        if let Some(mut elements) = flat.remove(name) {
                            elements.sort();
                            set.content = Content::Flat(elements);
                        }
                    }
                }
            }
        }
        ruleset
    }

    /// Replaces one plan, keeps the counters right and notes the difference in `work`, if there is one.
    fn replace(&mut self, key: PortKey, plan: Option<PortPlan>, work: Option<&mut Work>) -> Option<PortPlan> {
        let state = self.families.entry(key.family).or_default();
        let mut ignored = FamilyWork::default();
        let old = self.ports.remove(&key);
        if let Some(work) = work {
            let work = work.families.entry(key.family).or_default();
            // Elements of the old plan are listed while its classes still have their numbers.
            let had = old.as_ref().map(|plan| state.entries(plan)).unwrap_or_default();
            plan.iter().for_each(|plan| state.retain(plan, work));
            let wants = plan.as_ref().map(|plan| state.entries(plan)).unwrap_or_default();
            old.iter().for_each(|plan| state.release(plan, work));
            state.difference(&had, &wants, work);
        } else {
            plan.iter().for_each(|plan| state.retain(plan, &mut ignored));
            for (plan, comes) in old.iter().map(|plan| (plan, false)).chain(plan.iter().map(|plan| (plan, true))) {
                state.count(plan, comes);
            }
            old.iter().for_each(|plan| state.release(plan, &mut ignored));
        }
        if let Some(plan) = plan {
            self.ports.insert(key, plan);
        }
        old
    }

    /// Whether a frontend of that family has source ranges.
    fn is_guarded(&self, family: Family) -> bool {
        self.families.get(&family).is_some_and(FamilyState::is_guarded)
    }

    fn outgrown(&self) -> bool {
        self.families.values().any(|state| state.counts.iter().any(|(set, count)| *count > state.size(*set)))
    }

    fn grow(&mut self) {
        for state in self.families.values_mut() {
            for (set, count) in &state.counts {
                if *count > state.sizes.get(set).copied().unwrap_or(MIN_SIZE) {
                    state.sizes.insert(*set, size_for(*count));
                }
            }
        }
    }
}

/// The size to declare for so many elements, with a quarter to spare: the kernel never grows a set of declared size.
///
/// Three quarters of a power of two: the kernel takes four thirds of the size, rounded up to a power of two, as the
/// number of buckets (`nft_hash_buckets`), so that one element more would double 8 bytes a bucket.
fn size_for(count: u32) -> u32 {
    let wanted = (u64::from(count) * 5).div_ceil(4).max(u64::from(MIN_SIZE));
    let buckets = (wanted * 4).div_ceil(3).next_power_of_two();
    u32::try_from(buckets / 4 * 3).unwrap_or(u32::MAX)
}

impl FamilyState {
    fn is_guarded(&self) -> bool {
        self.counts.get(&SetName::Guarded).is_some_and(|count| *count > 0)
    }

    fn size(&self, set: SetName) -> u32 {
        self.sizes.get(&set).copied().unwrap_or(MIN_SIZE)
    }

    /// Counts the classes of a plan in; classes nobody used before get a number.
    fn retain(&mut self, plan: &PortPlan, work: &mut FamilyWork) {
        for (class, how) in uses(plan) {
            work.note(&class, self.classes.get(&class));
            let numbers = &mut self.numbers;
            let used = self.classes.entry(class).or_insert_with_key(|class| {
                let mut number = class.preferred_number();
                while !numbers.insert(number) {
                    number += 1;
                }
                ClassUse { number, ..ClassUse::default() }
            });
            let count = used.count(how);
            *count += 1;
            if let (1, Some(map)) = (*count, how.map()) {
                *self.counts.entry(map).or_default() += 1;
            }
        }
    }

    /// Counts them out again.
    fn release(&mut self, plan: &PortPlan, work: &mut FamilyWork) {
        for (class, how) in uses(plan) {
            work.note(&class, self.classes.get(&class));
            let Some(used) = self.classes.get_mut(&class) else { continue };
            let count = used.count(how);
            *count -= 1;
            if let (0, Some(map)) = (*count, how.map()) {
                *self.counts.entry(map).or_insert(1) -= 1;
            }
            if !used.is_used() {
                self.numbers.remove(&used.number);
                self.classes.remove(&class);
            }
        }
    }

    /// Counts the elements of a plan in or out.
    fn count(&mut self, plan: &PortPlan, comes: bool) {
        let mut elements = Vec::new();
        self.emit(plan, &mut |set, key, _| {
            elements.push((set, if set.is_shared() { ElementKey::from_bytes(key) } else { ElementKey::new() }));
        });
        for (set, key) in elements {
            if comes {
                if self.first_wish(set, key) {
                    *self.counts.entry(set).or_default() += 1;
                }
            } else if self.last_wish(set, key) {
                *self.counts.entry(set).or_insert(1) -= 1;
            }
        }
    }

    /// Elements of a plan, sorted. Its classes must be retained.
    fn entries(&self, plan: &PortPlan) -> Entries {
        let mut entries = Entries::new();
        self.emit(plan, &mut |set, key, data| {
            entries.push((set, ElementKey::from_bytes(key), ElementKey::from_bytes(data)));
        });
        entries.sort_unstable();
        entries
    }

    fn emit(&self, plan: &PortPlan, sink: &mut crate::compile::Sink<'_>) {
        let number =
            |class: &Class| self.classes.get(class).map_or_else(|| class.preferred_number(), |used| used.number);
        emit(
            plan,
            |frontend| {
                let (class, short_cut) = classes_of(plan, frontend);
                (number(&class), short_cut.as_ref().map(number))
            },
            sink,
        );
    }

    /// Merges two sorted lists of elements into what goes and what comes.
    fn difference(&mut self, had: &Entries, wants: &Entries, work: &mut FamilyWork) {
        let (mut old, mut new) = (had.iter().peekable(), wants.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => (a.0, a.1).cmp(&(b.0, b.1)),
            };
            let gone = if order == Ordering::Greater { None } else { old.next() };
            let come = if order == Ordering::Less { None } else { new.next() };
            match (gone, come) {
                (Some((set, key, before)), Some((_, _, after))) if before != after => {
                    work.change(*set, *key, Some(*before), Some(*after));
                }
                (Some((set, key, before)), None) if self.last_wish(*set, *key) => {
                    *self.counts.entry(*set).or_insert(1) -= 1;
                    work.change(*set, *key, Some(*before), None);
                }
                (None, Some((set, key, after))) if self.first_wish(*set, *key) => {
                    *self.counts.entry(*set).or_default() += 1;
                    work.change(*set, *key, None, Some(*after));
                }
                _ => {}
            }
        }
    }

    /// Whether nobody wanted that element so far.
    fn first_wish(&mut self, set: SetName, key: ElementKey) -> bool {
        if !set.is_shared() {
            return true;
        }
        let wishes = self.shared.entry((set, key)).or_default();
        *wishes += 1;
        *wishes == 1
    }

    /// Whether nobody wants that element any more.
    fn last_wish(&mut self, set: SetName, key: ElementKey) -> bool {
        if !set.is_shared() {
            return true;
        }
        let Some(wishes) = self.shared.get_mut(&(set, key)) else { return true };
        *wishes -= 1;
        let last = *wishes == 0;
        if last {
            self.shared.remove(&(set, key));
        }
        last
    }
}

impl Use {
    /// The verdict map that then has the class.
    fn map(self) -> Option<SetName> {
        match self {
            Self::Frontend => Some(SetName::Classes),
            Self::ShortCut => Some(SetName::ShortCutClasses),
            Self::Part => None,
        }
    }
}

/// Every use a plan makes of a class that has a chain.
fn uses(plan: &PortPlan) -> impl Iterator<Item = (Class, Use)> + '_ {
    plan.frontends.iter().flat_map(|frontend| {
        let (class, short_cut) = classes_of(plan, frontend);
        let classes = std::iter::once((class, Use::Frontend)).chain(short_cut.map(|class| (class, Use::ShortCut)));
        let with_chain = classes.filter(|(class, _)| class.has_chain());
        with_chain.flat_map(|(class, how)| {
            let parts = class.parts().map(|part| (part, Use::Part));
            parts.chain(std::iter::once((class, how)))
        })
    })
}

impl ClassUse {
    fn count(&mut self, how: Use) -> &mut u32 {
        match how {
            Use::Frontend => &mut self.frontends,
            Use::ShortCut => &mut self.short_cuts,
            Use::Part => &mut self.parts,
        }
    }

    fn is_used(self) -> bool {
        self.frontends > 0 || self.short_cuts > 0 || self.parts > 0
    }

    /// The number under which one of the two verdict maps holds it.
    fn number_in(self, map: SetName) -> Option<u32> {
        let used = if map == SetName::Classes { self.frontends } else { self.short_cuts };
        (used > 0).then_some(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::{MIN_SIZE, size_for};

    #[test]
    fn sizes_fill_their_buckets_and_leave_room() {
        for (count, size) in [(0, MIN_SIZE), (614, MIN_SIZE), (615, 1_536), (100_000, 196_608), (1_000_000, 1_572_864)]
        {
            assert_eq!(size_for(count), size, "{count}");
        }
        assert!((1..2_000_000).step_by(997).all(|count| size_for(count) >= count + count / 4));
        assert_eq!(size_for(u32::MAX), u32::MAX);
    }
}
