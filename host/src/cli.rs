//! The command line.

mod flags;
pub(crate) mod policy;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use tracing::warn;
use weir_model::Protocol;

use crate::cli::flags::ProxyFlags;
use crate::cli::policy::PolicyArgs;
use crate::commands;
use crate::config::{self, Config, Loaded, LogFormat, Logging};
use crate::policies::compiler::compile;
use crate::telemetry;

/// A Kubernetes service proxy on nftables, with load-balancing policies in WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true)]
struct Cli {
    /// How log lines look (on standard error) [default: text].
    #[arg(long, global = true, value_enum, env = "WEIR_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// Which log lines are written: `error`, `warn`, `info`, `debug`, or per crate as in `info,weir_policy=debug`
    /// [default: info].
    #[arg(long, global = true, env = "WEIR_LOG")]
    log: Option<String>,
    /// The same as kube-proxy's number: from 4 on `debug`, from 6 on `trace`.
    #[arg(short = 'v', long = "v", global = true, value_name = "N", conflicts_with = "log")]
    verbosity: Option<u32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Programs this node and follows changes until SIGTERM; the rules stay.
    Run(RunArgs),
    /// Prints what would be programmed, in nft syntax. Needs no root.
    Render(RenderArgs),
    /// Tells what happens to a packet: the rules it meets, the endpoints it can reach, and why. Without manifests it
    /// goes by the rules in the kernel.
    Explain(ExplainArgs),
    /// Builds a small node out of network namespaces, sends connections through it and shows where they go.
    Demo(DemoArgs),
    /// Removes Weir's tables, and nothing else.
    Cleanup,
    /// Checks configuration files, and prints what they come to.
    CheckConfig(CheckConfigArgs),
    /// Compiles the component on standard input into a directory, within bounds. The daemon starts it for itself.
    #[command(hide = true)]
    CompilePolicy(CompilePolicyArgs),
    /// The workshop for policies: write, check, test, measure and compare them without a cluster.
    Policy(PolicyArgs),
}

/// What is planned for which node, for commands that need no cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct InputArgs {
    /// Directory of Kubernetes manifests (YAML or JSON), searched recursively.
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    pub(crate) manifests: Option<PathBuf>,
    /// Manifest files, instead of a directory.
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Directory of policies: a directory or a `.wasm` file for each.
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// Which node this is.
#[derive(Args, Clone, Debug)]
pub(crate) struct NodeArgs {
    /// Name of this node as EndpointSlices spell it [default: the host's name].
    #[arg(long = "node", visible_alias = "hostname-override", value_name = "NAME", env = "NODE_NAME")]
    pub(crate) name: Option<String>,
    /// Serve only the Services whose label service.kubernetes.io/service-proxy-name says this [default: those without].
    #[arg(long, value_name = "NAME")]
    pub(crate) service_proxy_name: Option<String>,
    /// A configuration: of kind WeirConfiguration or KubeProxyConfiguration, or both as two documents. Given more than
    /// once, the later file wins where it says something.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) proxy: ProxyFlags,
}

/// `weir run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Directory of Kubernetes manifests (YAML or JSON), searched recursively, instead of a cluster.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["files", "kubeconfig", "master"])]
    pub(crate) manifests: Option<PathBuf>,
    /// Manifest files, instead of a cluster.
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1.., conflicts_with_all = ["kubeconfig", "master"])]
    pub(crate) files: Vec<PathBuf>,
    /// The cluster to follow, by the current context of this file [default: the cluster of the pod this runs in].
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// URL of the API server, instead of the one that comes with the credentials.
    #[arg(long, value_name = "URL")]
    pub(crate) master: Option<String>,
    /// Namespace of the ConfigMaps that carry policies [default: the pod's, or that of the context].
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Directory of policies besides those in ConfigMaps: a directory or a `.wasm` file for each.
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Only remove Weir's tables (as `weir cleanup` does), and end.
    #[arg(long, help_heading = "As with kube-proxy")]
    pub(crate) cleanup: bool,
    /// Only set the kernel's switches and limits that Services need, which takes more rights than running does, and end.
    #[arg(long, help_heading = "As with kube-proxy", conflicts_with = "cleanup")]
    pub(crate) init_only: bool,
    /// Only write the configuration that files and flags come to, and end.
    #[arg(long, value_name = "FILE", help_heading = "As with kube-proxy", conflicts_with_all = ["cleanup", "init_only"])]
    pub(crate) write_config_to: Option<PathBuf>,
}

/// `weir check-config`.
#[derive(Args, Debug)]
pub(crate) struct CheckConfigArgs {
    /// The files, in the order in which `--config` would get them.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) proxy: ProxyFlags,
}

