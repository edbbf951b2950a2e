//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_model::Protocol;

use crate::commands;
use crate::config::Config;
use crate::telemetry::{self, LogFormat};

/// A Kubernetes service proxy on nftables, with load-balancing policies in WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true)]
struct Cli {
    /// How log lines look (on standard error).
    #[arg(long, global = true, value_enum, default_value_t, env = "WEIR_LOG_FORMAT")]
    log_format: LogFormat,
    /// Which log lines are written: `error`, `warn`, `info`, `debug`, or per crate as in `info,weir_policy=debug`.
    #[arg(long, global = true, default_value = "info", env = "WEIR_LOG")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Programs this node and follows changes until SIGTERM; the rules stay.
    Run(RunArgs),
    /// Prints what would be programmed, in nft syntax. Needs no root.
    Render(InputArgs),
    /// Tells what happens to a packet: the rules it meets, the endpoints it can reach, and why.
    Explain(ExplainArgs),
    /// Builds a small node out of network namespaces, sends connections through it and shows where they go.
    Demo(DemoArgs),
    /// Removes Weir's tables, and nothing else.
    Cleanup,
}

/// Where the Services come from, and which node this is.
#[derive(Args, Clone, Debug)]
pub(crate) struct InputArgs {
    /// Directory of Kubernetes manifests (YAML or JSON), searched recursively.
    #[arg(long, value_name = "DIR", required_unless_present = "files", conflicts_with = "files")]
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
    #[arg(long = "node", value_name = "NAME", env = "NODE_NAME")]
    pub(crate) name: Option<String>,
    /// Serve only the Services whose label service.kubernetes.io/service-proxy-name says this [default: those without].
    #[arg(long, value_name = "NAME")]
    pub(crate) service_proxy_name: Option<String>,
    /// Weir's configuration (kind WeirConfiguration).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `weir run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
}

/// `weir demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// The manifests to show.
    #[arg(long, value_name = "DIR", default_value = "examples")]
    pub(crate) manifests: PathBuf,
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
    /// Directory of manifests to explain by; without one and without `-f`, the rules in the kernel.
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    pub(crate) manifests: Option<PathBuf>,
    /// Manifest files to explain by.
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Directory of policies: a directory or a `.wasm` file for each.
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
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

impl NodeArgs {
    /// The configuration, with the flags applied.
    pub(crate) fn load(&self) -> anyhow::Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        if let Some(name) = &self.name {
            config.node_name.clone_from(name);
        }
        if let Some(name) = &self.service_proxy_name {
            config.service_proxy_name.clone_from(name);
        }
        Ok(config)
    }
}

/// Runs the program. Exit codes: 0 done, 1 failed, 2 wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { log_format, log, command } = Cli::parse();
    // One-shot commands answer on standard output; their log is for what went wrong.
    let done = telemetry::start(log_format, &log).and_then(|()| match command {
        Command::Run(args) => commands::run::run(&args),
        Command::Render(args) => commands::render::run(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Cleanup => commands::cleanup::run(),
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
