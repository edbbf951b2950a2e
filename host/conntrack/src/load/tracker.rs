//! Single flows, as far as counting needs them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::{Endpoint, State};
use crate::{Dump, Flow};

/// What happened to one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Connections that opened, less those that closed.
    pub active: i32,
    /// Connections that began.
    pub begun: u32,
}

/// What happened to which endpoints.
pub type Changes = BTreeMap<Endpoint, Change>;

/// Knows every redirected flow with an entry in the kernel and turns what is told of them into [`Changes`]. Telling
/// it something twice changes nothing, so events and dumps may overlap.
///
/// A flow takes about 35 bytes here, a tenth of what it takes in the kernel. Closed ones are kept as long as the
/// kernel keeps theirs: after lost events, a dump shows which of them began meanwhile.
#[derive(Debug, Default)]
pub struct Tracker {
    flows: BTreeMap<Key, Tracked>,
    /// One copy of each endpoint, shared by its flows.
    endpoints: BTreeSet<Arc<Endpoint>>,
    changes: Changes,
    /// Number of the last dump.
    dump: u32,
}

/// The kernel's number for the flow (a hash of 32 bits, so that a million flows share a few), and its client's and
/// frontend's ports.
type Key = (u32, u16, u16);

#[derive(Debug)]
struct Tracked {
    endpoint: Arc<Endpoint>,
    /// The dump it was seen in last, or the one before its beginning.
    dump: u32,
    open: bool,
    /// Whether it is among those that began.
    counted: bool,
}

impl Tracker {
    /// Takes in an event.
    pub fn observe(&mut self, flow: &Flow, state: State) {
        self.take(flow, state, true);
    }

    /// Begins a dump; each of its flows must come to [`Tracker::dumped`], and no event before the end.
    pub fn begin_dump(&mut self) {
        self.dump = self.dump.wrapping_add(1);
    }

    /// Takes in a flow of the dump. One that was not known began while events were lost, except with the first dump:
    /// what it shows was there before counting began.
    pub fn dumped(&mut self, flow: &Flow, state: State) {
        self.take(flow, state, self.dump > 1);
    }

    /// Ends a dump. Flows that a complete one did not show are gone.
    pub fn end_dump(&mut self, dump: Dump) {
        if dump == Dump::Complete {
            let unseen = self.flows.extract_if(.., |_, tracked| tracked.dump != self.dump);
            let unseen: Vec<Tracked> = unseen.map(|(_, tracked)| tracked).collect();
            // One by one: the last flow of an endpoint must find itself to be the last.
            for tracked in unseen {
                self.forget(&tracked);
            }
        }
    }

    /// What happened since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Flows it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    fn take(&mut self, flow: &Flow, state: State, count_unknown: bool) {
        let key = (flow.id, flow.source.port(), flow.destination.port());
        let endpoint = Endpoint { protocol: flow.protocol, address: flow.reply_source };
        let open = matches!(state, State::Began | State::Open);
        match self.flows.entry(key) {
            Entry::Occupied(entry) if state == State::Gone => {
                let tracked = entry.remove();
                self.forget(&tracked);
            }
            Entry::Occupied(mut entry) => {
                let tracked = entry.get_mut();
                let begun = state == State::Began && !tracked.counted;
                tracked.counted |= begun;
                tracked.dump = self.dump;
                // Old news: it was read after a dump that already showed the end.
                let open = open && (tracked.open || state == State::Open);
                let active = i32::from(open) - i32::from(tracked.open);
                tracked.open = open;
                note(&mut self.changes, *tracked.endpoint, active, begun);
            }
            // Its end is old news, too.
            Entry::Vacant(_) if state == State::Gone => {}
            Entry::Vacant(entry) => {
                let shared = self.endpoints.get(&endpoint).cloned().unwrap_or_else(|| {
                    let shared = Arc::new(endpoint);
                    self.endpoints.insert(Arc::clone(&shared));
                    shared
                });
                entry.insert(Tracked { endpoint: shared, dump: self.dump, open, counted: count_unknown });
                note(&mut self.changes, endpoint, i32::from(open), count_unknown);
            }
        }
    }

    fn forget(&mut self, tracked: &Tracked) {
        note(&mut self.changes, *tracked.endpoint, -i32::from(tracked.open), false);
        // The other one is in the set.
        const LAST: usize = 2;
        if Arc::strong_count(&tracked.endpoint) == LAST {
            self.endpoints.remove(&tracked.endpoint);
        }
    }
}

fn note(changes: &mut Changes, endpoint: Endpoint, active: i32, begun: bool) {
    if active != 0 || begun {
        let change = changes.entry(endpoint).or_default();
        change.active += active;
        change.begun += u32::from(begun);
    }
}

#[cfg(test)]
mod tests;
