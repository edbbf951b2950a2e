//! Lines that differ, with a few around them.

/// Equal lines shown before and after those that differ.
const CONTEXT: usize = 3;

/// One line of the comparison.
#[derive(Clone, Copy)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// What must be taken from `old` (`-`) and added (`+`) to get `new`; equal stretches are cut short.
pub(crate) fn between(old: &str, new: &str) -> String {
    let lines = align(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>());
    let differs: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Same(_))).map(|(at, _)| at).collect();
    if differs.is_empty() {
        return "only the ends of lines differ".to_owned();
    }
    let near = |at: usize| {
        let next = differs.partition_point(|differs| differs + CONTEXT < at);
        differs.get(next).is_some_and(|differs| *differs <= at + CONTEXT)
    };
    let (mut text, mut cut) = (String::new(), false);
    for (at, line) in lines.iter().enumerate() {
        if !near(at) {
            cut = true;
            continue;
        }
        if std::mem::take(&mut cut) {
            text += "  ...\n";
        }
        let (sign, line) = match line {
            Line::Same(line) => (' ', line),
            Line::Gone(line) => ('-', line),
            Line::New(line) => ('+', line),
        };
        text += &format!("{sign} {line}\n");
    }
    text
}

/// Aligns by the longest common subsequence, which is quick enough for a few thousand lines.
fn align<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let width = new.len() + 1;
    // common[i * width + j]: length of the longest common subsequence of old[i..] and new[j..].
    let mut common = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            let (down, right) = (common[(i + 1) * width + j], common[i * width + j + 1]);
            let both = common[(i + 1) * width + j + 1] + 1;
            common[i * width + j] = if old[i] == new[j] { both } else { down.max(right) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            lines.push(Line::Gone(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
    lines
}
