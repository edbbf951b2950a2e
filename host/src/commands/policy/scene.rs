//! Clusters to ask policies about: from manifests, or made up.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::bail;
use weir_model::{
    Conditions, EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, ServiceId, ServicePortSpec,
    ServiceSpec, SlicePort, SliceSpec, Store, TrafficPolicy,
};
use weir_source::{Loaded, Manifests, Problem, Selection, Severity};

use super::BUILT_IN_PREFIX as BUILT_IN;
use crate::cli::policy::SceneArgs;
use crate::config::Config;
use crate::node;

/// A cluster as one node sees it, and the Services to decide in it.
pub(super) struct Scene {
    pub(super) store: Store,
    pub(super) services: Vec<ServiceId>,
}

/// A manifest in words of its own: what it is called, and its text.
pub(super) type Text = (PathBuf, String);

impl Scene {
    /// The cluster the command line names, whose Services all ask for `policy`.
    ///
    /// # Errors
    /// When no manifests are named, a path cannot be read, or a Service that was asked for is not there.
    pub(super) fn of_args(args: &SceneArgs, policy: &str) -> anyhow::Result<Self> {
        let paths = crate::commands::paths(args.manifests.as_ref(), &args.files);
        if paths.is_empty() {
            bail!("name the cluster to decide for: --manifests DIR, or -f FILE");
        }
        let config =
            Config { node_name: args.node.clone().unwrap_or_default(), zone: args.zone.clone(), ..Config::default() };
        let mut loaded = load(&paths, &[], &node::identity(&config), Problem::log)?;
        if let Some(name) = &args.name {
            loaded.services.retain(|service| service.policy.as_ref() == Some(name));
            loaded.services.iter_mut().for_each(|service| service.policy = Some(policy.to_owned()));
        }
        let mut scene = Self::of(loaded, node::identity(&config), policy);
        scene.keep_only(&args.services)?;
        Ok(scene)
    }

    /// The cluster in `paths` and `texts` as the node `identity` sees it, whose Services all ask for `policy`. What is
    /// wrong with some object is handed to `tell`; the others are taken.
    ///
    /// # Errors
    /// When a path cannot be read.
    pub(super) fn load(
        paths: &[PathBuf],
        texts: &[Text],
        identity: NodeIdentity,
        policy: &str,
        tell: impl FnMut(&Problem),
    ) -> anyhow::Result<Self> {
        let loaded = load(paths, texts, &identity, tell)?;
        Ok(Self::of(loaded, identity, policy))
    }

    fn of(mut loaded: Loaded, identity: NodeIdentity, policy: &str) -> Self {
        let plain = policy.strip_prefix(BUILT_IN).unwrap_or(policy);
        let plain = plain.split_once(".wasm").map_or(plain, |(stem, _)| stem);
        for service in &mut loaded.services {
            // Settings that were meant for another policy are none for this one.
            if service.policy.as_deref().is_some_and(|named| named != policy && named != plain) {
                service.policy_settings = None;
            }
            service.policy = Some(policy.to_owned());
        }
        let mut store = Store::new(identity);
        loaded.into_events().into_iter().for_each(|event| store.apply(event));
        let services = store.service_ids().collect();
        Self { store, services }
    }

