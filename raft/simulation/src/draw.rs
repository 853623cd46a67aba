//! Draws keyed by `hash(seed, entity, counter)`. Each user of chance has a key of its own, so that
//! leaving one user out, or letting it draw once more, never moves what another one draws.

use std::hash::Hasher;
use std::time::Duration;

use crate::hash::{GOLDEN, StableHasher, mix};
use crate::time::nanoseconds;

/// What a run is made from. Printed with every failure.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// The draws of one entity: a name for what draws (`"link"`, `"election timeout"`) and the
    /// numbers that tell it from others of that name (a node, a group).
    #[must_use]
    pub fn draws(self, entity: &str, numbers: &[u64]) -> Draws {
        Draws::from_key(self.derive(entity, numbers).0)
    }

    /// A seed for a part that makes entities of its own, apart from all others.
    #[must_use]
    pub fn derive(self, entity: &str, numbers: &[u64]) -> Self {
        let mut hasher = StableHasher::new();
        hasher.write_u64(self.0);
        hasher.write_usize(entity.len());
        hasher.write(entity.as_bytes());
        for &number in numbers {
            hasher.write_u64(number);
        }
        Self(hasher.finish())
    }
}

/// An endless sequence of draws of one entity: the n-th is a pure function of the entity's key and
/// n. The generator is `SplitMix64`, begun at the key. Results are computed from integers and from
/// sums and products of floating-point numbers, which all machines round alike; no function of the
/// system's mathematical library is used.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Draws {
    key: u64,
    counter: u64,
}

impl Draws {
    #[inline]
    pub(crate) fn from_key(key: u64) -> Self {
        Self { key, counter: 0 }
    }

    /// 64 bits, each as likely set as not.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.counter += 1;
        mix(self.key.wrapping_add(self.counter.wrapping_mul(GOLDEN)))
    }

    /// A number below `n`.
    ///
    /// # Panics
    ///
    /// If `n` is 0: there is no such number.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "no number is below 0");
        // The high half of the product. The bias is n / 2^64: nothing that a test can see.
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// True with probability `p`: never for 0 or less, always for 1 or more. Takes one draw in
    /// every case, so that a change of `p` does not move the draws after it.
    #[inline]
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// A duration from `low` to `high`, both included, in whole nanoseconds; `low` if `high` is
    /// not above it.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let low = nanoseconds(low);
        let width = nanoseconds(high).saturating_sub(low);
        Duration::from_nanos(low + self.up_to(width))
    }

    /// A number from 0 to `most`, both included.
    #[inline]
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        ((u128::from(self.next_u64()) * (u128::from(most) + 1)) >> 64) as u64
    }

    /// An exponentially distributed duration: short ones are frequent, a few are several times
    /// `mean`, none is more than 45 times `mean`.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        Duration::from_nanos(self.exponential_ns(nanoseconds(mean)))
    }

    #[inline]
    pub(crate) fn exponential_ns(&mut self, mean_ns: u64) -> u64 {
        let word = self.next_u64();
        (negative_logarithm(word) * mean_ns as f64) as u64
    }

    /// A number from 0 to 1, 1 excluded.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// One of the items, each as likely; none of an empty slice. Takes one draw in every case.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let word = self.next_u64();
        let index = (u128::from(word) * items.len() as u128) >> 64;
        items.get(index as usize)
    }

    /// Puts the items in an order drawn from all orders (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.up_to(last as u64) as usize);
        }
    }
}

