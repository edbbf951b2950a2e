//! The thread that reads and removes flows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};
use weir_conntrack::{Change, FOLLOW_UP, FlowTable, Report, Schedule, Table, find, remove};
use weir_model::{Family, Protocol};
use weir_plan::{NodeFacts, NodePortAddresses};

use super::Counters;

/// One sync.
pub(super) struct Message {
    /// What it changed.
    pub(super) change: Change,
    /// What is known of this node, when that changed.
    pub(super) facts: Option<NodeFacts>,
}

/// What the thread owns.
pub(super) struct Worker {
    flows: Box<dyn FlowTable + Send>,
    table: Table,
    schedule: Schedule,
    facts: NodeFacts,
    /// Times count from here.
    start: Instant,
    /// Whether the last pass failed, and so was complained about.
    failing: bool,
    counters: Arc<Counters>,
}

impl Worker {
    /// A worker that knows no Service yet.
    pub(super) fn new(flows: Box<dyn FlowTable + Send>, protocols: &[Protocol], counters: Arc<Counters>) -> Self {
        Self {
            flows,
            table: Table::new(protocols),
            schedule: Schedule::default(),
            facts: NodeFacts::default(),
            start: Instant::now(),
            failing: false,
            counters,
        }
    }

    /// Takes messages in and makes passes until the sender is gone.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let wait = self.schedule.due().map(|due| due.saturating_sub(self.start.elapsed()));
            // Even without a wait, messages that lie there come first, so that they share the pass.
            let message = match wait {
                Some(wait) => messages.recv_timeout(wait),
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => self.pass(messages),
                Err(RecvTimeoutError::Disconnected) => {
                    // The next life would not know of frontends whose removal is committed already.
                    if wait == Some(Duration::ZERO) {
                        self.pass(messages);
                    }
                    return;
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        let now = self.start.elapsed();
        let mut changed = self.table.apply(message.change, now);
        if let Some(facts) = message.facts {
            self.facts = facts;
            changed = true;
        }
        if changed {
            self.schedule.change(now);
        }
    }

    fn pass(&mut self, messages: &Receiver<Message>) {
        let begin = self.start.elapsed();
        self.schedule.begin();
        self.table.set_node_addresses(node_port_addresses(&self.facts));
        let mut report = Report::default();
        let stale = find(&mut *self.flows, &self.table, &mut report);
        // What was stale a moment ago may be well by now.
        messages.try_iter().for_each(|message| self.take(message));
        remove(&mut *self.flows, &self.table, stale, &mut report);
        let end = self.start.elapsed();
        self.schedule.end(begin, end, report.is_complete());
        if report.is_complete() {
            self.table.forget_released(begin.saturating_sub(FOLLOW_UP));
        }
        self.tell(&report, end - begin);
    }

    fn tell(&mut self, report: &Report, took: Duration) {
        let count = |counter: &AtomicU64, number: usize| {
            counter.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
        };
        count(&self.counters.deleted, report.deleted.len());
        count(&self.counters.failed, report.failed);
        self.counters.durations.observe(took.as_secs_f64());
        // Last: who sees the pass also sees what it did.
        self.counters.passes.fetch_add(1, Ordering::Release);
        report.deleted.iter().for_each(|flow| debug!(%flow, "removed a stale flow"));
        match &report.error {
            Some(error) if !self.failing => {
                warn!(%error, failed = report.failed, "cannot end all flows whose endpoint is gone; trying again");
            }
            Some(error) => debug!(%error, failed = report.failed, "still cannot end all stale flows"),
            None if self.failing => info!("stale flows can be ended again"),
            None => {}
        }
        self.failing = report.error.is_some();
        let Report { seen, partial, deleted, .. } = report;
        if deleted.is_empty() {
            debug!(seen, partial, ?took, "looked for stale flows");
        } else {
            info!(seen, deleted = deleted.len(), ?took, "ended flows whose endpoint is gone");
        }
    }
}

/// The addresses of this node that accept node ports, as they are now.
fn node_port_addresses(facts: &NodeFacts) -> BTreeSet<IpAddr> {
    let addresses = Family::ALL.into_iter().flat_map(|family| match facts.node_ports(family) {
        NodePortAddresses::Listed(addresses) => addresses.clone(),
        // Without them, flows to node ports are left alone until the next pass.
        NodePortAddresses::All => {
            let present = crate::node::addresses().unwrap_or_default();
            present.into_iter().filter(|address| Family::of(*address) == family).collect()
        }
    });
    addresses.collect()
}
