//! Rulesets to commit.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_model::{Family, Protocol};
use weir_nft::{
    BaseChain, Chain, Content, DataKind, ElementKey, Elements, Field, Hook, Op, Rule, Ruleset, Set, SetName, Statement,
    Table, Transaction,
};

/// The host with that number in a network of `family`.
pub(crate) fn address(family: Family, host: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from((10 << 24) + host).into(),
        Family::V6 => Ipv6Addr::from((0xfd << 120) + u128::from(host)).into(),
    }
}

/// Everything Weir has a word for, in one table: each statement, field and set, in both forms where there are two.
pub(crate) fn everything(family: Family) -> Table {
    Table { chains: chains(family), sets: SetName::ALL.into_iter().map(|set| (set, content(set, family))).collect() }
}

/// Both tables of [`everything`].
pub(crate) fn everything_everywhere() -> Ruleset {
    Ruleset { tables: Family::ALL.into_iter().map(|family| (family, everything(family))).collect() }
}

fn content(set: SetName, family: Family) -> Set {
    let content = match set.data() {
        _ if set.is_dynamic() => Content::Dynamic,
        DataKind::Verdict => {
            Content::Verdicts(BTreeMap::from([(3, "random-3".to_owned()), (0x8_0003, "counter-3".to_owned())]))
        }
        _ => {
            let mut elements = Elements::new(set, family);
            for number in 0..5 {
                let (key, data) = element(set, family, number);
                elements.push(key.as_bytes(), data.as_bytes());
            }
            elements.sort();
            Content::Flat(elements)
        }
    };
    Set { size: 1024, content }
}

/// Key and data of the element with that number.
pub(crate) fn element(set: SetName, family: Family, number: u32) -> (ElementKey, ElementKey) {
    use weir_nft::FieldKind;
    let key = set.key().iter().fold(ElementKey::new(), |key, field| match field {
        FieldKind::Address => key.address(address(family, number + 1)),
        FieldKind::Protocol => key.protocol(if number.is_multiple_of(2) { Protocol::Tcp } else { Protocol::Udp }),
        FieldKind::Port => key.port(80),
        FieldKind::Slot => key.number(number + 0x8000),
        FieldKind::ClassId => key.number(number + 0x2_0000),
        FieldKind::Network => {
            key.network(ipnet::IpNet::new(address(family, 0), [0, 8, 9, 31, 32][number as usize % 5]).unwrap().trunc())
        }
    });
    let data = match set.data() {
        DataKind::None | DataKind::Verdict => ElementKey::new(),
        DataKind::Target => ElementKey::new().address(address(family, number + 0x1_0000)).port(8080),
        DataKind::ClassId => ElementKey::new().number(0x1_0002),
    };
    (key, data)
}

/// The fields of a frontend.
pub(crate) fn frontend() -> Vec<Field> {
    vec![Field::Daddr, Field::Protocol, Field::Dport]
}

