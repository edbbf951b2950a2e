//! Names as numbers: a namespace, zone or node name is stored once, however many endpoints carry it.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Number of an interned name. 0 is the empty name. Stable for the life of one [`Names`] table only, so it
/// must never reach the kernel or another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(pub u32);

/// Number of a Service; stable while the Service exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// The table of interned names.
#[derive(Clone, Debug)]
pub struct Names {
    by_name: BTreeMap<Arc<str>, NameId>,
    by_id: Vec<Arc<str>>,
}

impl Default for Names {
    fn default() -> Self {
        let empty: Arc<str> = Arc::from("");
        Self { by_name: BTreeMap::from([(empty.clone(), NameId(0))]), by_id: vec![empty] }
    }
}

impl Names {
    /// The number of `name`, new if it has none yet.
    ///
    /// # Panics
    /// After 2³² different names.
    pub fn intern(&mut self, name: &str) -> NameId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let id = NameId(u32::try_from(self.by_id.len()).expect("fewer than 2^32 names"));
        let stored: Arc<str> = Arc::from(name);
        self.by_id.push(stored.clone());
        self.by_name.insert(stored, id);
        id
    }

    /// The number of `name`, if it has one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<NameId> {
        self.by_name.get(name).copied()
    }

    /// The name behind `id`; empty when the table never gave that number out.
    #[must_use]
    pub fn get(&self, id: NameId) -> &str {
        self.by_id.get(id.0 as usize).map_or("", |name| name)
    }
}
