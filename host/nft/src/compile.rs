//! From the facts of a node to the fixed part of the ruleset, and from a port's plan to its elements.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weir_model::{Family, IndexFunction, Protocol};
use weir_plan::{
    Frontend, FrontendAddress, FrontendKind, LocalPods, NodeFacts, NodePortAddresses, PlanRing, PortPlan, Target,
    Treatment,
};

use crate::class::{Class, LOCAL_OFFSET, Role, Spread, frontend_key, rule, short_cut_chain};
use crate::{
    BaseChain, Chain, ChainType, Content, ElementKey, Elements, Field, Hook, Key, Rule, Ruleset, Set, SetName,
    Statement, Table,
};

/// Smallest size a set is declared with. A fixed hash table of this size costs about 12 kB.
pub(crate) const MIN_SIZE: u32 = 1024;

/// Size of the affinity map: clients remembered at a time, all Services together.
const AFFINITY_SIZE: u32 = 1 << 18;

/// The part of the ruleset no Service has a say in: base chains, checks, empty sets.
#[must_use]
pub fn base_ruleset(node: &NodeFacts) -> Ruleset {
    Ruleset { tables: Family::ALL.into_iter().map(|family| (family, base_table(node, family))).collect() }
}

fn base_table(node: &NodeFacts, family: Family) -> Table {
    let mut table = Table { chains: chains(node, family), sets: BTreeMap::new() };
    for set in SetName::ALL {
        let content = match set {
            SetName::Classes | SetName::ShortCutClasses => Content::Verdicts(BTreeMap::new()),
            SetName::Affinity => Content::Dynamic,
            _ => Content::Flat(Elements::new(set, family)),
        };
        table.sets.insert(set, Set { size: if set.is_dynamic() { AFFINITY_SIZE } else { MIN_SIZE }, content });
    }
    if let NodePortAddresses::Listed(addresses) = node.node_ports(family) {
        let mut elements = Elements::new(SetName::NodeportAddresses, family);
        for address in addresses {
            elements.push(ElementKey::new().address(*address).as_bytes(), &[]);
        }
        elements.sort();
        if let Some(set) = table.sets.get_mut(&SetName::NodeportAddresses) {
            set.content = Content::Flat(elements);
        }
    }
    table
}

fn chains(node: &NodeFacts, family: Family) -> BTreeMap<String, Chain> {
    let mark = node.masquerade_mark();
    let jump = |chain: &str| Statement::Jump(chain.to_owned());
    let checked = |chain: &str| rule([Statement::CtStateNew, jump(chain)]);
    let base = |kind, hook, priority, rules| Chain { base: Some(BaseChain { kind, hook, priority }), rules };
    let plain = |rules| Chain { base: None, rules };
    let mut chains = BTreeMap::new();
    let mut add = |name: &str, chain: Chain| chains.insert(name.to_owned(), chain);

    // Hooks, priorities and the order of checks are kube-proxy's: other rulesets count on them.
    for (name, hook) in [("filter-prerouting-pre-dnat", Hook::Prerouting), ("filter-output-pre-dnat", Hook::Output)] {
        add(name, base(ChainType::Filter, hook, -110, vec![checked("source-ranges-check")]));
    }
    add("nat-prerouting", base(ChainType::Nat, Hook::Prerouting, -100, vec![rule([jump("services")])]));
    add("nat-output", base(ChainType::Nat, Hook::Output, -100, vec![rule([jump("services")])]));
    add("nat-postrouting", base(ChainType::Nat, Hook::Postrouting, 100, vec![rule([jump("masquerading")])]));
    // A reject in prerouting needs a newer kernel than the rest of Weir does, so the checks sit here.
    add(
        "filter-input",
        base(
            ChainType::Filter,
            Hook::Input,
            0,
            vec![checked("nodeport-endpoints-check"), checked("service-endpoints-check")],
        ),
    );
    let passing = || {
        let mut rules = vec![checked("service-endpoints-check"), checked("cluster-ips-check")];
        if node.reject_unused_external_ports {
            rules.push(checked("external-ips-check"));
        }
        rules
    };
    add("filter-forward", base(ChainType::Filter, Hook::Forward, 0, passing()));
    add("filter-output", base(ChainType::Filter, Hook::Output, 0, passing()));

    add("services", plain(services(node, family, mark)));
    for node_port in [false, true] {
        add(short_cut_chain(node_port), plain(short_cuts(node, family, node_port, mark)));
    }
    add("service-endpoints-check", plain(endpoint_checks(&[], false)));
    add("nodeport-endpoints-check", plain(endpoint_checks(&node_port_guard(node, family), true)));
    add("cluster-ips-check", plain(cluster_ip_checks(node, family)));
    add("source-ranges-check", plain(source_checks()));
    if node.reject_unused_external_ports {
        add("external-ips-check", plain(external_ip_checks()));
    }
    add("rejecting", plain(rejecting()));
    add("masquerading", plain(masquerading(mark)));
    chains
}

