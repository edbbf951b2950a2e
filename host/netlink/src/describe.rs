//! Operations in nft syntax, for error messages.

use std::collections::BTreeMap;

use weir_nft::{Elements, Op, text};

/// `op` in nft syntax, shortened; of its elements only the one at `element`, if that is known.
pub(crate) fn describe(op: &Op, element: Option<usize>) -> String {
    match element.and_then(|element| narrowed(op, element)) {
        Some(narrowed) => text::op(&narrowed),
        None => text::op_shortened(op),
    }
}

/// The same operation on one element.
fn narrowed(op: &Op, element: usize) -> Option<Op> {
    let of_list = |mut one: Elements, list: &Elements| {
        let (key, data) = list.get(element)?;
        one.push(key, data.get(..one.data_len())?);
        Some(one)
    };
    Some(match op {
        Op::AddElements(family, set, list) => {
            Op::AddElements(*family, *set, of_list(Elements::new(*set, *family), list)?)
        }
        Op::DelElements(family, set, list) => {
            Op::DelElements(*family, *set, of_list(Elements::keys_of(*set, *family), list)?)
        }
        Op::AddVerdicts(family, set, list) => {
            let (number, chain) = list.iter().nth(element)?;
            Op::AddVerdicts(*family, *set, BTreeMap::from([(*number, chain.clone())]))
        }
        Op::DelVerdicts(family, set, list) => Op::DelVerdicts(*family, *set, vec![*list.get(element)?]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use weir_model::{Family, Protocol};
    use weir_nft::{ElementKey, SetName};

    use super::*;

    #[test]
    fn names_only_the_element_that_failed() {
        let mut elements = Elements::new(SetName::Slots, Family::V4);
        for slot in 0..20 {
            let key = ElementKey::new().address([10, 0, 0, 1].into()).protocol(Protocol::Tcp).port(80).number(slot);
            let data = ElementKey::new().address([10, 1, 0, 9].into()).port(8080);
            elements.push(key.as_bytes(), data.as_bytes());
        }
        let op = Op::AddElements(Family::V4, SetName::Slots, elements);
        let text = describe(&op, Some(17));
        assert_eq!(text.matches("10.0.0.1").count(), 1, "{text}");
        assert!(text.starts_with("add element ip weir slots { 10.0.0.1 . tcp . 80 . 17 : 10.1.0.9 . 8080"), "{text}");
        assert!(describe(&op, None).matches("10.0.0.1").count() < 20);
    }

    #[test]
    fn names_only_the_verdict_that_failed() {
        let verdicts = BTreeMap::from([(1, "one".to_owned()), (2, "two".to_owned())]);
        let text = describe(&Op::AddVerdicts(Family::V6, SetName::Classes, verdicts), Some(1));
        assert!(
            text.starts_with("add element ip6 weir classes") && text.contains("two") && !text.contains("one"),
            "{text}"
        );
    }
}
