//! Which partition a key belongs to: Kafka's rule, so that producers of both protocols agree.

use crate::ids::PartitionIndex;

/// The seed of Kafka's hash.
const SEED: u32 = 0x9747_b28c;

/// MurmurHash2, 32 bits, with Kafka's seed.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let (words, tail) = bytes.as_chunks::<4>();
    // Kafka hashes the length as a Java int.
    let mut hash = SEED ^ bytes.len() as u32;
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key among this many, as Kafka's default partitioner has it: the hash without
/// its sign bit, modulo their number.
///
/// # Panics
/// If there are no partitions.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: u32) -> PartitionIndex {
    PartitionIndex((murmur2(key) & 0x7fff_ffff) % partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kafka's UtilsTest.
    #[test]
    fn known_answers() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
            let positive = hash & 0x7fff_ffff;
            let partition = PartitionIndex(positive as u32 % 7);
            assert_eq!(partition_for_key(key.as_bytes(), 7), partition, "{key}");
        }
    }

    #[test]
    fn every_key_has_a_partition() {
        for length in 0..64 {
            let key = vec![0xff; length];
            assert!(partition_for_key(&key, 3).0 < 3);
            assert_eq!(partition_for_key(&key, 1), PartitionIndex(0));
        }
    }
}
