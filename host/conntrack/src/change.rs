//! What a sync means to the flows: ports with their frontends and endpoints, and frontends that were let go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir_model::{Conditions, Family, Port, Protocol, ServiceId, Store};
use weir_nft::{Installed, Op, SetName, Transaction};
use weir_plan::{FrontendAddress, FrontendKey};

/// One port of a Service as its flows see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedPort {
    /// Where it is reached, in ascending order.
    pub frontends: Vec<FrontendKey>,
    /// Every endpoint that serves, in ascending order: ready or not, on any node. Policies and topology are left
    /// out on purpose, as in kube-proxy: they choose for new flows, and ending an old one would gain nothing.
    pub serving: Vec<SocketAddr>,
}

/// What one sync changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Services that were looked at, each with its ports now; without any when it has none or is gone.
    pub services: Vec<(ServiceId, Vec<TrackedPort>)>,
    /// Frontends that were taken out of the kernel.
    pub released: Vec<FrontendKey>,
}

impl TrackedPort {
    /// The ports of `service` that speak one of `protocols`.
    ///
    /// A port's frontends are those of its plan. A port without a plan is one the kernel refused, or one whose
    /// addresses all belong to others. It counts with every address it asks for, so that flows to its endpoints
    /// live on: nothing would translate them anew.
    #[must_use]
    pub fn of(store: &Store, installed: &Installed, service: ServiceId, protocols: &[Protocol]) -> Vec<Self> {
        let Some(spec) = store.service(service) else { return Vec::new() };
        if !spec.ports.iter().any(|port| protocols.contains(&port.protocol)) {
            return Vec::new();
        }
        let ports = store.ports(service).into_iter().filter(|port| protocols.contains(&port.key.protocol));
        let tracked = ports.map(|Port { key, spec: port, endpoints }| {
            let key_of = |address, port| FrontendKey { family: key.family, address, protocol: key.protocol, port };
            let mut frontends: Vec<FrontendKey> = match installed.plan(&key) {
                Some(plan) => plan.frontends.iter().map(|frontend| key_of(frontend.address, frontend.port)).collect(),
                None => weir_plan::addresses(spec, &port, key.family)
                    .into_iter()
                    .map(|(address, port, _)| key_of(address, port))
                    .collect(),
            };
            frontends.sort_unstable();
            frontends.dedup();
            // Sorted by address and port as the store hands them out.
            let serving = endpoints.iter().filter(|endpoint| endpoint.conditions.has(Conditions::SERVING));
            let serving = serving.map(|endpoint| SocketAddr::new(endpoint.address, endpoint.port)).collect();
            Self { frontends, serving }
        });
        tracked.collect()
    }
}

/// The frontends of one of `protocols` that `transaction` takes out of a set. Some may still be there in another
/// set, or belong to another port.
///
/// The first transaction after a start is the difference to what the kernel had, so this also tells what went
/// away while nobody was watching.
#[must_use]
pub fn released(transaction: &Transaction, protocols: &[Protocol]) -> Vec<FrontendKey> {
    let mut found = Vec::new();
    for op in &transaction.ops {
        let Op::DelElements(family, SetName::Frontends | SetName::ShortCuts, keys) = op else {
            continue;
        };
        let keys = keys.iter().filter_map(|(key, _)| frontend(*family, key));
        found.extend(keys.filter(|key| protocols.contains(&key.protocol)));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Reads an element's key: address, protocol and port, each padded to 32 bits; the unspecified address is a node
/// port's.
fn frontend(family: Family, key: &[u8]) -> Option<FrontendKey> {
    let (address, rest) = match family {
        Family::V4 => {
            let (address, rest) = key.split_first_chunk::<4>()?;
            (IpAddr::V4(Ipv4Addr::from(*address)), rest)
        }
        Family::V6 => {
            let (address, rest) = key.split_first_chunk::<16>()?;
            (IpAddr::V6(Ipv6Addr::from(*address)), rest)
        }
    };
    let [protocol, _, _, _, high, low, _, _] = *rest else { return None };
    let address = if address.is_unspecified() { FrontendAddress::NodePort } else { FrontendAddress::Ip(address) };
    let protocol = Protocol::from_number(protocol)?;
    Some(FrontendKey { family, address, protocol, port: u16::from_be_bytes([high, low]) })
}

#[cfg(test)]
mod tests {
    use weir_nft::{ElementKey, Elements};

    use super::*;

    #[test]
    fn reads_back_the_frontends_a_transaction_removes() {
        let wanted = |family, address: &str, protocol, port| {
            let ip: IpAddr = address.parse().expect("an address");
            let address = if ip.is_unspecified() { FrontendAddress::NodePort } else { FrontendAddress::Ip(ip) };
            (
                ElementKey::new().address(ip).protocol(protocol).port(port),
                FrontendKey { family, address, protocol, port },
            )
        };
        let v4 = [
            wanted(Family::V4, "0.0.0.0", Protocol::Udp, 30_053),
            wanted(Family::V4, "10.96.0.10", Protocol::Udp, 53),
            wanted(Family::V4, "10.96.0.10", Protocol::Tcp, 53),
        ];
        let v6 = [wanted(Family::V6, "::", Protocol::Udp, 30_053), wanted(Family::V6, "fd00::a", Protocol::Udp, 53)];
        let keys = |set, family, list: &[(ElementKey, FrontendKey)]| {
            let mut elements = Elements::keys_of(set, family);
            list.iter().for_each(|(key, _)| elements.push(key.as_bytes(), &[]));
            elements
        };
        let transaction = Transaction {
            ops: vec![
                Op::DelElements(Family::V4, SetName::Frontends, keys(SetName::Frontends, Family::V4, &v4)),
                Op::DelElements(Family::V6, SetName::ShortCuts, keys(SetName::ShortCuts, Family::V6, &v6)),
                Op::AddElements(Family::V6, SetName::Frontends, keys(SetName::Frontends, Family::V6, &v6)),
            ],
        };
        let udp = [v4[1].1, v4[0].1, v6[1].1, v6[0].1];
        assert_eq!(released(&transaction, &[Protocol::Udp]), udp);
        assert_eq!(released(&transaction, &[Protocol::Tcp]), [v4[2].1]);
    }
}
