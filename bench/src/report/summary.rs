//! A workload's series over its repetitions: medians and their spread.

use std::collections::BTreeMap;

use super::model::{Latency, Repetition, SeriesResult, WorkloadResult};
use crate::record::Summary;

/// One series over the repetitions that count. Times are ns, rates per second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesMedians {
    /// The series' name.
    pub name: String,
    /// How many repetitions have it.
    pub repetitions: usize,
    /// Operations a second asked for, if any were.
    pub wanted_rate: Option<f64>,
    /// Operations a second.
    pub operation_rate: Summary,
    /// Records a second.
    pub record_rate: Summary,
    /// Bytes of records a second.
    pub byte_rate: Summary,
    /// Times.
    pub latency: LatencyMedians,
    /// Requests that failed, in all these repetitions together.
    pub errors: BTreeMap<String, u64>,
}

/// Medians of latency figures. A percentile is there if every repetition has operations enough to
/// tell it: a thousand for the 99.9th.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LatencyMedians {
    /// The median.
    pub p50: Option<Summary>,
    /// 9 of 10.
    pub p90: Option<Summary>,
    /// 99 of 100.
    pub p99: Option<Summary>,
    /// 999 of 1,000.
    pub p999: Option<Summary>,
    /// 9,999 of 10,000.
    pub p9999: Option<Summary>,
    /// The longest.
    pub max: Option<Summary>,
}

impl LatencyMedians {
    fn of(repetitions: &[Latency]) -> LatencyMedians {
        let fewest = repetitions
            .iter()
            .map(|latency| latency.count)
            .min()
            .unwrap_or(0);
        let summary = |needed: u64, figure: fn(&Latency) -> u64| {
            let values: Vec<f64> = repetitions
                .iter()
                .map(|latency| figure(latency) as f64)
                .collect();
            Summary::of(&values).filter(|_| fewest >= needed)
        };
        LatencyMedians {
            p50: summary(1, |latency| latency.p50),
            p90: summary(10, |latency| latency.p90),
            p99: summary(100, |latency| latency.p99),
            p999: summary(1_000, |latency| latency.p999),
            p9999: summary(10_000, |latency| latency.p9999),
            max: summary(1, |latency| latency.max),
        }
    }

    /// All of them, in the order of the tables.
    #[must_use]
    pub fn all(&self) -> [Option<Summary>; 6] {
        [
            self.p50, self.p90, self.p99, self.p999, self.p9999, self.max,
        ]
    }
}

/// The repetitions that count: those that ran to their end, or all of them if none did.
#[must_use]
pub fn counted(workload: &WorkloadResult) -> Vec<&Repetition> {
    let complete: Vec<&Repetition> = workload
        .repetitions
        .iter()
        .filter(|repetition| repetition.complete)
        .collect();
    if complete.is_empty() {
        workload.repetitions.iter().collect()
    } else {
        complete
    }
}

/// Each series of a workload, in the order in which they first appear.
#[must_use]
pub fn medians(workload: &WorkloadResult) -> Vec<SeriesMedians> {
    let repetitions = counted(workload);
    let names = series_names(&repetitions);
    names
        .into_iter()
        .map(|name| series_medians(name, &repetitions))
        .collect()
}

/// The names of all series, each once, in the order in which they first appear.
pub(super) fn series_names<'a>(repetitions: &[&'a Repetition]) -> Vec<&'a str> {
    let mut names = Vec::new();
    for series in repetitions.iter().flat_map(|repetition| &repetition.series) {
        if !names.contains(&series.name.as_str()) {
            names.push(&series.name);
        }
    }
    names
}

