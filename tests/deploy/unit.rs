use anyhow::Context;

use crate::tools::{self, Need, Scratch};

/// The exposure `systemd-analyze security` may find, in tenths on its scale from 0 to 10. What is left is what a
/// service proxy is: the host's network, netlink, NET_ADMIN, and memory that becomes executable.
const EXPOSURE: &str = "20";

pub(crate) fn verify() -> anyhow::Result<()> {
    let unit = tools::top().join("deploy/weir.service");
    // A root of its own, because the unit names a program that this machine may not have installed.
    let scratch = Scratch::new("unit")?;
    let root = scratch.path();
    let (units, programs) = (root.join("etc/systemd/system"), root.join("usr/bin"));
    std::fs::create_dir_all(&units)?;
    std::fs::create_dir_all(&programs)?;
    std::fs::copy(&unit, units.join("weir.service"))?;
    std::fs::copy(std::env::current_exe()?, programs.join("weir")).context("something to execute")?;
    let root = format!("--root={}", root.display());
    tools::run(Need::SystemdAnalyze, &["verify", &root, "--man=no", "--recursive-errors=no", "weir.service"])?;
    let threshold = format!("--threshold={EXPOSURE}");
    let unit = unit.display().to_string();
    tools::run(Need::SystemdAnalyze, &["security", "--offline=true", "--no-pager", &threshold, &unit]).map(drop)
}
