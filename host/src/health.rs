//! Whether the rules of this node still follow the cluster.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::info;
use weir_model::NodeSpec;

/// How long syncs may fail, or the loop stand still, before this node calls itself unhealthy (kube-proxy: twice its
/// sync period of 30 s).
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Tells load balancers and the kubelet whether to trust this node. Clones share one state: the daemon's loop writes
/// it, health endpoints read it.
#[derive(Clone, Debug)]
pub struct ProxyHealth {
    state: watch::Sender<State>,
    patience: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// Since when the kernel lacks something: a change waits for its sync, or syncs fail.
    behind_since: Option<Instant>,
    /// When the loop last turned; `None` before it began.
    alive_at: Option<Instant>,
    /// Whether the cluster's state reached the kernel once.
    ready: bool,
    node: NodeState,
}

/// What is known of this node's object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum NodeState {
    /// Nothing, as on a node without a cluster.
    #[default]
    Unknown,
    Stays,
    Leaves,
}

impl Default for ProxyHealth {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

impl ProxyHealth {
    /// Healthy, until syncs fail, changes wait or the loop stands still for longer than `patience`.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { state: watch::Sender::new(State::default()), patience }
    }

    /// The daemon's loop turned. To be called in every turn, and at least every quarter of the patience.
    pub fn alive(&self) {
        self.state.send_modify(|state| state.alive_at = Some(Instant::now()));
    }

    /// A change waits for its sync. Time counts from the first of a row.
    pub fn queued(&self) {
        self.state.send_modify(|state| {
            state.behind_since.get_or_insert_with(Instant::now);
        });
    }

    /// A sync reached the kernel. The first one is told.
    pub fn synced(&self) {
        self.state.send_modify(|state| {
            if !state.ready {
                info!("ready; the kernel's rules are those of the first complete list");
            }
            (state.behind_since, state.ready) = (None, true);
        });
    }

    /// A sync did not reach the kernel. Time counts from the first of a row.
    pub fn failed(&self) {
        self.queued();
    }

    /// What the cluster knows of this node. One that is gone after it was there is leaving, too.
    pub fn node(&self, object: Option<&NodeSpec>) {
        self.state.send_modify(|state| {
            state.node = match (object, state.node) {
                (None, NodeState::Unknown) => NodeState::Unknown,
                (Some(node), _) if !node.leaving => NodeState::Stays,
                (Some(_) | None, _) => NodeState::Leaves,
            };
        });
    }

    /// Whether the kernel follows the cluster, or has not for no longer than the patience. True before the first sync,
    /// as with kube-proxy: the rules of the life before still hold.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let state = self.state.borrow();
        let in_time = |since: Option<Instant>| since.is_none_or(|since| since.elapsed() <= self.patience);
        in_time(state.behind_since) && in_time(state.alive_at)
    }

    /// How long the kernel has lacked something; `None` while it does not.
    #[must_use]
    pub fn behind_for(&self) -> Option<Duration> {
        self.state.borrow().behind_since.map(|since| since.elapsed())
    }

    /// Whether this node is healthy and the cluster's state reached the kernel once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_healthy() && self.state.borrow().ready
    }

    /// Whether load balancers may count on this node to stay (KEP-3836).
    #[must_use]
    pub fn is_eligible(&self) -> bool {
        self.state.borrow().node != NodeState::Leaves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until it is unhealthy: the clock may stand still for an instant.
    fn wait_until_unhealthy(health: &ProxyHealth) {
        let start = Instant::now();
        while health.is_healthy() {
            assert!(start.elapsed() < Duration::from_secs(5), "it stays healthy");
            std::thread::yield_now();
        }
    }

    #[test]
    fn one_failed_sync_is_forgiven_for_a_while() {
        let health = ProxyHealth::new(Duration::from_secs(3600));
        health.alive();
        health.failed();
        assert!(health.is_healthy() && !health.is_ready());
    }

    #[test]
    fn unhealthy_from_the_patience_on_until_a_sync_succeeds() {
        let health = ProxyHealth::new(Duration::ZERO);
        assert!(health.is_healthy());
        let reader = health.clone();
        health.failed();
        wait_until_unhealthy(&reader);
        health.failed();
        assert!(!reader.is_healthy());
        health.synced();
        assert!(reader.is_healthy() && reader.is_ready());
    }

    #[test]
    fn a_loop_that_stands_still_and_a_change_that_waits_are_unhealthy() {
        let health = ProxyHealth::new(Duration::ZERO);
        health.synced();
        health.alive();
        wait_until_unhealthy(&health);
        assert!(!health.is_ready());
        let health = ProxyHealth::new(Duration::ZERO);
        health.queued();
        wait_until_unhealthy(&health);
    }

    #[test]
    fn a_node_that_leaves_or_is_gone_is_not_eligible() {
        let health = ProxyHealth::default();
        health.node(None);
        assert!(health.is_eligible(), "without a cluster nobody knows of nodes");
        health.node(Some(&NodeSpec { leaving: true, ..NodeSpec::default() }));
        assert!(!health.is_eligible() && health.is_healthy());
        health.node(Some(&NodeSpec::default()));
        assert!(health.is_eligible());
        health.node(None);
        assert!(!health.is_eligible());
    }
}
