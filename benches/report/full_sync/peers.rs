//! The same by `nft -f` and by `iptables-restore` of kube-proxy's layouts.

use std::time::Duration;

use anyhow::{Error, Result};
use serde::{Deserialize, Serialize};
use weir_benches::peer::{Iptables, Layout, Loaded, Restore, Version, load};
use weir_benches::{NODE, POD_NETWORK, cluster};

use super::Size;
use crate::child;
use crate::figure::Section;

/// The child that measures the peer.
pub(crate) const PEERS: &str = "full-sync-peer";

/// Whose layout, by which tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mode {
    /// kube-proxy's nftables layout.
    Nftables(Version),
    /// kube-proxy's iptables layout.
    Iptables,
}

impl Mode {
    fn name(self) -> String {
        match self {
            Self::Nftables(version) => format!("kube-proxy {}", version.name()),
            Self::Iptables => Restore::installed().map_or("iptables", |restore| &restore.name).to_owned(),
        }
    }
}

/// What the child is to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Task {
    mode: Mode,
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
    /// The most memory the tool ever had, in MB.
    pub(super) peak: f64,
}

/// What was measured of the peer, to tell which sizes it cannot manage within a limit.
#[derive(Default)]
pub(super) struct Peers(Vec<(Mode, Size, f64)>);

impl Peers {
    /// Measures `mode` at `size`, unless the sizes before it let expect more than `limit` seconds.
    ///
    /// # Errors
    /// When the tool refuses.
    pub(super) fn measure(
        &mut self,
        mode: Mode,
        size: Size,
        limit: f64,
        section: &mut Section,
    ) -> Result<Option<Peer>> {
        if limit < 1.0 {
            section.notes.push(format!("{} at {} was not tried: its time was used up.", mode.name(), size.name()));
            return Ok(None);
        }
        if let Some(expected) = self.expected(mode, size).filter(|expected| *expected > limit) {
            section.notes.push(format!(
                "{} at {} was not tried: as it grew up to there it would take about {expected:.0} s, and the limit \
                 is {limit:.0} s.",
                mode.name(),
                size.name()
            ));
            return Ok(None);
        }
        // Twice, and the time to undo what was stopped.
        let patience = Duration::from_secs_f64(limit * 3.0);
        let found: Option<Found> = match child::run(PEERS, &Task { mode, size, limit }, patience) {
            // Not every kernel has every match of iptables.
            Err(error) if mode == Mode::Iptables => {
                section.notes.push(format!("{} at {} was not measured: {error:#}.", mode.name(), size.name()));
                return Ok(None);
            }
            found => found?,
        };
        if let Some(found) = &found {
            section.raw.push(serde_json::json!({"mode": mode, "size": size, "found": found}));
        }
        let Some(Loaded { seconds, peak }) = found.and_then(|found| found.empty) else {
            self.0.push((mode, size, limit));
            section.notes.push(format!("{} at {} was stopped after {limit:.0} s.", mode.name(), size.name()));
            return Ok(None);
        };
        self.0.push((mode, size, seconds));
        let again = found.and_then(|found| found.again).map(|again| again.seconds * 1e3);
        Ok(Some(Peer { empty: seconds * 1e3, again, peak }))
    }

    /// Seconds `mode` would take at `size`, if it grew on as it did between the two sizes before with as many
    /// endpoints a Service, and at least in proportion.
    fn expected(&self, mode: Mode, size: Size) -> Option<f64> {
        let same = |of: &&(Mode, Size, f64)| of.0 == mode && of.1.endpoints == size.endpoints;
        let mut before = self.0.iter().rev().filter(same).map(|(_, size, seconds)| (size.services as f64, *seconds));
        let (services, seconds) = before.next()?;
        let exponent = before.next().map_or(1.0, |(less, took)| (seconds / took).ln() / (services / less).ln());
        Some(seconds * (size.services as f64 / services).powf(exponent.max(1.0)))
    }
}

/// The child: loads the layout, and once more over itself where that does not take too long.
///
/// # Errors
/// When the tool refuses.
pub(crate) fn peers(arguments: &str) -> Result<()> {
    let Task { mode, size, limit } = serde_json::from_str(arguments)?;
    let list = cluster(size.services, size.endpoints);
    let limit = Duration::from_secs_f64(limit);
    let load: Box<dyn Fn() -> Result<Option<Loaded>>> = match mode {
        Mode::Nftables(version) => {
            let text = Layout { version, pods: POD_NETWORK, node: NODE }.full(&list);
            Box::new(move || load(&text, limit))
        }
        Mode::Iptables => {
            let restore = Restore::installed().map_err(Error::msg)?;
            restore.load(&Iptables::jumps(), limit)?;
            let text = Iptables { pods: POD_NETWORK, sorted: false }.full(&list);
            Box::new(move || restore.load(&text, limit))
        }
    };
    let empty = load()?;
    // Over itself takes about twice as long.
    let quick = empty.is_some_and(|empty| empty.seconds * 4.0 < limit.as_secs_f64());
    let again = if quick { load()? } else { None };
    child::tell(&Found { empty, again })
}
