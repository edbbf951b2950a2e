//! The kernel's hash of register contents (`nft_jhash_eval`: Jenkins' lookup3, then `reciprocal_scale`).

/// `JHASH_INITVAL` of the kernel.
const INITVAL: u32 = 0xdead_beef;

/// The value of `jhash … mod modulus seed seed` for registers that hold `bytes`.
pub(super) fn slot(bytes: &[u8], modulus: u32, seed: u32) -> u32 {
    let scaled = (u64::from(jhash(bytes, seed)) * u64::from(modulus)) >> 32;
    u32::try_from(scaled).expect("a fraction of a 32-bit modulus")
}

/// `jhash()` of the kernel's `linux/jhash.h`.
fn jhash(bytes: &[u8], seed: u32) -> u32 {
    let length = u32::try_from(bytes.len()).expect("at most 64 bytes of registers");
    let start = INITVAL.wrapping_add(length).wrapping_add(seed);
    let mut state = [start; 3];
    let mut left = bytes;
    while left.len() > 12 {
        let (block, rest) = left.split_at(12);
        add(&mut state, block);
        mix(&mut state);
        left = rest;
    }
    if !left.is_empty() {
        let mut block = [0; 12];
        block[..left.len()].copy_from_slice(left);
        add(&mut state, &block);
        last_mix(&mut state);
    }
    state[2]
}

fn add(state: &mut [u32; 3], block: &[u8]) {
    for (word, bytes) in state.iter_mut().zip(block.chunks_exact(4)) {
        *word = word.wrapping_add(u32::from_le_bytes(bytes.try_into().expect("chunks of 4")));
    }
}

/// `__jhash_mix`.
fn mix(state: &mut [u32; 3]) {
    for (x, y, z, bits) in [(0, 2, 1, 4), (1, 0, 2, 6), (2, 1, 0, 8), (0, 2, 1, 16), (1, 0, 2, 19), (2, 1, 0, 4)] {
        // x -= y; x ^= rol(y, bits); y += z
        state[x] = state[x].wrapping_sub(state[y]) ^ state[y].rotate_left(bits);
        state[y] = state[y].wrapping_add(state[z]);
    }
}

/// `__jhash_final`.
fn last_mix(state: &mut [u32; 3]) {
    for (x, y, bits) in [(2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24)] {
        // x ^= y; x -= rol(y, bits)
        state[x] = (state[x] ^ state[y]).wrapping_sub(state[y].rotate_left(bits));
    }
}

#[cfg(test)]
mod tests {
    use super::jhash;

    /// Vectors published with lookup3.c, which the kernel's jhash follows.
    #[test]
    fn known_vectors() {
        assert_eq!(jhash(b"", 0), 0xdead_beef);
        assert_eq!(jhash(b"Four score and seven years ago", 0), 0x1777_0551);
        assert_eq!(jhash(b"Four score and seven years ago", 1), 0xcd62_8161);
    }

    #[test]
    fn slots_stay_below_the_modulus() {
        for client in 0..1000_u32 {
            assert!(super::slot(&client.to_be_bytes(), 7, 1) < 7);
        }
    }
}
