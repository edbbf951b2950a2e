//! The whole pipeline over a testbed: Services in, real connections out, the simulator asked for its opinion on each.

mod service;
mod statistics;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weir::config::Config;
use weir::follow::conntrack::{Conntrack, Counters};
use weir::follow::{Follower, Synced};
use weir::pipeline::{Outcome, Pipeline};
use weir_model::{Event, Protocol, Store};
use weir_netlink::Kernel;
use weir_nft::sim::{Entry, Env, Packet, Verdict, simulate};
use weir_nft::{Dataplane, Installed};
use weir_testbed::{Addresses, Call, Failure, Host, Layout, Listen, Node, Server, Tally, Transport};

pub use service::{Backend, Service, web};
pub use statistics::{chi_square, chi_square_limit};

use crate::policies;

/// What slices call the testbed's node.
pub const NODE_NAME: &str = "node";
/// What slices call the node of `backend-3`.
pub const OTHER_NODE: &str = "other";
/// Every backend listens here: TCP ([`Listen::Greeting`]) and UDP.
pub const BACKEND_PORT: u16 = 8080;
/// Patience with a packet that should be dropped. Long for this testbed, where an answer takes a fraction of a
/// millisecond.
pub const DROPPED: Duration = Duration::from_millis(300);
/// How long the kernel may take to notice that the tables' owner is gone.
const OWNER_GONE: Duration = Duration::from_secs(2);
/// A backend whose expected number of connections is this or more must have got one: the chance that it gets none is
/// below e⁻²⁰.
const SURELY_SEEN: f64 = 20.0;

/// Where calls come from, each port once before any comes again. A UDP "connection" lives on in conntrack for half a
/// minute, and a call that met the one of an earlier call would be none of the rules' business. Below Linux' own
/// choice.
const SOURCE_PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A testbed whose node Weir programs.
pub struct Lab {
    node: Node,
    config: Config,
    local_addresses: Vec<IpAddr>,
    pipeline: Option<Pipeline<Kernel>>,
    conntrack: Option<Conntrack>,
    next_port: u16,
    // Held for their Drop.
    _servers: Vec<Server>,
}

impl Lab {
    /// A testbed with the default layout, a server on every backend, and `services` programmed.
    ///
    /// # Errors
    /// When the testbed does not come up, or the first sync fails in any way.
    pub fn up(services: &[Service]) -> Result<Self> {
        Self::up_with(services, |_| {})
    }

