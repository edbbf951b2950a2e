//! What is known of each policy from outside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

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
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// SHA-256 of the component that decides; empty when none of that name does.
    pub digest: String,
    /// What became of the last delivery.
    #[serde(flatten)]
    pub last: State,
    /// Versions that were taken since the start.
    pub accepted: u64,
    /// Versions that were refused since the start.
    pub refused: u64,
}

/// The status of every policy from outside, shared between the loop that writes it and whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<String, Status>>>);

impl Board {
    /// A version of `name` decides from now on.
    pub fn accepted(&self, name: &str, digest: String) {
        self.change(name, |status| {
            (status.digest, status.last) = (digest, State::Active);
            status.accepted += 1;
        });
    }

    /// A version of `name` was refused.
    pub fn refused(&self, name: &str, reason: &str, message: &str) {
        self.change(name, |status| {
            status.last = State::Refused { reason: reason.to_owned(), message: message.to_owned() };
            status.refused += 1;
        });
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
        let fresh = || Status { digest: String::new(), last: State::Active, accepted: 0, refused: 0 };
        change(board.entry(name.to_owned()).or_insert_with(fresh));
    }
}
