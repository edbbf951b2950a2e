//! Services from files: a directory of Kubernetes manifests, or a list of them.
//!
//! * A directory is read with everything below it: `*.yaml`, `*.yml`, `*.json`. Names that begin with a dot
//!   are left out, which covers editors' files and the `..data` machinery of mounted ConfigMaps.
//! * A file holds any number of documents; kinds other than Service, EndpointSlice, ConfigMap, Node,
//!   ServiceCIDR and lists of them are skipped with a note.
//! * While a file has errors, nothing it gave before is lost: each of its objects stays as it was last read,
//!   unless the bad file still has a readable newer version of it. The same holds for a file that becomes
//!   empty, which is how a half-written one looks at first. Deleting the file removes its objects.
//! * While a named directory is missing, or one below it cannot be read, what it held stays as well.
//! * Of two objects with the same name, that of the first file by path wins, then the first in the file.

mod document;
mod object;
mod problem;
mod scan;
mod tree;
mod union;
mod watch;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use weir_model::{Event, NodeSpec, ServiceSpec, SliceSpec};

use crate::{ConfigMapEvent, ConfigMapSpec, Selection};
pub use document::{documents, explain};
pub use problem::{Problem, Severity};
use tree::Tree;
use union::Union;
pub use watch::watch;

/// Manifests in files, and what was last read from them.
#[derive(Debug)]
pub struct Manifests {
    tree: Tree,
    union: Union,
    /// Whether the complete list was handed out.
    started: bool,
    /// Problems that hold now, and were reported.
    reported: Vec<Problem>,
}

/// Everything a set of manifests says, in order of name.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The Services.
    pub services: Vec<ServiceSpec>,
    /// The EndpointSlices.
    pub slices: Vec<SliceSpec>,
    /// The ConfigMaps.
    pub config_maps: Vec<ConfigMapSpec>,
    /// This node's object, if there is one.
    pub node: Option<NodeSpec>,
    /// The ranges of all ServiceCIDRs.
    pub service_cidrs: Vec<IpNet>,
    /// What is wrong, and what was skipped, in order of file.
    pub problems: Vec<Problem>,
}

/// What changed in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// For the model: at first a complete list, then single objects. Empty when nothing changed.
    pub events: Vec<Event>,
    /// What happened to ConfigMaps that carry policies; they count before `events` do.
    pub config_maps: Vec<ConfigMapEvent>,
    /// Problems that were not there the last time.
    pub problems: Vec<Problem>,
}

impl Manifests {
    /// Manifests at those paths, files or directories, as far as `selection` takes them; nothing is read yet.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, selection: Selection) -> Self {
        Self { tree: Tree::new(paths, selection), union: Union::default(), started: false, reported: Vec::new() }
    }

    /// Reads everything at those paths once. A path that cannot be read is among the problems.
    #[must_use]
    pub fn load(paths: &[PathBuf], selection: &Selection) -> Loaded {
        Self::load_with(paths, &[], selection)
    }

    /// The same, with texts that stand in no file of their own; each comes with a name for its problems, whose
    /// extension tells YAML from JSON as that of a file does.
    #[must_use]
    pub fn load_with(paths: &[PathBuf], texts: &[(PathBuf, String)], selection: &Selection) -> Loaded {
        let mut tree = Tree::new(paths.to_vec(), selection.clone());
        tree.refresh();
        texts.iter().for_each(|(name, text)| tree.add(name, text));
        let union = Union::of(&tree);
        let service_cidrs = union.ranges();
        let mut problems = tree.problems();
        problems.extend(union.duplicates);
        problems.sort_by(|a, b| (&a.file, a.document).cmp(&(&b.file, b.document)));
        Loaded {
            service_cidrs,
            node: union.node.map(Arc::unwrap_or_clone),
            services: union.services.into_values().map(Arc::unwrap_or_clone).collect(),
            slices: union.slices.into_values().map(Arc::unwrap_or_clone).collect(),
            config_maps: union.config_maps.into_values().map(Arc::unwrap_or_clone).collect(),
            problems,
        }
    }

    /// Reads what changed since the last call. The first events come once every path could be read, so that
    /// a directory that is mounted late is not taken for an empty cluster.
    pub fn refresh(&mut self) -> Changes {
        let changed = self.tree.refresh();
        let (mut events, mut config_maps) = (Vec::new(), Vec::new());
        if changed || !self.started {
            let union = Union::of(&self.tree);
            if self.started {
                events = self.union.changes_to(&union);
                config_maps = self.union.policy_changes_to(&union);
            } else if self.tree.is_complete() {
                self.started = true;
                events = union.complete();
                config_maps = Union::default().policy_changes_to(&union);
                config_maps.push(ConfigMapEvent::Listed);
            }
            self.union = union;
        }
        let mut problems = self.tree.problems();
        problems.extend_from_slice(&self.union.duplicates);
        let new = problems.iter().filter(|problem| !self.reported.contains(problem)).cloned().collect();
        self.reported = problems;
        Changes { events, config_maps, problems: new }
    }

    /// The ConfigMaps as of the last [`Manifests::refresh`], in order of name.
    pub fn config_maps(&self) -> impl Iterator<Item = &ConfigMapSpec> {
        self.union.config_maps.values().map(|spec| &**spec)
    }
}

impl Loaded {
    /// All of it as events for the model, in the order the model needs them in.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        let mut events = Vec::new();
        events.extend(self.node.map(|node| Event::Node(Some(node))));
        if !self.service_cidrs.is_empty() {
            events.push(Event::ServiceCidrs(self.service_cidrs));
        }
        events.push(Event::Replace { services: self.services, slices: self.slices });
        events
    }
}
