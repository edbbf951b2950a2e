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
use crate::pipeline::Pipeline;

/// First wait after a failed sync; doubles with each further failure.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Longest wait between two attempts.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Applies events as they come and syncs after each burst of them. A failed sync is tried again with growing
/// waits, or at the next event; `health` learns of both. Returns when `stop` is done or the source has ended; the rules stay.
pub async fn run<D: Dataplane>(
    pipeline: &mut Pipeline<D>,
    mut events: Receiver<Event>,
    followers: &mut [Box<dyn Follower>],
    health: &ProxyHealth,
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
            () = sleep_until(due), if retry.is_some() => {}
        }
        while let Ok(event) = events.try_recv() {
            pipeline.apply(event);
        }
        match pipeline.sync() {
            Ok(outcome) => {
                outcome.log();
                health.synced();
                let synced = pipeline.synced(&outcome);
                followers.iter_mut().for_each(|follower| follower.synced(&synced));
                retry = None;
            }
            Err(problem) => {
                health.failed();
                let wait = retry.map_or(FIRST_RETRY, |(_, wait)| (wait * 2).min(LAST_RETRY));
                error!(error = %problem, retry_in = ?wait, "sync failed; the rules are as they were");
                retry = Some((Instant::now() + wait, wait));
            }
        }
    }
}
