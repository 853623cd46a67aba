//! Virtual time.

use std::fmt;
use std::ops::{Add, AddAssign};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Virtual nanoseconds since the run began. No real clock ever sets it: it moves only from one
/// event to the next. Five centuries fit; sums stop at the end of them.
#[derive(
    Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// The beginning of the run.
    pub const ZERO: Self = Self(0);
    /// Later than every event: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// How long after `earlier` this is; nothing if it is not after it.
    #[inline]
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Seconds since the run began, for people to read.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        Duration::from_nanos(self.0).as_secs_f64()
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.6} s", self.as_secs_f64())
    }
}

/// A duration in nanoseconds, at most `u64::MAX`.
#[inline]
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    // Without `as_nanos` and its 128 bits: simulators add durations at each event.
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(duration.subsec_nanos()))
}

/// Durations in files: whole nanoseconds, so that a value reads back exactly.
pub(crate) mod as_nanoseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(super::nanoseconds(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_nanos(u64::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences_stop_at_the_ends() {
        let second = Time::ZERO + Duration::from_secs(1);
        assert_eq!(second, Time(1_000_000_000));
        assert_eq!(second.since(Time(1)), Duration::from_nanos(999_999_999));
        assert_eq!(Time(1).since(second), Duration::ZERO);
        assert_eq!(second + Duration::MAX, Time::NEVER);
        let mut time = second;
        time += Duration::from_millis(500);
        assert_eq!(time.to_string(), "1.500000 s");
    }
}
