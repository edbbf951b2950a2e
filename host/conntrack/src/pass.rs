//! One comparison of all flows with the table.

use std::io;

use crate::{Dump, Flow, FlowTable, Table};

/// What a pass did.
#[derive(Debug, Default)]
pub struct Report {
    /// Flows that were looked at.
    pub seen: usize,
    /// Flows that were removed.
    pub deleted: Vec<Flow>,
    /// Stale flows that are still there.
    pub failed: usize,
    /// Whether the kernel says that a dump may have missed flows.
    pub partial: bool,
    /// The first thing that went wrong.
    pub error: Option<io::Error>,
}

impl Report {
    /// Whether every stale flow was found and is gone.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.partial && self.error.is_none()
    }
}

/// Reads every flow and returns those that are stale by `table`. What cannot be read is noted in `report`; what could
/// be read counts.
pub fn find(flows: &mut dyn FlowTable, table: &Table, report: &mut Report) -> Vec<Flow> {
    let mut stale = Vec::new();
    for (family, protocol) in table.selections() {
        let dump = flows.dump(family, protocol, &mut |flow| {
            report.seen += 1;
            if table.is_stale(&flow) {
                stale.push(flow);
            }
        });
        match dump {
            Ok(Dump::Complete) => {}
            Ok(Dump::Partial) => report.partial = true,
            Err(error) => {
                report.error.get_or_insert(error);
            }
        }
    }
    stale
}

/// Removes those of `stale` that still are by `table`, which may know more than when they were found. One that cannot
/// be removed is noted in `report` and keeps nobody else.
pub fn remove(flows: &mut dyn FlowTable, table: &Table, stale: Vec<Flow>, report: &mut Report) {
    for flow in stale.into_iter().filter(|flow| table.is_stale(flow)) {
        match flows.delete(&flow) {
            Ok(true) => report.deleted.push(flow),
            // It ended by itself, or it stood twice in the dump.
            Ok(false) => {}
            Err(error) => {
                report.failed += 1;
                report.error.get_or_insert(error);
            }
        }
    }
}
