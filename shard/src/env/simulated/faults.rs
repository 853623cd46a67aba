//! What may go wrong with a simulated disk, and how fast it is.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::content::Fate;
use super::draw::{Decision, Draw, combine};

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
    /// Probability that a sync, or a `data_sync` write, fails with `EIO`, having made nothing durable.
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

/// How a set of blocks fares that were written and not made durable. Sometimes all share a fate,
/// sometimes each has its own, down to the sector.
pub(super) fn fate_of_blocks(seed: u64, entity: u64, counter: u64) -> impl Fn(u64) -> Fate {
    let style = Draw::new(seed, Decision::Fate, entity, counter).below(5);
    move |block| {
        let draw = |part| Draw::new(seed, Decision::Sector, combine(entity, block), part);
        match style {
            0 => Fate::Lost,
            1 => Fate::Kept,
            // Torn between blocks.
            2 => match draw(0).chance(0.5) {
                true => Fate::Kept,
                false => Fate::Lost,
            },
            // Torn within blocks, too.
            _ => match draw(0).below(4) {
                0 => Fate::Lost,
                1 => Fate::Kept,
                _ => Fate::Torn(std::array::from_fn(|sector| draw(1 + sector as u64).0)),
            },
        }
    }
}
