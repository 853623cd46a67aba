//! What may go wrong with a simulated disk, and how fast it is.

use std::ops::RangeInclusive;
use std::time::Duration;

/// How a simulated disk behaves. The default never fails and is never full, but forgets what was
/// not synced when its node loses power, as every disk may.
#[derive(Clone, Debug)]
pub struct DiskFaults {
    /// Bytes that fit. A write or a reservation beyond fails with `ENOSPC`.
    pub capacity_bytes: u64,
    /// Probability that a write fails with `EIO`, leaving any mix of old and new sectors.
    pub write_error: f64,
    /// Probability that a read fails with `EIO`.
    pub read_error: f64,
    /// Probability that a sync fails with `EIO`, having made nothing durable.
    pub sync_error: f64,
    /// Time a write takes, before its bytes are counted. Concurrent operations draw their own, so
    /// they complete in any order.
    pub write_latency: RangeInclusive<Duration>,
    /// Time a read takes, before its bytes are counted.
    pub read_latency: RangeInclusive<Duration>,
    /// Time a sync takes (each `data_sync` write takes it too).
    pub sync_latency: RangeInclusive<Duration>,
    /// Time an operation on names or lengths takes.
    pub name_latency: RangeInclusive<Duration>,
    /// Bytes moved in a second.
    pub bytes_per_second: u64,
    /// Probability that an operation is a slow one.
    pub slow: f64,
    /// How many times longer a slow one takes.
    pub slow_factor: u32,
}

const fn micros(from: u64, to: u64) -> RangeInclusive<Duration> {
    Duration::from_micros(from)..=Duration::from_micros(to)
}

impl Default for DiskFaults {
    fn default() -> Self {
        DiskFaults {
            capacity_bytes: 1 << 40,
            write_error: 0.0,
            read_error: 0.0,
            sync_error: 0.0,
            write_latency: micros(20, 150),
            read_latency: micros(20, 150),
            sync_latency: micros(40, 300),
            name_latency: micros(10, 400),
            bytes_per_second: 1 << 30,
            slow: 0.0,
            slow_factor: 100,
        }
    }
}

impl DiskFaults {
    /// The default, now and then a hundred times slower.
    #[must_use]
    pub fn slow_now_and_then() -> DiskFaults {
        DiskFaults {
            slow: 0.02,
            ..DiskFaults::default()
        }
    }
}
