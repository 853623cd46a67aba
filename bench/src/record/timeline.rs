//! What happened when: a run cut into short intervals of equal length.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::distribution::{LONGEST_NS, with_digits};
use crate::report::model::Interval;

/// No timeline has more intervals than this. What happens later counts into the last one.
const MOST_INTERVALS: usize = 600;

/// The lengths that an interval may have, in milliseconds, up to 10 s; beyond that, whole minutes.
const LENGTHS_MS: [u64; 10] = [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// Intervals, and the one that is being filled.
pub(super) struct Timeline {
    length: Duration,
    /// When the interval being filled ends.
    end: Duration,
    /// The latest time given.
    latest: Duration,
    /// Times of the interval being filled. Two digits: it is drawn, not read out.
    times: Histogram<u32>,
    bytes: u64,
    done: Vec<Interval>,
}

impl Timeline {
    /// A timeline for a run of about this length.
    pub(super) fn new(planned: Duration) -> Timeline {
        let length = interval_length(planned);
        Timeline {
            length,
            end: length,
            latest: Duration::ZERO,
            times: with_digits(2),
            bytes: 0,
            done: Vec::with_capacity(MOST_INTERVALS),
        }
    }

    /// Counts one operation. One that comes late, out of order, counts into the current interval.
    pub(super) fn record(&mut self, at: Duration, latency_ns: u64, bytes: u64) {
        if at >= self.end {
            self.advance(at);
        }
        self.latest = self.latest.max(at);
        self.times.saturating_record(latency_ns.min(LONGEST_NS));
        self.bytes += bytes;
    }

    /// Closes intervals until `at` lies in the current one; those in which nothing happened too, for
    /// a stall must show as one.
    #[cold]
    fn advance(&mut self, at: Duration) {
        while at >= self.end && self.done.len() + 1 < MOST_INTERVALS {
            self.close(self.length);
            self.end += self.length;
        }
    }

    /// Closes the current interval, of which so much has passed.
    fn close(&mut self, passed: Duration) {
        let begin = self.end - self.length;
        let seconds = passed.as_secs_f64();
        let mut interval = Interval {
            at_seconds: (begin + passed).as_secs_f64(),
            operation_rate: self.times.len() as f64 / seconds,
            byte_rate: self.bytes as f64 / seconds,
            ..Interval::default()
        };
        if !self.times.is_empty() {
            interval.p50 = self.times.value_at_quantile(0.5);
            interval.p99 = self.times.value_at_quantile(0.99);
            interval.max = self.times.max();
            self.times.reset();
        }
        self.bytes = 0;
        self.done.push(interval);
    }

    /// The intervals. The last ends with its last operation, but is taken for half an interval at
    /// the least, so that no rate is made of an operation or two.
    pub(super) fn finish(mut self) -> Vec<Interval> {
        if !self.times.is_empty() {
            let begin = self.end - self.length;
            let passed = self.latest.saturating_sub(begin).max(self.length / 2);
            self.close(passed);
        }
        self.done
    }
}

/// The shortest round length of which at most [`MOST_INTERVALS`] make up the whole.
fn interval_length(planned: Duration) -> Duration {
    let needed = planned / MOST_INTERVALS as u32;
    LENGTHS_MS
        .into_iter()
        .map(Duration::from_millis)
        .find(|length| *length >= needed)
        .unwrap_or_else(|| Duration::from_secs(needed.as_secs().div_ceil(60).max(1) * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn lengths_are_round_and_few_enough() {
        for (planned, length_ms) in [
            (0, 10),
            (1, 10),
            (6, 10),
            (30, 50),
            (60, 100),
            (3_600, 10_000),
            (7_200, 60_000),
        ] {
            let length = interval_length(Duration::from_secs(planned));
            assert_eq!(length, MS * length_ms, "{planned} s");
        }
    }

    #[test]
    fn each_interval_has_its_own_figures() {
        let mut timeline = Timeline::new(Duration::from_secs(6));
        for n in 0..10 {
            timeline.record(MS * n, 1_000, 100);
        }
        for n in 10..15 {
            timeline.record(MS * n, 2_000, 100);
        }
        let intervals = timeline.finish();
        assert_eq!(intervals.len(), 2);
        assert_eq!(intervals[0].at_seconds, 0.010);
        assert_eq!(intervals[0].operation_rate, 1_000.0);
        assert_eq!(intervals[0].byte_rate, 100_000.0);
        assert!(intervals[0].max.abs_diff(1_000) <= 10, "{:?}", intervals[0]);
        // It holds 5 operations and had gone half way, to 14 ms, when the run ended.
        assert_eq!(intervals[1].at_seconds, 0.015);
        assert_eq!(intervals[1].operation_rate, 1_000.0);
        assert!(intervals[1].p50.abs_diff(2_000) <= 20, "{:?}", intervals[1]);
    }

    #[test]
    fn a_stall_shows_as_empty_intervals_and_then_a_long_time() {
        let mut timeline = Timeline::new(Duration::from_secs(6));
        timeline.record(MS * 5, 1_000, 1);
        timeline.record(MS * 105, 100_000_000, 1);
        let intervals = timeline.finish();
        assert_eq!(intervals.len(), 11);
        assert!(
            intervals[1..10]
                .iter()
                .all(|interval| interval.operation_rate == 0.0 && interval.max == 0)
        );
        assert!(intervals[10].max >= 100_000_000);
    }

    #[test]
    fn a_run_longer_than_planned_fills_the_last_interval() {
        let mut timeline = Timeline::new(Duration::from_secs(6));
        for n in 0..20_000 {
            timeline.record(MS * n, 1_000, 1);
        }
        let capacity = timeline.done.capacity();
        let intervals = timeline.finish();
        assert_eq!(intervals.len(), MOST_INTERVALS);
        assert_eq!(capacity, MOST_INTERVALS, "grew while it recorded");
        assert_eq!(intervals.last().unwrap().at_seconds, 19.999);
        let last = intervals.last().unwrap().operation_rate;
        assert!((last - 1_000.0).abs() < 1.0, "{last}");
    }

    #[test]
    fn one_that_comes_out_of_order_is_counted() {
        let mut timeline = Timeline::new(Duration::from_secs(6));
        timeline.record(MS * 15, 1_000, 1);
        timeline.record(MS * 5, 1_000, 1);
        let intervals = timeline.finish();
        let counted: f64 = intervals
            .iter()
            .map(|interval| interval.operation_rate * 0.005)
            .sum();
        assert_eq!(counted, 2.0);
    }
}
