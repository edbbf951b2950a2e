//! Following the files.
//!
//! inotify says when to look, never what to see: every change leads to a look at all stamps, so that a lost,
//! merged or misunderstood notification costs time at most.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;
use weir_model::Event;

use super::scan::Stamp;
use super::{Changes, Manifests, Problem};
use crate::{ConfigMapEvent, Selection};

/// How long the files must be quiet before they are read: whoever writes several, or one in pieces, is done.
const QUIET: Duration = Duration::from_millis(50);

/// How long reading is put off at most while changes keep coming.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// How often stamps are looked at without any notification: network file systems and targets of symlinks
/// outside the directory send none.
const POLL: Duration = Duration::from_secs(10);

/// The same while notifications do not work, or while a path is missing.
const FAST_POLL: Duration = Duration::from_secs(1);

/// Reads the manifests at `paths`, as far as `selection` takes them, and follows them, on a thread of its own, until the receiver of `events`
/// is gone. The first event is a complete list and comes once every path could be read; afterwards come
/// single objects. ConfigMaps that carry policies go
/// to `config_maps`, which nobody has to receive. Problems are logged when they arise.
///
/// # Errors
/// When no thread can be started.
pub fn watch(
    paths: Vec<PathBuf>,
    selection: Selection,
    events: tokio::sync::mpsc::Sender<Event>,
    config_maps: tokio::sync::mpsc::Sender<ConfigMapEvent>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("manifests".to_owned()).spawn(move || {
        let mut manifests = Manifests::new(paths, selection);
        let mut notifier = Notifier::new();
        while !events.is_closed() {
            let Changes { events: changes, config_maps: policies, problems } = manifests.refresh();
            problems.iter().for_each(Problem::log);
            // Nobody has to receive these.
            policies.into_iter().for_each(|change| drop(config_maps.blocking_send(change)));
            for change in changes {
                if events.blocking_send(change).is_err() {
                    return;
                }
            }
            // What changed before its directory was watched needs another look.
            if !notifier.follow(manifests.tree.directories()) {
                let poll = if notifier.works() && manifests.tree.is_complete() { POLL } else { FAST_POLL };
                notifier.wait(poll);
            }
        }
    })
}

/// Tells when something may have changed.
struct Notifier {
    /// `None` when the kernel gives us no inotify instance.
    watcher: Option<RecommendedWatcher>,
    /// Directories watched; `None` where that failed.
    watched: BTreeMap<PathBuf, Option<Stamp>>,
    changes: Receiver<()>,
    /// Kept so that the channel stays open without a watcher.
    _keep: Sender<()>,
}

impl Notifier {
    fn new() -> Self {
        let (sender, changes) = channel();
        let notify = sender.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading is no change. Errors may hide one.
            if event.map_or(true, |event| is_change(event.kind)) {
                // The receiver lives as long as the watcher does, except while both are dropped.
                let _ = notify.send(());
            }
        });
        let watcher =
            watcher.inspect_err(|error| warn!(%error, "no notification of file changes; looking every second")).ok();
        Self { watcher, watched: BTreeMap::new(), changes, _keep: sender }
    }

    /// Whether every directory is watched.
    fn works(&self) -> bool {
        self.watcher.is_some() && self.watched.values().all(Option::is_some)
    }

    /// Watches exactly these directories. Returns whether a watch is new.
    fn follow(&mut self, directories: &[(PathBuf, Stamp)]) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let wanted: BTreeMap<&Path, Stamp> = directories.iter().map(|(path, stamp)| (path.as_path(), *stamp)).collect();
        self.watched.retain(|path, _| {
            let keep = wanted.contains_key(path.as_path());
            if !keep {
                // Fails when the directory is gone, and its watch with it.
                let _ = watcher.unwatch(path);
            }
            keep
        });
        let mut new = false;
        for (path, stamp) in wanted {
            let known = self.watched.get(path);
            if known.is_some_and(|known| known.is_some_and(|known| known.is_same_file(&stamp))) {
                continue;
            }
            // The path may lead to another directory than before; the old watch must go, or the new one is
            // taken for the same.
            let _ = watcher.unwatch(path);
            let done = watcher.watch(path, RecursiveMode::NonRecursive);
            if let (Err(error), None) = (&done, known) {
                warn!(directory = %path.display(), %error, "cannot be notified of changes; looking every second");
            }
            new |= done.is_ok();
            self.watched.insert(path.to_owned(), done.is_ok().then_some(stamp));
        }
        new
    }

    /// Returns when something changed and things are quiet again, or after `poll`.
    fn wait(&self, poll: Duration) {
        if self.changes.recv_timeout(poll).is_err() {
            return;
        }
        let deadline = Instant::now() + LONGEST_WAIT;
        while Instant::now() < deadline {
            if let Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) = self.changes.recv_timeout(QUIET) {
                return;
            }
        }
    }
}

fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}
