//! The figures that Millrace sets itself: a table of workloads, each beside the limit of the
//! machine that bounds it, measured in the same run. What each row asks for is in [`rows`]; this
//! module has what they share.

mod rows;

use std::collections::BTreeMap;

use crate::broker::BrokerSettings;
use crate::load::Pace;
use crate::progress::Progress;
use crate::protocol::ProtocolName;
use crate::record::Summary;
use crate::report::medians;
use crate::report::model::{
    Bound, Limits, Repetition, Report, SeriesResult, Target as Aim, ThroughKafka, WorkloadResult,
};
use crate::run::{
    Outcome, RunError, RunSettings, Session, Target, bottleneck, make_topics, remove_topics,
    run_on, run_once,
};
use crate::workload::Workload;

pub use rows::ROWS;

/// What is to be measured, and how.
pub struct Plan<'a> {
    /// Names of rows; all if there are none.
    pub only: &'a [String],
    /// The broker that each row starts.
    pub broker: &'a BrokerSettings,
    /// How often each workload is run.
    pub repetitions: usize,
    /// What is spoken, and how it is measured.
    pub settings: &'a RunSettings,
    /// Whether each row is measured through Kafka's protocol as well, right after it.
    pub beside_kafka: bool,
}

/// Measures rows into a report that has its limits.
pub fn measure(
    plan: &Plan<'_>,
    report: &mut Report,
    progress: &mut dyn Progress,
) -> Result<(), RunError> {
    let mut figures = Figures {
        broker: plan.broker,
        repetitions: plan.repetitions,
        settings: plan.settings.clone(),
        limits: report.limits.clone().unwrap_or_default(),
        results: Vec::new(),
        notes: Vec::new(),
        progress,
        half_rate: None,
    };
    for row in ROWS {
        let wanted = plan.only.is_empty() || plan.only.iter().any(|name| name == row.name);
        if wanted && !figures.progress.stopped() {
            let before = figures.results.len();
            (row.measure)(&mut figures)?;
            if plan.beside_kafka && row.has_clients && !figures.progress.stopped() {
                figures.measure_through_kafka(row, before)?;
            }
        }
    }
    figures.progress.finished();
    if figures.progress.stopped() {
        let note = "stopped before all rows were measured".to_owned();
        figures.notes.push(note);
    }
    report.workloads.append(&mut figures.results);
    report.notes.append(&mut figures.notes);
    Ok(())
}

/// A table being measured.
pub struct Figures<'a> {
    broker: &'a BrokerSettings,
    repetitions: usize,
    settings: RunSettings,
    limits: Limits,
    results: Vec<WorkloadResult>,
    notes: Vec<String>,
    progress: &'a mut dyn Progress,
    /// Half of the small records a second that were reached.
    half_rate: Option<f64>,
}

/// A row of the table.
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Whether anything of it goes through a protocol.
    has_clients: bool,
    measure: fn(&mut Figures<'_>) -> Result<(), RunError>,
}

