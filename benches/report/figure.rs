//! What a section finds out: figures for machines, tables and plots for people. All of it can be written down and read
//! back, so that one section can be measured again and the report still shows the others.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::section::Scale;

/// One line of `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What was measured, `section/what/size`.
    pub(crate) name: String,
    /// The measurement.
    pub(crate) value: f64,
    /// Its unit; in the unit `times` more is better, in every other less, but for rates (`…/s`).
    pub(crate) unit: String,
    /// What the design allows: at most, or for `times` and rates at least.
    pub(crate) budget: Option<f64>,
    /// The same of the peer, in the same unit, from the same run.
    pub(crate) peer: Option<f64>,
    /// The peer's divided by ours; for rates ours divided by the peer's. Above 1 we are better.
    pub(crate) ratio: Option<f64>,
}

impl Figure {
    /// A measurement without anything to compare it with.
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self { name: name.into(), value, unit: unit.to_owned(), budget: None, peer: None, ratio: None }
    }

    /// With what the design allows.
    pub(crate) fn budget(self, budget: f64) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// With what the peer needs, where that is known.
    pub(crate) fn beside(self, peer: Option<f64>) -> Self {
        let ratio = peer.map(|peer| if self.more_is_better() { self.value / peer } else { peer / self.value });
        Self { peer, ratio, ..self }
    }

    /// Whether it is within its budget, where it has one.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let budget = self.budget?;
        Some(if self.more_is_better() { self.value >= budget } else { self.value <= budget })
    }

    fn more_is_better(&self) -> bool {
        self.unit == "times" || self.unit.ends_with("/s")
    }
}

/// A table of the report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    /// The line above it.
    pub(crate) caption: String,
    /// Names of the columns.
    pub(crate) head: Vec<String>,
    /// Its rows, as long as the head.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(caption: &str, head: &[&str]) -> Self {
        Self { caption: caption.to_owned(), head: head.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

/// Curves over one axis, both axes logarithmic: proportional growth is a line of slope 1, none a level one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plot {
    /// Name of its file, without an ending.
    pub(crate) file: String,
    /// The line above it.
    pub(crate) title: String,
    /// What the horizontal axis counts.
    pub(crate) x: String,
    /// What the vertical axis counts.
    pub(crate) y: String,
    /// Name and points of each curve.
    pub(crate) curves: Vec<(String, Vec<(f64, f64)>)>,
}

impl Plot {
    /// A plot without curves.
    pub(crate) fn new(file: &str, title: &str, x: &str, y: &str) -> Self {
        let [file, title, x, y] = [file, title, x, y].map(str::to_owned);
        Self { file, title, x, y, curves: Vec::new() }
    }

    /// Adds a point, where it was measured, to the curve of that name.
    pub(crate) fn point(&mut self, curve: &str, x: f64, y: Option<f64>) {
        let Some(y) = y else { return };
        if let Some((_, points)) = self.curves.iter_mut().find(|(name, _)| name == curve) {
            points.push((x, y));
        } else {
            self.curves.push((curve.to_owned(), vec![(x, y)]));
        }
    }
}

/// A section of the report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Section {
    /// Its heading.
    pub(crate) title: String,
    /// How it was measured.
    pub(crate) method: String,
    /// What `summary.json` gets.
    pub(crate) figures: Vec<Figure>,
    /// What people read.
    pub(crate) tables: Vec<Table>,
    /// What people look at.
    pub(crate) plots: Vec<Plot>,
    /// What did not run, and why.
    pub(crate) notes: Vec<String>,
    /// Everything that was measured.
    pub(crate) raw: Vec<Value>,
    /// Seconds it took.
    pub(crate) seconds: f64,
    /// Which run measured it: seconds since 1970 when that began.
    pub(crate) run: u64,
    /// How much that run measured.
    pub(crate) scale: Option<Scale>,
}

impl Section {
    /// A section in which nothing was measured yet.
    pub(crate) fn new(title: &str, method: &str) -> Self {
        Self { title: title.to_owned(), method: method.to_owned(), ..Self::default() }
    }

    /// A section of which nothing is known but why it is not there.
    pub(crate) fn failed(title: &str, why: String) -> Self {
        Self { title: title.to_owned(), notes: vec![why], ..Self::default() }
    }
}

/// The value below which `share` (0 to 1) of the samples lie; 0 of no samples. Sorts them.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().saturating_sub(1);
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a share of a length is a length")]
    let at = (last as f64 * share).round() as usize;
    samples.get(at).copied().unwrap_or_default()
}

/// Half of the samples lie below it.
pub(crate) fn median(samples: &[f64]) -> f64 {
    percentile(&mut samples.to_vec(), 0.5)
}

/// In microseconds.
pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// In milliseconds.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Three digits that matter.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// [`short`], or a dash for what was not measured.
pub(crate) fn short_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), short)
}
