//! The same by `nft -f` of kube-proxy's layout.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use weir_benches::{NODE, POD_NETWORK, cluster};

use super::Size;
use crate::child;
use crate::figure::Section;
use crate::peer::{Layout, Loaded, Version, load};

/// The child that measures the peer.
pub(crate) const PEERS: &str = "full-sync-peer";

/// What the child is to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Task {
    version: Version,
    size: Size,
    /// Seconds it may take.
    limit: f64,
}

/// What the child found out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Found {
    empty: Option<Loaded>,
    again: Option<Loaded>,
}

/// The peer's full syncs of one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// Milliseconds from nothing.
    pub(super) empty: f64,
    /// Milliseconds over itself, where it came to an end.
    pub(super) again: Option<f64>,
    /// The most memory `nft` ever had, in MB.
    pub(super) peak: f64,
}

/// Sizes that took too long, so that larger ones are not tried.
#[derive(Default)]
pub(super) struct GivenUp(Vec<(Version, Size)>);

impl GivenUp {
    /// Measures `version` at `size`, unless a size that is no larger took longer than `limit` seconds.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub(super) fn measure(
        &mut self,
        version: Version,
        size: Size,
        limit: f64,
        section: &mut Section,
    ) -> Result<Option<Peer>> {
        let larger = |small: &Size| small.services <= size.services && small.endpoints <= size.endpoints;
        if self.0.iter().any(|(of, small)| *of == version && larger(small)) {
            return Ok(None);
        }
        // Twice, and the time to undo what was stopped.
        let patience = Duration::from_secs_f64(limit * 3.0);
        let found: Option<Found> = child::run(PEERS, &Task { version, size, limit }, patience)?;
        if let Some(found) = &found {
            section.raw.push(serde_json::json!({"version": version, "size": size, "found": found}));
        }
        let Some(Loaded { seconds, peak }) = found.and_then(|found| found.empty) else {
            self.0.push((version, size));
            section.notes.push(format!(
                "kube-proxy {} at {} was stopped after {limit:.0} s; larger sizes were not tried.",
                version.name(),
                size.name()
            ));
            return Ok(None);
        };
        let again = found.and_then(|found| found.again).map(|again| again.seconds * 1e3);
        Ok(Some(Peer { empty: seconds * 1e3, again, peak }))
    }
}

/// The child: loads the layout, and once more over itself where that does not take too long.
///
/// # Errors
/// When `nft` refuses.
pub(crate) fn peers(arguments: &str) -> Result<()> {
    weir_testbed::enter()?;
    let Task { version, size, limit } = serde_json::from_str(arguments)?;
    let text = Layout { version, pods: POD_NETWORK, node: NODE }.full(&cluster(size.services, size.endpoints));
    let limit = Duration::from_secs_f64(limit);
    let empty = load(&text, limit)?;
    // Over itself takes about twice as long.
    let quick = empty.is_some_and(|empty| empty.seconds * 4.0 < limit.as_secs_f64());
    let again = if quick { load(&text, limit)? } else { None };
    child::tell(&Found { empty, again })
}