fn series_medians(name: &str, repetitions: &[&Repetition]) -> SeriesMedians {
    let runs: Vec<(f64, &SeriesResult)> = repetitions
        .iter()
        .flat_map(|repetition| {
            repetition
                .series
                .iter()
                .map(|series| (repetition.seconds, series))
        })
        .filter(|(_, series)| series.name == name)
        .collect();
    let rate = |total: fn(&SeriesResult) -> u64| {
        let timed = runs.iter().filter(|(seconds, _)| *seconds > 0.0);
        let rates: Vec<f64> = timed
            .map(|(seconds, series)| total(series) as f64 / seconds)
            .collect();
        Summary::of(&rates).unwrap_or_default()
    };
    let mut errors = BTreeMap::new();
    for (text, count) in runs.iter().flat_map(|(_, series)| &series.errors) {
        *errors.entry(text.clone()).or_default() += count;
    }
    let latencies: Vec<Latency> = runs.iter().map(|(_, series)| series.latency).collect();
    SeriesMedians {
        name: name.to_owned(),
        repetitions: runs.len(),
        wanted_rate: runs.iter().find_map(|(_, series)| series.wanted_rate),
        operation_rate: rate(|series| series.operations),
        record_rate: rate(|series| series.records),
        byte_rate: rate(|series| series.bytes),
        latency: LatencyMedians::of(&latencies),
        errors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repetition with one series: so many operations of 2 records and 100 bytes in a second.
    fn repetition(operations: u64, p50: u64, complete: bool) -> Repetition {
        let series = SeriesResult {
            name: "produce".to_owned(),
            operations,
            records: operations * 2,
            bytes: operations * 100,
            errors: BTreeMap::from([("no room".to_owned(), 1)]),
            wanted_rate: Some(1_000.0),
            latency: Latency {
                count: operations,
                p50,
                p90: p50,
                p99: p50,
                max: p50,
                ..Latency::default()
            },
            ..SeriesResult::default()
        };
        Repetition {
            seconds: 2.0,
            series: vec![series],
            complete,
            ..Repetition::default()
        }
    }

    fn workload(repetitions: Vec<Repetition>) -> WorkloadResult {
        WorkloadResult {
            repetitions,
            ..WorkloadResult::default()
        }
    }

    #[test]
    fn medians_and_spread_over_repetitions() {
        let workload = workload(vec![
            repetition(500, 30, true),
            repetition(600, 10, true),
            repetition(550, 20, true),
        ]);
        let medians = medians(&workload);
        assert_eq!(medians.len(), 1);
        let series = &medians[0];
        assert_eq!((series.name.as_str(), series.repetitions), ("produce", 3));
        assert_eq!(
            series.operation_rate,
            Summary {
                median: 275.0,
                smallest: 250.0,
                largest: 300.0
            }
        );
        assert_eq!(series.record_rate.median, 550.0);
        assert_eq!(series.byte_rate.median, 27_500.0);
        assert_eq!(
            series.latency.p50,
            Some(Summary {
                median: 20.0,
                smallest: 10.0,
                largest: 30.0
            })
        );
        assert_eq!(series.errors["no room"], 3);
        // 500 operations say nothing about one of 1,000.
        assert!(series.latency.p99.is_some());
        assert_eq!(series.latency.p999, None);
        assert_eq!(series.latency.p9999, None);
    }

    #[test]
    fn a_repetition_cut_short_counts_only_where_there_is_no_other() {
        let cut = repetition(100, 99, false);
        let both = medians(&workload(vec![repetition(500, 10, true), cut.clone()]));
        assert_eq!(
            (both[0].repetitions, both[0].latency.p50.unwrap().median),
            (1, 10.0)
        );
        let alone = medians(&workload(vec![cut]));
        assert_eq!(
            (alone[0].repetitions, alone[0].latency.p50.unwrap().median),
            (1, 99.0)
        );
    }

    #[test]
    fn nothing_measured_has_no_medians() {
        assert!(medians(&workload(Vec::new())).is_empty());
        let idle = medians(&workload(vec![repetition(0, 0, true)]));
        assert_eq!(idle[0].latency.p50, None);
        assert_eq!(idle[0].record_rate.median, 0.0);
    }
}
