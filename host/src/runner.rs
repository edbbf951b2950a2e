//! The daemon's loop: events in, syncs out, until told to stop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until};
use tracing::{error, info, warn};
use weir_model::Event;
use weir_nft::Dataplane;

use crate::follow::{Follower, load::LoadFollower};
use crate::health::ProxyHealth;
use crate::metrics::Metrics;
use crate::node::Surroundings;
use crate::notices::Notices;
use crate::pipeline::Pipeline;
use crate::policies::{Loaded, Policies};
use crate::serve::Inspector;

/// First wait after a failed sync; doubles with each further failure.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Longest wait between two attempts.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Least time between the end of a sync and the next one, in which changes gather: a storm of them costs a hundred syncs
/// a second at most, and a change that comes alone waits for nothing. The configuration may ask for more.
pub const LEAST_INTERVAL: Duration = Duration::from_millis(10);

/// How often the kernel is asked whether the rules may have been changed by others.
const AUDIT: Duration = Duration::from_secs(30);

/// How often the loop turns at least, so that others see that it does.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What the loop takes into account and tells besides the pipeline.
pub struct Runner {
    /// Least time between the end of a sync and the next one.
    pub least_interval: Duration,
    /// What this node is.
    pub surroundings: Surroundings,
    /// Policies on their way in.
    pub policies: Policies,
    /// Tells the cluster what its users should know.
    pub notices: Notices,
    /// Told after each sync.
    pub followers: Vec<Box<dyn Follower>>,
    /// Counts the connections of endpoints while a policy asks for them.
    pub loads: Arc<LoadFollower>,
    /// Learns how syncs end.
    pub health: ProxyHealth,
    /// Count what happens.
    pub metrics: Arc<Metrics>,
    /// Asks what is in here.
    pub inspector: Inspector,
}

impl Runner {
    /// Applies events as they come and syncs after each burst of them, but not before the first complete list. A
    /// failed sync is tried again with growing waits, or at the next event. What others did to the rules is mended.
    /// Returns when `stop` is done or the source has ended; the rules stay.
    pub async fn run<D: Dataplane>(
        mut self,
        pipeline: &mut Pipeline<D>,
        mut events: Receiver<Event>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        let mut heartbeat = interval(HEARTBEAT);
        let mut retry: Option<(Instant, Duration)> = None;
        let mut audit = interval_at(Instant::now() + AUDIT, AUDIT);
        audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rest = Instant::now();
        loop {
            self.health.alive();
            let due = retry.map_or_else(Instant::now, |(due, _)| due);
            let look = pipeline.next_look().map(Instant::from_std);
            tokio::select! {
                biased;
                () = &mut stop => return info!("stopping; the rules stay"),
                event = events.recv() => match event {
                    Some(event) => self.apply(event, pipeline),
                    None => return info!("the source has ended; the rules stay"),
                },
                loaded = self.policies.next() => self.take(loaded, pipeline),
                () = self.surroundings.changed() => {}
                () = sleep_until(due), if retry.is_some() => {}
                // A failed sync is tried again with what is due by then.
                () = sleep_until(look.unwrap_or(due)), if look.is_some() && retry.is_none() => {}
                question = self.inspector.next() => {
                    self.inspector.answer(pipeline, question);
                    continue;
                }
                _ = heartbeat.tick() => continue,
                _ = audit.tick() => match pipeline.audit() {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => {
                        warn!(%error, "cannot audit the rules");
                        continue;
                    }
                },
            }
            tokio::select! {
                biased;
                () = &mut stop => return info!("stopping; the rules stay"),
                () = sleep_until(rest) => {}
            }
            while let Ok(event) = events.try_recv() {
                self.apply(event, pipeline);
            }
            while let Some(loaded) = self.policies.try_next() {
                self.take(loaded, pipeline);
            }
            if !pipeline.store().is_listed() || !self.policies.are_listed() {
                continue;
            }
            if let Some(facts) = self.surroundings.changed_facts(pipeline.store()) {
                pipeline.set_facts(facts);
            }
            self.health.node(pipeline.store().node_object());
            self.health.queued();
            let start = Instant::now();
            match pipeline.sync() {
                Ok(outcome) => {
                    self.loads.set_wanted(pipeline.wants_loads());
                    outcome.log();
                    outcome.failures.iter().for_each(|failure| self.notices.policy_failed(failure));
                    outcome.rests.iter().for_each(|rest| self.notices.policy_rests(rest));
                    outcome.rejections.iter().for_each(|rejection| self.notices.rejected(rejection));
                    self.health.synced();
                    self.metrics.synced(pipeline, &outcome, start.elapsed());
                    let synced = pipeline.synced(&outcome);
                    self.followers.iter_mut().for_each(|follower| follower.synced(&synced));
                    let more = self.policies.synced(&outcome.failures, pipeline, &self.notices, &self.metrics);
                    self.inspector.remember(outcome);
                    retry = more.then(|| (Instant::now(), FIRST_RETRY));
                }
                Err(problem) => {
                    self.health.failed();
                    self.metrics.failed(&problem, pipeline.pending());
                    let wait = retry.map_or(FIRST_RETRY, |(_, wait)| (wait * 2).min(LAST_RETRY));
                    error!(error = %problem, retry_in = ?wait, "sync failed; the rules are as they were");
                    retry = Some((Instant::now() + wait, wait));
                }
            }
            pipeline.tidy();
            rest = Instant::now() + self.least_interval;
        }
    }

    fn apply<D: Dataplane>(&self, event: Event, pipeline: &mut Pipeline<D>) {
        self.metrics.event(&event);
        pipeline.apply(event);
    }

    fn take<D: Dataplane>(&mut self, loaded: Loaded, pipeline: &mut Pipeline<D>) {
        self.policies.take(loaded, pipeline, &self.notices, &self.metrics);
    }
}