/// What tells an address that accepts node ports.
fn node_port_guard(node: &NodeFacts, family: Family) -> Vec<Statement> {
    match node.node_ports(family) {
        NodePortAddresses::Listed(_) => vec![in_set(vec![Field::Daddr], SetName::NodeportAddresses)],
        NodePortAddresses::All => {
            let loopback = match family {
                Family::V4 => IpNet::new_assert(IpAddr::V4(Ipv4Addr::LOCALHOST), 8),
                Family::V6 => IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
            };
            vec![Statement::FibDaddrLocal { negate: false }, Statement::Daddr { net: loopback.trunc(), negate: true }]
        }
    }
}

fn services(node: &NodeFacts, family: Family, mark: u32) -> Vec<Rule> {
    let mut rules = Vec::new();
    let to_cluster_ip = in_set(vec![Field::Daddr], SetName::ClusterIps);
    let outside = from_pods(node, family, true);
    if node.masquerade_all {
        rules.push(rule([to_cluster_ip, Statement::MarkSet(mark)]));
    } else if !outside.is_empty() {
        let mut statements = vec![to_cluster_ip];
        statements.extend(outside);
        statements.push(Statement::MarkSet(mark));
        rules.push(rule(statements));
    }
    for node_port in [false, true] {
        let mut statements = if node_port { node_port_guard(node, family) } else { Vec::new() };
        statements.push(Statement::PriorityFrom { key: frontend_key(node_port), map: SetName::Frontends });
        statements.push(Statement::PriorityVerdict(SetName::Classes));
        rules.push(rule(statements));
    }
    rules
}

/// What matches packets of this node's pods, any of them; with `negate`, what matches all others, taken together.
fn from_pods(node: &NodeFacts, family: Family, negate: bool) -> Vec<Statement> {
    let by_interface = |name: &String, prefix| vec![Statement::InInterface { name: name.clone(), prefix, negate }];
    match &node.local_pods {
        LocalPods::Unknown => Vec::new(),
        LocalPods::Networks(_) => {
            node.local_pods.networks(family).map(|net| Statement::Saddr { net: net.trunc(), negate }).collect()
        }
        LocalPods::Interface(name) => by_interface(name, false),
        LocalPods::InterfacePrefix(name) => by_interface(name, true),
    }
}

/// Pods and this node reach every endpoint even where outsiders get this node's only: with their own address
/// as the source for pods, masqueraded for the node (kube-proxy's "short-circuit").
fn short_cuts(node: &NodeFacts, family: Family, node_port: bool, mark: u32) -> Vec<Rule> {
    let to_cluster = || {
        [
            Statement::PriorityFrom { key: frontend_key(node_port), map: SetName::ShortCuts },
            Statement::PriorityVerdict(SetName::ShortCutClasses),
        ]
    };
    let mut rules: Vec<Rule> = from_pods(node, family, false)
        .into_iter()
        .map(|from_pod| rule(std::iter::once(from_pod).chain(to_cluster())))
        .collect();
    rules.push(rule([Statement::FibSaddrLocal, Statement::MarkSet(mark)]));
    rules.push(rule(std::iter::once(Statement::FibSaddrLocal).chain(to_cluster())));
    rules
}

fn endpoint_checks(guard: &[Statement], node_port: bool) -> Vec<Rule> {
    let check = |set, verdict| rule(guard.iter().cloned().chain([in_set(frontend_key(node_port), set), verdict]));
    vec![check(SetName::Dropped, Statement::Drop), check(SetName::Rejected, reject())]
}

