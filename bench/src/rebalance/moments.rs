//! When something happens to a group. Members hear of a rebalance by their heartbeats, so how long it
//! takes depends on when they sent the last ones: the moments here have nothing to do with that.
//!
//! A rebalance makes all members of a group start the time to their next heartbeat at once, and for a
//! while they send them at the same moments. The members of a group that has run for long do not any
//! more: clocks differ, and processes stand still now and then. So each member here stands still once
//! after a rebalance, from before its next heartbeat is due until a moment of its own.

use std::time::Duration;

use crate::load::Random;

/// How many heartbeats a client sends in its session timeout.
const HEARTBEATS_IN_SESSION: u32 = 3;

/// Draws moments, the same ones from the same seed.
pub(super) struct Moments {
    random: Random,
    heartbeat_interval: Duration,
}

impl Moments {
    pub(super) fn new(seed: u64, session_timeout: Duration) -> Moments {
        Moments {
            random: Random::new(seed),
            heartbeat_interval: session_timeout / HEARTBEATS_IN_SESSION,
        }
    }

    /// How long after its group has settled something happens to it: any moment of a whole heartbeat
    /// interval.
    pub(super) fn wait(&mut self) -> Duration {
        self.heartbeat_interval.mul_f64(self.random.next_unit())
    }

    /// How long a member stands still, so long after its group has settled: until any moment of the
    /// heartbeat interval behind its next heartbeat. It is silent for less than two intervals, of which
    /// its session has three.
    pub(super) fn standstill(&mut self, since_settled: Duration) -> Duration {
        let interval_ns = self.heartbeat_interval.as_nanos().max(1);
        let since_beat_ns = since_settled.as_nanos() % interval_ns;
        let to_next_ns = u64::try_from(interval_ns - since_beat_ns).unwrap_or(u64::MAX);
        Duration::from_nanos(to_next_ns) + self.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL_MS: u128 = 3_000;

    fn moments(seed: u64) -> Moments {
        Moments::new(seed, Duration::from_secs(9))
    }

    /// How many of 10,000 times fall into each tenth of a heartbeat interval.
    fn tenths(mut draw: impl FnMut() -> Duration) -> [u32; 10] {
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let of_interval_ms = draw().as_millis() % INTERVAL_MS;
            tenths[(of_interval_ms * 10 / INTERVAL_MS) as usize] += 1;
        }
        tenths
    }

    fn assert_even(tenths: [u32; 10]) {
        // A thousand in each, with a standard deviation of 30.
        assert!(
            tenths.iter().all(|count| (850..1_150).contains(count)),
            "{tenths:?}"
        );
    }

    #[test]
    fn what_happens_is_spread_evenly_over_a_heartbeat_interval() {
        let mut moments = moments(1);
        assert_even(tenths(|| {
            let wait = moments.wait();
            assert!(wait.as_millis() < INTERVAL_MS, "{wait:?}");
            wait
        }));
    }

    #[test]
    fn members_miss_one_heartbeat_and_end_evenly_spread() {
        for since_settled_ms in [0, 500, 2_999, 3_000, 4_700] {
            let since_settled = Duration::from_millis(since_settled_ms);
            let mut moments = moments(since_settled_ms);
            assert_even(tenths(|| {
                let end = since_settled + moments.standstill(since_settled);
                let beat_ms = u128::from(since_settled_ms) / INTERVAL_MS * INTERVAL_MS;
                let silent_ms = end.as_millis() - beat_ms;
                assert!(
                    (INTERVAL_MS..2 * INTERVAL_MS).contains(&silent_ms),
                    "{silent_ms} ms"
                );
                end
            }));
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_moments() {
        let draw = |seed| {
            let mut moments = moments(seed);
            let waits: Vec<Duration> = (0..5).map(|_| moments.wait()).collect();
            (waits, moments.standstill(Duration::ZERO))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn the_shortest_session_has_moments_too() {
        let mut moments = Moments::new(1, Duration::from_nanos(2));
        assert_eq!(moments.wait(), Duration::ZERO);
        assert!(moments.standstill(Duration::from_secs(1)) <= Duration::from_nanos(1));
    }
}
