//! A hash for numbers that this program gives out itself.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds the hash for maps whose keys are such numbers: nobody can choose them to collide, so it is worth nothing but
/// its speed.
pub type ByNumber = BuildHasherDefault<NumberHasher>;

/// Fibonacci hashing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        // An odd factor is a permutation of the low bits, which choose the place, and carries all of them into the high
        // ones, which tell neighbours apart.
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_have_places_of_their_own() {
        let place = |number: u32| {
            let mut hash = NumberHasher::default();
            hash.write_u32(number);
            hash.finish() % 1024
        };
        let places: std::collections::BTreeSet<u64> = (5_000..6_024).map(place).collect();
        assert_eq!(places.len(), 1024);
    }
}
