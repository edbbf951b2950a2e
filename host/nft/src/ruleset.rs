//! A whole ruleset as a value: what is wanted, or what the kernel has.

use std::collections::BTreeMap;

use weir_model::Family;

use crate::{BaseChain, Elements, Rule, SetName};

/// Weir's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// At most one a family.
    pub tables: BTreeMap<Family, Table>,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// Sets and maps.
    pub sets: BTreeMap<SetName, Set>,
}

/// One chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where it hangs; `None` for chains that are only jumped to.
    pub base: Option<BaseChain>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// One set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Most elements it can hold: a hard limit in the kernel, and what makes its hash table a fixed one,
    /// three to four times faster to fill.
    pub size: u32,
    /// Its elements, sorted by key.
    pub content: Content,
}

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Keys, or keys and data.
    Flat(Elements),
    /// Class number → chain, for verdict maps.
    Verdicts(BTreeMap<u32, String>),
    /// The packet path's own business: declared, never read or written.
    Dynamic,
}

impl Content {
    /// How many elements; 0 for dynamic ones.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Flat(elements) => elements.len(),
            Self::Verdicts(verdicts) => verdicts.len(),
            Self::Dynamic => 0,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