/// `-ln(word / 2^64)`, to about ten digits.
#[inline]
fn negative_logarithm(word: u64) -> f64 {
    // A zero would be infinite; half a step above it is as likely as any other.
    let word = word | 1;
    let zeroes = word.leading_zeros();
    // word / 2^64 = mantissa / 2^(zeroes + 1), the mantissa from 1 to 2.
    let mantissa = ((word << zeroes) >> 11) as f64 * (1.0 / (1u64 << 52) as f64);
    // ln(m) = ln(m / sqrt 2) + ln(2) / 2; the first by the series of the inverse hyperbolic
    // tangent, whose argument is below 0.172: the first term left out is below 1e-11.
    let scaled = mantissa * std::f64::consts::FRAC_1_SQRT_2;
    let argument = (scaled - 1.0) / (scaled + 1.0);
    // In pairs of terms, which do not wait for one another.
    let square = argument * argument;
    let fourth = square * square;
    let low = (1.0 + square * (1.0 / 3.0)) + fourth * (1.0 / 5.0 + square * (1.0 / 7.0));
    let high = (1.0 / 9.0 + square * (1.0 / 11.0)) + fourth * (1.0 / 13.0);
    let series = low + fourth * fourth * high;
    let logarithm = 2.0 * argument * series;
    ((f64::from(zeroes) + 0.5) * std::f64::consts::LN_2 - logarithm).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u64 = 100_000;

    #[test]
    fn leaving_one_entity_out_does_not_move_another() {
        let seed = Seed(11);
        let together: Vec<u64> = {
            let mut first = seed.draws("first", &[1]);
            let mut second = seed.draws("second", &[1]);
            (0..100)
                .map(|_| {
                    first.next_u64();
                    first.chance(0.5);
                    second.next_u64()
                })
                .collect()
        };
        let mut alone = seed.draws("second", &[1]);
        assert!(together.iter().all(|&word| word == alone.next_u64()));
    }

    #[test]
    fn keys_differ_by_seed_name_and_numbers() {
        let keys = [
            Seed(1).derive("a", &[]),
            Seed(2).derive("a", &[]),
            Seed(1).derive("b", &[]),
            Seed(1).derive("a", &[0]),
            Seed(1).derive("a", &[1]),
            Seed(1).derive("a", &[0, 1]),
            Seed(1).derive("a", &[1, 0]),
            Seed(1).derive("", &[]),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{index}");
        }
    }

    #[test]
    fn the_sequence_is_fixed() {
        // Regression files rely on it: a change here makes them replay something else.
        let mut draws = Seed(1).draws("fixed", &[2, 3]);
        let drawn = (
            draws.next_u64(),
            draws.below(1_000_000),
            draws.exponential(Duration::from_secs(1)).as_nanos(),
        );
        assert_eq!(drawn, (2_885_021_498_266_820_798, 935_694, 294_057_196));
    }

    #[test]
    fn numbers_below_are_even() {
        let mut draws = Seed(3).draws("below", &[]);
        let mut counts = [0u64; 7];
        for _ in 0..COUNT {
            counts[draws.below(7) as usize] += 1;
        }
        let expected = COUNT as f64 / 7.0;
        let chi_square: f64 = counts
            .iter()
            .map(|&count| (count as f64 - expected).powi(2) / expected)
            .sum();
        // Six degrees of freedom: 22.5 is exceeded once in a thousand.
        assert!(chi_square < 22.5, "{counts:?}");
    }

    #[test]
    fn chances_hold_at_the_ends_and_between() {
        let mut draws = Seed(4).draws("chance", &[]);
        for _ in 0..1_000 {
            assert!(!draws.chance(0.0));
            assert!(!draws.chance(-1.0));
            assert!(!draws.chance(f64::NAN));
            assert!(draws.chance(1.0));
        }
        let hits = (0..COUNT).filter(|_| draws.chance(0.3)).count();
        assert!((29_000..31_000).contains(&hits), "{hits}");
    }

    #[test]
    fn durations_lie_between() {
        let mut draws = Seed(5).draws("between", &[]);
        let (low, high) = (Duration::from_nanos(10), Duration::from_nanos(13));
        let mut seen = [false; 4];
        for _ in 0..1_000 {
            let drawn = draws.between(low, high);
            assert!((low..=high).contains(&drawn));
            seen[(drawn - low).as_nanos() as usize] = true;
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(draws.between(high, low), high);
        assert_eq!(draws.between(low, low), low);
    }

    #[test]
    fn exponential_durations_have_their_mean_and_tail() {
        let mut draws = Seed(6).draws("exponential", &[]);
        let mean = Duration::from_millis(10);
        let drawn: Vec<Duration> = (0..COUNT).map(|_| draws.exponential(mean)).collect();
        let average = drawn.iter().sum::<Duration>().as_secs_f64() / COUNT as f64;
        assert!((average - 0.01).abs() < 0.000_15, "{average}");
        // A share of e^-3 lies above three times the mean.
        let above = drawn.iter().filter(|&&drawn| drawn > 3 * mean).count() as f64;
        assert!(
            (above / COUNT as f64 - (-3f64).exp()).abs() < 0.003,
            "{above}"
        );
    }

    #[test]
    fn the_logarithm_is_the_librarys() {
        let mut draws = Seed(7).draws("logarithm", &[]);
        let mut words: Vec<u64> = (0..10_000).map(|_| draws.next_u64()).collect();
        words.extend((0..64).flat_map(|bit| [1 << bit, u64::MAX >> bit]));
        words.push(0);
        for word in words {
            let expected = -((word | 1) as f64 / 2f64.powi(64)).ln();
            let computed = negative_logarithm(word);
            assert!(
                (computed - expected).abs() < 1e-9,
                "{word}: {computed} {expected}"
            );
        }
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut draws = Seed(8).draws("shuffle", &[]);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..60_000 {
            let mut items = [0, 1, 2, 3];
            draws.shuffle(&mut items);
            *counts.entry(items).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(
            counts.values().all(|count| (2_200..2_800).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn picks_come_from_the_slice() {
        let mut draws = Seed(9).draws("pick", &[]);
        assert_eq!(draws.pick::<u8>(&[]), None);
        let mut seen = [false; 3];
        for _ in 0..100 {
            seen[*draws.pick(&[0, 1, 2]).expect("not empty")] = true;
        }
        assert_eq!(seen, [true; 3]);
    }
}
