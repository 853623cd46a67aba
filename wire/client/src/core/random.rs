//! Randomness from a seed that the caller injects: the same seed and inputs give the same run.

use std::time::Duration;

/// SplitMix64: small, quick and good enough for jitter and for spreading records.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

/// Pauses before another attempt: they double up to a bound, with jitter in their upper half.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) most: Duration,
}

impl Backoff {
    /// The pause after the `failures`th failure in a row, counted from 1.
    pub(crate) fn pause(self, failures: u32, random: &mut Random) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.first.saturating_mul(1 << doublings).min(self.most);
        let half = full / 2;
        half + half.mul_f64(f64::from(random.below(1 << 16)) / f64::from(1 << 16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_stay_in_bounds_and_differ() {
        let backoff = Backoff {
            first: Duration::from_millis(20),
            most: Duration::from_secs(1),
        };
        let mut random = Random::new(7);
        for failures in 1..100 {
            let full = Duration::from_millis(20 << (failures - 1).min(10)).min(backoff.most);
            let pause = backoff.pause(failures, &mut random);
            assert!(
                pause >= full / 2 && pause <= full,
                "{failures}: {pause:?} of {full:?}"
            );
        }
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..8)
                .map(|_| backoff.pause(5, &mut random))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Random::new(3);
        let mut seen = [0; 5];
        for _ in 0..1000 {
            seen[random.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
    }
}
