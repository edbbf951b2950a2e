#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use weir_model::Protocol;
use weir_nft::{ElementKey, Rule, Statement};

use super::*;
use crate::wire::{Attribute, Attributes, Messages};

fn encode(ops: Vec<Op>) -> Result<Batch, CommitError> {
    Batch::encode(&Transaction { ops }, 100, &BTreeMap::new())
}

fn slots(family: Family, count: u32) -> Elements {
    let address = match family {
        Family::V4 => [10, 0, 0, 1].into(),
        Family::V6 => [0xfd; 16].into(),
    };
    let mut list = Elements::new(SetName::Slots, family);
    for number in 0..count {
        let key = ElementKey::new().address(address).protocol(Protocol::Udp).port(53).number(number);
        let data = ElementKey::new().address(address).port(5353);
        list.push(key.as_bytes(), data.as_bytes());
    }
    list
}

fn why(result: Result<Batch, CommitError>) -> (usize, String) {
    match result {
        Err(CommitError::Encode { op, why }) => (op, why),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("was encoded"),
    }
}

/// Reads a dump of what was written: for every count around a message's limit, nothing is lost or cut.
#[test]
fn elements_are_split_below_the_limit_of_an_attribute() {
    for family in Family::ALL {
        for count in [1, 1488, 1489, 1490, 5000] {
            let list = slots(family, count);
            let batch = encode(vec![Op::AddElements(family, SetName::Slots, list.clone())]).unwrap();
            let mut read = Elements::new(SetName::Slots, family);
            for message in Messages(batch.bytes()) {
                if message.kind == kind::NEW_ELEMENTS {
                    assert!(message.attributes().get(3).unwrap().payload.len() < MAX_LIST);
                    elements::read_flat(message.attributes(), SetName::Slots, family, &mut read).unwrap();
                }
            }
            assert_eq!(read, list, "{count} elements");
        }
    }
}

/// The most an attribute holds.
const MAX_LIST: usize = 65_532;

#[test]
fn verdicts_are_split_too() {
    let verdicts: BTreeMap<u32, String> =
        (0..2000).map(|number| (number, format!("a-chain-with-a-long-name-{number}"))).collect();
    let batch = encode(vec![Op::AddVerdicts(Family::V4, SetName::Classes, verdicts.clone())]).unwrap();
    assert!(batch.messages() > 1);
    let mut read = BTreeMap::new();
    for message in Messages(batch.bytes()).filter(|message| message.kind == kind::NEW_ELEMENTS) {
        elements::read_verdicts(message.attributes(), &mut read).unwrap();
    }
    assert_eq!(read, verdicts);
}

#[test]
fn only_the_last_operation_asks_for_an_answer() {
    let batch = encode(vec![
        Op::AddTable(Family::V4),
        Op::AddChain(Family::V4, "services".to_owned(), None),
        Op::AddElements(Family::V4, SetName::Slots, slots(Family::V4, 4000)),
    ])
    .unwrap();
    let asks: Vec<bool> = Messages(batch.bytes()).map(|message| message.flags & flag::ACK != 0).collect();
    let last = asks.len() - 2;
    assert!(asks.iter().enumerate().all(|(position, asks)| *asks == (position == last)), "{asks:?}");
    let sequences: Vec<u32> = Messages(batch.bytes()).map(|message| message.sequence).collect();
    assert!(sequences.iter().copied().eq(100..100 + u32::try_from(sequences.len()).unwrap()), "{sequences:?}");
}

#[test]
fn no_elements_give_no_message() {
    let none = Elements::keys_of(SetName::Slots, Family::V4);
    let batch = encode(vec![Op::DelElements(Family::V4, SetName::Slots, none)]).unwrap();
    assert_eq!(batch.messages(), 0);
}

#[test]
fn an_offset_leads_to_the_operation_and_the_element() {
    let batch =
        encode(vec![Op::AddTable(Family::V4), Op::AddElements(Family::V4, SetName::Slots, slots(Family::V4, 3000))])
            .unwrap();
    // BEGIN is 100, the table 101, the elements 102 to 104.
    assert_eq!(batch.locate(101, Some(20)), Some((0, None)));
    let message = Messages(batch.bytes()).nth(3).unwrap();
    let header = 16 + message.payload.len() - message.attributes().get(3).unwrap().payload.len();
    let stride = message.attributes().get(3).unwrap().payload.len() / 1489;
    assert_eq!(batch.locate(103, Some(header)), Some((1, Some(1489))));
    assert_eq!(batch.locate(103, Some(header + 10 * stride + 4)), Some((1, Some(1499))));
    assert_eq!(batch.locate(103, Some(20)), Some((1, None)), "an offset before the elements names none");
    assert_eq!(batch.locate(103, None), Some((1, None)));
    assert_eq!(batch.locate(100, None), None);
    assert_eq!(batch.locate(200, None), None);
}

#[test]
fn names_the_kernel_would_cut_are_refused() {
    let long = "x".repeat(256);
    let (op, text) = why(encode(vec![Op::AddTable(Family::V4), Op::AddChain(Family::V4, long.clone(), None)]));
    assert_eq!(op, 1);
    assert!(text.contains("256 bytes"), "{text}");
    for name in [String::new(), "a\0b".to_owned(), long] {
        let jump = Rule { statements: vec![Statement::Jump(name.clone())], comment: String::new() };
        assert_eq!(why(encode(vec![Op::AddRule(Family::V4, "services".to_owned(), jump)])).0, 0);
        let verdicts = BTreeMap::from([(1, name)]);
        assert_eq!(why(encode(vec![Op::AddVerdicts(Family::V4, SetName::Classes, verdicts)])).0, 0);
    }
}

#[test]
fn comments_that_do_not_fit_are_refused() {
    for comment in ["c".repeat(200), "a\0b".to_owned()] {
        let rule = Rule { statements: vec![Statement::Drop], comment };
        let (_, text) = why(encode(vec![Op::AddRule(Family::V4, "services".to_owned(), rule)]));
        assert!(text.contains("comment"), "{text}");
    }
}

#[test]
fn elements_of_another_shape_are_refused() {
    let (_, text) = why(encode(vec![Op::AddElements(Family::V6, SetName::Slots, slots(Family::V4, 1))]));
    assert!(text.contains("slots"), "{text}");
}

#[test]
fn a_rule_of_too_many_expressions_is_refused() {
    let rule = Rule { statements: vec![Statement::CtStatusDnat; 50], comment: String::new() };
    let (_, text) = why(encode(vec![Op::AddRule(Family::V4, "services".to_owned(), rule)]));
    assert!(text.contains("150 expressions"), "{text}");
}

/// The largest rule there can be still fits into libnftnl's buffer.
#[test]
fn the_largest_rule_fits() {
    let rule = Rule { statements: vec![Statement::Jump("x".repeat(255)); 128], comment: "c".repeat(120) };
    let batch = encode(vec![Op::AddRule(Family::V4, "y".repeat(255), rule)]).unwrap();
    let message = Messages(batch.bytes()).nth(1).unwrap();
    let list = message.attributes().get(4).map_or(Attributes(&[]), Attribute::nested);
    assert_eq!(list.count(), 128);
}
