//! Plots as SVG that reads well on a light and on a dark page.

use std::fmt::Write;

use crate::figure::Plot;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Room for numbers and names beside the curves: left, top, right, bottom.
const MARGIN: [f64; 4] = [64.0, 36.0, 200.0, 48.0];
/// Colours that keep apart on white and on black, also for most who see fewer colours (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c"];
/// Text and lines follow the page.
const STYLE: &str = "svg{background:#fff;--ink:#1f2328;--grid:#d0d7de}\
    @media(prefers-color-scheme:dark){svg{background:#0d1117;--ink:#e6edf3;--grid:#30363d}}\
    text{font:12px system-ui,sans-serif;fill:var(--ink)}.g{stroke:var(--grid)}.c{fill:none;stroke-width:2}";

/// A logarithmic axis on whole powers of ten.
struct Axis {
    first: i32,
    last: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
        let least = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        #[allow(clippy::cast_possible_truncation, reason = "powers of ten of measurements are small")]
        let (first, last) = if logs.is_empty() { (0, 1) } else { (least.floor() as i32, most.ceil() as i32) };
        Self { first, last: last.max(first + 1), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        self.from + share * (self.to - self.from)
    }

    /// Every power of ten, where it is, and its label.
    fn ticks(&self) -> impl Iterator<Item = (f64, String)> + '_ {
        (self.first..=self.last).map(|power| {
            let value = 10f64.powi(power);
            let label = match power {
                ..0 => format!("{value:.*}", power.unsigned_abs() as usize),
                0..=2 => format!("{value:.0}"),
                3..=5 => format!("{:.0} k", value / 1e3),
                _ => format!("{:.0} M", value / 1e6),
            };
            (self.at(value), label)
        })
    }
}

/// The plot as an SVG document.
pub(crate) fn svg(plot: &Plot) -> String {
    let [left, top, right, bottom] = MARGIN;
    let points = || plot.curves.iter().flat_map(|(_, points)| points);
    let x = Axis::over(points().map(|point| point.0), left, WIDTH - right);
    let y = Axis::over(points().map(|point| point.1), HEIGHT - bottom, top);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\
         <title>{0}</title><style>{STYLE}</style>\n<text x=\"{left}\" y=\"20\" font-weight=\"600\">{0}</text>\n",
        escape(&plot.title)
    );
    // Writing to a string cannot fail.
    for (at, label) in x.ticks() {
        let _ = writeln!(
            out,
            "<path class=\"g\" d=\"M{at:.1} {top}V{0}\"/><text x=\"{at:.1}\" y=\"{1}\" text-anchor=\"middle\">{label}</text>",
            HEIGHT - bottom,
            HEIGHT - bottom + 16.0
        );
    }
    for (at, label) in y.ticks() {
        let _ = writeln!(
            out,
            "<path class=\"g\" d=\"M{left} {at:.1}H{0}\"/><text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{label}</text>",
            WIDTH - right,
            left - 6.0,
            at + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text><text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (left + WIDTH - right) / 2.0,
        HEIGHT - 10.0,
        escape(&plot.x),
        (top + HEIGHT - bottom) / 2.0,
        escape(&plot.y)
    );
    for (number, (name, points)) in plot.curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let places: Vec<String> = points.iter().map(|(a, b)| format!("{:.1} {:.1}", x.at(*a), y.at(*b))).collect();
        let _ = writeln!(out, "<path class=\"c\" stroke=\"{colour}\" d=\"M{}\"/>", places.join("L"));
        for place in &places {
            let (cx, cy) = place.split_once(' ').unwrap_or_default();
            let _ = write!(out, "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let line = top + 14.0 + 18.0 * number as f64;
        let _ = writeln!(
            out,
            "<path stroke=\"{colour}\" stroke-width=\"2\" d=\"M{} {:.1}h18\"/><text x=\"{}\" y=\"{line:.1}\">{}</text>",
            WIDTH - right + 10.0,
            line - 4.0,
            WIDTH - right + 34.0,
            escape(name)
        );
    }
    out.push_str("</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
