//! A quick hash.

/// Multiply and fold, sixteen bytes at a time. Not for enemies.
pub(crate) struct Mix(u64);

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Default for Mix {
    fn default() -> Self {
        Self(0xd6e8_feb8_6659_fd93)
    }
}

impl Mix {
    /// The hash of all that was eaten.
    pub(crate) fn value(&self) -> u64 {
        self.0
    }

    pub(crate) fn eat(&mut self, value: u64) {
        self.eat_both(value, 0);
    }

    pub(crate) fn eat_both(&mut self, one: u64, other: u64) {
        let product = u128::from(self.0 ^ one) * u128::from(FACTOR ^ other);
        let [low, high] = halves(product);
        // The sum keeps what a factor of zero would swallow.
        self.0 = (low ^ high).wrapping_add(one).rotate_left(23) ^ other;
    }

    pub(crate) fn eat_text(&mut self, text: &str) {
        self.eat(text.len() as u64);
        self.eat_bytes(text.as_bytes());
    }

    /// Bytes whose number is eaten or known otherwise: zeros at their end make no difference.
    pub(crate) fn eat_bytes(&mut self, bytes: &[u8]) {
        for bytes in bytes.chunks(16) {
            let mut whole = [0; 16];
            whole[..bytes.len()].copy_from_slice(bytes);
            let [low, high] = halves(u128::from_le_bytes(whole));
            self.eat_both(low, high);
        }
    }

    /// Numbers of which the same is true.
    pub(crate) fn eat_numbers(&mut self, numbers: &[u32]) {
        for numbers in numbers.chunks(4) {
            let mut whole = [0; 4];
            whole[..numbers.len()].copy_from_slice(numbers);
            let [a, b, c, d] = whole.map(u64::from);
            self.eat_both(a << 32 | b, c << 32 | d);
        }
    }
}

/// The low one first.
fn halves(number: u128) -> [u64; 2] {
    [number, number >> 64].map(|half| (half & u128::from(u64::MAX)) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn of(eat: impl FnOnce(&mut Mix)) -> u64 {
        let mut mix = Mix::default();
        eat(&mut mix);
        mix.value()
    }

    #[test]
    fn what_differs_in_little_has_another_hash() {
        let ones = [1_u32; 41];
        let mut hashes = BTreeSet::from([of(|mix| mix.eat_numbers(&ones))]);
        for at in 0..41 {
            for bit in 0..32 {
                let mut other = ones;
                other[at] ^= 1 << bit;
                hashes.insert(of(|mix| mix.eat_numbers(&other)));
            }
        }
        assert_eq!(hashes.len(), 1 + 41 * 32);
        let texts: BTreeSet<u64> = (0..200).map(|length| of(|mix| mix.eat_text(&"\0".repeat(length)))).collect();
        assert_eq!(texts.len(), 200);
        let bytes: BTreeSet<u64> = (0..=255).map(|byte| of(|mix| mix.eat_bytes(&[7, 7, byte]))).collect();
        assert_eq!(bytes.len(), 256);
    }

    #[test]
    fn numbers_in_a_row_differ_in_all_bits() {
        let numbers = (0..4_096_u64).map(|number| of(|mix| mix.eat_both(number, number << 32)));
        assert_eq!(numbers.fold((u64::MAX, 0), |(and, or), hash| (and & hash, or | hash)), (0, u64::MAX));
    }
}
