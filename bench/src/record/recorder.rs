//! What one series of one run did.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::distribution::{LONGEST_NS, curve, histogram, latency};
use super::timeline::Timeline;
use crate::report::model::SeriesResult;

/// How many different errors are told apart.
const MOST_ERROR_TEXTS: usize = 16;

/// What all others are counted as.
const OTHER_ERRORS: &str = "other errors";

/// Records one series of one run: latency, counts, errors, what happened when.
pub struct Recorder {
    name: String,
    times: Histogram<u64>,
    /// How many of these ended after the measuring.
    late: u64,
    timeline: Timeline,
    records: u64,
    bytes: u64,
    errors: BTreeMap<String, u64>,
}

impl Recorder {
    /// A recorder of the series of this name, in a run of about this length. Everything that
    /// [`record`](Recorder::record) needs is allocated now.
    #[must_use]
    pub fn new(name: &str, planned: Duration) -> Recorder {
        Recorder {
            name: name.to_owned(),
            times: histogram(),
            late: 0,
            timeline: Timeline::new(planned),
            records: 0,
            bytes: 0,
            errors: BTreeMap::new(),
        }
    }

    /// Counts one operation: answered so long after the measuring began, after so many ns, with so
    /// many records and bytes of records. Times beyond 10 minutes count as 10 minutes.
    pub fn record(&mut self, at: Duration, latency_ns: u64, records: u64, bytes: u64) {
        self.times.saturating_record(latency_ns.min(LONGEST_NS));
        self.timeline.record(at, latency_ns, bytes);
        self.records += records;
        self.bytes += bytes;
    }

    /// Times one operation that was due while it was measured and that ended, if at all, after it:
    /// its time belongs to the distribution, but it is no part of the throughput.
    pub fn record_late(&mut self, latency_ns: u64) {
        self.times.saturating_record(latency_ns.min(LONGEST_NS));
        self.late += 1;
    }

    /// Counts one operation that failed. Only the first few different texts are kept; the rest are
    /// counted together.
    pub fn error(&mut self, text: &str) {
        if let Some(count) = self.errors.get_mut(text) {
            *count += 1;
            return;
        }
        let text = if self.errors.len() < MOST_ERROR_TEXTS {
            text
        } else {
            OTHER_ERRORS
        };
        *self.errors.entry(text.to_owned()).or_default() += 1;
    }

    /// How many operations were answered well so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.times.len() - self.late
    }

    /// The times recorded so far, to be added up with those of others.
    #[must_use]
    pub fn times(&self) -> &Histogram<u64> {
        &self.times
    }

    /// What was recorded; `wanted_rate` is the rate of operations asked for, if any was.
    #[must_use]
    pub fn finish(self, wanted_rate: Option<f64>) -> SeriesResult {
        SeriesResult {
            operations: self.operations(),
            name: self.name,
            records: self.records,
            bytes: self.bytes,
            errors: self.errors,
            wanted_rate,
            latency: latency(&self.times),
            curve: curve(&self.times),
            timeline: self.timeline.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_adds_up() {
        let mut recorder = Recorder::new("produce", Duration::from_secs(1));
        for n in 0..1_000u32 {
            recorder.record(
                Duration::from_millis(1) * n,
                u64::from(n + 1) * 1_000,
                2,
                2_048,
            );
        }
        recorder.error("no room");
        recorder.error("no room");
        let series = recorder.finish(Some(1_000.0));
        assert_eq!(series.name, "produce");
        assert_eq!(
            (series.operations, series.records, series.bytes),
            (1_000, 2_000, 2_048_000)
        );
        assert_eq!(series.errors, BTreeMap::from([("no room".to_owned(), 2)]));
        assert_eq!(series.wanted_rate, Some(1_000.0));
        assert_eq!(series.latency.count, 1_000);
        assert!(
            series.latency.p50.abs_diff(500_000) <= 500,
            "{}",
            series.latency.p50
        );
        assert_eq!(series.timeline.len(), 100);
        assert_eq!(series.curve.last().unwrap(), &(1.0, series.latency.max));
        // What is timed in intervals is what is timed in the whole, but for a digit.
        let longest = series
            .timeline
            .iter()
            .map(|interval| interval.max)
            .max()
            .unwrap();
        assert!(longest.abs_diff(series.latency.max) <= series.latency.max / 100);
    }

    #[test]
    fn different_errors_are_bounded() {
        let mut recorder = Recorder::new("produce", Duration::from_secs(1));
        for n in 0..100 {
            recorder.error(&format!("error {n}"));
        }
        recorder.error("error 0");
        let errors = recorder.finish(None).errors;
        assert_eq!(errors.len(), MOST_ERROR_TEXTS + 1);
        assert_eq!(errors["error 0"], 2);
        assert_eq!(errors[OTHER_ERRORS], 100 - MOST_ERROR_TEXTS as u64);
    }

    #[test]
    fn nothing_recorded_is_an_empty_series() {
        let series = Recorder::new("produce", Duration::from_secs(1)).finish(None);
        assert_eq!(
            series,
            SeriesResult {
                name: "produce".to_owned(),
                ..SeriesResult::default()
            }
        );
    }
}
