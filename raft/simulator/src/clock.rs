//! A node's monotonic clock: it begins anywhere, and it is too fast or too slow.

use simulation::Time;

const MILLION: i64 = 1_000_000;

/// Never steps and never goes back; its speed changes from time to time. A drift is in parts of a
/// million and far from minus a million, so that it always goes on.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Clock {
    /// Since when it has had this speed.
    since: Time,
    /// What it showed then.
    shown: i64,
    drift_ppm: i64,
}

impl Clock {
    pub(crate) fn new(shown_ns: u64, drift_ppm: i32) -> Clock {
        Clock {
            since: Time::ZERO,
            shown: i64::try_from(shown_ns).expect("a clock begins within some centuries"),
            drift_ppm: i64::from(drift_ppm),
        }
    }

    pub(crate) fn read(&self, now: Time) -> raft::Time {
        let passed = now.0.saturating_sub(self.since.0) as i64;
        raft::Time((self.shown + passed + passed * self.drift_ppm / MILLION) as u64)
    }

    /// The first moment at which it shows at least this; a moment long ago if it does already.
    pub(crate) fn when(&self, shows: raft::Time) -> Time {
        let Ok(shows) = i64::try_from(shows.0) else {
            return Time::NEVER;
        };
        let ahead = shows - self.shown;
        if ahead <= 0 {
            return self.since;
        }
        let gained = ahead * self.drift_ppm / (MILLION + self.drift_ppm);
        let mut at = Time(self.since.0 + (ahead - gained) as u64);
        while self.read(at).0 < shows as u64 {
            at.0 += 1;
        }
        at
    }

    /// From now on it drifts like this.
    pub(crate) fn set_drift(&mut self, now: Time, drift_ppm: i32) {
        self.shown = self.read(now).0 as i64;
        self.since = now;
        self.drift_ppm = i64::from(drift_ppm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_found_at_any_speed() {
        for drift_ppm in [-2_000, -1, 0, 1, 999, 2_000] {
            let mut clock = Clock::new(123_456_789, 0);
            clock.set_drift(Time(1_000_000_007), drift_ppm);
            for shows in [0, 5_000_000_000, 5_000_000_001, 77_777_777_777] {
                let at = clock.when(raft::Time(shows));
                assert!(clock.read(at).0 >= shows, "{drift_ppm} {shows}");
                let early = Time(at.0 - 2);
                assert!(at == clock.since || clock.read(early).0 < shows, "{drift_ppm} {shows}");
            }
        }
    }

    #[test]
    fn a_change_of_speed_is_no_step() {
        let mut clock = Clock::new(0, 1_000);
        let before = clock.read(Time(10_000_000_000));
        clock.set_drift(Time(10_000_000_000), -1_000);
        assert_eq!(clock.read(Time(10_000_000_000)), before);
        assert_eq!(before.0, 10_010_000_000);
        assert_eq!(clock.read(Time(11_000_000_000)).0, 11_009_000_000);
    }
}
