//! The tool that loads the iptables layout, where it is installed.

use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};

use super::loading::{self, Loaded, tool};

/// What the tool is called; the second name may be one or the other variant.
const PROGRAMS: [&str; 2] = ["iptables-nft-restore", "iptables-restore"];
/// How its `--version` tells the variant that writes nftables.
const VARIANT: &str = "(nf_tables)";

/// `iptables-restore` in the variant that writes nftables: today's distributions install it, and its tables can sleep.
/// The hooks of the legacy variant stay in a network namespace as long as that lives, so whoever else were measured
/// there would pay for them.
#[derive(Clone, Debug)]
pub struct Restore {
    program: &'static str,
    /// `iptables 1.8.9 (nf_tables)`.
    pub name: String,
}

impl Restore {
    /// The tables it loads, as nftables sees them, in family `ip`.
    pub const TABLES: [&'static str; 2] = ["filter", "nat"];

    /// The one that is installed, or why there is none. It is looked for once.
    ///
    /// # Errors
    /// When there is none: what to say about that.
    pub fn installed() -> Result<&'static Self, String> {
        static INSTALLED: OnceLock<Result<Restore, String>> = OnceLock::new();
        let find = || {
            let said = PROGRAMS.map(version);
            let found = PROGRAMS.into_iter().zip(&said).find_map(|(program, said)| {
                let name = format!("iptables {}", name(said.as_ref()?)?);
                Some(Self { program, name })
            });
            found.ok_or_else(|| match said.into_iter().flatten().next() {
                Some(said) => format!("{said} is not the variant that writes nftables"),
                None => format!("neither {} nor {} is installed", PROGRAMS[0], PROGRAMS[1]),
            })
        };
        INSTALLED.get_or_init(find).as_ref().map_err(Clone::clone)
    }

    /// Loads `text` into this network namespace with the options kube-proxy gives: what `text` does not name stays.
    /// `None`: it did not end within `limit` and was stopped; the first of the tables may be there.
    ///
    /// # Errors
    /// When it refuses.
    pub fn load(&self, text: &str, limit: Duration) -> Result<Option<Loaded>> {
        let mut command = tool(self.program);
        command.args(["-w", "5", "--noflush", "--counters"]);
        loading::load(command, text, limit).context(self.program)
    }
}

/// What `program` says to `--version`; `None` where it is not installed.
fn version(program: &str) -> Option<String> {
    let output = tool(program).arg("--version").stdout(Stdio::piped()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `1.8.9 (nf_tables)` of `iptables-restore v1.8.9 (nf_tables)`; `None` of the other variant.
fn name(said: &str) -> Option<&str> {
    let (_, version) = said.split_once(" v")?;
    version.ends_with(VARIANT).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variant_is_told_by_its_version() {
        assert_eq!(name("iptables-restore v1.8.9 (nf_tables)"), Some("1.8.9 (nf_tables)"));
        assert_eq!(name("iptables-restore v1.8.9 (legacy)"), None);
        assert_eq!(name("iptables-restore v1.6.1"), None);
    }
}
