//! From what the sections left to `summary.json`, and to the report with its plots.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::figure::{Figure, Section, Table, short, short_or_dash};
use crate::machine::Machine;
use crate::plot::svg;
use crate::section::Scale;

/// Where things are left.
pub(crate) struct Folder {
    /// Raw data, the summary and the report.
    pub(crate) data: PathBuf,
}

impl Folder {
    fn raw(&self, key: &str) -> PathBuf {
        self.data.join("raw").join(format!("{key}.json"))
    }

    /// Leaves what a section measured.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(&self, key: &str, section: &Section) -> Result<()> {
        write(&self.raw(key), &serde_json::to_string_pretty(section)?)
    }

    /// Writes the summary and the report from what is left of the sections with those keys; the report also to `docs`.
    ///
    /// # Errors
    /// When something cannot be read or written.
    pub(crate) fn write(&self, keys: &[&str], docs: Option<&Path>) -> Result<()> {
        let mut sections: Vec<Section> = Vec::new();
        for path in keys.iter().map(|key| self.raw(key)).filter(|path| path.exists()) {
            let text = std::fs::read_to_string(&path)?;
            sections.push(serde_json::from_str(&text).with_context(|| path.display().to_string())?);
        }
        let figures: Vec<&Figure> = sections.iter().flat_map(|section| &section.figures).collect();
        write(&self.data.join("summary.json"), &serde_json::to_string_pretty(&figures)?)?;
        let report = markdown(&Machine::this(), &sections);
        let places = [(self.data.as_path(), "report.md")].into_iter().chain(docs.map(|docs| (docs, "benchmarks.md")));
        for (folder, file) in places {
            write(&folder.join(file), &report)?;
            for plot in sections.iter().flat_map(|section| &section.plots) {
                write(&folder.join("benchmarks").join(format!("{}.svg", plot.file)), &svg(plot))?;
            }
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// A figure on one line, for the terminal.
pub(crate) fn line(figure: &Figure) -> String {
    let Figure { name, value, unit, budget, peer, ratio } = figure;
    let mut text = format!("{name}: {} {unit}", short(*value));
    if let (Some(budget), Some(met)) = (budget, figure.is_met()) {
        let _ = write!(text, " ({} of {})", if met { "within" } else { "BEYOND" }, short(*budget));
    }
    if let (Some(peer), Some(ratio)) = (peer, ratio) {
        let _ = write!(text, ", peer {} {unit}: {} times", short(*peer), short(*ratio));
    }
    text
}

fn markdown(machine: &Machine, sections: &[Section]) -> String {
    let mut out = String::from(
        "# Benchmarks\n\n\
         Written by `make bench`: everything here was measured in one run, on one machine, Weir and its peer in turn. The peer is \
         kube-proxy's nftables layout for the same Services, loaded by `nft -f` as kube-proxy loads it; what kube-proxy does \
         before it runs `nft` is not counted. Where `iptables-restore` is installed in the variant that writes nftables, kube-proxy's \
         iptables layout, loaded by it, stands beside them.\n\n",
    );
    let Machine { processor, processors, memory, kernel, nft, rustc, weir, optimised } = machine;
    let optimised = if *optimised { "" } else { ", **not optimised: no figure here means anything**" };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "Machine: {processors} × {processor}, {memory}; Linux {kernel}; {nft}; {rustc}; Weir {weir}{optimised}.\n"
    );
    out.push_str("## Budgets\n\n| what | measured | budget | | peer | peer ÷ ours |\n|---|---|---|---|---|---|\n");
    for figure in sections.iter().flat_map(|section| &section.figures).filter(|figure| figure.budget.is_some()) {
        let met = if figure.is_met() == Some(true) { "met" } else { "**missed**" };
        let _ = writeln!(
            out,
            "| {} | {} {} | {} | {met} | {} | {} |",
            figure.name,
            short(figure.value),
            figure.unit,
            short_or_dash(figure.budget),
            short_or_dash(figure.peer),
            short_or_dash(figure.ratio)
        );
    }
    // Ratios hold within a section in any case; figures of two sections should be of one run.
    let last = sections.iter().map(|section| section.run).max().unwrap_or_default();
    for section in sections {
        let _ = writeln!(out, "\n## {}\n\n{}", section.title, section.method);
        if section.run != last {
            let _ = writeln!(out, "\n*Measured in an earlier run than other sections.*");
        }
        match section.scale {
            Some(Scale::Full) | None => {}
            Some(scale) => drop(writeln!(out, "\n*Measured in short ({scale:?}): fewer sizes and rounds.*")),
        }
        for plot in &section.plots {
            let _ = writeln!(out, "\n![{}](benchmarks/{}.svg)", plot.title, plot.file);
        }
        for Table { caption, head, rows } in &section.tables {
            let _ = writeln!(out, "\n{caption}\n\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
            for row in rows {
                let _ = writeln!(out, "| {} |", row.join(" | "));
            }
        }
        if !section.notes.is_empty() {
            out.push('\n');
        }
        for note in &section.notes {
            let _ = writeln!(out, "* {note}");
        }
    }
    out
}
