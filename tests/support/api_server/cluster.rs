//! The objects, with their history: what etcd is to the real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, watch};

use super::faults::{Asked, Blow, Faults};
use super::resources::Resource;

/// Blows a watch may not have seen yet.
const BLOWS: usize = 1024;

/// Resource, namespace, name.
pub(super) type Path = (&'static str, String, String);

/// What a cluster holds. Shared by servers and tests.
#[derive(Debug)]
pub struct Cluster {
    state: Mutex<State>,
    /// The revision, for those who wait for the next.
    revision: watch::Sender<u64>,
    pub(super) blows: broadcast::Sender<Blow>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) revision: u64,
    pub(super) objects: BTreeMap<Path, Arc<Value>>,
    /// What each field manager last applied, by object and manager.
    pub(super) applied: BTreeMap<(Path, String), Value>,
    pub(super) history: Vec<Change>,
    /// Watches from before this revision are too old.
    pub(super) compacted: u64,
    pub(super) faults: Faults,
    pub(super) asked: Vec<Asked>,
    /// Lists that are being read page by page: their revision and the objects, by number.
    pub(super) snapshots: BTreeMap<u64, (u64, Vec<Arc<Value>>)>,
    pub(super) next_snapshot: u64,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) resource: &'static str,
    pub(super) namespace: String,
    /// `None` when it was created.
    pub(super) before: Option<Arc<Value>>,
    /// `None` when it was deleted; `last` is its last version then.
    pub(super) after: Option<Arc<Value>>,
    /// The object, or its last version with the revision of its end.
    pub(super) last: Arc<Value>,
}

impl Default for Cluster {
    fn default() -> Self {
        // A real one is never at 0, which means "any" in a request.
        let state = State { revision: 1, ..State::default() };
        Self { state: Mutex::new(state), revision: watch::Sender::new(1), blows: broadcast::Sender::new(BLOWS) }
    }
}

impl Cluster {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Creates or replaces objects, each with `kind`, `metadata.name` and, where its kind has one, a namespace (or
    /// `default`).
    ///
    /// # Panics
    /// When a kind is not served, or a name is missing.
    pub fn apply(&self, objects: impl IntoIterator<Item = Value>) {
        for object in objects {
            let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
            let resource = Resource::of_kind(kind).unwrap_or_else(|| panic!("kind {kind:?} is not served"));
            let path = path_of(resource, &object).unwrap_or_else(|| panic!("an object without a name: {object}"));
            self.state().put(&path, object);
            self.announce();
        }
    }

    /// Deletes an object. Returns whether it was there.
    ///
    /// # Panics
    /// When the kind is not served.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let resource = Resource::of_kind(kind).unwrap_or_else(|| panic!("kind {kind:?} is not served"));
        let gone = self.state().delete(&(resource.plural, namespace.to_owned(), name.to_owned())).is_some();
        self.announce();
        gone
    }

    /// An object as it stands.
    #[must_use]
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let resource = Resource::of_kind(kind)?;
        self.state().objects.get(&(resource.plural, namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Every object of a kind.
    #[must_use]
    pub fn list(&self, kind: &str) -> Vec<Arc<Value>> {
        let Some(resource) = Resource::of_kind(kind) else { return Vec::new() };
        let state = self.state();
        state.objects.iter().filter(|(path, _)| path.0 == resource.plural).map(|(_, object)| object.clone()).collect()
    }

    /// Changes what goes wrong.
    pub fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
        // Those who wait look again.
        self.announce();
    }

    /// Every request since the start, or since [`Cluster::forget_asked`].
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// Forgets what was asked so far.
    pub fn forget_asked(&self) {
        self.state().asked.clear();
    }

    /// Forgets the past: watches that begin before now, and lists that are half read, get 410.
    pub fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.revision;
        state.history.clear();
        state.snapshots.clear();
    }

    /// Cuts every open watch.
    pub fn cut_watches(&self) {
        let _ = self.blows.send(Blow::Cut);
    }

    /// Ends every open watch with an ERROR event of that code.
    pub fn end_watches_with(&self, code: u16) {
        let _ = self.blows.send(Blow::Error(code));
    }

    /// Silences every open watch for ever, without closing its connection. New ones are not concerned.
    pub fn freeze_watches(&self) {
        let _ = self.blows.send(Blow::Freeze);
    }

    /// Sends `line` to every open watch of a resource (`services`).
    pub fn say(&self, resource: &str, line: &str) {
        let _ = self.blows.send(Blow::Say(resource.to_owned(), line.to_owned()));
    }

    /// Watches that are open.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.blows.receiver_count()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A test that fails while it holds the lock fails once, not everywhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait that something changed.
    pub(super) fn announce(&self) {
        let revision = self.state().revision;
        self.revision.send_replace(revision);
    }

