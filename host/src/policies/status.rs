//! What is known of each policy from outside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::versions::Version;

/// How the last delivery of a policy ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum State {
    /// It decides.
    Active,
    /// It is not used; the version before it, if there was one, still decides.
    Refused {
        /// A stable word.
        reason: String,
        /// What is wrong with it.
        message: String,
    },
    /// It rests, because somebody wants that: the node's defaults decide.
    Off,
}

/// Which of the versions on offer decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Track {
    /// The one for every node.
    Stable,
    /// The one some nodes try.
    Canary,
    /// The one that was asked for by its digest.
    Pinned,
}

impl Track {
    /// As it is written in status and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
            Self::Pinned => "pinned",
        }
    }
}

/// A version that can be gone back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// SHA-256 of its component.
    pub digest: String,
    /// When it last began to decide.
    #[serde(serialize_with = "rfc3339")]
    pub since: SystemTime,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// SHA-256 of the component that decides; empty when none of that name does.
    pub digest: String,
    /// When it began to.
    #[serde(serialize_with = "some_rfc3339", skip_serializing_if = "Option::is_none")]
    pub since: Option<SystemTime>,
    /// Which of the versions on offer it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
    /// What became of the last delivery.
    #[serde(flatten)]
    pub last: State,
    /// SHA-256 of what was refused, if the last delivery was and could be unpacked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_digest: Option<String>,
    /// Why this node does not run the canary it should run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_problem: Option<String>,
    /// Versions that decided before, the last one first.
    pub previous: Vec<Past>,
    /// Versions that were taken since the start.
    pub accepted: u64,
    /// Versions that were refused since the start.
    pub refused: u64,
}

/// The status of every policy from outside, shared between the loop that writes it and whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<String, Status>>>);

impl Board {
    /// The first of `versions` of `name` decides from now on; the others can be gone back to.
    pub fn accepted(&self, name: &str, versions: &[Version], track: Track) {
        let past = |version: &Version| Past { digest: version.policy.digest().to_string(), since: version.since };
        let mut versions = versions.iter().map(past);
        self.change(name, |status| {
            if let Some(Past { digest, since }) = versions.next() {
                (status.digest, status.since) = (digest, Some(since));
            }
            status.previous = versions.collect();
            (status.last, status.track, status.refused_digest) = (State::Active, Some(track), None);
            status.accepted += 1;
        });
    }

    /// A version of `name` was refused.
    pub fn refused(&self, name: &str, digest: Option<String>, reason: &str, message: &str) {
        self.change(name, |status| {
            status.last = State::Refused { reason: reason.to_owned(), message: message.to_owned() };
            status.refused_digest = digest;
            status.refused += 1;
        });
    }

    /// The policy of that name rests.
    pub fn off(&self, name: &str) {
        self.change(name, |status| {
            status.last = State::Off;
            (status.since, status.track) = (None, None);
            status.digest.clear();
        });
    }

    /// Why this node does not run the canary of `name`; `None` when it does, or should not.
    pub fn canary(&self, name: &str, problem: Option<String>) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = board.get_mut(name) {
            status.canary_problem = problem;
        }
    }

    /// There is no policy of that name any more.
    pub fn gone(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// All of them, by name.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Status)) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Status {
            digest: String::new(),
            since: None,
            track: None,
            last: State::Active,
            refused_digest: None,
            canary_problem: None,
            previous: Vec::new(),
            accepted: 0,
            refused: 0,
        };
        change(board.entry(name.to_owned()).or_insert_with(fresh));
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let time = Timestamp::try_from(*time).map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&format_args!("{time:.0}"))
}

fn some_rfc3339<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}
