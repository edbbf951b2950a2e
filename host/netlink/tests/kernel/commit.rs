//! Commits and dumps.

use std::collections::BTreeMap;
use std::time::Instant;

use weir_model::Family;
use weir_netlink::{Kernel, Options};
use weir_nft::{
    BaseChain, Chain, CommitError, Content, Dataplane, DumpError, Elements, Field, Hook, Op, Receipt, Rule, Ruleset,
    Set, SetName, Statement, Table, Transaction,
};

use crate::Test;
use crate::fixture::{creation, element, elements, everything_everywhere, frontend};
use crate::namespace::{Needs, nft};

pub(crate) const TESTS: &[Test] = &[
    ("an_empty_namespace_has_no_tables", Needs::Kernel, an_empty_namespace_has_no_tables),
    ("an_empty_transaction_sends_nothing", Needs::Kernel, an_empty_transaction_sends_nothing),
    ("what_is_committed_is_dumped", Needs::Kernel, what_is_committed_is_dumped),
    (
        "objects_and_elements_that_are_there_may_be_added_again",
        Needs::Kernel,
        objects_and_elements_that_are_there_may_be_added_again,
    ),
    ("everything_can_be_removed_one_by_one", Needs::Kernel, everything_can_be_removed_one_by_one),
    ("data_of_a_key_is_replaced_in_one_batch", Needs::Kernel, data_of_a_key_is_replaced_in_one_batch),
    ("twenty_thousand_elements_in_one_batch", Needs::SendBuffer(1 << 20), twenty_thousand_elements_in_one_batch),
    (
        "two_hundred_thousand_elements_in_one_batch",
        Needs::SendBuffer(9 << 20),
        two_hundred_thousand_elements_in_one_batch,
    ),
    (
        "a_refused_element_is_named_and_nothing_is_applied",
        Needs::Kernel,
        a_refused_element_is_named_and_nothing_is_applied,
    ),
    ("a_refused_operation_is_named_among_others", Needs::Kernel, a_refused_operation_is_named_among_others),
    ("a_set_beyond_its_size_is_refused", Needs::Kernel, a_set_beyond_its_size_is_refused),
    ("a_loop_of_chains_is_refused", Needs::Kernel, a_loop_of_chains_is_refused),
    ("a_tiny_receive_buffer_loses_no_outcome", Needs::Kernel, a_tiny_receive_buffer_loses_no_outcome),
    ("a_rule_of_somebody_else_is_named", Needs::Nft, a_rule_of_somebody_else_is_named),
    ("a_set_of_somebody_else_is_named", Needs::Nft, a_set_of_somebody_else_is_named),
    ("generations_count_commits", Needs::Kernel, generations_count_commits),
];

fn kernel() -> Kernel {
    Kernel::open().expect("the namespace is ours")
}

fn commit(kernel: &mut Kernel, ops: Vec<Op>) -> Result<Receipt, CommitError> {
    kernel.commit(&Transaction { ops })
}

/// The operations that give element `number` of the IPv4 slots the data of element `of`.
fn replacement(number: u32, of: u32) -> Vec<Op> {
    let (key, _) = element(SetName::Slots, Family::V4, number);
    let (_, data) = element(SetName::Slots, Family::V4, of);
    let mut keys = Elements::keys_of(SetName::Slots, Family::V4);
    keys.push(key.as_bytes(), &[]);
    let mut new = Elements::new(SetName::Slots, Family::V4);
    new.push(key.as_bytes(), data.as_bytes());
    vec![Op::DelElements(Family::V4, SetName::Slots, keys), Op::AddElements(Family::V4, SetName::Slots, new)]
}

/// A ruleset of one IPv4 map with `count` elements.
fn slots(count: u32) -> Ruleset {
    let mut list = Elements::new(SetName::Slots, Family::V4);
    for number in 0..count {
        let (key, data) = element(SetName::Slots, Family::V4, number);
        list.push(key.as_bytes(), data.as_bytes());
    }
    list.sort();
    let set = Set { size: count.next_power_of_two().max(8), content: Content::Flat(list) };
    let table = Table { chains: BTreeMap::new(), sets: BTreeMap::from([(SetName::Slots, set)]) };
    Ruleset { tables: BTreeMap::from([(Family::V4, table)]) }
}

