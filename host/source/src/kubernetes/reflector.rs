//! One kind, listed and watched for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, error, warn};
use weir_model::ObjectKey;

use super::access::{Connection, Numbered};
use super::api::{Failure, Page, Told, Watch};
use super::backoff::Backoff;
use super::gate::{Change, Update};
use super::kind::Query;
use super::object::{self, Outline};
use super::timing::jittered;
use super::{Kind, Options, SourceHealth, Timing};
use crate::Selection;
use crate::convert::Converted;

/// Lists and watches one kind and hands on what changes.
#[derive(Debug)]
pub(super) struct Reflector {
    kind: Kind,
    query: Query,
    selection: Selection,
    timing: Timing,
    health: SourceHealth,
    connection: Arc<Connection>,
    updates: mpsc::Sender<Update>,
    /// Rings when everything has to be listed again; for slices also when their first list may begin.
    again: Arc<Notify>,
    /// Every object that was handed on, or could not be read, and is not known to be gone.
    known: BTreeSet<ObjectKey>,
    /// Whether a complete list was handed on.
    listed: bool,
    relist_at: Instant,
    backoff: Backoff,
}

/// Why a reflector stops what it does.
enum Stop {
    /// Nobody listens any more.
    Closed,
    /// Something went wrong.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// How a watch ended in good order.
enum Ended {
    /// Its time is over.
    Over,
    /// Everything has to be listed again.
    Relist,
}

impl Reflector {
    /// `again`: rings when everything has to be listed again.
    pub(super) fn new(
        kind: Kind,
        options: &Options,
        connection: Arc<Connection>,
        updates: mpsc::Sender<Update>,
        again: Arc<Notify>,
    ) -> Self {
        Self {
            kind,
            query: Query::new(kind, options),
            selection: options.selection.clone(),
            timing: options.timing.clone(),
            health: options.health.clone(),
            connection,
            updates,
            again,
            known: BTreeSet::new(),
            listed: false,
            relist_at: Instant::now(),
            backoff: Backoff::default(),
        }
    }

    /// Goes on until nobody listens any more.
    pub(super) async fn run(mut self) {
        if self.kind == Kind::EndpointSlice {
            // What their hints mean depends on this node, which has to be known first.
            self.again.notified().await;
        }
        // What the next watch begins at; `None` asks for a list.
        let mut version: Option<String> = None;
        loop {
            let client = match self.connection.client().await {
                Ok(client) => client,
                Err(error) => {
                    self.wait(&error.into()).await;
                    continue;
                }
            };
            let done = match &mut version {
                None => self.list(&client).await.map(|listed| version = Some(listed)),
                Some(at) => match self.watch(&client, at).await {
                    Ok(Ended::Over) => Ok(()),
                    Ok(Ended::Relist) => {
                        version = None;
                        Ok(())
                    }
                    Err(stop) => Err(stop),
                },
            };
            match done {
                Ok(()) => {}
                Err(Stop::Closed) => return,
                Err(Stop::Failed(failure)) if self.is_absent(&failure) => {
                    if self.do_without(&failure).await.is_err() {
                        return;
                    }
                    version = None;
                }
                Err(Stop::Failed(failure)) => {
                    if !failure.is_resumable() {
                        version = None;
                    }
                    self.wait(&failure).await;
                    if failure.is_of_connection() {
                        self.connection.renew(&client).await;
                    }
                }
            }
        }
    }

    /// Lists all objects, page by page, hands each on, and then those that are gone. Returns what the list is as of.
    async fn list(&mut self, client: &Numbered) -> Result<String, Stop> {
        let mut listed = BTreeSet::new();
        let mut token: Option<String> = None;
        let version = loop {
            let path = self.query.page(self.timing.page, token.as_deref());
            let page = Page::get(&client.client, &path, self.timing.answer).await?;
            self.health.heard(self.kind);
            let list = page.read()?;
            for text in list.objects() {
                listed.extend(self.apply(text).await?);
            }
            match list.token() {
                Some(next) => token = Some(next.to_owned()),
                None => break list.metadata.resource_version,
            }
        };
        let gone: Vec<ObjectKey> = self.known.difference(&listed).cloned().collect();
        debug!(kind = %self.kind, objects = listed.len(), gone = gone.len(), version, "listed");
        for key in gone {
            self.forget(key).await?;
        }
        self.send(Change::Listed).await?;
        self.listed = true;
        self.relist_at = Instant::now() + jittered(self.timing.relist);
        Ok(version)
    }

