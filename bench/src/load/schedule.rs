//! When requests are due. In an open loop that is decided by the clock alone, whatever the broker
//! does: a latency counted from then has every wait in it that a stall caused, for every request
//! that the stall delayed. (Gil Tene calls the opposite coordinated omission.)

use std::time::Duration;

/// How requests are spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// At equal distances.
    #[default]
    Constant,
    /// As independent clients would: a Poisson process.
    Poisson,
}

/// A number generator for spacing, sizes and bytes (SplitMix64): seeded, so that two runs put the
/// same load on a broker.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0.0..1.0`.
    pub fn next_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The times at which requests are due, one after the other; ns on the load's clock.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Between two, ns, on average.
    gap_ns: f64,
    arrivals: Arrivals,
    random: Random,
    next_ns: f64,
}

impl Schedule {
    /// A schedule of `rate` requests a second from `start_ns` on.
    #[must_use]
    pub fn new(rate: f64, arrivals: Arrivals, start_ns: u64, seed: u64) -> Schedule {
        assert!(rate > 0.0, "a rate is more than nothing");
        Schedule {
            gap_ns: Duration::from_secs(1).as_nanos() as f64 / rate,
            arrivals,
            random: Random::new(seed),
            next_ns: start_ns as f64,
        }
    }

    /// When the next request is due.
    #[must_use]
    pub fn next_due(&self) -> u64 {
        self.next_ns as u64
    }

    /// Takes the next request if it is due.
    pub fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_due();
        if due > now_ns {
            return None;
        }
        self.next_ns += match self.arrivals {
            Arrivals::Constant => self.gap_ns,
            // The time between two arrivals of a Poisson process is exponential.
            Arrivals::Poisson => -self.gap_ns * (1.0 - self.random.next_unit()).ln(),
        };
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_in_a_second(arrivals: Arrivals) -> usize {
        let mut schedule = Schedule::new(10_000.0, arrivals, 500, 7);
        std::iter::from_fn(|| schedule.take(1_000_000_500)).count()
    }

    #[test]
    fn a_constant_schedule_is_exact_over_any_time() {
        assert!((10_000..=10_001).contains(&count_in_a_second(Arrivals::Constant)));
        let mut schedule = Schedule::new(3.0, Arrivals::Constant, 0, 1);
        let dues: Vec<u64> = std::iter::from_fn(|| schedule.take(1_000_000_000)).collect();
        assert_eq!(dues, [0, 333_333_333, 666_666_666, 1_000_000_000]);
    }

    #[test]
    fn a_poisson_schedule_has_the_rate_and_is_uneven() {
        let count = count_in_a_second(Arrivals::Poisson);
        assert!((9_600..=10_400).contains(&count), "{count} in a second");
        let mut schedule = Schedule::new(1_000.0, Arrivals::Poisson, 0, 3);
        let dues: Vec<u64> = (0..10_000)
            .filter_map(|_| schedule.take(u64::MAX))
            .collect();
        let gaps: Vec<f64> = dues
            .windows(2)
            .map(|two| (two[1] - two[0]) as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let ratio = variance.sqrt() / mean;
        assert!(
            (0.9..=1.1).contains(&ratio),
            "an exponential's deviation is its mean: {ratio}"
        );
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let mut schedule = Schedule::new(1_000.0, Arrivals::Constant, 1_000_000, 0);
        assert_eq!(schedule.take(999_999), None);
        assert_eq!(schedule.take(1_000_000), Some(1_000_000));
        assert_eq!(schedule.take(1_000_001), None);
    }
}
