//! Where the time of a full sync goes.

use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use weir::pipeline::Pipeline;
use weir_model::Event;

use crate::figure::millis;
use crate::timed::Timed;

/// One full sync, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sync {
    pub(crate) total: f64,
    pub(crate) model: f64,
    pub(crate) decide: f64,
    /// Of that, the calls of the policies: what goes into the sandbox, happens there and comes out.
    pub(crate) calls: f64,
    pub(crate) plan: f64,
    /// What is left of the commit stage: compiling and comparing.
    pub(crate) compile: f64,
    pub(crate) dump: f64,
    pub(crate) encode: f64,
    pub(crate) commit: f64,
    pub(crate) bytes: usize,
}

/// Syncs what `list` tells.
///
/// # Errors
/// When that fails, or a port was not programmed.
pub(crate) fn sync(pipeline: &mut Pipeline<Timed>, list: Event) -> Result<Sync> {
    let start = Instant::now();
    pipeline.apply(list);
    stages(pipeline, start)
}

/// Syncs what was applied since `start`.
///
/// # Errors
/// As [`sync`].
pub(crate) fn stages(pipeline: &mut Pipeline<Timed>, start: Instant) -> Result<Sync> {
    let model = start.elapsed();
    let outcome = pipeline.sync()?;
    let total = start.elapsed();
    anyhow::ensure!(outcome.failures.is_empty() && outcome.rejections.is_empty(), "not every port was programmed");
    let (timings, dataplane) = (outcome.timings, pipeline.dataplane());
    let (kernel, apart) = (dataplane.commit, dataplane.overhead);
    Ok(Sync {
        total: millis(total.saturating_sub(apart)),
        model: millis(model),
        decide: millis(timings.decide),
        calls: millis(outcome.news.policies.values().map(|stats| stats.time).sum()),
        plan: millis(timings.plan),
        compile: millis(timings.commit.saturating_sub(kernel + dataplane.encode + dataplane.dump + apart)),
        dump: millis(dataplane.dump),
        encode: millis(dataplane.encode),
        commit: millis(kernel),
        bytes: dataplane.bytes,
    })
}
