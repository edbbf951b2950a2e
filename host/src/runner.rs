//! The daemon's loop: events in, syncs out, until told to stop.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};
use weir_model::Event;
use weir_nft::Dataplane;

use crate::follow::Follower;
use crate::health::ProxyHealth;
use crate::node::Surroundings;
use crate::pipeline::Pipeline;

/// First wait after a failed sync; doubles with each further failure.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Longest wait between two attempts.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// What the loop takes into account and tells besides the pipeline.
pub struct Runner {
    /// What this node is.
    pub surroundings: Surroundings,
    /// Told after each sync.
    pub followers: Vec<Box<dyn Follower>>,
    /// Learns how syncs end.
    pub health: ProxyHealth,
}

impl Runner {
    /// Applies events as they come and syncs after each burst of them, but not before the first complete list. A
    /// failed sync is tried again with growing waits, or at the next event. Returns when `stop` is done or the source
    /// has ended; the rules stay.
    pub async fn run<D: Dataplane>(
        mut self,
        pipeline: &mut Pipeline<D>,
        mut events: Receiver<Event>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        let mut retry: Option<(Instant, Duration)> = None;
        loop {
            let due = retry.map_or_else(Instant::now, |(due, _)| due);
            tokio::select! {
                biased;
                () = &mut stop => return info!("stopping; the rules stay"),
                event = events.recv() => match event {
                    Some(event) => pipeline.apply(event),
                    None => return info!("the source has ended; the rules stay"),
                },
                () = self.surroundings.changed() => {}
                () = sleep_until(due), if retry.is_some() => {}
            }
            while let Ok(event) = events.try_recv() {
                pipeline.apply(event);
            }
            if !pipeline.store().is_listed() {
                continue;
            }
            if let Some(facts) = self.surroundings.changed_facts(pipeline.store()) {
                pipeline.set_facts(facts);
            }
            match pipeline.sync() {
                Ok(outcome) => {
                    outcome.log();
                    self.health.synced();
                    let synced = pipeline.synced(&outcome);
                    self.followers.iter_mut().for_each(|follower| follower.synced(&synced));
                    retry = None;
                }
                Err(problem) => {
                    self.health.failed();
                    let wait = retry.map_or(FIRST_RETRY, |(_, wait)| (wait * 2).min(LAST_RETRY));
                    error!(error = %problem, retry_in = ?wait, "sync failed; the rules are as they were");
                    retry = Some((Instant::now() + wait, wait));
                }
            }
        }
    }
}
