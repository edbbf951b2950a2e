//! The hosts of the demo and the servers on them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use weir_model::Protocol;
use weir_source::Loaded;
use weir_testbed::{Host, Layout, Listen, Node, Server};

/// A node, its pods and an outside client, with a server on every port an example's endpoints listen on.
pub(super) struct Scene {
    pub(super) node: Node,
    _servers: Vec<Server>,
}

impl Scene {
    pub(super) fn build(loaded: &Loaded) -> anyhow::Result<Self> {
        let node = Node::up(&Layout::default())?;
        let ports: BTreeSet<(Protocol, u16)> =
            loaded.slices.iter().flat_map(|slice| &slice.ports).map(|port| (port.protocol, port.port)).collect();
        let listen: Vec<Listen> = ports
            .into_iter()
            .filter_map(|(protocol, port)| match protocol {
                Protocol::Tcp => Some(Listen::Http(port)),
                Protocol::Udp => Some(Listen::Udp(port)),
                Protocol::Sctp => None,
            })
            .collect();
        let mut servers = Vec::new();
        for backend in node.backends() {
            servers.extend(Server::start_all(backend, &listen)?);
        }
        Ok(Self { node, _servers: servers })
    }

    /// The pod that connects.
    pub(super) fn client(&self) -> &Host {
        self.node.pod("client")
    }

    /// The machine outside the cluster that connects.
    pub(super) fn outside(&self) -> &Host {
        self.node.outside()
    }

    /// Name of whoever has that address.
    pub(super) fn name_of(&self, address: IpAddr) -> String {
        let hosts = self.node.pods().iter().chain([self.node.kernel(), self.node.outside()]);
        let mut hosts = hosts.filter(|host| host.address_towards(address) == address);
        hosts.next().map_or_else(|| address.to_string(), |host| host.name().to_owned())
    }

    /// Where pods reach a Service's first port.
    pub(super) fn cluster_ip(&self, loaded: &Loaded, service: &str) -> Option<SocketAddr> {
        let spec = loaded.services.iter().find(|spec| spec.key.name == service)?;
        Some(SocketAddr::new(*spec.cluster_ips.first()?, spec.ports.first()?.port))
    }

    /// Who is who.
    pub(super) fn picture(&self) -> String {
        let mut lines = vec!["network namespaces, joined by the node:".to_owned()];
        let hosts = [self.node.kernel(), self.outside()].into_iter().chain(self.node.pods());
        lines.extend(hosts.map(|host| format!("  {:<10} {:<14} {}", host.name(), host.v4(), host.v6())));
        lines.push(String::new());
        lines.join("\n")
    }
}
