//! Whether the rules of this node still follow the cluster.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long syncs may fail before this node calls itself unhealthy (kube-proxy: twice its sync period of 30 s).
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Tells load balancers whether to trust this node. Clones share one state: the daemon's loop writes it, health
/// endpoints read it.
#[derive(Clone, Debug)]
pub struct ProxyHealth {
    /// When the syncs began to fail; `None` while they do not.
    failing_since: watch::Sender<Option<Instant>>,
    patience: Duration,
}

impl Default for ProxyHealth {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

impl ProxyHealth {
    /// Healthy, until syncs fail for longer than `patience`.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { failing_since: watch::Sender::new(None), patience }
    }

    /// A sync reached the kernel.
    pub fn synced(&self) {
        self.failing_since.send_replace(None);
    }

    /// A sync did not reach the kernel. Time counts from the first of a row.
    pub fn failed(&self) {
        self.failing_since.send_modify(|since| {
            since.get_or_insert_with(Instant::now);
        });
    }

    /// Whether the last sync reached the kernel, or failing began no longer than the patience ago.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.failing_since.borrow().is_none_or(|since| since.elapsed() <= self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_sync_is_forgiven_for_a_while() {
        let health = ProxyHealth::new(Duration::from_secs(3600));
        health.failed();
        assert!(health.is_healthy());
    }

    #[test]
    fn unhealthy_from_the_patience_on_until_a_sync_succeeds() {
        let health = ProxyHealth::new(Duration::ZERO);
        assert!(health.is_healthy());
        let reader = health.clone();
        health.failed();
        // The clock may stand still for an instant.
        while reader.is_healthy() {
            std::thread::yield_now();
        }
        health.failed();
        assert!(!reader.is_healthy());
        health.synced();
        assert!(reader.is_healthy());
    }
}
