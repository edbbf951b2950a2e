//! From shares to slots.

use weir_model::MAX_SLOTS;

/// Slots that hold each of `weights.len()` endpoints in proportion to its weight, as few as keep the proportions
/// (scaled down where even those are too many, but no endpoint to nothing), and spread so that equal shares of
/// any stretch of the ring are as even as can be: a counter that walks it never sends a burst to one endpoint.
/// `None` when every weight is 0, or when there are more endpoints than slots or than a slot can tell apart.
pub(crate) fn from_weights(weights: &[u32]) -> Option<Vec<u16>> {
    let weights = reduced(weights)?;
    let total = weights.iter().map(|weight| *weight as usize).sum::<usize>();
    // Endpoint and place on the way around, from 0 to 2^32, of each turn: one number that sorts by place.
    let mut turns: Vec<u64> = Vec::with_capacity(total);
    for (at, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
        let (at, weight) = (u64::from(u16::try_from(at).ok()?), u64::from(*weight));
        turns.extend((0..weight).map(|turn| (((2 * turn + 1) << 32) / (2 * weight)) << 16 | at));
    }
    Some(in_order(turns).into_iter().map(|turn| (turn & 0xffff) as u16).collect())
}

/// Sorts turns. There are as many of any stretch of the way as it is long, but for one an endpoint: so each is put where
/// it would stand if they were spread evenly, and from there it is never far.
fn in_order(turns: Vec<u64>) -> Vec<u64> {
    let count = turns.len();
    let about = |turn: u64| (((turn >> 16) * count as u64) >> 32) as usize;
    let mut next = vec![0_usize; count + 1];
    turns.iter().for_each(|turn| next[about(*turn) + 1] += 1);
    for at in 1..count {
        next[at] += next[at - 1];
    }
    let mut sorted = vec![0; count];
    for turn in turns {
        let place = &mut next[about(turn)];
        sorted[*place] = turn;
        *place += 1;
    }
    for at in 1..count {
        let turn = sorted[at];
        let before = sorted[..at].iter().rposition(|other| *other <= turn).map_or(0, |before| before + 1);
        sorted.copy_within(before..at, before + 1);
        sorted[before] = turn;
    }
    sorted
}

fn reduced(weights: &[u32]) -> Option<Vec<u32>> {
    let divisor = weights.iter().copied().fold(0, gcd);
    let living = weights.iter().filter(|weight| **weight > 0).count();
    if divisor == 0 || living > MAX_SLOTS {
        return None;
    }
    let small: Vec<u32> = weights.iter().map(|weight| weight / divisor).collect();
    let total: u64 = small.iter().copied().map(u64::from).sum();
    if total <= MAX_SLOTS as u64 {
        return Some(small);
    }
    // Every living endpoint keeps one slot; the rest of the room is shared out.
    let room = (MAX_SLOTS - living) as u64;
    let scaled = small.iter().map(|weight| match weight {
        0 => 0,
        weight => 1 + u32::try_from(u64::from(*weight) * room / total).unwrap_or_default(),
    });
    Some(scaled.collect())
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn proportions_are_kept_with_few_slots() {
        assert_eq!(from_weights(&[2, 2]).expect("slots").len(), 2);
        assert_eq!(from_weights(&[100, 300, 0]).expect("slots"), [1, 0, 1, 1]);
        assert_eq!(from_weights(&[0, 0]), None);
        assert_eq!(from_weights(&[]), None);
    }

    #[test]
    fn a_counter_sees_no_bursts() {
        let slots = from_weights(&[5, 1, 1]).expect("slots");
        assert_eq!(slots.len(), 7);
        let longest = slots.chunk_by(|a, b| a == b).map(<[u16]>::len).max();
        assert!(longest <= Some(3), "{slots:?}");
    }

    #[test]
    fn positions_that_no_slot_can_hold_are_too_many() {
        let mut weights = vec![0; 65_536];
        weights[65_535] = 3;
        assert_eq!(from_weights(&weights).expect("slots"), [65_535]);
        weights.push(1);
        assert_eq!(from_weights(&weights), None);
        assert_eq!(from_weights(&vec![1; 70_000]), None);
    }

    proptest! {
        #[test]
        fn turns_come_in_the_order_of_their_places(weights in prop::collection::vec(0_u32..=300, 1..60)) {
            let mut turns: Vec<(u64, u16)> = Vec::new();
            let reduced = reduced(&weights).unwrap_or_default();
            for (at, weight) in (0_u16..).zip(&reduced) {
                let place = |turn| ((2 * turn + 1) << 32) / (2 * u64::from(*weight));
                turns.extend((0..u64::from(*weight)).map(|turn| (place(turn), at)));
            }
            turns.sort_unstable();
            let turns: Vec<u16> = turns.into_iter().map(|(_, at)| at).collect();
            prop_assert_eq!(from_weights(&weights).unwrap_or_default(), turns);
        }

        #[test]
        fn never_too_many_and_nobody_starves(weights in prop::collection::vec(0_u32..=65_535, 1..200)) {
            let slots = from_weights(&weights);
            prop_assert_eq!(slots.is_none(), weights.iter().all(|weight| *weight == 0));
            if let Some(slots) = slots {
                prop_assert!(slots.len() <= MAX_SLOTS);
                for (at, weight) in (0_u16..).zip(&weights) {
                    prop_assert_eq!(*weight > 0, slots.contains(&at));
                }
            }
        }
    }
}
