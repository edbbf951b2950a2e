//! The thread that counts.

use std::io;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use tracing::{debug, info, warn};
use weir_conntrack::Dump;
use weir_conntrack::load::{FlowEvents, Received, Tallies, Tracker};

use super::Shared;

/// How long events gather before they are read: a thread that wakes up for each costs more than the events do.
const GATHER: Duration = Duration::from_millis(20);

/// Events between two looks at whether to stop, and between two moments in which others learn the numbers.
const BATCH: usize = 256;

/// How often all flows are read even if no event was lost: flows from before counting began may end without one.
const AUDIT: Duration = Duration::from_secs(30);

/// After a dump, so many times its own duration pass before the next that is not urgent: one percent of a processor.
const AUDIT_REST: u32 = 99;

/// The same after lost events or an incomplete dump.
const REST: u32 = 4;

/// First wait after a failure; doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Counts until stopped, whatever fails.
pub(super) fn run(shared: &Shared, open: &(dyn Fn() -> io::Result<Box<dyn FlowEvents>> + Send + Sync)) {
    let (mut wait, mut failing) = (FIRST_RETRY, false);
    loop {
        let dumps = shared.dumps.load(Ordering::Relaxed);
        let Err(error) = open().and_then(|mut events| count(shared, &mut *events, &mut failing)) else { return };
        // What was counted is worth nothing without what comes.
        *shared.tallies() = Tallies::default();
        if shared.dumps.load(Ordering::Relaxed) > dumps {
            wait = FIRST_RETRY;
        }
        if failing {
            debug!(%error, "still cannot count connections");
        } else {
            warn!(%error, "cannot count connections: policies are told of no load; trying again");
            failing = true;
        }
        let again = shared.now() + wait;
        wait = (wait * 2).min(LAST_RETRY);
        while shared.now() < again {
            if shared.is_stopped() {
                return;
            }
            sleep(GATHER);
        }
    }
}

/// Counts until stopped.
///
/// # Errors
/// When events or flows cannot be read.
fn count(shared: &Shared, events: &mut dyn FlowEvents, failing: &mut bool) -> io::Result<()> {
    let mut tracker = Tracker::default();
    let mut due = Duration::ZERO;
    // No dump before that, however urgent.
    let mut rest = Duration::ZERO;
    while !shared.is_stopped() {
        if shared.now() >= due.max(rest) {
            let begin = shared.now();
            let dump = dump(events, &mut tracker)?;
            let (end, took) = (shared.now(), shared.now().saturating_sub(begin));
            rest = end + took * REST;
            due = if dump == Dump::Complete { end + AUDIT.max(took * AUDIT_REST) } else { rest + FIRST_RETRY };
            publish(shared, &mut tracker);
            if dump == Dump::Complete {
                // Last: who sees the dump also sees what it told.
                shared.dumps.fetch_add(1, Ordering::Release);
                if std::mem::take(failing) {
                    info!("connections are counted again");
                }
            }
            debug!(flows = tracker.len(), ?took, ?dump, "read all redirected flows");
        }
        if drain(shared, events, &mut tracker)? == Received::Lost {
            debug!("events of flows were lost");
            due = shared.now();
        } else {
            events.wait()?;
            sleep(GATHER);
        }
    }
    Ok(())
}

fn dump(events: &mut dyn FlowEvents, tracker: &mut Tracker) -> io::Result<Dump> {
    tracker.begin_dump();
    let dump = events.dump(&mut |flow, state| tracker.dumped(flow, state))?;
    tracker.end_dump(dump);
    Ok(dump)
}

/// Reads what has come, to the end: a dump must not be followed by older events.
fn drain(shared: &Shared, events: &mut dyn FlowEvents, tracker: &mut Tracker) -> io::Result<Received> {
    let mut all = Received::All;
    loop {
        let (count, received) = events.receive(BATCH, &mut |flow, state| tracker.observe(flow, state))?;
        publish(shared, tracker);
        if received == Received::Lost {
            all = Received::Lost;
        }
        if count < BATCH || shared.is_stopped() {
            return Ok(all);
        }
    }
}

fn publish(shared: &Shared, tracker: &mut Tracker) {
    let changes = tracker.take_changes();
    shared.tallies().apply(&changes, shared.now());
}
