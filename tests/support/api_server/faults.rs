//! What the server can do wrong, and what it remembers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What goes wrong at present. The default is a server without a fault.
#[derive(Clone, Debug)]
pub struct Faults {
    /// How long each list of that resource (`services`) is held back.
    pub list_delay: BTreeMap<String, Duration>,
    /// Answer everything with this code, and with that many seconds in `Retry-After`.
    pub refuse: Option<(u16, Option<u64>)>,
    /// Answer requests of that resource with this code.
    pub refuse_resource: BTreeMap<String, u16>,
    /// The bearer token that is asked for; others get 401.
    pub token: Option<String>,
    /// Let requests wait for ever, and watches be silent, as on a connection whose other end is dead.
    pub frozen: bool,
    /// Delete without telling those who watch.
    pub drop_deletes: bool,
    /// How often watches get a bookmark.
    pub bookmarks: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            list_delay: BTreeMap::new(),
            refuse: None,
            refuse_resource: BTreeMap::new(),
            token: None,
            frozen: false,
            drop_deletes: false,
            bookmarks: Duration::from_secs(60),
        }
    }
}

impl Faults {
    /// Holds back lists of that resource (`services`) by `delay`.
    pub fn delay_list(&mut self, resource: &str, delay: Duration) {
        self.list_delay.insert(resource.to_owned(), delay);
    }

    /// Answers requests of that resource with `code`.
    pub fn refuse_kind(&mut self, resource: &str, code: u16) {
        self.refuse_resource.insert(resource.to_owned(), code);
    }
}

/// A request, as a role would have to allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// API group; empty for the core one.
    pub group: String,
    /// Name in a path, as in `services`; with `/status` behind it for a subresource.
    pub resource: String,
    /// Namespace; empty for all of them, and for kinds that belong to none.
    pub namespace: String,
    /// Name; empty where several are asked for.
    pub name: String,
    /// Everything behind the `?`, decoded.
    pub query: BTreeMap<String, String>,
    /// When it came.
    pub at: Instant,
    /// The code of the answer; 0 while there is none.
    pub code: u16,
}

/// What is done to the watches that are open.
#[derive(Clone, Debug)]
pub(super) enum Blow {
    /// The connection ends in the middle.
    Cut,
    /// An ERROR event with that code, and the end.
    Error(u16),
    /// This text goes to the watches of that resource.
    Say(String, String),
    /// Nothing is said any more, and the connection stays.
    Freeze,
}
