//! What a user would apply, before anybody applies it: every manifest decodes into Kubernetes' own types without a
//! field to spare, pods have the rights they need and no more, the chart and the kustomize overlays are the same in
//! effect, the image holds the libraries the program asks for, and what the documents show exists.
//!
//! Overlays are rendered by `kubectl kustomize`, the chart by `helm` (`scripts/deploy-tools.sh` gets both). Without a
//! tool the trials that need it are ignored, with the reason on standard error; `REQUIRE_DEPLOY_TOOLS=1` makes that a
//! failure.

/// The Helm chart against the overlays.
mod chart;
/// Links and YAML in the documents.
mod documents;
/// Dockerfile, and how a user who is not root gets its capability.
mod image;
/// Objects, and where they come from.
mod manifests;
/// What the DaemonSet must and must not be.
mod pods;
/// RBAC against what Weir asks.
mod rights;
/// Programs these tests call.
mod tools;
/// Decoding into Kubernetes' types.
mod typed;
/// The systemd unit.
mod unit;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::tools::Need;

/// A trial: its name, what it needs of the machine, and what it does.
type Case = (&'static str, &'static [Need], fn() -> anyhow::Result<()>);

const CASES: &[Case] = &[
    ("manifests: files decode into their types", &[], typed::files),
    ("manifests: overlays decode into their types", &[Need::Kubectl], typed::overlays),
    ("manifests: unknown fields and wrong types are found", &[], typed::strictness),
    ("manifests: every file is part of a kustomization", &[], manifests::no_strays),
    ("manifests: versions agree", &[], image::versions),
    ("policies: a component becomes binary data", &[Need::Kubectl], typed::policy),
    ("pods: the base is hardened", &[], pods::base),
    ("pods: every overlay is hardened", &[Need::Kubectl], pods::overlays),
    ("pods: a trial takes nothing from kube-proxy", &[Need::Kubectl], pods::trial),
    ("pods: replacing kube-proxy names the API server", &[Need::Kubectl], pods::replacement),
    ("rights: exactly what Weir asks", &[], rights::exact),
    ("rights: an excess and a lack are both found", &[], rights::both_directions),
    ("rights: requests over HTTP are understood", &[], rights::recorded),
    ("chart: lint finds nothing", &[Need::Helm], chart::lint),
    ("chart: the same as the overlays", &[Need::Helm, Need::Kubectl], chart::equals_overlays),
    ("chart: decodes into its types with everything set", &[Need::Helm], chart::everything_set),
    ("chart: bad values are refused by name", &[Need::Helm], chart::schema),
    ("chart: knows the policies that may step in", &[], chart::fail_strategies),
    ("image: holds the libraries the program asks for", &[Need::Ldd], image::libraries),
    ("image: no shell, no nft, not root", &[], image::minimal),
    ("image: the build sees what it needs", &[], image::context),
    ("image: a user who is not root gets NET_ADMIN", &[Need::Root, Need::Setcap, Need::Setpriv], image::capability),
    ("unit: systemd takes it, and calls it tight", &[Need::SystemdAnalyze], unit::verify),
    ("documents: links lead somewhere", &[], documents::links),
    ("documents: YAML decodes into its types", &[], documents::yaml),
];

fn main() -> ExitCode {
    if let Some(code) = image::probe() {
        return code;
    }
    let arguments = Arguments::from_args();
    let trials = CASES.iter().map(|(name, needs, case)| {
        let missing: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
        let skip = !missing.is_empty() && !tools::required();
        if skip {
            eprintln!("*** deploy: {name}: SKIPPED: {}", missing.join(", "));
        }
        Trial::test(*name, move || {
            if !missing.is_empty() {
                return Err(Failed::from(missing.join(", ")));
            }
            case().map_err(|error| Failed::from(format!("{error:#}")))
        })
        .with_ignored_flag(skip)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
