//! A hasher whose result is the same in every run, for the hash of a final state.

use std::hash::{Hash, Hasher};

/// The golden ratio in 64 bits, odd: the usual increment and multiplier of such mixers.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of `SplitMix64` (Steele, Lea and Flood, 2014; constants of Stafford's variant 13):
/// a bijection in which every bit of the input moves half of the bits of the output.
#[inline]
pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A [`Hasher`] with fixed keys. Each word is taken in by a bijection of the state, so that two
/// states that differ in one word never meet; it is no defence against chosen keys.
#[derive(Clone, Debug)]
pub struct StableHasher {
    state: u64,
}

impl StableHasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { state: GOLDEN }
    }

    #[inline]
    fn take(&mut self, word: u64) {
        let product = (self.state.rotate_left(23) ^ word).wrapping_mul(GOLDEN);
        self.state = product ^ (product >> 32);
    }
}

impl Default for StableHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.take(u64::from_le_bytes(
                word.try_into().expect("a chunk of eight bytes"),
            ));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            // At most seven bytes are data: the eighth tells how many, so that zeroes count.
            word[7] = rest.len() as u8;
            self.take(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.take(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.take(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.take(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.take(value);
    }

    fn write_u128(&mut self, value: u128) {
        self.take(value as u64);
        self.take((value >> 64) as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.take(value as u64);
    }

    fn finish(&self) -> u64 {
        mix(self.state)
    }
}

/// The stable hash of a value: equal values give equal hashes in every run and build.
#[must_use]
pub fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = StableHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_value_is_fixed() {
        // Stored states are compared over builds: a change here is a change of format.
        assert_eq!(hash_of(&(1u64, "one")), 4_972_898_719_117_917_794);
    }

    #[test]
    fn lengths_zeroes_and_order_count() {
        let zeroes: BTreeSet<u64> = (0..64)
            .map(|length| {
                let mut hasher = StableHasher::new();
                hasher.write(&vec![0; length]);
                hasher.finish()
            })
            .collect();
        assert_eq!(zeroes.len(), 64);
        assert_ne!(hash_of(&[1u64, 2]), hash_of(&[2u64, 1]));
        assert_ne!(hash_of(&vec![1u64]), hash_of(&vec![1u64, 0]));
    }

    #[test]
    fn near_values_do_not_meet() {
        let hashes: BTreeSet<u64> = (0u64..300)
            .flat_map(|first| (0u64..300).map(move |second| hash_of(&(first, second))))
            .collect();
        assert_eq!(hashes.len(), 300 * 300);
    }

    #[test]
    fn every_bit_of_the_input_moves_about_half_of_the_hash() {
        for bit in 0..64 {
            let moved: u32 = (0..100u64)
                .map(|value| (hash_of(&value) ^ hash_of(&(value ^ (1 << bit)))).count_ones())
                .sum();
            assert!((2_800..=3_600).contains(&moved), "bit {bit}: {moved}");
        }
    }
}