    /// Sees each change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

impl State {
    /// Creates or replaces an object, with what an API server adds. Returns it as it stands then.
    pub(super) fn put(&mut self, path: &Path, mut object: Value) -> Arc<Value> {
        unwrap_binary_data(&mut object);
        let before = self.objects.get(path).cloned();
        if before.as_ref().is_some_and(|before| same_but_version(before, &object)) {
            return before.unwrap_or_default();
        }
        self.revision += 1;
        let (revision, resource) = (self.revision, path.0);
        let kept =
            |name: &str| before.as_ref().and_then(|before| before.pointer(&format!("/metadata/{name}")).cloned());
        let uid = kept("uid").unwrap_or_else(|| json!(format!("00000000-0000-4000-8000-{revision:012}")));
        let created = kept("creationTimestamp").unwrap_or_else(|| json!("2024-01-01T00:00:00Z"));
        let metadata = member(&mut object, "metadata");
        metadata.insert("resourceVersion".to_owned(), json!(revision.to_string()));
        metadata.entry("uid").or_insert(uid);
        metadata.entry("creationTimestamp").or_insert(created);
        metadata.insert("name".to_owned(), json!(path.2));
        if !path.1.is_empty() {
            metadata.insert("namespace".to_owned(), json!(path.1));
        }
        if resource == "services" {
            default_service(&mut object, revision);
        }
        let object = Arc::new(object);
        self.objects.insert(path.clone(), object.clone());
        self.history.push(Change {
            revision,
            resource,
            namespace: path.1.clone(),
            before,
            after: Some(object.clone()),
            last: object.clone(),
        });
        object
    }

    /// Deletes an object and returns its last version.
    pub(super) fn delete(&mut self, path: &Path) -> Option<Arc<Value>> {
        let before = self.objects.remove(path)?;
        self.revision += 1;
        let mut last = (*before).clone();
        member(&mut last, "metadata").insert("resourceVersion".to_owned(), json!(self.revision.to_string()));
        let last = Arc::new(last);
        if !self.faults.drop_deletes {
            self.history.push(Change {
                revision: self.revision,
                resource: path.0,
                namespace: path.1.clone(),
                before: Some(before),
                after: None,
                last: last.clone(),
            });
        }
        Some(last)
    }

    /// Notes a request; the number is for [`State::answered`].
    pub(super) fn ask(&mut self, asked: Asked) -> (usize, Instant) {
        let at = asked.at;
        self.asked.push(asked);
        (self.asked.len() - 1, at)
    }

    /// Notes the code of its answer, unless it was forgotten meanwhile.
    pub(super) fn answered(&mut self, (number, at): (usize, Instant), code: u16) {
        if let Some(asked) = self.asked.get_mut(number).filter(|asked| asked.at == at) {
            asked.code = code;
        }
    }
}

/// Where an object belongs.
pub(super) fn path_of(resource: &Resource, object: &Value) -> Option<Path> {
    let text = |name: &str| object.pointer(name).and_then(Value::as_str);
    let namespace = if resource.namespaced { text("/metadata/namespace").unwrap_or("default") } else { "" };
    Some((resource.plural, namespace.to_owned(), text("/metadata/name")?.to_owned()))
}

/// The member of that name as a map; made if need be.
pub(super) fn member<'a>(object: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let slot = &mut object[name];
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("it is a map by now")
}

/// A write that changes nothing makes no new version.
fn same_but_version(before: &Value, after: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        for name in ["resourceVersion", "uid", "creationTimestamp", "namespace", "generation"] {
            member(&mut object, "metadata").remove(name);
        }
        object
    };
    bare(before) == bare(after)
}

/// Base64 may come in lines, as `kubectl kustomize` writes it, and is stored as one: the API server decodes bytes as Go
/// does, which passes over line ends, and encodes them again.
fn unwrap_binary_data(object: &mut Value) {
    for value in object.get_mut("binaryData").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        if let Value::String(text) = value {
            text.retain(|character| !matches!(character, '\r' | '\n'));
        }
    }
}

/// What a Service has after the API server saw it: an address, and the protocol of its ports.
fn default_service(object: &mut Value, revision: u64) {
    let spec = member(object, "spec");
    let kind = spec.entry("type").or_insert_with(|| json!("ClusterIP")).as_str().unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        let address = format!("10.96.{}.{}", revision / 250 % 250, revision % 250 + 1);
        let address = spec.entry("clusterIP").or_insert_with(|| json!(address)).clone();
        spec.entry("clusterIPs").or_insert_with(|| json!([address]));
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            port.entry("protocol").or_insert_with(|| json!("TCP"));
        }
    }
}
