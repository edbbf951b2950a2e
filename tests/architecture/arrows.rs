//! Data flows one way, and so do dependencies: a stage knows only the stages it takes values from.

use std::collections::BTreeSet;
use std::path::Path;

use crate::Violations;
use crate::workspace::{Use, Workspace};

/// Every package in `host/` and which of our own it uses, exactly.
const ARROWS: &[(&str, &[(Use, &str)])] = &[
    ("weir-model", &[]),
    ("weir-source", &[(Use::Normal, "weir-model")]),
    ("weir-policy", &[(Use::Normal, "weir-model"), (Use::Dev, "weir-bad-guests"), (Use::Build, "weir-guest-build")]),
    ("weir-guest-build", &[]),
    ("weir-bad-guests", &[(Use::Build, "weir-guest-build")]),
    ("weir-plan", &[(Use::Normal, "weir-model")]),
    ("weir-nft", &[(Use::Normal, "weir-model"), (Use::Normal, "weir-plan")]),
    ("weir-conntrack", &[(Use::Normal, "weir-model"), (Use::Normal, "weir-plan"), (Use::Normal, "weir-nft")]),
    ("weir-netlink", &[(Use::Normal, "weir-model"), (Use::Normal, "weir-nft"), (Use::Normal, "weir-conntrack")]),
    ("weir-testbed", &[]),
    (
        "weir",
        &[
            (Use::Normal, "weir-model"),
            (Use::Normal, "weir-source"),
            (Use::Normal, "weir-policy"),
            (Use::Normal, "weir-plan"),
            (Use::Normal, "weir-nft"),
            (Use::Normal, "weir-conntrack"),
            (Use::Normal, "weir-netlink"),
            (Use::Normal, "weir-testbed"),
            (Use::Dev, "weir-bad-guests"),
        ],
    ),
];

/// Compares the packages of `host/` with [`ARROWS`].
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<Violations> {
    let ours: BTreeSet<&str> = workspace.packages.values().map(|package| package.name.as_str()).collect();
    let mut violations = Violations::new();
    let host: Vec<_> = workspace.packages.iter().filter(|(folder, _)| folder.starts_with(Path::new("host"))).collect();
    for (_, package) in &host {
        let Some((_, wanted)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            violations.push(format!(
                "{}: package {} has no place in the pipeline",
                package.place("name"),
                package.name
            ));
            continue;
        };
        let used: BTreeSet<_> =
            package.dependencies().into_iter().filter(|(_, name)| ours.contains(name.as_str())).collect();
        let wanted: BTreeSet<_> = wanted.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect();
        for (kind, name) in used.difference(&wanted) {
            let place = package.place(name);
            violations.push(format!("{place}: {} must not use {name} ({kind:?} dependency)", package.name));
        }
        for (kind, name) in wanted.difference(&used) {
            let place = package.place("[dependencies]");
            violations.push(format!("{place}: {} no longer uses {name} ({kind:?} dependency)", package.name));
        }
    }
    for (name, _) in ARROWS {
        if !host.iter().any(|(_, package)| package.name == *name) {
            violations.push(format!("host/: package {name} is missing"));
        }
    }
    Ok(violations)
}
