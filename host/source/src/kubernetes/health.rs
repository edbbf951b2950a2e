//! How old our knowledge of the cluster may be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::{info, warn};

use super::Kind;

/// How often the watchdog looks.
const LOOK: Duration = Duration::from_secs(30);

/// Age of knowledge that is worth a warning. A healthy watch gives a sign of life a minute, and a dead one is replaced
/// within two.
const TOO_OLD: Duration = Duration::from_secs(300);

/// When the API server was last heard of, per kind: for a metric of data age, and for whoever watches over it. Clones
/// share what they know.
///
/// A list, a watch that is accepted, an event or a bookmark is a sign of life. A healthy watch gives one a minute.
#[derive(Clone, Debug, Default)]
pub struct SourceHealth(Arc<Mutex<BTreeMap<Kind, Contact>>>);

#[derive(Clone, Copy, Debug)]
enum Contact {
    /// At that time.
    Heard(Instant),
    /// The API server has no such kind, or does not let us see it.
    Absent,
}

impl SourceHealth {
    /// Time since the API server last gave a sign of life for `kind`; `None` before the first, and for a kind it does
    /// not have.
    #[must_use]
    pub fn age(&self, kind: Kind, now: Instant) -> Option<Duration> {
        match self.contacts().get(&kind)? {
            Contact::Heard(at) => Some(now.saturating_duration_since(*at)),
            Contact::Absent => None,
        }
    }

    /// The greatest age of all kinds; `None` until each was heard of once.
    #[must_use]
    pub fn oldest(&self, now: Instant) -> Option<Duration> {
        let contacts = self.contacts().clone();
        if Kind::ALL.iter().any(|kind| !contacts.contains_key(kind)) {
            return None;
        }
        Kind::ALL.iter().filter_map(|kind| self.age(*kind, now)).max()
    }

    /// Warns when what is known of the cluster is too old, once, until it is fresh again. Ends with the runtime.
    pub async fn watchdog(self) {
        let mut stale = false;
        loop {
            sleep(LOOK).await;
            let oldest = self.oldest(Instant::now()).unwrap_or_default();
            if (oldest > TOO_OLD) == stale {
                continue;
            }
            stale = !stale;
            if stale {
                warn!(age = ?oldest, "nothing was heard of the cluster for too long; the rules may be out of date");
            } else {
                info!("the cluster is heard of again");
            }
        }
    }

    pub(super) fn heard(&self, kind: Kind) {
        self.contacts().insert(kind, Contact::Heard(Instant::now()));
    }

    pub(super) fn absent(&self, kind: Kind) {
        self.contacts().insert(kind, Contact::Absent);
    }

    fn contacts(&self) -> MutexGuard<'_, BTreeMap<Kind, Contact>> {
        // Nothing inside can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_counts_once_all_were_heard() {
        let health = SourceHealth::default();
        for kind in Kind::ALL {
            assert_eq!(health.oldest(Instant::now()), None, "{kind:?} was not heard yet");
            health.heard(kind);
        }
        let later = Instant::now() + Duration::from_secs(60);
        assert!(health.oldest(later) >= Some(Duration::from_secs(60)));
        assert!(health.age(Kind::Service, later) >= Some(Duration::from_secs(60)));
        Kind::ALL.into_iter().for_each(|kind| health.absent(kind));
        assert_eq!(health.oldest(later), None, "what does not exist has no age");
    }
}