    /// Watches from `version` on, which it moves along.
    async fn watch(&mut self, client: &Numbered, version: &mut String) -> Result<Ended, Stop> {
        let begun = Instant::now();
        let seconds = jittered_watch(self.timing.watch);
        let path = self.query.watch(version, seconds);
        let mut watch = Watch::open(&client.client, &path, self.timing.answer).await?;
        self.health.heard(self.kind);
        let again = self.again.clone();
        loop {
            let line = tokio::select! {
                line = watch.line(self.timing.silence) => line?,
                () = again.notified() => return Ok(Ended::Relist),
                () = sleep_until(self.relist_at) => return Ok(Ended::Relist),
            };
            let Some(line) = line else { break };
            let told = Told::read(&line)?;
            self.health.heard(self.kind);
            self.backoff.reset();
            let text = match told {
                Told::Applied(text) => {
                    self.apply(text).await?;
                    text
                }
                Told::Deleted(text) => {
                    if let Some(key) = Outline::of(self.kind, text).key {
                        self.forget(key).await?;
                    }
                    text
                }
                Told::Bookmark(text) => text,
            };
            if let Some(new) = Outline::of(self.kind, text).version {
                *version = new;
            }
        }
        if begun.elapsed() < self.timing.first_wait {
            // One that ends at once again and again must not keep us and the API server busy.
            return Err(Failure::Transport("the watch ended as soon as it began".to_owned()).into());
        }
        self.backoff.reset();
        Ok(Ended::Over)
    }

    /// Reads an object and hands it on. Returns its name, unless it does not count or has none that can be read.
    async fn apply(&mut self, text: &str) -> Result<Option<ObjectKey>, Stop> {
        let kind = self.kind;
        let Some(key) = Outline::of(kind, text).key else {
            error!("{kind}: metadata.name: cannot be read; the object is left out");
            return Ok(None);
        };
        let mut warnings = Vec::new();
        let read = object::read(kind, text, &self.selection, &mut warnings);
        for warning in warnings {
            warn!("{kind} {key}: {warning}");
        }
        match read {
            Ok(Converted::Taken(object)) => {
                self.known.insert(key.clone());
                self.send(Change::Applied(key.clone(), Box::new(object))).await?;
                Ok(Some(key))
            }
            Ok(Converted::Ignored(why)) => {
                debug!("{kind} {key}: skipped: {why}");
                // It may have counted before.
                self.forget(key).await?;
                Ok(None)
            }
            Err(problem) => {
                let kept = if self.known.contains(&key) { "its last good version stays" } else { "it is left out" };
                error!("{kind} {key}: {problem}; {kept}");
                self.known.insert(key.clone());
                Ok(Some(key))
            }
        }
    }

    async fn forget(&mut self, key: ObjectKey) -> Result<(), Stop> {
        if self.known.remove(&key) { self.send(Change::Gone(key)).await } else { Ok(()) }
    }

    async fn send(&self, change: Change) -> Result<(), Stop> {
        self.updates.send(Update { kind: self.kind, change }).await.map_err(|_| Stop::Closed)
    }

    /// Whether `failure` means that the cluster does not have this kind for us.
    fn is_absent(&self, failure: &Failure) -> bool {
        self.kind.is_optional() && failure.is_absent()
    }

    /// Goes on as if there were no object of this kind, and looks again after a while. What was known before stays: a
    /// cluster does not lose its ranges, and a role that is mended late is no reason to drop a policy.
    async fn do_without(&mut self, failure: &Failure) -> Result<(), Stop> {
        if !self.listed {
            warn!(kind = %self.kind, "{failure}; going on without");
            self.listed = true;
            self.send(Change::Listed).await?;
        }
        self.health.absent(self.kind);
        sleep(jittered(self.timing.absent)).await;
        Ok(())
    }

    /// Tells of a failure and waits before the next attempt.
    async fn wait(&mut self, failure: &Failure) {
        let wait = self.backoff.next(failure, &self.timing);
        let told = if self.listed { "what is known stays" } else { "nothing is programmed before all is known" };
        warn!(kind = %self.kind, error = %failure, retry_in = ?wait, "cannot follow the cluster; {told}");
        sleep(wait).await;
    }
}

/// Seconds to ask for, from `shortest` to twice that.
fn jittered_watch(shortest: Duration) -> u64 {
    shortest.mul_f64(1.0 + fastrand::f64()).as_secs().max(1)
}