/// Tells the client at once. A TCP client gets a reset: an ICMP error that arrives while `connect` still holds the
/// socket, as it does between namespaces of one machine, is lost, and the client tries again only after a second.
fn rejecting() -> Vec<Rule> {
    vec![rule([Statement::RejectTcp]), rule([Statement::Reject])]
}

fn reject() -> Statement {
    Statement::Goto("rejecting".to_owned())
}

/// Load balancer addresses are guarded before anything is translated, as by kube-proxy's `firewall-check`.
fn source_checks() -> Vec<Rule> {
    let mut with_source = frontend_key(false);
    with_source.push(Field::Saddr);
    let allowed = Statement::InSet { key: with_source, set: SetName::SourceRanges, negate: true };
    vec![rule([in_set(frontend_key(false), SetName::Guarded), allowed, Statement::Drop])]
}

/// Ports of load balancer and external IPs that no Service has. Not those of addresses this node has itself, nor
/// other protocols: a ping may well be somebody else's business.
fn external_ip_checks() -> Vec<Rule> {
    let unused = |protocol, verdict| {
        let external = in_set(vec![Field::Daddr], SetName::ExternalIps);
        rule([external, Statement::FibDaddrLocal { negate: true }, Statement::Protocol(protocol), verdict])
    };
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|protocol| unused(protocol, reject())).to_vec()
}

fn in_set(key: Key, set: SetName) -> Statement {
    Statement::InSet { key, set, negate: false }
}

fn cluster_ip_checks(node: &NodeFacts, family: Family) -> Vec<Rule> {
    let mut rules = vec![rule([in_set(vec![Field::Daddr], SetName::ClusterIps), reject()])];
    rules[0].comment = "other ports of active ClusterIPs".to_owned();
    for net in node.service_cidrs(family) {
        let mut drop = rule([Statement::Daddr { net: net.trunc(), negate: false }, Statement::Drop]);
        drop.comment = "addresses no Service has".to_owned();
        rules.push(drop);
    }
    rules
}

fn masquerading(mark: u32) -> Vec<Rule> {
    let connection = vec![Field::Saddr, Field::Daddr, Field::Protocol, Field::Dport];
    let mut rules = vec![
        // The scratch register is somebody else's queueing priority: hand it on clean.
        rule([Statement::CtStatusDnat, Statement::PriorityClear]),
        // The bit is cleared so that a tunnel's outer packet is not masqueraded again (kubernetes#92035).
        rule([Statement::MarkHas(mark), Statement::MarkFlip(mark), Statement::Masquerade]),
        rule([Statement::CtStatusDnat, in_set(connection, SetName::Hairpin), Statement::Masquerade]),
    ];
    rules[2].comment = "endpoints that reach themselves".to_owned();
    rules
}

/// The class a ring needs.
fn class_of(plan: &PortPlan, ring: Option<&PlanRing>, local: bool, node_port: bool, role: Role) -> Class {
    let spread = ring.map(|ring| Spread {
        index: ring.index,
        size: u32::try_from(ring.slots.len()).expect("slots are counted in 16 bits"),
        local,
        affinity_seconds: ring.affinity_seconds,
        counter: (ring.index == IndexFunction::RoundRobin).then(|| counter_name(plan)),
    });
    Class { node_port, role, spread }
}

fn counter_name(plan: &PortPlan) -> std::sync::Arc<str> {
    std::sync::Arc::from(format!("{}/{}", plan.name, plan.protocol()))
}

/// The class of a frontend, and the class of its short cut, if it has them.
pub(crate) fn classes_of(plan: &PortPlan, frontend: &Frontend) -> (Option<Class>, Option<Class>) {
    let node_port = frontend.address == FrontendAddress::NodePort;
    let cluster = |role| Some(class_of(plan, plan.cluster.as_ref(), false, node_port, role));
    let local = |role| Some(class_of(plan, plan.local.as_ref(), true, node_port, role));
    match frontend.treatment {
        Treatment::Cluster => (cluster(Role::Plain), None),
        Treatment::Local => (local(Role::Plain), None),
        Treatment::ExternalCluster => (cluster(Role::Masquerade), None),
        Treatment::ExternalLocal { short_cut: false } => (local(Role::Plain), None),
        Treatment::ExternalLocal { short_cut: true } => (local(Role::ShortCut), cluster(Role::Plain)),
        Treatment::Drop { short_cut: true } => {
            (Some(Class { node_port, role: Role::ShortCut, spread: None }), cluster(Role::Plain))
        }
        Treatment::Drop { short_cut: false } | Treatment::Reject => (None, None),
    }
}

