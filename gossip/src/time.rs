//! Time as the driver tells it.

use std::time::Duration;

/// A point in time: nanoseconds since a start of the driver's choosing.
///
/// It must come from a clock that never goes back; it need not agree with any other node's, and
/// nothing that is sent carries one.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// The start.
    pub const ZERO: Time = Time(0);

    /// The time passed since `earlier`; nothing if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This point moved on by `span`.
    #[must_use]
    pub fn after(self, span: Duration) -> Time {
        Time(self.0.saturating_add(nanos(span)))
    }
}

/// A span in whole nanoseconds, at most what a `u64` holds (five hundred years).
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