/// `weir compile-policy`.
#[derive(Args, Debug)]
struct CompilePolicyArgs {
    /// Directory of compiled policies.
    #[arg(long, value_name = "DIR")]
    cache: PathBuf,
    /// Most bytes of address space.
    #[arg(long, value_name = "BYTES")]
    memory: u64,
    /// Most seconds of processor time.
    #[arg(long, value_name = "N")]
    seconds: u64,
}

/// `weir demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// The manifests to show.
    #[arg(long, value_name = "DIR", default_value = "examples")]
    pub(crate) manifests: PathBuf,
}

/// `weir render`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("input").required(true).args(["manifests", "files"])))]
pub(crate) struct RenderArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
}

/// `weir explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// Where the packet comes from.
    #[arg(long, value_name = "IP")]
    pub(crate) from: IpAddr,
    /// The interface it comes in by; counts where pods are told by interface.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) interface: String,
    /// Where it goes: `IP:PORT`, with `/udp` or `/sctp` behind it for those protocols.
    #[arg(long, value_name = "IP:PORT[/PROTOCOL]")]
    pub(crate) to: Destination,
    #[command(flatten)]
    pub(crate) input: InputArgs,
    /// Addresses of the node, where it is not this machine.
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub(crate) node_addresses: Vec<IpAddr>,
    /// How the answer looks.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// How an answer looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    #[value(alias = "table")]
    Text,
    /// For programs.
    Json,
}

/// A destination as typed: `10.0.0.10:53/udp`, `[fd00::1]:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (socket, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((socket, "tcp")) => (socket, Protocol::Tcp),
            Some((socket, "udp")) => (socket, Protocol::Udp),
            Some((socket, "sctp")) => (socket, Protocol::Sctp),
            Some((_, other)) => return Err(format!("{other:?} is none of tcp, udp, sctp")),
        };
        let socket: std::net::SocketAddr = socket
            .parse()
            .map_err(|_| format!("{socket:?} is no IP:PORT (an IPv6 address goes in brackets: [fd00::1]:80)"))?;
        Ok(Self { address: socket.ip(), port: socket.port(), protocol })
    }
}

impl InputArgs {
    /// Whether there are manifests to go by.
    pub(crate) fn is_given(&self) -> bool {
        self.manifests.is_some() || !self.files.is_empty()
    }
}

impl NodeArgs {
    /// The configuration of files and flags.
    fn load(&self) -> anyhow::Result<Loaded> {
        let flags = self.proxy.flags(self.name.as_ref(), self.service_proxy_name.as_ref());
        Ok(config::read(&self.config, &flags)?)
    }
}

impl Cli {
    /// Starts the log, and reads the configuration of the command, if it takes one: the configuration tells how to log.
    fn start(&self) -> anyhow::Result<Config> {
        let node = match &self.command {
            Command::Run(args) => Some(&args.node),
            Command::Render(args) => Some(&args.input.node),
            Command::Explain(args) => Some(&args.input.node),
            Command::Demo(_)
            | Command::Cleanup
            | Command::CheckConfig(_)
            | Command::Policy(_)
            | Command::CompilePolicy(_) => None,
        };
        let Loaded { config, notes } = node.map(NodeArgs::load).transpose()?.unwrap_or_default();
        let Logging { format, level } = &config.logging;
        let level = self.verbosity.map(config::level).or(self.log.as_deref()).unwrap_or(level);
        telemetry::start(self.log_format.unwrap_or(*format), level)?;
        notes.iter().for_each(|note| warn!("configuration: {note}"));
        Ok(config)
    }
}

/// Runs the program. Exit codes: 0 done, 1 failed, 2 wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // It speaks to the daemon that started it, and to nobody else.
    if let Command::CompilePolicy(CompilePolicyArgs { cache, memory, seconds }) = &cli.command {
        return compile(cache, *memory, *seconds);
    }
    // One-shot commands answer on standard output; their log is for what went wrong.
    let done = cli.start().and_then(|config| match cli.command {
        Command::Run(args) => commands::run::run(&args, config),
        Command::Render(args) => commands::render::run(&args, &config),
        Command::Explain(args) => commands::explain::run(&args, &config),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Cleanup => commands::cleanup::run(),
        Command::CheckConfig(args) => commands::check_config::run(&args),
        Command::CompilePolicy(_) => Ok(()),
        Command::Policy(args) => commands::policy::run(&args.command),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn destinations() {
        let to = |text: &str| text.parse::<Destination>();
        assert_eq!(to("10.0.0.10:53/udp").map(|to| (to.port, to.protocol)), Ok((53, Protocol::Udp)));
        assert_eq!(to("[fd00::1]:80").map(|to| to.protocol), Ok(Protocol::Tcp));
        assert!(to("10.0.0.10").is_err_and(|why| why.contains("IP:PORT")));
        assert!(to("10.0.0.10:53/icmp").is_err_and(|why| why.contains("icmp")));
    }
}