fn flat(ruleset: &Ruleset) -> &Elements {
    match &ruleset.tables[&Family::V4].sets[&SetName::Slots].content {
        Content::Flat(list) => list,
        other => panic!("{other:?}"),
    }
}

fn an_empty_namespace_has_no_tables() {
    assert_eq!(kernel().dump().unwrap(), Ruleset::default());
}

fn an_empty_transaction_sends_nothing() {
    let mut kernel = kernel();
    let before = kernel.generation().unwrap();
    let nothing = Receipt { bytes: 0, messages: 0 };
    assert_eq!(commit(&mut kernel, vec![]).unwrap(), nothing);
    // An operation without elements is none either; as a message it would empty the set.
    let none = Elements::keys_of(SetName::Slots, Family::V4);
    assert_eq!(commit(&mut kernel, vec![Op::DelElements(Family::V4, SetName::Slots, none)]).unwrap(), nothing);
    assert_eq!(kernel.generation().unwrap(), before);
}

fn what_is_committed_is_dumped() {
    let mut kernel = kernel();
    let wanted = everything_everywhere();
    let transaction = creation(&wanted);
    let receipt = kernel.commit(&transaction).unwrap();
    assert_eq!(receipt.messages, transaction.ops.len());
    assert_eq!(kernel.dump().unwrap(), wanted);
}

fn objects_and_elements_that_are_there_may_be_added_again() {
    let mut kernel = kernel();
    let wanted = everything_everywhere();
    kernel.commit(&creation(&wanted)).unwrap();
    let mut again = creation(&wanted);
    again.ops.retain(|op| !matches!(op, Op::AddRule(..)));
    kernel.commit(&again).unwrap();
    assert_eq!(kernel.dump().unwrap(), wanted);
}

fn everything_can_be_removed_one_by_one() {
    let mut kernel = kernel();
    let wanted = everything_everywhere();
    kernel.commit(&creation(&wanted)).unwrap();
    let mut ops = Vec::new();
    for op in elements(&wanted) {
        match op {
            Op::AddElements(family, set, list) => {
                let mut keys = Elements::keys_of(set, family);
                list.iter().for_each(|(key, _)| keys.push(key, &[]));
                ops.push(Op::DelElements(family, set, keys));
            }
            Op::AddVerdicts(family, set, list) => ops.push(Op::DelVerdicts(family, set, list.into_keys().collect())),
            other => panic!("{other:?}"),
        }
    }
    for (family, table) in &wanted.tables {
        ops.extend(table.chains.keys().map(|name| Op::FlushChain(*family, name.clone())));
        ops.extend(table.sets.keys().map(|name| Op::DelSet(*family, *name)));
        ops.extend(table.chains.keys().map(|name| Op::DelChain(*family, name.clone())));
    }
    commit(&mut kernel, ops).unwrap();
    let empty = wanted.tables.keys().map(|family| (*family, Table::default())).collect();
    assert_eq!(kernel.dump().unwrap(), Ruleset { tables: empty });
    commit(&mut kernel, vec![Op::DelTable(Family::V4), Op::DelTable(Family::V6)]).unwrap();
    assert_eq!(kernel.dump().unwrap(), Ruleset::default());
}

fn data_of_a_key_is_replaced_in_one_batch() {
    let mut kernel = kernel();
    let wanted = slots(100);
    kernel.commit(&creation(&wanted)).unwrap();
    let (key, _) = element(SetName::Slots, Family::V4, 7);
    let (_, data) = element(SetName::Slots, Family::V4, 70);
    let replace = replacement(7, 70);
    // Without the deletion the kernel keeps the old data and says so.
    let error = commit(&mut kernel, replace[1..].to_vec()).unwrap_err();
    assert!(matches!(&error, CommitError::Rejected { op: 0, element: Some(0), .. }), "{error}");
    assert_eq!(kernel.dump().unwrap(), wanted);
    commit(&mut kernel, replace).unwrap();
    let now = kernel.dump().unwrap();
    assert_eq!(flat(&now).find(key.as_bytes()), Some(data.as_bytes()));
    assert_eq!(flat(&now).len(), 100);
}

