//! One hash for all: FNV-1a with a final mix. The same everywhere, and for nobody's secrets.

/// A hash of `bytes`. Every bit of the result depends on every bit of them.
#[must_use]
pub fn bytes(bytes: &[u8]) -> u64 {
    // Offset basis and prime of 64-bit FNV-1a.
    mix(bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)))
}

/// A hash of a number; a `seed` makes another function of it.
#[must_use]
pub fn number(number: u32, seed: u32) -> u64 {
    mix(u64::from(seed) << 32 | u64::from(number))
}

/// The finalizer of MurmurHash3.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_inputs_go_far_apart() {
        let mut last: Vec<u64> = (0..1000).map(|node| bytes(format!("node-{node}").as_bytes()) % 10).collect();
        assert_eq!(last[..3], [bytes(b"node-0") % 10, bytes(b"node-1") % 10, bytes(b"node-2") % 10]);
        last.sort_unstable();
        for equal in last.chunk_by(|a, b| a == b) {
            assert!((60..=140).contains(&equal.len()), "{} times {}", equal.len(), equal[0]);
        }
        assert_ne!(number(1, 0), number(1, 1));
        assert_ne!(number(1, 0), number(0, 1));
    }
}