fn chains(family: Family) -> BTreeMap<String, Chain> {
    let mut chains = BTreeMap::new();
    let mut chain = |name: &str, base: Option<(Hook, i32)>, rules: Vec<Vec<Statement>>| {
        let base = base.map(|(hook, priority)| BaseChain { hook, priority });
        let rules = rules.into_iter().map(|statements| Rule { statements, comment: String::new() }).collect();
        chains.insert(name.to_owned(), Chain { base, rules });
    };
    let client: Vec<Field> = [frontend(), vec![Field::Saddr]].concat();
    let hairpin: Vec<Field> = [vec![Field::Saddr], frontend()].concat();
    let nets = |family| match family {
        Family::V4 => ["0.0.0.0/0", "10.0.0.0/8", "10.128.0.0/9", "10.1.2.0/24", "10.1.2.252/30", "10.1.2.3/32"],
        Family::V6 => ["::/0", "fd00::/8", "fd80::/9", "fd00:1:2:3::/64", "fd00::8000:0/97", "fd00::1/128"],
    };
    let mut filter = Vec::new();
    for (index, net) in nets(family).into_iter().map(|net| net.parse().unwrap()).enumerate() {
        let negate = index % 2 == 1;
        filter.push(vec![Statement::Saddr { net, negate }, Statement::Daddr { net, negate: !negate }, Statement::Drop]);
    }
    filter.push(vec![in_set(SetName::Guarded, frontend()), Statement::Reject]);
    filter.push(vec![in_set(SetName::Guarded, any_frontend()), Statement::Drop]);
    let allowed = Statement::InSet { key: client.clone(), set: SetName::SourceRanges, negate: true };
    filter.push(vec![in_set(SetName::Guarded, frontend()), allowed, Statement::Drop]);
    let external = in_set(SetName::ExternalIps, vec![Field::Daddr]);
    filter.push(vec![
        external,
        Statement::FibDaddrLocal { negate: true },
        Statement::Protocol(Protocol::Udp),
        Statement::Reject,
    ]);
    filter.push(vec![Statement::RejectTcp]);
    for (name, prefix, negate) in [("cni0", false, false), ("cni0", false, true), ("veth", true, false)] {
        filter.push(vec![Statement::InInterface { name: name.to_owned(), prefix, negate }, Statement::Drop]);
    }
    chain("early", Some((Hook::Prerouting, -110)), filter.clone());
    chain("late", Some((Hook::Output, 0)), filter);
    for (name, hook) in [("nat-prerouting", Hook::Prerouting), ("nat-output", Hook::Output)] {
        chain(name, Some((hook, -100)), vec![vec![Statement::Jump("services".to_owned())]]);
    }
    chain(
        "nat-postrouting",
        Some((Hook::Postrouting, 100)),
        vec![
            vec![Statement::MarkHas(0x4000), Statement::MarkFlip(0x4000), Statement::Masquerade],
            vec![Statement::CtStatusDnat, in_set(SetName::Hairpin, hairpin), Statement::Masquerade],
        ],
    );
    chain(
        "services",
        None,
        vec![
            vec![in_set(SetName::ClusterIps, vec![Field::Daddr]), Statement::FibSaddrLocal, Statement::MarkSet(0x4000)],
            vec![
                Statement::PriorityFrom { key: frontend(), map: SetName::Frontends },
                Statement::PriorityVerdict(SetName::Classes),
            ],
            vec![
                Statement::FibDaddrLocal { negate: false },
                in_set(SetName::NodeportAddresses, vec![Field::Daddr]),
                Statement::PriorityFrom { key: any_frontend(), map: SetName::ShortCuts },
                Statement::PriorityVerdict(SetName::ShortCutClasses),
            ],
            vec![Statement::PriorityClear, Statement::Goto("affinity-3".to_owned())],
        ],
    );
    let spread = |field: Field| {
        let dnat = |key: Vec<Field>| Statement::Dnat { key: [key, vec![field.clone()]].concat(), map: SetName::Slots };
        vec![vec![dnat(frontend())], vec![dnat(any_frontend())]]
    };
    chain("random-3", None, spread(Field::Random { modulus: 3, offset: 0 }));
    let count = |offset| vec![Statement::PriorityCount { modulus: 3, offset }, Statement::Goto("random-3".to_owned())];
    chain("turns-3", None, vec![count(0), count(0x8000)]);
    chain("counter-3", None, spread(Field::Counter { modulus: 3, offset: 0x8000 }));
    chain("source-3", None, spread(Field::HashSource { modulus: 3, seed: 0xdead_beef, offset: 0 }));
    chain("flow-3", None, spread(Field::HashFlow { modulus: 3, seed: 0xdead_beef, offset: 0x8000 }));
    let endpoint =
        |key: Vec<Field>| Statement::Dnat { key: [key, vec![Field::Priority]].concat(), map: SetName::Endpoints };
    let any_client: Vec<Field> = [any_frontend(), vec![Field::Saddr]].concat();
    let slot = [frontend(), vec![Field::Random { modulus: 3, offset: 0 }]].concat();
    chain(
        "affinity-3",
        None,
        vec![
            vec![Statement::PriorityFrom { key: client.clone(), map: SetName::Affinity }, endpoint(frontend())],
            vec![
                Statement::PriorityFrom { key: slot, map: SetName::AffinitySlots },
                Statement::AffinityDelete { key: client.clone() },
                Statement::AffinityUpdate { key: client, timeout_seconds: 10_800 },
                endpoint(frontend()),
            ],
            vec![Statement::AffinityDelete { key: any_client.clone() }],
            vec![Statement::AffinityUpdate { key: any_client, timeout_seconds: 1 }, endpoint(any_frontend())],
        ],
    );
    chains.get_mut("random-3").unwrap().rules[0].comment = "c".repeat(120);
    chains
}

fn any_frontend() -> Vec<Field> {
    vec![Field::AnyDaddr, Field::Protocol, Field::Dport]
}

fn in_set(set: SetName, key: Vec<Field>) -> Statement {
    Statement::InSet { key, set, negate: false }
}

/// The operations that make `ruleset` where nothing is, rules before elements.
pub(crate) fn creation(ruleset: &Ruleset) -> Transaction {
    let mut ops = Vec::new();
    for (family, table) in &ruleset.tables {
        ops.push(Op::AddTable(*family));
        ops.extend(table.chains.iter().map(|(name, chain)| Op::AddChain(*family, name.clone(), chain.base)));
        ops.extend(table.sets.iter().map(|(name, set)| Op::AddSet(*family, *name, set.size)));
        for (name, chain) in &table.chains {
            ops.extend(chain.rules.iter().map(|rule| Op::AddRule(*family, name.clone(), rule.clone())));
        }
    }
    ops.extend(elements(ruleset));
    Transaction { ops }
}

/// The operations that add the elements of `ruleset`.
pub(crate) fn elements(ruleset: &Ruleset) -> Vec<Op> {
    let mut ops = Vec::new();
    for (family, table) in &ruleset.tables {
        for (name, set) in &table.sets {
            match &set.content {
                Content::Flat(list) => ops.push(Op::AddElements(*family, *name, list.clone())),
                Content::Verdicts(list) => ops.push(Op::AddVerdicts(*family, *name, list.clone())),
                Content::Dynamic => {}
            }
        }
    }
    ops
}
