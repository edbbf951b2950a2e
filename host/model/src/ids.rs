//! Names as numbers: a namespace, zone or node name is stored once, however many endpoints carry it.

use std::sync::Arc;

use indexmap::IndexSet;

/// Number of an interned name. 0 is the empty name. Stable for the life of one [`Names`] table only, so it
/// must never reach the kernel or another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(pub u32);

/// Number of a Service; stable while the Service exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// The table of interned names: the number of a name is its place.
#[derive(Clone, Debug)]
pub struct Names(IndexSet<Arc<str>>);

impl Default for Names {
    fn default() -> Self {
        Self(IndexSet::from([Arc::from("")]))
    }
}

impl Names {
    /// The number of `name`, new if it has none yet.
    ///
    /// # Panics
    /// After 2³² different names.
    pub fn intern(&mut self, name: &str) -> NameId {
        self.find(name).unwrap_or_else(|| number(self.0.insert_full(Arc::from(name)).0))
    }

    /// The number of `name`, if it has one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<NameId> {
        // Most names that are asked for are empty: zones and settings nobody gave.
        if name.is_empty() { Some(NameId(0)) } else { self.0.get_index_of(name).map(number) }
    }

    /// The name behind `id`; empty when the table never gave that number out.
    #[must_use]
    pub fn get(&self, id: NameId) -> &str {
        self.0.get_index(id.0 as usize).map_or("", |name| name)
    }
}

fn number(place: usize) -> NameId {
    NameId(u32::try_from(place).expect("fewer than 2^32 names"))
}
