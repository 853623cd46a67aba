//! Randomness without a stream: each draw is a pure function of the seed, of who draws and of how
//! often it has drawn. Taking one fault away therefore leaves all others as they were, and a failure
//! can be made smaller.

use std::ops::RangeInclusive;
use std::time::Duration;

/// What a draw decides; part of its key, so that two decisions about one thing are independent.
#[derive(Clone, Copy)]
pub(super) enum Decision {
    Schedule = 1,
    SpawnInline,
    Yield,
    PollCost,
    Random,
    Latency,
    Slow,
    Fails,
    Fate,
    Sector,
    NameFate,
    LengthFate,
    Flip,
}

/// A 64-bit mixer (the finaliser of SplitMix64).
pub(super) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Joins two values into one that depends on both and on their order.
pub(super) const fn combine(one: u64, other: u64) -> u64 {
    mix(one
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(other)
        .wrapping_add(0x2545_f491_4f6c_dd1d))
}

/// A hash of a name, the same in every run and on every machine.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = combine(0, bytes.len() as u64);
    for word in words {
        hash = combine(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    combine(hash, u64::from_le_bytes(last))
}

/// One drawn number.
#[derive(Clone, Copy)]
pub(super) struct Draw(pub u64);

impl Draw {
    /// Draws for `entity`, which has drawn `counter` times before to decide this.
    pub fn new(seed: u64, decision: Decision, entity: u64, counter: u64) -> Draw {
        Draw(combine(
            combine(combine(seed, decision as u64), entity),
            counter,
        ))
    }

    /// True with `probability`.
    pub fn chance(self, probability: f64) -> bool {
        // 53 bits are what an f64 holds exactly.
        probability > 0.0 && ((self.0 >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    /// A number below `bound`, which is not 0.
    pub fn below(self, bound: u64) -> u64 {
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }

    /// A duration out of `range`.
    pub fn duration(self, range: &RangeInclusive<Duration>) -> Duration {
        let low = range.start().as_nanos() as u64;
        let high = (range.end().as_nanos() as u64).max(low);
        Duration::from_nanos(low + self.below(high - low + 1))
    }
}
