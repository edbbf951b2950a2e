//! Slots for a counter that walks them: interleaved by weight, and begun elsewhere on every node.

use crate::hash;

/// Slots that hold each endpoint in proportion to its weight, spread evenly, so that a counter sends no bursts.
///
/// Weights are divided by their greatest common divisor first; `None` when nobody has a weight or when that makes
/// more than `most` slots.
#[must_use]
pub fn interleaved(weights: &[u32], most: usize) -> Option<Vec<u32>> {
    let divisor = weights.iter().copied().fold(0, gcd);
    if divisor == 0 {
        return None;
    }
    let total: u64 = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
    if total > most as u64 {
        return None;
    }
    // The turns of an endpoint of weight w stand at (2k + 1) / 2w of the way.
    let mut turns: Vec<(u64, u32)> = Vec::with_capacity(usize::try_from(total).ok()?);
    for (at, weight) in (0..).zip(weights.iter().map(|weight| u64::from(weight / divisor))) {
        turns.extend((0..weight).map(|turn| (((2 * turn + 1) << 32) / (2 * weight), at)));
    }
    turns.sort_unstable();
    Some(turns.into_iter().map(|(_, at)| at).collect())
}

/// The same ring, begun at a place that depends on the node: nodes that all start counting at the same moment, after
/// a roll-out of Weir, say, would else send their first connections to the same endpoint.
pub fn begin_elsewhere(slots: &mut [u32], node: u64) {
    if let Some(start) = node.checked_rem(slots.len() as u64) {
        slots.rotate_left(usize::try_from(start).unwrap_or(0));
    }
}

/// A number for a node, from its name.
#[must_use]
pub fn node(name: &str) -> u64 {
    hash::bytes(name.as_bytes())
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_sees_the_proportions_and_no_bursts() {
        assert_eq!(interleaved(&[4, 4, 4], 99), Some(vec![0, 1, 2]));
        let slots = interleaved(&[5, 1, 1, 0], 99).expect("slots");
        assert_eq!([0, 1, 2, 3].map(|at| slots.iter().filter(|slot| **slot == at).count()), [5, 1, 1, 0]);
        assert!(slots.chunk_by(|a, b| a == b).all(|run| run.len() <= 3), "{slots:?}");
        assert_eq!(interleaved(&[0, 0], 99), None);
        assert_eq!(interleaved(&[100, 1], 99), None);
    }

    #[test]
    fn nodes_begin_at_different_endpoints() {
        let mut begun = [0_u32; 5];
        for name in (0..1000).map(|number| format!("node-{number}")) {
            let mut slots = [0, 1, 2, 3, 4];
            begin_elsewhere(&mut slots, node(&name));
            begun[slots[0] as usize] += 1;
            assert_eq!(slots[1], (slots[0] + 1) % 5, "the order stays");
        }
        assert!(begun.iter().all(|count| (150..250).contains(count)), "{begun:?}");
        begin_elsewhere(&mut [], 7);
    }
}