    /// The same with a configuration that `configure` has changed.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_with(services: &[Service], configure: impl FnOnce(&mut Config)) -> Result<Self> {
        let mut lab = Self::idle(NODE_NAME)?;
        configure(&mut lab.config);
        lab.start(services)?;
        Ok(lab)
    }

    /// The same testbed before Weir runs. `node_name` is whom Weir will take this node for: it decides which
    /// endpoints are local.
    ///
    /// # Errors
    /// When the testbed does not come up.
    pub fn idle(node_name: &str) -> Result<Self> {
        let node = Node::up(&Layout::default())?;
        let listen = [Listen::Greeting(BACKEND_PORT), Listen::Udp(BACKEND_PORT)];
        let mut servers = Vec::new();
        for backend in node.pods().iter().filter(|pod| pod.name() != "client") {
            servers.extend(Server::start_all(backend, &listen)?);
        }
        let config = Config {
            node_name: node_name.to_owned(),
            pod_cidrs: vec!["10.244.0.0/16".parse()?, "fd00:244::/48".parse()?],
            service_cidrs: vec!["10.96.0.0/12".parse()?, "fd00:10:96::/112".parse()?],
            ..Config::default()
        };
        let local_addresses = node.kernel().run(weir::node::addresses).context("the node's addresses")?;
        Ok(Self {
            node,
            config,
            local_addresses,
            pipeline: None,
            conntrack: None,
            next_port: SOURCE_PORTS.start,
            _servers: servers,
        })
    }

    /// The hosts.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The pod `client`.
    #[must_use]
    pub fn client(&self) -> &Host {
        self.node.pod("client")
    }

    /// The client outside of the cluster.
    #[must_use]
    pub fn outside(&self) -> &Host {
        self.node.outside()
    }

    /// Makes `services` all there are, and programs them.
    ///
    /// # Errors
    /// When the sync fails, a policy fails or an address is refused.
    pub fn apply(&mut self, services: &[Service]) -> Result<Outcome> {
        let outcome = self.apply_events([Event::Replace {
            services: services.iter().map(|service| service.spec.clone()).collect(),
            slices: services.iter().flat_map(Service::slices).collect(),
        }])?;
        ensure!(outcome.rejections.is_empty(), "addresses are refused: {:?}", outcome.rejections);
        Ok(outcome)
    }

    /// Programs what `events` change. Addresses that belong to another Service are in the outcome.
    ///
    /// # Errors
    /// When the sync fails or a policy fails.
    pub fn apply_events(&mut self, events: impl IntoIterator<Item = Event>) -> Result<Outcome> {
        let pipeline = self.pipeline.as_mut().context("Weir is not running")?;
        events.into_iter().for_each(|event| pipeline.apply(event));
        let outcome = pipeline.sync()?;
        if let Some(conntrack) = &mut self.conntrack {
            conntrack.synced(&pipeline.synced(&outcome));
        }
        ensure!(outcome.failures.is_empty(), "policies fail: {:?}", outcome.failures);
        Ok(outcome)
    }

    /// What `outcome` means to those who follow the Services.
    ///
    /// # Panics
    /// When Weir is not running.
    #[must_use]
    pub fn synced<'a>(&'a self, outcome: &'a Outcome) -> Synced<'a> {
        self.pipeline.as_ref().expect("Weir is running").synced(outcome)
    }

    /// Ends Weir as a crash would: no clean-up, no last write. Its tables have no owner when this returns.
    pub fn stop(&mut self) {
        self.pipeline = None;
        self.conntrack = None;
        // A program that another test starts at this moment holds a copy of every descriptor until it has replaced
        // itself, and the tables have their owner until the last copy is closed. If it takes longer than that, the
        // next step fails and says so.
        let start = Instant::now();
        let owned = |rules: String| rules.contains("flags owner");
        while start.elapsed() < OWNER_GONE && self.node.kernel().command("nft", &["list", "ruleset"]).is_ok_and(owned) {
            sleep(Duration::from_millis(1));
        }
    }

    /// What the follower that ends stale flows has done since Weir was started last.
    ///
    /// # Panics
    /// When Weir is not running.
    #[must_use]
    pub fn conntrack(&self) -> &Counters {
        self.conntrack.as_ref().expect("Weir is running").counters()
    }

    /// Starts a Weir that knows nothing on the kernel as it is, with `services`.
    ///
    /// # Errors
    /// As [`Lab::apply`].
    pub fn start(&mut self, services: &[Service]) -> Result<Outcome> {
        self.launch()?;
        self.apply(services)
    }

    /// Starts a Weir that knows nothing and writes nothing before its first events.
    ///
    /// # Errors
    /// When the kernel or the policies cannot be had.
    pub fn launch(&mut self) -> Result<()> {
        let kernel = self.node.kernel().run(Kernel::open)?;
        let store = Store::new(weir::node::identity(&self.config));
        let facts = weir::node::facts(&self.config, &self.local_addresses, &store);
        let decider = policies::decider()?;
        let flows = self.node.kernel().run(|| {
            let flows = weir_netlink::Conntrack::open()?;
            anyhow::Ok(Conntrack::start(flows, &self.config.conntrack)?)
        })?;
        self.conntrack = Some(flows);
        self.pipeline = Some(Pipeline::new(store, decider, Installed::new(facts), kernel));
        Ok(())
    }

    /// Makes `count` calls from `host`, from ports of our choice, and checks that each ended in a way the simulator
    /// thinks possible on the ruleset that stands in the kernel, and that every likely way was taken. Returns what was
    /// seen.
    ///
    /// # Errors
    /// When kernel and simulator disagree, with both opinions.
    pub fn call(&mut self, host: &Host, count: usize, call: Call) -> Result<Tally> {
        let tally = self.ask(host, count, call);
        let possible = self.simulate(host, &call)?;
        let seen = tally.endings();
        let told = || format!("{} {call:?}\n  possible: {possible:?}\n  seen: {seen:?}", host.name());
        ensure!(seen.iter().all(|seen| possible.iter().any(|(ending, _)| ending == seen)), "not foreseen: {}", told());
        let missing =
            possible.iter().find(|(ending, share)| share * count as f64 >= SURELY_SEEN && !seen.contains(ending));
        ensure!(missing.is_none(), "never seen: {}", told());
        Ok(tally)
    }

    /// Makes `count` calls from `host`, from ports of our choice, whatever the simulator thinks. For what depends on
    /// earlier calls, as client affinity does.
    #[must_use]
    pub fn ask(&mut self, host: &Host, count: usize, call: Call) -> Tally {
        let source = call.source.map_or_else(|| host.address_towards(call.target.ip()), |source| source.ip());
        let ports: Vec<u16> = (0..count).map(|_| self.source_port()).collect();
        Tally::of(host, count, |number| call.from(source, ports[number]))
    }

    fn source_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = if port + 1 < SOURCE_PORTS.end { port + 1 } else { SOURCE_PORTS.start };
        port
    }

    /// Every ending the simulator thinks possible, with its share.
    fn simulate(&mut self, host: &Host, call: &Call) -> Result<Vec<(Ending, f64)>> {
        let ruleset = self.pipeline.as_mut().context("Weir is not running")?.dataplane().dump()?;
        let from_node = host.name() == self.node.kernel().name();
        let source = call.source.map_or_else(|| host.address_towards(call.target.ip()), |source| source.ip());
        let packet = Packet {
            entry: if from_node { Entry::Node } else { Entry::Network },
            protocol: match call.transport {
                Transport::Udp => Protocol::Udp,
                Transport::Sctp => Protocol::Sctp,
                Transport::Tcp | Transport::Http => Protocol::Tcp,
            },
            source: SocketAddr::new(source, 40_000),
            destination: call.target,
            mark: 0,
        };
        let env = Env {
            local_addresses: self.local_addresses.iter().copied().collect(),
            // The testbed names a pod's link after it.
            interface: if host.name() == "outside" { "eth0".to_owned() } else { host.name().to_owned() },
            ..Env::default()
        };
        let outcomes = simulate(&ruleset, &packet, &env)?;
        let endings = outcomes.iter().map(|outcome| {
            let share = outcome.share.count as f64 / outcome.share.of as f64;
            let ending = match outcome.verdict {
                Verdict::Reject => Ending::Failed(Failure::Refused),
                Verdict::Drop => Ending::Failed(Failure::TimedOut),
                Verdict::Delivered { to, masqueraded } => {
                    let backend = to.and_then(|to| self.host_at(to.ip())).map_or("nobody", Host::name).to_owned();
                    let client = if masqueraded { address_of(Layout::NODE, source) } else { source };
                    Ending::Answered { backend, client }
                }
            };
            (ending, share)
        });
        Ok(endings.collect())
    }

    /// Whose address that is; a pod of the node's own network (`hostNetwork`) goes by the node's name.
    fn host_at(&self, address: IpAddr) -> Option<&Host> {
        let hosts = self.node.pods().iter().chain([self.node.kernel()]);
        hosts.into_iter().find(|host| host.address_towards(address) == address)
    }
}

/// How one call ended, as far as the rules decide it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Answered { backend: String, client: IpAddr },
    Failed(Failure),
}

/// The endings in a [`Tally`].
trait Endings {
    fn endings(&self) -> BTreeSet<Ending>;
}

impl Endings for Tally {
    fn endings(&self) -> BTreeSet<Ending> {
        let answers = self.clients.iter().flat_map(|(backend, clients)| {
            clients.iter().map(|client| Ending::Answered { backend: backend.clone(), client: *client })
        });
        answers.chain(self.failures.keys().cloned().map(Ending::Failed)).collect()
    }
}

/// The address of the family of `like`.
#[must_use]
pub fn address_of(addresses: Addresses, like: IpAddr) -> IpAddr {
    if like.is_ipv4() { addresses.v4.into() } else { addresses.v6.into() }
}
