//! What a packet should come to, and what it came to, in terms that can be compared and printed.

use std::collections::BTreeSet;
use std::fmt;

use super::Masquerade;

/// What must become of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    out: BTreeSet<String>,
    masquerade: Masquerade,
}

/// What became of a packet: every ending met or possible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `address:port`, empty for unchanged, `REJECT` or `DROP`; and whether the source was masqueraded.
    pub endings: BTreeSet<(String, bool)>,
}

impl Expectation {
    /// Reads `out` as the format spells it.
    #[must_use]
    pub fn new(out: &str, masquerade: &Masquerade) -> Self {
        Self { out: out.split(',').map(|one| one.trim().to_owned()).collect(), masquerade: masquerade.clone() }
    }

    /// In how many places packets may arrive; 0 where they are rejected or dropped.
    #[must_use]
    pub fn destinations(&self) -> usize {
        self.out.iter().filter(|one| !["REJECT", "DROP"].contains(&one.as_str())).count()
    }

    /// Whether packets may be dropped.
    #[must_use]
    pub fn drops(&self) -> bool {
        self.out.contains("DROP")
    }

    /// Whether exactly that was seen.
    #[must_use]
    pub fn is_met_by(&self, seen: &Seen) -> bool {
        let expected: BTreeSet<(String, bool)> =
            self.out.iter().map(|one| (one.clone(), self.masquerades(one))).collect();
        expected == seen.endings
    }

    fn masquerades(&self, destination: &str) -> bool {
        match &self.masquerade {
            Masquerade::All(all) => *all,
            Masquerade::Only(some) => some.iter().any(|one| one == destination),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_endings(f, self.out.iter().map(|one| (one.as_str(), self.masquerades(one))))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_endings(f, self.endings.iter().map(|(one, masqueraded)| (one.as_str(), *masqueraded)))
    }
}

fn write_endings<'a>(f: &mut fmt::Formatter<'_>, endings: impl Iterator<Item = (&'a str, bool)>) -> fmt::Result {
    for (at, (one, masqueraded)) in endings.enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        let one = if one.is_empty() { "unchanged" } else { one };
        write!(f, "{separator}{one}{}", if masqueraded { " (masqueraded)" } else { "" })?;
    }
    Ok(())
}
