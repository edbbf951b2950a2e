//! Every rule survives the way into netlink bytes, as libnftnl writes them, and back.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use weir_nft::{Op, Rule, Transaction};

use super::*;
use crate::batch::Batch;
use crate::bytecode::CT_STATUS_DNAT;
use crate::parse;
use crate::wire::{Attribute, Attributes, Messages};

/// `NFTA_RULE_EXPRESSIONS`.
const EXPRESSIONS: u16 = 4;

fn through_bytes(rule: &Rule, family: Family) -> Vec<Expr> {
    let transaction = Transaction { ops: vec![Op::AddRule(family, "chain".to_owned(), rule.clone())] };
    let batch = Batch::encode(&transaction, 7, &BTreeMap::new()).unwrap();
    let message = Messages(batch.bytes()).nth(1).unwrap();
    let list = message.attributes().get(EXPRESSIONS).map_or(Attributes(&[]), Attribute::nested);
    parse::expressions(list).unwrap()
}

fn numbers() -> impl Strategy<Value = (u32, u32, u32)> {
    (1_u32.., any::<u32>(), any::<u32>())
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        Just(Field::Saddr),
        Just(Field::Daddr),
        Just(Field::AnyDaddr),
        Just(Field::Protocol),
        Just(Field::Dport),
        Just(Field::Priority),
        numbers().prop_map(|(modulus, offset, _)| Field::Random { modulus, offset }),
        numbers().prop_map(|(modulus, offset, _)| Field::Counter { modulus, offset }),
        numbers().prop_map(|(modulus, seed, offset)| Field::HashSource { modulus, seed, offset }),
        numbers().prop_map(|(modulus, seed, offset)| Field::HashFlow { modulus, seed, offset }),
    ]
}

fn set() -> impl Strategy<Value = SetName> {
    prop::sample::select(SetName::ALL.to_vec())
}

fn net(family: Family) -> BoxedStrategy<IpNet> {
    match family {
        Family::V4 => (any::<u32>(), 0_u8..=32)
            .prop_map(|(bits, prefix)| IpNet::V4(Ipv4Net::new(Ipv4Addr::from(bits), prefix).unwrap().trunc()))
            .boxed(),
        Family::V6 => (any::<u128>(), 0_u8..=128)
            .prop_map(|(bits, prefix)| IpNet::V6(Ipv6Net::new(Ipv6Addr::from(bits), prefix).unwrap().trunc()))
            .boxed(),
    }
}

/// Keys that fit into the registers; the others are refused, which has a test of its own.
fn key(family: Family) -> impl Strategy<Value = Key> {
    prop::collection::vec(field(), 1..6).prop_filter("fits into the registers", move |key| {
        assemble_statement(&Statement::AffinityDelete { key: key.clone() }, family).is_ok()
    })
}

fn statement(family: Family) -> impl Strategy<Value = Statement> {
    let name = || "[a-z][a-z0-9-]{0,40}";
    prop_oneof![
        Just(Statement::CtStatusDnat),
        (net(family), any::<bool>()).prop_map(|(net, negate)| Statement::Saddr { net, negate }),
        (net(family), any::<bool>()).prop_map(|(net, negate)| Statement::Daddr { net, negate }),
        Just(Statement::FibSaddrLocal),
        any::<bool>().prop_map(|negate| Statement::FibDaddrLocal { negate }),
        ("[a-z][a-z0-9.-]{0,14}", any::<bool>(), any::<bool>())
            .prop_map(|(name, prefix, negate)| Statement::InInterface { name, prefix, negate }),
        prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]).prop_map(Statement::Protocol),
        (key(family), set(), any::<bool>()).prop_map(|(key, set, negate)| Statement::InSet { key, set, negate }),
        any::<u32>().prop_map(Statement::MarkHas),
        (1_u32..).prop_map(Statement::MarkSet),
        any::<u32>().prop_map(Statement::MarkFlip),
        Just(Statement::PriorityClear),
        (key(family), set()).prop_map(|(key, map)| Statement::PriorityFrom { key, map }),
        (1_u32.., any::<u32>()).prop_map(|(modulus, offset)| Statement::PriorityCount { modulus, offset }),
        set().prop_map(Statement::PriorityVerdict),
        (key(family), any::<u32>())
            .prop_map(|(key, timeout_seconds)| Statement::AffinityUpdate { key, timeout_seconds }),
        key(family).prop_map(|key| Statement::AffinityDelete { key }),
        (key(family), set()).prop_map(|(key, map)| Statement::Dnat { key, map }),
        Just(Statement::Masquerade),
        Just(Statement::Reject),
        Just(Statement::RejectTcp),
        Just(Statement::Drop),
        name().prop_map(Statement::Jump),
        name().prop_map(Statement::Goto),
    ]
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(Family::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_survives_the_way_to_bytes_and_back(
        (family, statements) in family().prop_flat_map(|family| (Just(family), prop::collection::vec(statement(family), 0..8)))
    ) {
        let rule = Rule { statements, comment: String::new() };
        let code = through_bytes(&rule, family);
        prop_assert_eq!(disassemble(&code, family), Ok(rule.statements));
    }

    /// A rule of somebody else is not taken for one of Weir's: what is decoded means exactly what was there.
    #[test]
    fn bytecode_with_one_instruction_missing_is_refused_or_means_what_it_says(
        (family, statements) in family().prop_flat_map(|family| (Just(family), prop::collection::vec(statement(family), 1..5))),
        missing in any::<prop::sample::Index>(),
    ) {
        let rule = Rule { statements, comment: String::new() };
        let mut code = through_bytes(&rule, family);
        code.remove(missing.index(code.len()));
        if let Ok(statements) = disassemble(&code, family) {
            let decoded = Rule { statements, comment: String::new() };
            prop_assert_eq!(through_bytes(&decoded, family), code);
        }
    }
}

#[test]
fn another_status_is_not_taken_for_a_translation() {
    let mut code = assemble_statement(&Statement::CtStatusDnat, Family::V4).unwrap();
    let Some(Expr::Bitwise { mask, .. }) = code.get_mut(1) else { panic!("the second instruction masks the status") };
    assert_eq!(mask.as_slice(), CT_STATUS_DNAT.to_ne_bytes());
    *mask = 2_u32.to_ne_bytes().to_vec();
    assert_eq!(disassemble(&code, Family::V4), Err(0));
}

#[test]
fn a_key_beyond_the_registers_is_refused() {
    let key = vec![Field::Saddr, Field::Daddr, Field::Saddr, Field::Daddr, Field::Dport];
    let error =
        assemble_statement(&Statement::InSet { key, set: SetName::Hairpin, negate: false }, Family::V6).unwrap_err();
    assert!(error.contains("17 registers"), "{error}");
}

#[test]
fn a_network_of_the_other_family_is_refused() {
    let statement = Statement::Saddr { net: "fd00::/8".parse().unwrap(), negate: false };
    let error = assemble_statement(&statement, Family::V4).unwrap_err();
    assert!(error.contains("fd00::/8"), "{error}");
}