impl Figures<'_> {
    /// Measures a row again through Kafka's protocol, and puts what came of it beside the row's results,
    /// which begin at `first`.
    fn measure_through_kafka(&mut self, row: &Row, first: usize) -> Result<(), RunError> {
        let (protocol, half_rate) = (self.settings.protocol, self.half_rate);
        let mut native = self.results.split_off(first);
        self.settings.protocol = ProtocolName::Kafka;
        let measured = (row.measure)(self);
        self.settings.protocol = protocol;
        self.half_rate = half_rate.or(self.half_rate);
        measured?;
        let mut kafka = self.results.split_off(first);
        for (native, kafka) in native.iter_mut().zip(&mut kafka) {
            put_beside(&mut native.bounds, std::mem::take(&mut kafka.bounds));
            kafka.name.push_str(THROUGH_KAFKA);
        }
        self.results.extend(native);
        self.results.extend(kafka);
        Ok(())
    }

    /// What a workload is called in a note.
    fn called(&self, workload: &Workload) -> String {
        match self.settings.protocol {
            ProtocolName::Native => workload.name.clone(),
            ProtocolName::Kafka => format!("{}{THROUGH_KAFKA}", workload.name),
        }
    }

    /// A broker for one row, with more configuration than the others have.
    fn session(&self, set: &[(&str, &str)]) -> Result<Session, RunError> {
        let mut broker = self.broker.clone();
        let more = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        broker.set.extend(more);
        Session::open(&Target::Program(broker))
    }

    /// Runs a workload as often as it is to be run.
    fn run(
        &mut self,
        session: &mut Session,
        workload: &Workload,
    ) -> Result<WorkloadResult, RunError> {
        let mut result = begin(workload);
        for number in 1..=self.repetitions {
            self.repeat(session, workload, number, &mut result)?;
            if self.progress.stopped() {
                break;
            }
        }
        Ok(result)
    }

    /// Runs two workloads in turns, so that what the machine does meanwhile happens to both.
    fn run_in_turns(
        &mut self,
        session: &mut Session,
        workloads: [&Workload; 2],
    ) -> Result<[WorkloadResult; 2], RunError> {
        let mut results = workloads.map(begin);
        for number in 1..=self.repetitions {
            for (workload, result) in workloads.iter().zip(&mut results) {
                self.repeat(session, workload, number, result)?;
            }
            if self.progress.stopped() {
                break;
            }
        }
        Ok(results)
    }

    /// The same on topics that stay, so that what one run leaves to be done, such as writing to
    /// segments what is in memory, is part of the next.
    fn run_in_turns_on_the_same<const N: usize>(
        &mut self,
        session: &mut Session,
        workloads: [&Workload; N],
    ) -> Result<[WorkloadResult; N], RunError> {
        let mut results = workloads.map(begin);
        let mut topics = Vec::new();
        for workload in workloads {
            topics.push(make_topics(session, workload, &self.settings)?);
        }
        for number in 1..=self.repetitions {
            for ((workload, result), topics) in workloads.iter().zip(&mut results).zip(&topics) {
                self.begin_repetition(workload, number);
                let outcome = run_on(session, workload, topics, &self.settings, self.progress)?;
                self.note(workload, outcome, result);
            }
            if self.progress.stopped() {
                break;
            }
        }
        for topics in &topics {
            remove_topics(session, topics, &self.settings);
        }
        Ok(results)
    }

    fn repeat(
        &mut self,
        session: &mut Session,
        workload: &Workload,
        number: usize,
        result: &mut WorkloadResult,
    ) -> Result<(), RunError> {
        self.begin_repetition(workload, number);
        let outcome = run_once(session, workload, &self.settings, self.progress)?;
        self.note(workload, outcome, result);
        Ok(())
    }

    fn begin_repetition(&mut self, workload: &Workload, number: usize) {
        let what = format!("{} {number}/{}", self.called(workload), self.repetitions);
        self.progress.begin(&what);
    }

    fn note(&mut self, workload: &Workload, outcome: Outcome, result: &mut WorkloadResult) {
        if let Some(why) = bottleneck(&outcome.repetition) {
            self.notes.push(format!("{}: {why}", self.called(workload)));
        }
        if outcome.overloaded {
            let note = format!(
                "{}: the broker could not keep up with the rate",
                self.called(workload)
            );
            self.notes.push(note);
        }
        result.repetitions.push(outcome.repetition);
    }

    fn finish(&mut self, mut result: WorkloadResult, bounds: Vec<Option<Bound>>) {
        result.bounds = bounds.into_iter().flatten().collect();
        self.results.push(result);
    }
}

/// Behind the name of what was measured that way.
const THROUGH_KAFKA: &str = " through Kafka";

