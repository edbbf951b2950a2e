//! The text against the nft tool itself.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use weir_model::IndexFunction::{FlowHash, Random, RoundRobin, SourceHash};
use weir_model::Protocol;
use weir_plan::{LocalPods, NodeFacts, NodePortAddresses};

use super::*;
use crate::class::{Class, End, Role, Spread};
use crate::{Chain, ElementKey, Field};

/// Runs `script` with sh in a network namespace of its own, `input` on its standard input. `None`, with the
/// reason printed, where the machine cannot do that.
pub(crate) fn in_namespace(script: &str, input: &str) -> Option<Output> {
    let works = |flags: &str| {
        Command::new("unshare")
            .args([flags, "nft", "list", "ruleset"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let Some(flags) = ["-n", "-rn"].into_iter().find(|flags| works(flags)) else {
        eprintln!(
            "not checked against nft: `unshare -rn nft list ruleset` does not work here (tool or privilege missing)"
        );
        return None;
    };
    let mut child = Command::new("unshare")
        .args([flags, "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Some(child.wait_with_output().unwrap())
}

/// Loads `script` and gives back what `nft list ruleset` says.
fn listed(script: &str) -> Option<String> {
    let output = in_namespace("nft -f - && nft list ruleset", script)?;
    assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn flat(set: SetName, family: Family, pairs: &[(ElementKey, ElementKey)]) -> Content {
    let mut elements = Elements::new(set, family);
    for (key, data) in pairs {
        elements.push(key.as_bytes(), data.as_bytes());
    }
    elements.sort();
    Content::Flat(elements)
}

/// Several elements of each set, with ports and slots whose byte order matters to nft's sorting.
fn content(set: SetName, family: Family) -> Content {
    let address = |n: u16| match family {
        Family::V4 => ip(&format!("10.0.{}.{}", n >> 8, n & 0xff)),
        Family::V6 => ip(&format!("fd00:10::{n:x}")),
    };
    let none = ElementKey::new();
    let unspecified = if family == Family::V4 { ip("0.0.0.0") } else { ip("::") };
    let frontends = [
        none.address(address(1)).protocol(Protocol::Tcp).port(80),
        none.address(address(1)).protocol(Protocol::Tcp).port(512),
        none.address(address(2)).protocol(Protocol::Udp).port(53),
        none.address(unspecified).protocol(Protocol::Sctp).port(30080),
    ];
    let all = |data: &dyn Fn(u32) -> ElementKey| -> Vec<(ElementKey, ElementKey)> {
        frontends.iter().zip(0..).map(|(key, n)| (*key, data(n))).collect()
    };
    let class = |n: u32| none.number([3, 0x0008_0003, 0x4000_1a2b, 0x8abc_001f][n as usize]);
    let target = none.address(address(300)).port(8080);
    let with_number = |numbers: [u32; 3], data: ElementKey| -> Vec<(ElementKey, ElementKey)> {
        frontends.iter().flat_map(|key| numbers.map(|n| (key.number(n), data))).collect()
    };
    match set {
        SetName::ClusterIps => flat(set, family, &[1, 2, 3, 256, 700].map(|n| (none.address(address(n)), none))),
        SetName::NodeportAddresses => flat(set, family, &[(none.address(address(9)), none)]),
        SetName::Frontends | SetName::ShortCuts => flat(set, family, &all(&class)),
        SetName::Slots => flat(set, family, &with_number([0, 10, 32768], target)),
        SetName::AffinitySlots => flat(set, family, &with_number([0, 10, 32768], class(3))),
        SetName::Endpoints => flat(set, family, &with_number([0x8000_0001, 0x8abc_001f, 0x9000_0000], target)),
        SetName::Classes | SetName::ShortCutClasses | SetName::Refusals => {
            Content::Verdicts([1, 2, 3, 4, 5, 6, 0x0008_0003, 0x4000_1a2b].map(|n| (n, "random-3".to_owned())).into())
        }
        SetName::Affinity => Content::Dynamic,
        SetName::Guarded => flat(set, family, &all(&|_| none)),
        SetName::ExternalIps => flat(set, family, &[(none.address(address(5)), none)]),
        SetName::SourceRanges => {
            let networks = if family == Family::V4 {
                ["0.0.0.0/0", "203.0.113.0/24", "198.51.100.7/32", "203.0.112.128/25"]
            } else {
                ["::/0", "2001:db8::/32", "2001:db8::7/128", "2001:db8:8000::/33"]
            };
            let keys = frontends.iter().zip(networks).map(|(key, net)| (key.network(net.parse().unwrap()), none));
            flat(set, family, &keys.collect::<Vec<_>>())
        }
        SetName::Hairpin => {
            let pod = none.address(address(1)).address(address(1));
            flat(set, family, &[(pod.protocol(Protocol::Tcp).port(80), none)])
        }
    }
}

fn rules_of(statements: impl IntoIterator<Item = Vec<Statement>>) -> Vec<Rule> {
    statements.into_iter().map(|statements| Rule { statements, comment: String::new() }).collect()
}

/// Rules with every statement and field that nft can load in that family.
fn every_rule(family: Family) -> Vec<Rule> {
    let net = |v4: &str, v6: &str| if family == Family::V4 { v4 } else { v6 }.parse().unwrap();
    let frontend = || vec![Field::Daddr, Field::Protocol, Field::Dport];
    let any = || vec![Field::AnyDaddr, Field::Protocol, Field::Dport];
    let with = |mut key: Vec<Field>, field: Field| {
        key.push(field);
        key
    };
    let dnat = |field: Field| Statement::Dnat { key: with(frontend(), field), map: SetName::Slots };
    let interface = |name: &str, prefix, negate| Statement::InInterface { name: name.to_owned(), prefix, negate };
    let (modulus, seed) = (3, 0x7765_6972);
    let mut rules = rules_of([
        vec![Statement::CtStatusDnat, Statement::Jump("random-3".to_owned())],
        vec![Statement::Saddr { net: net("10.0.0.0/8", "fd00:10::/64"), negate: true }, Statement::MarkSet(1 << 14)],
        vec![Statement::Saddr { net: net("10.1.2.3/32", "fd00::1/128"), negate: false }, Statement::Drop],
        vec![
            Statement::FibDaddrLocal { negate: false },
            Statement::Daddr { net: net("127.0.0.0/8", "::1/128"), negate: true },
            Statement::Reject,
        ],
        vec![Statement::FibSaddrLocal, Statement::Goto("random-3".to_owned())],
        vec![
            Statement::InSet { key: vec![Field::Daddr], set: SetName::ExternalIps, negate: false },
            Statement::FibDaddrLocal { negate: true },
            Statement::Protocol(Protocol::Udp),
            Statement::Reject,
        ],
        vec![
            Statement::InSet { key: frontend(), set: SetName::Guarded, negate: false },
            Statement::InSet { key: with(frontend(), Field::Saddr), set: SetName::SourceRanges, negate: true },
            Statement::Drop,
        ],
        vec![Statement::RejectTcp],
        vec![interface("cni0", false, false), Statement::Drop],
        vec![interface("veth", true, true), Statement::Drop],
        vec![
            Statement::InSet { key: vec![Field::Daddr], set: SetName::ClusterIps, negate: false },
            Statement::PriorityClear,
        ],
        vec![
            Statement::PriorityFrom { key: frontend(), map: SetName::Frontends },
            Statement::PriorityVerdict(SetName::Classes),
        ],
        vec![
            Statement::PriorityFrom { key: any(), map: SetName::ShortCuts },
            Statement::PriorityVerdict(SetName::ShortCutClasses),
        ],
        vec![Statement::MarkHas(1 << 14), Statement::MarkFlip(1 << 14), Statement::Masquerade],
        vec![
            Statement::CtStatusDnat,
            Statement::InSet {
                key: vec![Field::Saddr, Field::Daddr, Field::Protocol, Field::Dport],
                set: SetName::Hairpin,
                negate: false,
            },
            Statement::Masquerade,
        ],
        vec![Statement::PriorityCount { modulus, offset: 32768 }, Statement::Goto("random-3".to_owned())],
        vec![dnat(Field::Random { modulus, offset: 0 })],
        vec![dnat(Field::Counter { modulus, offset: 32768 })],
        vec![Statement::Dnat { key: with(any(), Field::Random { modulus: 1, offset: 0 }), map: SetName::Slots }],
        vec![Statement::Dnat { key: with(frontend(), Field::Priority), map: SetName::Endpoints }],
        vec![Statement::PriorityFrom {
            key: with(any(), Field::HashSource { modulus, seed, offset: 5 }),
            map: SetName::AffinitySlots,
        }],
    ]);
    rules[0].comment = "every \"statement\"".to_owned();
    if family == Family::V4 {
        // The nft tool aborts on the IPv6 forms of these (netlink_linearize.c: dreg < reg_low).
        let client = || SetName::Affinity.key().iter().map(client_field).collect::<Vec<_>>();
        rules.extend(rules_of([
            vec![dnat(Field::HashSource { modulus, seed, offset: 0 })],
            vec![dnat(Field::HashFlow { modulus, seed: 0, offset: 32768 })],
            vec![Statement::PriorityFrom { key: client(), map: SetName::Affinity }],
            vec![Statement::AffinityDelete { key: client() }],
        ]));
        let update = |timeout_seconds| vec![Statement::AffinityUpdate { key: client(), timeout_seconds }];
        rules.extend(rules_of([1, 60, 3_600, 10_800, 93_784].map(update)));
    }
    rules
}

/// Some field of that kind: which one does not matter to the syntax of a set's key.
fn client_field(kind: &FieldKind) -> Field {
    match kind {
        FieldKind::Address | FieldKind::Network => Field::Saddr,
        FieldKind::Protocol => Field::Protocol,
        FieldKind::Port => Field::Dport,
        FieldKind::Slot => Field::Random { modulus: 2, offset: 0 },
        FieldKind::ClassId => Field::Priority,
    }
}

fn every_table(family: Family) -> Table {
    let sets = SetName::ALL.into_iter().map(|set| (set, Set { size: 1024, content: content(set, family) })).collect();
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    let random = Statement::Dnat {
        key: vec![Field::Daddr, Field::Protocol, Field::Dport, Field::Random { modulus: 3, offset: 0 }],
        map: SetName::Slots,
    };
    chains.insert("random-3".to_owned(), Chain { base: None, rules: rules_of([vec![random]]) });
    chains.insert("round-robin-2-0badcafe-default/web.http".to_owned(), Chain::default());
    chains.insert("every".to_owned(), Chain { base: None, rules: every_rule(family) });
    let hooks = [Hook::Prerouting, Hook::Output, Hook::Postrouting];
    for hook in hooks {
        for priority in [-199, -150, -111, -110, -100, -90, -10, 0, 5, 11, 50, 90, 100, 111] {
            let base = Some(BaseChain { hook, priority });
            chains.insert(format!("empty-{}-{}", hook.name(), priority + 1000), Chain { base, rules: Vec::new() });
        }
    }
    for (hook, priority) in [(Hook::Prerouting, -100), (Hook::Output, -100), (Hook::Postrouting, 100)] {
        let base = Some(BaseChain { hook, priority });
        let rules = rules_of([vec![Statement::Jump("random-3".to_owned())]]);
        let rules = if hook == Hook::Postrouting { Vec::new() } else { rules };
        chains.insert(format!("nat-{}", hook.name()), Chain { base, rules });
    }
    Table { chains, sets }
}

fn every_ruleset() -> Ruleset {
    Ruleset { tables: Family::ALL.map(|family| (family, every_table(family))).into() }
}

/// The operations that make `ruleset` from nothing.
fn building(ruleset: &Ruleset) -> Transaction {
    crate::diff(&Ruleset::default(), ruleset)
}

/// Line by line, so that a failure shows the line.
fn assert_same(ours: &str, nfts: &str) {
    for (at, (ours, nfts)) in ours.lines().zip(nfts.lines()).enumerate() {
        assert_eq!(ours, nfts, "line {}", at + 1);
    }
    assert!(ours == nfts, "{} bytes against {}", ours.len(), nfts.len());
}

#[test]
fn nft_lists_what_it_loaded_byte_for_byte() {
    let written = super::ruleset(&every_ruleset());
    let Some(listed) = listed(&written) else { return };
    assert_same(&written, &listed);
}

/// Every kind of class beside the fixed rules of a node that uses every fact: what Weir really writes.
fn every_class(family: Family) -> Table {
    let node = NodeFacts {
        node_ports_v4: NodePortAddresses::Listed(vec![ip("192.168.0.2")]),
        node_ports_v6: NodePortAddresses::Listed(vec![ip("2001:db8::1")]),
        local_pods: LocalPods::Networks(["10.0.0.0/8", "fd00:10::/32"].map(|net| net.parse().unwrap()).into()),
        service_cidrs: ["172.30.0.0/16", "fd00:172::/32"].map(|net| net.parse().unwrap()).into(),
        ..NodeFacts::default()
    };
    let mut table = crate::base_ruleset(&node).tables.remove(&family).unwrap();
    let mut add = |class: Class| {
        let rules = class.rules(&node, family);
        table.chains.insert(class.chain(), Chain { base: None, rules });
    };
    for node_port in [false, true] {
        for role in [Role::Plain, Role::ClusterIp, Role::Masquerade, Role::ShortCut] {
            for (index, affinity_seconds) in
                [(Random, 0), (RoundRobin, 0), (SourceHash, 0), (FlowHash, 0), (Random, 60), (RoundRobin, 60)]
            {
                // The nft tool aborts on the IPv6 forms of these (netlink_linearize.c: dreg < reg_low).
                if family == Family::V6 && (matches!(index, SourceHash | FlowHash) || affinity_seconds > 0) {
                    continue;
                }
                let counter = (index == RoundRobin).then(|| Arc::from("default/web:http/tcp"));
                let spread = Spread { index, size: 3, local: role == Role::ShortCut, affinity_seconds, counter };
                let class = Class { node_port, role, end: End::Spread(spread) };
                class.parts().for_each(&mut add);
                add(class);
            }
            add(Class { node_port, role, end: End::Drop });
            add(Class { node_port, role, end: End::Reject });
        }
    }
    table
}

#[test]
fn every_class_loads() {
    for family in Family::ALL {
        let written = super::ruleset(&Ruleset { tables: [(family, every_class(family))].into() });
        let Some(listed) = listed(&written) else { return };
        assert_same(&written, &listed);
    }
}

#[test]
fn a_transaction_loads_as_it_is() {
    let ruleset = every_ruleset();
    let script = super::transaction(&building(&ruleset));
    let Some(listed) = listed(&script) else { return };
    assert_same(&super::ruleset(&ruleset), &listed);
}

#[test]
fn deletions_load_and_leave_nothing() {
    let ruleset = every_ruleset();
    let mut ops = building(&ruleset).ops;
    for (family, table) in &ruleset.tables {
        for (name, set) in &table.sets {
            match &set.content {
                Content::Flat(elements) if !elements.is_empty() => {
                    let mut keys = Elements::keys_of(*name, *family);
                    elements.iter().for_each(|(key, _)| keys.push(key, &[]));
                    ops.push(Op::DelElements(*family, *name, keys));
                }
                Content::Verdicts(verdicts) => {
                    ops.push(Op::DelVerdicts(*family, *name, verdicts.keys().copied().collect()));
                }
                _ => {}
            }
        }
        ops.extend(table.chains.keys().map(|name| Op::FlushChain(*family, name.clone())));
        ops.extend(table.chains.keys().map(|name| Op::DelChain(*family, name.clone())));
        ops.extend(table.sets.keys().map(|name| Op::DelSet(*family, *name)));
    }
    let Some(left) = listed(&super::transaction(&Transaction { ops: ops.clone() })) else { return };
    assert_eq!(left, "table ip weir {\n}\ntable ip6 weir {\n}\n");
    ops.extend(Family::ALL.map(Op::DelTable));
    assert_eq!(listed(&super::transaction(&Transaction { ops })).unwrap(), "");
}

#[test]
fn what_nft_cannot_load_in_ipv6_reads_like_the_rest() {
    let client = vec![Field::AnyDaddr, Field::Protocol, Field::Dport, Field::Saddr];
    let text = |statement: &Statement| super::statement(statement, Family::V6);
    assert_eq!(
        text(&Statement::AffinityUpdate { key: client.clone(), timeout_seconds: 10_800 }),
        "update @affinity { ip6 daddr & :: . meta l4proto . th dport . ip6 saddr timeout 3h : meta priority }"
    );
    assert_eq!(
        text(&Statement::AffinityDelete { key: client }),
        "delete @affinity { ip6 daddr & :: . meta l4proto . th dport . ip6 saddr : meta priority }"
    );
    let hash = Field::HashFlow { modulus: 3, seed: 1, offset: 0 };
    assert_eq!(
        text(&Statement::Dnat { key: vec![Field::Daddr, Field::Protocol, Field::Dport, hash], map: SetName::Slots }),
        "dnat ip6 to ip6 daddr . meta l4proto . th dport . jhash ip6 saddr . th sport mod 3 seed 0x1 map @slots"
    );
}

#[test]
fn long_operations_are_shortened_for_logs() {
    let Content::Flat(elements) = content(SetName::ClusterIps, Family::V4) else { panic!("a flat set") };
    let op = Op::AddElements(Family::V4, SetName::ClusterIps, elements);
    assert_eq!(op_shortened(&op), "add element ip weir cluster-ips { 10.0.0.1, 10.0.0.2, 10.0.0.3, … 2 more }");
    let chain = Op::DelChain(Family::V6, "random-3".to_owned());
    assert_eq!(op_shortened(&chain), super::op(&chain));
}
