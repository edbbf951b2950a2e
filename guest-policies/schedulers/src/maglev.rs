//! Maglev hashing: a table that is the same on every node and changes little when endpoints come and go.
//!
//! After Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), section 3.4. Each
//! endpoint has a permutation of the table's places and takes, in turns, the next one that is free. With weights, an
//! endpoint takes part in a turn as often as its weight is in proportion to the largest.

use crate::hash;

/// Largest prime that fits a ring of 16 383 slots.
pub const LARGEST: u32 = 16_381;

/// Table sizes that are taken where none is set.
const USUAL: [u32; 4] = [251, 1_021, 4_093, LARGEST];

/// A size for so many endpoints: a prime of at least ten times as many, since the fullest endpoint has at most one
/// place more than its share. It grows in few steps, because a step moves nearly all clients.
#[must_use]
pub fn usual_size(endpoints: usize) -> u32 {
    USUAL.into_iter().find(|size| *size as usize >= 10 * endpoints).unwrap_or(LARGEST)
}

/// Whether a table can have that size: the permutations need a prime.
#[must_use]
#[allow(clippy::manual_is_multiple_of, reason = "compilers that guests are built with may lack it")]
pub fn is_prime(number: u32) -> bool {
    number >= 2 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| number % divisor != 0)
}

/// A table of `size` places, each with the position of an endpoint. `ids` name the endpoints, whatever their order;
/// those of weight 0 get no place. `size` is a prime. Empty when nobody has a weight.
#[must_use]
pub fn table(ids: &[u32], weights: &[u32], size: u32) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    let largest = weights.iter().copied().max().unwrap_or(0);
    if largest == 0 {
        return Vec::new();
    }
    let mut takers: Vec<Taker> = (0..).zip(ids.iter().zip(weights)).filter_map(Taker::new(size)).collect();
    // Whose turn is first must not depend on the order in which this node has them.
    takers.sort_unstable_by_key(|taker| taker.id);
    let mut table = vec![FREE; size as usize];
    let mut left = table.len();
    loop {
        for taker in &mut takers {
            taker.credit += u64::from(taker.weight);
            if taker.credit < u64::from(largest) {
                continue;
            }
            taker.credit -= u64::from(largest);
            let (mut next, skip) = (taker.next, taker.skip);
            while table[next as usize] != FREE {
                // Both are below `size`; a division for each place passed over would be most of the work.
                next += skip;
                if next >= size {
                    next -= size;
                }
            }
            table[next as usize] = taker.position;
            taker.next = next;
            left -= 1;
            if left == 0 {
                return table;
            }
        }
    }
}

/// An endpoint that takes places: its permutation is `next`, `next + skip`, `next + 2 * skip`, ….
struct Taker {
    id: u32,
    position: u32,
    weight: u32,
    next: u32,
    skip: u32,
    credit: u64,
}

impl Taker {
    fn new(size: u32) -> impl Fn((u32, (&u32, &u32))) -> Option<Self> {
        let below = |hash: u64, bound: u32| u32::try_from(hash % u64::from(bound.max(1))).unwrap_or(0);
        move |(position, (id, weight))| {
            let (next, skip) = (below(hash::number(*id, 1), size), 1 + below(hash::number(*id, 2), size - 1));
            (*weight > 0).then_some(Self { id: *id, position, weight: *weight, next, skip, credit: 0 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table, with ids in the place of positions.
    fn by_id(ids: &[u32], weights: &[u32], size: u32) -> Vec<u32> {
        table(ids, weights, size).into_iter().map(|position| ids[position as usize]).collect()
    }

    fn moved(before: &[u32], after: &[u32]) -> f64 {
        before.iter().zip(after).filter(|(a, b)| a != b).count() as f64 / before.len() as f64
    }

    #[test]
    fn sizes_are_primes_that_fit() {
        assert!(USUAL.into_iter().all(is_prime));
        assert!((LARGEST + 1..=16_383).all(|number| !is_prime(number)));
        assert!([0, 1, 4, 9, 16_383].into_iter().all(|number| !is_prime(number)) && is_prime(2));
        assert_eq!([1, 25, 26, 102, 103, 2_000].map(usual_size), [251, 251, 1_021, 1_021, 4_093, LARGEST]);
    }

    #[test]
    fn the_order_of_the_list_does_not_matter_and_nobody_has_two_places_more() {
        let ids: Vec<u32> = (100..123).collect();
        let reversed: Vec<u32> = ids.iter().rev().copied().collect();
        let table = by_id(&ids, &[1; 23], 251);
        assert_eq!(table, by_id(&reversed, &[1; 23], 251));
        let places = |id: u32| table.iter().filter(|place| **place == id).count();
        assert!(ids.iter().all(|id| (10..=11).contains(&places(*id))));
    }

    #[test]
    fn weights_are_proportions_and_zero_is_nothing() {
        let table = table(&[1, 2, 3, 4], &[3, 1, 0, 4], 1_021);
        let places = [0, 1, 2, 3].map(|at| table.iter().filter(|place| **place == at).count());
        assert!((380..=386).contains(&places[0]) && (125..=130).contains(&places[1]), "{places:?}");
        assert_eq!(places[2], 0);
        assert!(super::table(&[1], &[0], 251).is_empty());
    }

    #[test]
    fn few_clients_move_when_one_endpoint_leaves_or_comes() {
        for count in [3, 10, 25, 100] {
            let ids: Vec<u32> = (0..count).map(|number| number * 7919 + 13).collect();
            let size = usual_size(ids.len());
            let before = by_id(&ids, &vec![1; ids.len()], size);
            let after = by_id(&ids[1..], &vec![1; ids.len() - 1], size);
            // One in `count` must move; hashing modulo the count would move nearly all.
            let must = 1.0 / f64::from(count);
            let moved = moved(&before, &after);
            assert!(moved >= must * 0.8 && moved <= must + 0.15, "{count}: {moved}");
        }
    }
}