/// Puts figures beside those of the same name and limit.
fn put_beside(native: &mut [Bound], kafka: Vec<Bound>) {
    for other in kafka {
        let same =
            |bound: &&mut Bound| (&bound.figure, &bound.limit) == (&other.figure, &other.limit);
        if let Some(bound) = native.iter_mut().find(same) {
            bound.through_kafka = Some(ThroughKafka {
                value: other.value,
                spread: other.spread,
                over_native: other.value / bound.value,
            });
        }
    }
}

fn begin(workload: &Workload) -> WorkloadResult {
    WorkloadResult {
        name: workload.name.clone(),
        description: workload.description.clone(),
        settings: workload.settings(),
        ..WorkloadResult::default()
    }
}

/// A figure of one repetition's series.
type Read = fn(&SeriesResult, f64) -> f64;

const P50: Read = |series, _| series.latency.p50 as f64;
const P99: Read = |series, _| series.latency.p99 as f64;
const P999: Read = |series, _| series.latency.p999 as f64;
const RECORD_RATE: Read = |series, seconds| series.records as f64 / seconds;
const BYTE_RATE: Read = |series, seconds| series.bytes as f64 / seconds;

/// A series' figure over the repetitions.
fn summary(result: &WorkloadResult, series: &str, read: Read) -> Option<Summary> {
    let value = |run: &Repetition| {
        let found = run.series.iter().find(|found| found.name == series)?;
        Some(read(found, run.seconds))
    };
    let values: Vec<f64> = result.repetitions.iter().filter_map(value).collect();
    Summary::of(&values)
}

/// CPU time of the broker for each record over the repetitions, ns.
fn cpu_each(result: &WorkloadResult) -> Option<Summary> {
    let repetitions = result.repetitions.iter();
    let values: Vec<f64> = repetitions
        .filter_map(Repetition::broker_cpu_each)
        .collect();
    Summary::of(&values)
}

/// A figure beside its limit; none if either was not measured.
fn bound(
    figure: &str,
    unit: &str,
    value: Option<Summary>,
    limit: &str,
    limit_value: f64,
    aim: Option<Aim>,
) -> Option<Bound> {
    let value = value.filter(|_| limit_value > 0.0)?;
    Some(Bound {
        figure: figure.to_owned(),
        value: value.median,
        spread: value.spread(),
        unit: unit.to_owned(),
        limit: limit.to_owned(),
        limit_value,
        ratio: value.median / limit_value,
        target: aim,
        through_kafka: None,
    })
}

/// The same workload with the clock instead of a window.
fn at_rate(mut workload: Workload, connections: usize, rate: f64) -> Workload {
    if let Some(producers) = &mut workload.producers {
        producers.connections = connections;
        producers.pace = Pace::Open {
            rate,
            arrivals: crate::load::Arrivals::Constant,
        };
    }
    workload
}

fn configs(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    let entries = entries.iter();
    entries
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The median of a series' figure, for what is built on it.
fn median_of(result: &WorkloadResult, series: &str) -> Option<f64> {
    let all = medians(result);
    let found = all.iter().find(|found| found.name == series)?;
    Some(found.operation_rate.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, limit: &str, value: f64) -> Bound {
        Bound {
            figure: name.to_owned(),
            limit: limit.to_owned(),
            value,
            ..Bound::default()
        }
    }

    #[test]
    fn figures_stand_beside_their_own() {
        let mut native = [
            figure("p99", "a write", 100.0),
            figure("p99", "pauses", 100.0),
            figure("rate", "echo", 5.0),
        ];
        let kafka = vec![
            figure("p99", "pauses", 150.0),
            figure("rate", "echo", 4.0),
            figure("other", "echo", 1.0),
        ];
        put_beside(&mut native, kafka);
        let beside = native.map(|bound| bound.through_kafka.map(|kafka| kafka.over_native));
        assert_eq!(beside, [None, Some(1.5), Some(0.8)]);
    }
}
