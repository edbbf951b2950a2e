//! The fixed part of the ruleset: base chains, checks, empty sets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weir_model::{Family, Protocol};
use weir_plan::{NodeFacts, NodePortAddresses};

use crate::class::{Class, DROPPING, REJECTING, short_cut_chain};
use crate::parts::{from_pods, frontend_key, in_set, rule, with};
use crate::{
    BaseChain, Chain, Content, ElementKey, Elements, Field, Hook, Rule, Ruleset, Set, SetName, Statement, Table,
};

/// Smallest size a set is declared with: 1024 buckets, 8 kB.
pub(crate) const MIN_SIZE: u32 = 768;

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
            SetName::Refusals => {
                let refusals = Class::refusals().map(|(class, chain)| (class.preferred_number(), chain.to_owned()));
                Content::Verdicts(refusals.into())
            }
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
    let jump = |chain: &str| rule([Statement::Jump(chain.to_owned())]);
    let plain = |rules| Chain { base: None, rules };
    let mut chains = BTreeMap::new();
    let mut add = |name: &str, chain: Chain| chains.insert(name.to_owned(), chain);

    // Chains of type nat see the first packet of a connection and no other, so what is established pays nothing. The
    // priorities are kube-proxy's: other rulesets count on them.
    let base = |hook, priority, rules| Chain { base: Some(BaseChain { hook, priority }), rules };
    // What nobody has sent anywhere at -100, where others translate as well, comes to the checks at 0.
    let mut checks = vec![jump("endpoints-check"), jump("cluster-ips-check")];
    if node.reject_unused_external_ports {
        checks.push(jump("external-ips-check"));
    }
    for (hook, translating, checking) in [
        (Hook::Prerouting, "nat-prerouting", "nat-prerouting-checks"),
        (Hook::Output, "nat-output", "nat-output-checks"),
    ] {
        add(translating, base(hook, -100, vec![jump("services")]));
        add(checking, base(hook, 0, checks.clone()));
    }
    add("nat-postrouting", base(Hook::Postrouting, 100, vec![jump("masquerading")]));

    add("services", plain(by_class(node, family, SetName::Classes)));
    add("endpoints-check", plain(by_class(node, family, SetName::Refusals)));
    for node_port in [false, true] {
        add(short_cut_chain(node_port), plain(short_cuts(node, family, node_port, mark)));
    }
    add("cluster-ips-check", plain(cluster_ip_checks(node, family)));
    if node.reject_unused_external_ports {
        add("external-ips-check", plain(external_ip_checks()));
    }
    add(REJECTING, plain(rejecting()));
    add(DROPPING, plain(vec![rule([Statement::Drop])]));
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

/// The chains that guard load balancer addresses with source ranges, by name. As kube-proxy's `firewall-check` they come
/// before anybody translates. They are there while there is something to guard: nobody else pays for the look-up.
pub(crate) fn guards() -> [(&'static str, Chain); 2] {
    let stranger =
        Statement::InSet { key: with(&frontend_key(false), Field::Saddr), set: SetName::SourceRanges, negate: true };
    let guard = rule([in_set(frontend_key(false), SetName::Guarded), stranger, Statement::Drop]);
    [("nat-prerouting-guard", Hook::Prerouting), ("nat-output-guard", Hook::Output)].map(|(name, hook)| {
        (name, Chain { base: Some(BaseChain { hook, priority: -110 }), rules: vec![guard.clone()] })
    })
}

/// Sends a connection to where `map` has the class of its frontend.
fn by_class(node: &NodeFacts, family: Family, map: SetName) -> Vec<Rule> {
    let mut rules = Vec::new();
    for node_port in [false, true] {
        let mut statements = if node_port { node_port_guard(node, family) } else { Vec::new() };
        statements.push(Statement::PriorityFrom { key: frontend_key(node_port), map: SetName::Frontends });
        statements.push(Statement::PriorityVerdict(map));
        rules.push(rule(statements));
    }
    rules
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

/// Tells the client at once. A TCP client gets a reset: an ICMP error that arrives while `connect` still holds the
/// socket, as it does between namespaces of one machine, is lost, and the client tries again only after a second.
fn rejecting() -> Vec<Rule> {
    vec![rule([Statement::RejectTcp]), rule([Statement::Reject])]
}

fn reject() -> Statement {
    Statement::Goto(REJECTING.to_owned())
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

/// Ports of ClusterIPs that no Service has, and addresses no Service has. Where the node has such an address itself, as
/// a DNS cache on the node does, it answers for it.
fn cluster_ip_checks(node: &NodeFacts, family: Family) -> Vec<Rule> {
    let elsewhere = Statement::FibDaddrLocal { negate: true };
    let to_cluster_ip = in_set(vec![Field::Daddr], SetName::ClusterIps);
    let mut rules = vec![rule([to_cluster_ip, elsewhere.clone(), reject()])];
    rules[0].comment = "other ports of active ClusterIPs".to_owned();
    for net in node.service_cidrs(family) {
        let mut drop = rule([Statement::Daddr { net: net.trunc(), negate: false }, elsewhere.clone(), Statement::Drop]);
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
