//! Seeded mutations of a corpus, for the short run in the tests. An input depends on the seed and
//! its number alone.

/// Lengths, counts and signs where parsers go wrong.
const INTERESTING: [i64; 14] = [
    0,
    1,
    -1,
    2,
    16,
    127,
    128,
    255,
    0x7fff,
    0xffff,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
];

/// Longest input that mutations make.
const MAX_BYTES: usize = 64 * 1024;

/// A small generator (SplitMix64).
pub struct Random(u64);

impl Random {
    /// The generator for one input: its seed, and the input's number.
    #[must_use]
    pub fn new(seed: u64, number: u64) -> Random {
        Random(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A range within `len` bytes, mostly short.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        let most = if self.below(4) == 0 {
            len - start
        } else {
            (len - start).min(8)
        };
        start..start + self.below(most + 1)
    }
}

/// One of the corpus, changed in a few places.
///
/// # Panics
/// If the corpus is empty.
#[must_use]
pub fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        mutate(&mut bytes, corpus, random);
    }
    bytes.truncate(MAX_BYTES);
    bytes
}

fn mutate(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    match random.below(8) {
        0 | 1 if !bytes.is_empty() => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        2 if !bytes.is_empty() => {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        3 => {
            let value = INTERESTING[random.below(INTERESTING.len())];
            let width = 1 << random.below(4);
            let big = value.to_be_bytes();
            let little = value.to_le_bytes();
            let value = if random.below(2) == 0 {
                &big[8 - width..]
            } else {
                &little[..width]
            };
            let at = random.below(bytes.len() + 1);
            let end = (at + width).min(bytes.len());
            bytes.splice(at..end, value.iter().copied());
        }
        4 => {
            let range = random.range(bytes.len());
            bytes.drain(range);
        }
        5 => {
            let copy = bytes[random.range(bytes.len())].to_vec();
            let at = random.below(bytes.len() + 1);
            bytes.splice(at..at, copy);
        }
        6 => {
            let other = &corpus[random.below(corpus.len())];
            let from = other[random.range(other.len())].to_vec();
            let range = random.range(bytes.len());
            bytes.splice(range, from);
        }
        _ => bytes.truncate(random.below(bytes.len() + 1)),
    }
}
