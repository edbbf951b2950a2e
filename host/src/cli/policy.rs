//! The command line of `weir policy`, the workshop for those who write policies.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::OutputFormat;
use crate::policies::oci::OciReference;

/// `weir policy`.
#[derive(Args, Debug)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

/// What can be done with a policy outside of a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Writes a project for a policy of your own that builds.
    New(NewArgs),
    /// Makes a component of a core module that was built for the contract.
    Component(ComponentArgs),
    /// Checks whether Weir would take a policy, and how it behaves: imports, exports, limits, determinism, settings.
    Check(CheckArgs),
    /// Shows what a component is, without running it.
    Inspect(InspectArgs),
    /// Asks a policy about every Service of some manifests, and shows what it decides.
    Run(RunArgs),
    /// Asks a policy about the cases of a file, and compares with what that file expects.
    Test(TestArgs),
    /// Measures what a policy costs: time, fuel, memory.
    Bench(BenchArgs),
    /// Puts a policy into an OCI registry, and prints the reference with its digest.
    Push(PushArgs),
    /// Fetches a policy from an OCI registry.
    Pull(PullArgs),
    /// Shows which Services would change, and how, if one policy took the place of another.
    Diff(DiffArgs),
}

/// A policy, and its settings.
#[derive(Args, Clone, Debug)]
pub(crate) struct SubjectArgs {
    /// The component (`.wasm`, `.wasm.gz`, `.wasm.zst`), or the name of a built-in policy.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Settings (JSON) for Services that give none.
    #[arg(long, value_name = "JSON", default_value = "")]
    pub(crate) settings: String,
}

/// A cluster as a node sees it.
#[derive(Args, Clone, Debug)]
pub(crate) struct SceneArgs {
    /// Directory of Kubernetes manifests (YAML or JSON), searched recursively.
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    pub(crate) manifests: Option<PathBuf>,
    /// Manifest files, instead of a directory.
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Name of the node that asks, as EndpointSlices spell it [default: the host's name].
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub(crate) node: Option<String>,
    /// Its zone [default: that of its Node object].
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) zone: String,
    /// Only the Services that ask for the policy of this name; their settings are for this one.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only this Service; may be given more than once.
    #[arg(long = "service", value_name = "NAMESPACE/NAME")]
    pub(crate) services: Vec<String>,
}

/// A language `weir policy new` has a project for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Rust, by Cargo for `wasm32-unknown-unknown`.
    Rust,
    /// C, by Zig's clang, which brings a libc for Wasm.
    C,
    /// Zig.
    Zig,
    /// Go, by its own compiler for WASI, which is answered within the component.
    Go,
    /// JavaScript, in SpiderMonkey.
    #[value(alias = "js")]
    Javascript,
    /// Python, in `CPython`.
    #[value(alias = "py")]
    Python,
}

/// `weir policy new`.
#[derive(Args, Debug)]
pub(crate) struct NewArgs {
    /// What the policy is called: letters, digits and hyphens. The project gets a directory of that name.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The language to write it in.
    #[arg(long, value_enum, default_value = "rust")]
    pub(crate) lang: Language,
    /// Where the project's directory goes.
    #[arg(long = "in", value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,
}

/// `weir policy component`.
#[derive(Args, Debug)]
pub(crate) struct ComponentArgs {
    /// The core module.
    #[arg(value_name = "MODULE")]
    pub(crate) module: PathBuf,
    /// World of the contract it was written for: `policy`, `traffic-only` or `balancer-only`. For modules whose bindings
    /// were written by hand; those that a generator wrote know it.
    #[arg(long, value_name = "WORLD")]
    pub(crate) world: Option<String>,
    /// Answer its calls of WASI within the component: nothing is open, the clock stands still, random numbers are 0.
    #[arg(long)]
    pub(crate) stub_wasi: bool,
    /// Where the component goes.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

/// `weir policy check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) subject: SubjectArgs,
    /// How the answer looks.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// `weir policy inspect`.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The component, or the name of a built-in policy.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// How the answer looks.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// `weir policy run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) subject: SubjectArgs,
    #[command(flatten)]
    pub(crate) scene: SceneArgs,
    /// Instead of manifests, calls that a daemon recorded: repeats them and says whether the answers are the same.
    #[arg(long, value_name = "RECORD", num_args = 1.., conflicts_with_all = ["manifests", "files", "services", "name"])]
    pub(crate) replay: Vec<PathBuf>,
    /// How the answer looks.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// `weir policy test`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// The component, or the name of a built-in policy.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The cases (YAML); docs/policies.md describes them.
    #[arg(value_name = "CASES", default_value = "cases.yaml")]
    pub(crate) cases: PathBuf,
    /// How the answer looks.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// `weir policy bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) subject: SubjectArgs,
    /// Services to ask about.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) services: u32,
    /// Endpoints of each.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) endpoints: u32,
    /// How often to ask; the best round counts, because whatever else runs only adds to it.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rounds: u32,
    /// How the answer looks.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// `weir policy push`.
#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// The component, or the name of a built-in policy.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where it goes: `oci://HOST/REPOSITORY:TAG`.
    #[arg(value_name = "REFERENCE")]
    pub(crate) reference: OciReference,
    /// Without TLS; only for registries on this machine.
    #[arg(long)]
    pub(crate) plain_http: bool,
}

/// `weir policy pull`.
#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    /// What to fetch: `oci://HOST/REPOSITORY@sha256:DIGEST`, or with `:TAG`.
    #[arg(value_name = "REFERENCE")]
    pub(crate) reference: OciReference,
    /// Where the component goes.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Without TLS; only for registries on this machine.
    #[arg(long)]
    pub(crate) plain_http: bool,
}

/// `weir policy diff`.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// The policy that decides now: a component, or the name of a built-in policy.
    #[arg(value_name = "OLD")]
    pub(crate) old: PathBuf,
    /// The policy that would take its place.
    #[arg(value_name = "NEW")]
    pub(crate) new: PathBuf,
    /// Calls that a daemon recorded, instead of manifests.
    #[arg(value_name = "RECORD", conflicts_with_all = ["manifests", "files", "services", "name"])]
    pub(crate) records: Vec<PathBuf>,
    /// Settings (JSON) of both, for Services that give none.
    #[arg(long, value_name = "JSON", default_value = "")]
    pub(crate) settings: String,
    /// Settings of the new policy, where they are others.
    #[arg(long, value_name = "JSON")]
    pub(crate) new_settings: Option<String>,
    #[command(flatten)]
    pub(crate) scene: SceneArgs,
    /// How the answer looks.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}
