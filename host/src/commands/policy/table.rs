//! Tables for people.

use std::fmt;

use super::decided::Spread;

/// Rows of cells under a head; printed with every column as wide as its widest cell.
pub(super) struct Table {
    rows: Vec<Row>,
}

enum Row {
    Cells(Vec<String>),
    /// A line below a row, across all columns.
    Note(String),
}

impl Table {
    /// An empty table with those columns.
    pub(super) fn new(head: &[&str]) -> Self {
        Self { rows: vec![Row::Cells(head.iter().map(|cell| (*cell).to_owned()).collect())] }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(Row::Cells(cells.into_iter().collect()));
    }

    /// Adds a line below the last row.
    pub(super) fn note(&mut self, text: String) {
        self.rows.push(Row::Note(text));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            widths.resize(widths.len().max(cells.len()), 0);
            cells.iter().zip(&mut widths).for_each(|(cell, width)| *width = (*width).max(cell.chars().count()));
        }
        for row in &self.rows {
            match row {
                Row::Note(text) => writeln!(f, "    {text}")?,
                Row::Cells(cells) => {
                    let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
                    writeln!(f, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
                }
            }
        }
        Ok(())
    }
}

/// Most endpoints of a list that are shown one by one.
const MOST_SHOWN: usize = 8;

/// The endpoints of a list with their shares, the greatest first; of many, only some.
pub(super) fn shares(spread: &Spread) -> String {
    let mut shares: Vec<(&String, f64)> = spread.shares.iter().map(|(name, share)| (name, *share)).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let shown: Vec<String> =
        shares.iter().take(MOST_SHOWN).map(|(name, share)| format!("{name} {} %", percent(*share))).collect();
    let more = shares.len().saturating_sub(MOST_SHOWN);
    if more > 0 { format!("{}, {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// A share with one decimal where it needs one.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{share:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// A size as people write it.
pub(super) fn bytes(size: u64) -> String {
    match size {
        0..=9_999 => format!("{size} B"),
        10_000..=9_999_999 => format!("{} KiB", size.div_ceil(1 << 10)),
        _ => format!("{} MiB", size.div_ceil(1 << 20)),
    }
}