    /// Leaves only the Services of those names, if any are named.
    fn keep_only(&mut self, names: &[String]) -> anyhow::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut kept = BTreeSet::new();
        for name in names {
            let (namespace, service) = name.split_once('/').unwrap_or(("default", name));
            let key = ObjectKey { namespace: namespace.to_owned(), name: service.to_owned() };
            match self.store.find(&key).filter(|id| self.store.service(*id).is_some()) {
                Some(id) => drop(kept.insert(id)),
                None => bail!("there is no Service {key} in the manifests"),
            }
        }
        self.services = kept.into_iter().collect();
        Ok(())
    }

    /// So many Services with so many endpoints each, over three zones and a hundred nodes.
    pub(super) fn uniform(services: u32, endpoints: u32, policy: &str) -> Self {
        let mut scene = Self::empty();
        for at in 0..services {
            let endpoint = |n| endpoint_at(Family::V4, at.wrapping_mul(endpoints).wrapping_add(n), n);
            scene.add(service(at, Family::V4, policy), (0..endpoints).map(endpoint).collect());
        }
        scene
    }

    /// Services of every kind there is: both families and all protocols, no endpoint up to a thousand, ready and not,
    /// leaving, local, hinted, weighted, with affinity, traffic policies and ways in from outside.
    pub(super) fn of_all_kinds(policy: &str) -> Self {
        let mut scene = Self::empty();
        let mut number = 0;
        for family in Family::ALL {
            for (at, count) in [0, 1, 2, 3, 7, 40, 1_000].into_iter().enumerate() {
                for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                    // The widest one need not come three times a family.
                    if count == 1_000 && protocol != Protocol::Tcp {
                        continue;
                    }
                    let mut spec = service(number, family, policy);
                    spec.ports[0].protocol = protocol;
                    spec.ports[0].node_port =
                        if number % 2 == 0 { 30_000 + u16::try_from(number).unwrap_or(0) } else { 0 };
                    let local =
                        |turn: u32| if number % turn == 1 { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
                    (spec.internal_policy, spec.external_policy) = (local(5), local(3));
                    spec.affinity_seconds = if at % 3 == 1 { 10_800 } else { 0 };
                    let endpoints = (0..count).map(|n| varied(endpoint_at(family, number * 1_000 + n, n), n, number));
                    scene.add(spec, endpoints.collect());
                    number += 1;
                }
            }
        }
        scene
    }

    fn empty() -> Self {
        let identity = NodeIdentity { name: "node-0".to_owned(), zone: "zone-0".to_owned() };
        Self { store: Store::new(identity), services: Vec::new() }
    }

    fn add(&mut self, spec: ServiceSpec, endpoints: Vec<EndpointSpec>) {
        let (key, family) = (spec.key.clone(), spec.cluster_ips.first().map_or(Family::V4, |ip| Family::of(*ip)));
        let ports = spec.ports.iter();
        let ports =
            ports.map(|port| SlicePort { name: port.name.clone(), protocol: port.protocol, port: 8080 }).collect();
        self.store.apply(Event::Service(spec));
        let slice = SliceSpec { key: key.clone(), service: key.clone(), family, ports, endpoints, triggered: None };
        self.store.apply(Event::Slice(slice));
        self.services.extend(self.store.find(&key));
    }

    /// All endpoints of all ports to decide.
    pub(super) fn endpoints(&self) -> usize {
        self.services.iter().flat_map(|id| self.store.ports(*id)).map(|port| port.endpoints.len()).sum()
    }
}

fn load(
    paths: &[PathBuf],
    texts: &[Text],
    identity: &NodeIdentity,
    tell: impl FnMut(&Problem),
) -> anyhow::Result<Loaded> {
    for path in paths {
        std::fs::metadata(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    }
    let selection = Selection { node: identity.name.clone(), service_proxy_name: String::new() };
    let loaded = Manifests::load_with(paths, texts, &selection);
    // That some kinds are none of our business is no news here.
    loaded.problems.iter().filter(|problem| problem.severity > Severity::Note).for_each(tell);
    Ok(loaded)
}

fn service(number: u32, family: Family, policy: &str) -> ServiceSpec {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::from_bits(0x0a60_0000 + number).into(),
        Family::V6 => Ipv6Addr::from_bits(0xfd00_0010_0096 << 80 | u128::from(number)).into(),
    };
    ServiceSpec {
        key: ObjectKey { namespace: "sample".to_owned(), name: format!("service-{number}") },
        cluster_ips: vec![address],
        ports: vec![ServicePortSpec { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
        policy: Some(policy.to_owned()),
        ..ServiceSpec::default()
    }
}

/// A ready endpoint; `at` makes its address, `n` the node and zone it is in.
fn endpoint_at(family: Family, at: u32, n: u32) -> EndpointSpec {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::from_bits(0x0b00_0000_u32.wrapping_add(at)).into(),
        Family::V6 => Ipv6Addr::from_bits(0xfd00_0010_0244 << 80 | u128::from(at)).into(),
    };
    EndpointSpec {
        node: Some(format!("node-{}", n % 100)),
        zone: Some(format!("zone-{}", n % 3)),
        weight: 1 + n % 4,
        pod: Some(format!("pod-{n}")),
        ..EndpointSpec::ready(address)
    }
}

/// The same endpoint in a state that depends on the two numbers, which together cover the states there are.
fn varied(mut endpoint: EndpointSpec, n: u32, service: u32) -> EndpointSpec {
    endpoint.conditions = match (n + service) % 7 {
        5 => Conditions::SERVING | Conditions::TERMINATING,
        6 => Conditions::default(),
        _ => Conditions::ready(),
    };
    if service % 4 == 2 {
        endpoint.hint_zones = vec![format!("zone-{}", n % 3)];
    }
    if service % 11 == 3 {
        (endpoint.node, endpoint.zone) = (None, None);
    }
    if n % 5 == 4 {
        endpoint.weight = 0;
    }
    endpoint
}