/// Receives elements: set, key, data.
pub(crate) type Sink<'a> = dyn FnMut(SetName, &[u8], &[u8]) + 'a;

/// Every element `plan` wants. `numbers` gives the numbers of a frontend's classes.
pub(crate) fn emit(
    plan: &PortPlan,
    mut numbers: impl FnMut(&Frontend) -> (Option<u32>, Option<u32>),
    sink: &mut Sink<'_>,
) {
    for frontend in &plan.frontends {
        let key = frontend_element(plan, frontend);
        if let FrontendAddress::Ip(ip) = frontend.address {
            let cluster_ip = frontend.kind == FrontendKind::ClusterIp;
            let set = if cluster_ip { SetName::ClusterIps } else { SetName::ExternalIps };
            sink(set, ElementKey::new().address(ip).as_bytes(), &[]);
        }
        if frontend.kind == FrontendKind::LoadBalancer && !plan.source_ranges.is_empty() {
            sink(SetName::Guarded, key.as_bytes(), &[]);
            for range in &plan.source_ranges {
                sink(SetName::SourceRanges, key.network(*range).as_bytes(), &[]);
            }
        }
        match frontend.treatment {
            Treatment::Reject => sink(SetName::Rejected, key.as_bytes(), &[]),
            Treatment::Drop { .. } => sink(SetName::Dropped, key.as_bytes(), &[]),
            _ => {}
        }
        let (class, short_cut) = numbers(frontend);
        if let Some(number) = class {
            sink(SetName::Frontends, key.as_bytes(), &number.to_ne_bytes());
        }
        if let Some(number) = short_cut {
            sink(SetName::ShortCuts, key.as_bytes(), &number.to_ne_bytes());
        }
        let rings = [
            plan.cluster.as_ref().filter(|_| frontend.treatment.uses_cluster()).map(|ring| (ring, 0)),
            plan.local.as_ref().filter(|_| frontend.treatment.uses_local()).map(|ring| (ring, LOCAL_OFFSET)),
        ];
        emit_rings(plan, key, rings, sink);
    }
    for target in plan.targets.iter().filter(|target| target.local) {
        let key = ElementKey::new().address(target.address).address(target.address);
        sink(SetName::Hairpin, key.protocol(plan.protocol()).port(target.port).as_bytes(), &[]);
    }
}

fn emit_rings(plan: &PortPlan, key: ElementKey, rings: [Option<(&PlanRing, u32)>; 2], sink: &mut Sink<'_>) {
    let mut remembered = vec![];
    for (ring, offset) in rings.into_iter().flatten() {
        for (slot, at) in (offset..).zip(&ring.slots) {
            let Some(target) = plan.targets.get(usize::from(*at)) else { continue };
            let slot_key = key.number(slot);
            if ring.affinity_seconds == 0 {
                sink(SetName::Slots, slot_key.as_bytes(), target_data(target).as_bytes());
            } else {
                sink(SetName::AffinitySlots, slot_key.as_bytes(), &target.id.to_ne_bytes());
                remembered.push(target);
            }
        }
    }
    remembered.sort_unstable();
    remembered.dedup();
    for target in remembered {
        sink(SetName::AffinityEndpoints, key.number(target.id).as_bytes(), target_data(target).as_bytes());
    }
}

fn target_data(target: &Target) -> ElementKey {
    ElementKey::new().address(target.address).port(target.port)
}

fn frontend_element(plan: &PortPlan, frontend: &Frontend) -> ElementKey {
    frontend_bytes(plan.family(), frontend.address, plan.protocol(), frontend.port)
}

/// The key of a frontend as its elements hold it.
pub(crate) fn frontend_bytes(family: Family, address: FrontendAddress, protocol: Protocol, port: u16) -> ElementKey {
    let address = match (address, family) {
        (FrontendAddress::Ip(ip), _) => ip,
        (FrontendAddress::NodePort, Family::V4) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (FrontendAddress::NodePort, Family::V6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    ElementKey::new().address(address).protocol(protocol).port(port)
}