fn many(count: u32) {
    let mut kernel = kernel();
    let wanted = slots(count);
    let start = Instant::now();
    let receipt = kernel.commit(&creation(&wanted)).unwrap();
    let committed = start.elapsed();
    let start = Instant::now();
    let now = kernel.dump().unwrap();
    let dumped = start.elapsed();
    assert!(now == wanted, "the dump differs from what was committed");
    // There and back again, so that the ruleset is the same afterwards.
    let mut times: Vec<_> = (0..200)
        .flat_map(|number| [(number, count - 1), (number, number)])
        .map(|(number, of)| {
            let transaction = Transaction { ops: replacement(number, of) };
            let start = Instant::now();
            kernel.commit(&transaction).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let (median, slow) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let Receipt { bytes, messages } = receipt;
    eprintln!("{count} elements: {bytes} bytes, {messages} messages, commit {committed:?}, dump {dumped:?}");
    eprintln!("{count} elements: one replaced in {median:?} (median), {slow:?} (99 %)");
    assert!(kernel.dump().unwrap() == wanted, "replacing left something behind");
}

fn twenty_thousand_elements_in_one_batch() {
    many(20_000);
}

fn two_hundred_thousand_elements_in_one_batch() {
    many(200_000);
}

fn a_refused_element_is_named_and_nothing_is_applied() {
    let mut kernel = kernel();
    kernel.commit(&creation(&slots(0))).unwrap();
    // The key of element 3 000 comes once more, with other data, at the end.
    let mut list = flat(&slots(4000)).clone();
    let (key, _) = element(SetName::Slots, Family::V4, 3000);
    let (_, data) = element(SetName::Slots, Family::V4, 1);
    list.push(key.as_bytes(), data.as_bytes());
    let grow = vec![Op::DelSet(Family::V4, SetName::Slots), Op::AddSet(Family::V4, SetName::Slots, 8192)];
    commit(&mut kernel, grow).unwrap();
    let before = kernel.dump().unwrap();
    let chain = Op::AddChain(Family::V4, "new".to_owned(), None);
    match commit(&mut kernel, vec![chain, Op::AddElements(Family::V4, SetName::Slots, list)]).unwrap_err() {
        CommitError::Rejected { op, element, what, error } => {
            assert_eq!((op, element, error.raw_os_error()), (1, Some(4000), Some(17)), "{what}: {error}");
            assert_eq!(what, "add element ip weir slots { 10.0.11.185 . tcp . 80 . 35768 : 10.1.0.1 . 8080 }");
        }
        other => panic!("{other}"),
    }
    assert_eq!(kernel.dump().unwrap(), before);
}

fn a_refused_operation_is_named_among_others() {
    let mut kernel = kernel();
    let wanted = everything_everywhere();
    kernel.commit(&creation(&wanted)).unwrap();
    let jump = |chain: &str| Rule { statements: vec![Statement::Jump(chain.to_owned())], comment: "why".to_owned() };
    let ops = vec![
        Op::AddChain(Family::V6, "new".to_owned(), None),
        Op::AddRule(Family::V6, "new".to_owned(), jump("missing")),
        Op::DelSet(Family::V4, SetName::Slots),
    ];
    match commit(&mut kernel, ops).unwrap_err() {
        CommitError::Rejected { op: 1, element: None, what, error } => {
            assert_eq!(what, "add rule ip6 weir new jump missing comment \"why\"");
            assert_eq!(error.raw_os_error(), Some(2), "{error}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(kernel.dump().unwrap(), wanted);
}

fn a_set_beyond_its_size_is_refused() {
    let mut kernel = kernel();
    let mut wanted = slots(100);
    wanted.tables.get_mut(&Family::V4).unwrap().sets.get_mut(&SetName::Slots).unwrap().size = 64;
    match kernel.commit(&creation(&wanted)).unwrap_err() {
        CommitError::Rejected { op: 2, element, error, .. } => {
            assert_eq!((element, error.raw_os_error()), (Some(64), Some(23)), "{error}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(kernel.dump().unwrap(), Ruleset::default());
}

fn a_loop_of_chains_is_refused() {
    let mut kernel = kernel();
    let goto = |chain: &str| vec![Rule { statements: vec![Statement::Goto(chain.to_owned())], comment: String::new() }];
    let base = BaseChain { hook: Hook::Prerouting, priority: 0 };
    let chains = BTreeMap::from([
        ("base".to_owned(), Chain { base: Some(base), rules: goto("a") }),
        ("a".to_owned(), Chain { base: None, rules: goto("b") }),
        ("b".to_owned(), Chain { base: None, rules: goto("a") }),
    ]);
    let wanted = Ruleset { tables: BTreeMap::from([(Family::V4, Table { chains, sets: BTreeMap::new() })]) };
    let error = kernel.commit(&creation(&wanted)).unwrap_err();
    match &error {
        // Kernels differ in when they look for loops, and say ELOOP or EMLINK (16 jumps deep).
        CommitError::Rejected { error, .. } | CommitError::Refused(error) => {
            assert!(matches!(error.raw_os_error(), Some(40 | 31)), "{error}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(kernel.dump().unwrap(), Ruleset::default());
}

fn a_tiny_receive_buffer_loses_no_outcome() {
    let mut kernel = Kernel::open_with(Options { receive_buffer: 1, ..Options::default() }).unwrap();
    // Success is one frame, however large the batch.
    let wanted = slots(2_000);
    kernel.commit(&creation(&wanted)).unwrap();
    // Of a thousand errors most are lost; the first is not, and it says what matters.
    let drop = Rule { statements: vec![Statement::Drop], comment: String::new() };
    let ops: Vec<Op> = (0..1_000).map(|_| Op::AddRule(Family::V4, "missing".to_owned(), drop.clone())).collect();
    let error = commit(&mut kernel, ops).unwrap_err();
    assert!(matches!(&error, CommitError::Rejected { op: 0, .. }), "{error}");
    // What was lost does not spoil the next answer.
    commit(&mut kernel, vec![Op::AddChain(Family::V4, "new".to_owned(), None)]).unwrap();
    assert!(flat(&kernel.dump().unwrap()) == flat(&wanted), "elements differ");
}

fn a_rule_of_somebody_else_is_named() {
    nft(&["add", "table", "ip", "weir"]);
    nft(&["add", "chain", "ip", "weir", "services"]);
    nft(&["add", "rule", "ip", "weir", "services", "ip", "daddr", "10.0.0.1", "drop"]);
    nft(&["add", "rule", "ip", "weir", "services", "tcp", "dport", "80", "accept"]);
    match kernel().dump().unwrap_err() {
        DumpError::Foreign { what } => assert!(what.starts_with("rule 2 of chain services"), "{what}"),
        other => panic!("{other}"),
    }
}

fn a_set_of_somebody_else_is_named() {
    nft(&["add", "table", "ip6", "weir"]);
    nft(&["add", "set", "ip6", "weir", "guarded", "{ type ipv6_addr; }"]);
    match kernel().dump().unwrap_err() {
        DumpError::Foreign { what } => {
            assert!(what.starts_with("set guarded,") && what.ends_with("of table ip6 weir"), "{what}");
        }
        other => panic!("{other}"),
    }
}

fn generations_count_commits() {
    let mut kernel = kernel();
    let before = kernel.generation().unwrap();
    commit(&mut kernel, vec![Op::AddTable(Family::V6)]).unwrap();
    assert_eq!(kernel.generation().unwrap(), before + 1);
    let key = [frontend(), vec![Field::Priority]].concat();
    let wrong = Rule {
        statements: vec![Statement::InSet { key, set: SetName::Guarded, negate: false }],
        comment: String::new(),
    };
    commit(&mut kernel, vec![Op::AddRule(Family::V6, "missing".to_owned(), wrong)]).unwrap_err();
    assert_eq!(kernel.generation().unwrap(), before + 1);
}
