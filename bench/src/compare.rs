//! Two targets under the same load, taking turns, so that what the machine does meanwhile happens
//! to both. Each turn has a broker of its own if the target is a program.

use crate::progress::Progress;
use crate::record::compare_pairs;
use crate::report::model::{ComparedFigure, Comparison, Repetition, SeriesResult};
use crate::run::{RunError, RunSettings, Session, Target, bottleneck, run_once};
use crate::workload::Workload;

/// A figure of a series: its name, its unit, and how it is read.
type Figure = (&'static str, &'static str, fn(&SeriesResult, f64) -> f64);

const FIGURES: [Figure; 4] = [
    ("p50", "ns", |series, _| series.latency.p50 as f64),
    ("p99", "ns", |series, _| series.latency.p99 as f64),
    ("p99.9", "ns", |series, _| series.latency.p999 as f64),
    ("rate", "operations/s", |series, seconds| {
        series.operations as f64 / seconds
    }),
];

/// One of the two.
pub struct Side<'a> {
    /// What it is called in the report.
    pub name: &'a str,
    /// What is measured.
    pub target: &'a Target,
    /// What is spoken to it, and how it is measured.
    pub settings: &'a RunSettings,
    /// What is put on it: what the other side has, but for what is compared.
    pub workload: &'a Workload,
}

/// Runs `pairs` pairs; who goes first alternates.
pub fn compare(
    sides: &[Side<'_>; 2],
    pairs: usize,
    progress: &mut dyn Progress,
) -> Result<(Comparison, Vec<String>), RunError> {
    let mut runs: Vec<[Repetition; 2]> = Vec::new();
    let mut notes = Vec::new();
    for pair in 0..pairs {
        let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut both = [Repetition::default(), Repetition::default()];
        for side in order {
            let Side {
                name,
                target,
                settings,
                workload,
            } = sides[side];
            progress.begin(&format!("{} {}/{pairs}: {name}", workload.name, pair + 1));
            let mut session = Session::open(target)?;
            both[side] = run_once(&mut session, workload, settings, progress)?.repetition;
            if let Some(why) = bottleneck(&both[side]) {
                return Err(RunError::Bottleneck(why));
            }
        }
        if progress.stopped() {
            notes.push(format!("stopped after {} of {pairs} pairs", runs.len()));
            break;
        }
        runs.push(both);
    }
    progress.finished();
    let mut comparison = Comparison {
        workload: sides[0].workload.name.clone(),
        a: sides[0].name.to_owned(),
        b: sides[1].name.to_owned(),
        figures: Vec::new(),
    };
    for series in series_names(&runs) {
        for (name, unit, read) in FIGURES {
            let value = |run: &Repetition| {
                let series = run.series.iter().find(|s| s.name == series);
                series.map_or(f64::NAN, |series| read(series, run.seconds))
            };
            comparison
                .figures
                .extend(compared(&format!("{series} {name}"), unit, &runs, value));
        }
    }
    let cpu_each = |run: &Repetition| run.broker_cpu_each().unwrap_or(f64::NAN);
    let cpu = compared("broker CPU for each record", "ns", &runs, cpu_each);
    comparison.figures.extend(cpu);
    Ok((comparison, notes))
}

fn compared(
    figure: &str,
    unit: &str,
    runs: &[[Repetition; 2]],
    value: impl Fn(&Repetition) -> f64,
) -> Option<ComparedFigure> {
    let values: Vec<(f64, f64)> = runs.iter().map(|[a, b]| (value(a), value(b))).collect();
    compare_pairs(figure, unit, &values)
}

fn series_names(runs: &[[Repetition; 2]]) -> Vec<String> {
    let first = runs.first().map(|[a, _]| &a.series[..]);
    let series = first.unwrap_or_default().iter();
    series.map(|series| series.name.clone()).collect()
}
