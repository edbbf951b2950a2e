//! Watches: changes as they come, bookmarks, and blows.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep_until};

use super::cluster::{Change, Cluster};
use super::faults::Blow;
use super::request::Target;
use super::selector::Selector;

/// How long a watch lasts for those who do not say.
const DEFAULT_SECONDS: u64 = 1800;

/// The body of a watch: lines as they are sent. An error cuts the connection.
pub(super) struct Lines(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Lines {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| line.map(Frame::data)))
    }
}

/// Begins a watch.
///
/// # Errors
/// The code and message of a refusal: 410 when it should begin at what is forgotten.
pub(super) fn begin(cluster: &Arc<Cluster>, target: &Target, selector: Selector) -> Result<Lines, (u16, String)> {
    let version = target.query.get("resourceVersion").map_or("", String::as_str);
    let version: u64 = version.parse().map_err(|_| (400, format!("{version:?} is no resourceVersion")))?;
    let state = cluster.state();
    if version < state.compacted {
        return Err((410, format!("too old resource version: {version} ({})", state.compacted)));
    }
    drop(state);
    let seconds = target.query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_SECONDS);
    let (lines, body) = mpsc::channel(16);
    let watch = Watch {
        lines,
        cluster: cluster.clone(),
        target: target.clone(),
        selector,
        version,
        ends: Instant::now() + Duration::from_secs(seconds),
        // Subscribed before anybody is told that the watch is on.
        blows: cluster.blows.subscribe(),
    };
    tokio::spawn(watch.run());
    Ok(Lines(body))
}

struct Watch {
    lines: mpsc::Sender<io::Result<Bytes>>,
    cluster: Arc<Cluster>,
    target: Target,
    selector: Selector,
    /// Everything up to this revision was told.
    version: u64,
    ends: Instant,
    blows: broadcast::Receiver<Blow>,
}

/// The other end is gone, or this one ends.
struct Over;

impl Watch {
    async fn run(mut self) {
        let mut changes = self.cluster.changes();
        let mut bookmark = Instant::now() + self.bookmarks();
        loop {
            if self.catch_up().await.is_err() {
                return;
            }
            let next = tokio::select! {
                _ = changes.changed() => {
                    // The interval may be another now.
                    bookmark = bookmark.min(Instant::now() + self.bookmarks());
                    Ok(())
                }
                blow = self.blows.recv() => self.suffer(blow).await,
                () = sleep_until(bookmark) => {
                    bookmark = Instant::now() + self.bookmarks();
                    self.bookmark().await
                }
                () = sleep_until(self.ends) => Err(Over),
                () = self.lines.closed() => Err(Over),
            };
            if next.is_err() {
                return;
            }
        }
    }

    fn bookmarks(&self) -> Duration {
        self.cluster.state().faults.bookmarks
    }

    /// Tells all changes that were not told.
    async fn catch_up(&mut self) -> Result<(), Over> {
        let (events, now) = {
            let state = self.cluster.state();
            if state.faults.frozen {
                return Ok(());
            }
            let new = state.history.iter().filter(|change| change.revision > self.version);
            (new.filter_map(|change| self.event(change)).collect::<Vec<_>>(), state.revision)
        };
        self.version = now;
        for event in events {
            self.say(event.to_string()).await?;
        }
        Ok(())
    }

    /// What `change` means to this watch: an object that begins or ceases to be selected comes or goes.
    fn event(&self, change: &Change) -> Option<Value> {
        let Target { resource, namespace, name, .. } = &self.target;
        let here = change.resource == resource.plural && (namespace.is_empty() || *namespace == change.namespace);
        let named = name.is_empty() || change.last.pointer("/metadata/name").and_then(Value::as_str) == Some(name);
        if !here || !named {
            return None;
        }
        let selected =
            |object: &Option<Arc<Value>>| object.as_ref().is_some_and(|object| self.selector.matches(object));
        let kind = match (selected(&change.before), selected(&change.after)) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        Some(json!({"type": kind, "object": *change.last}))
    }

    async fn bookmark(&self) -> Result<(), Over> {
        if self.cluster.state().faults.frozen || !self.target.query.contains_key("allowWatchBookmarks") {
            return Ok(());
        }
        let resource = self.target.resource;
        let event = json!({"type": "BOOKMARK", "object": {
            "kind": resource.kind, "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": self.version.to_string(), "creationTimestamp": null},
        }});
        self.say(event.to_string()).await
    }

    async fn suffer(&mut self, blow: Result<Blow, RecvError>) -> Result<(), Over> {
        match blow {
            Err(RecvError::Closed) => Err(Over),
            Err(RecvError::Lagged(_)) => Ok(()),
            Ok(Blow::Cut) => {
                let _ = self.lines.send(Err(io::Error::other("cut on purpose"))).await;
                Err(Over)
            }
            Ok(Blow::Error(code)) => {
                let reason = if code == 410 { "Expired" } else { "InternalError" };
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "code": code, "reason": reason, "message": "ended on purpose"});
                self.say(json!({"type": "ERROR", "object": status}).to_string()).await?;
                Err(Over)
            }
            Ok(Blow::Say(resource, line)) if resource == self.target.resource.plural => self.say(line).await,
            Ok(Blow::Say(..)) => Ok(()),
            Ok(Blow::Freeze) => {
                self.lines.closed().await;
                Err(Over)
            }
        }
    }

    async fn say(&self, mut line: String) -> Result<(), Over> {
        line.push('\n');
        self.lines.send(Ok(Bytes::from(line))).await.map_err(|_| Over)
    }
}
