//! The result as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{Experiment, Measured, Protocol};

/// What clusters of one size showed.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// The size.
    pub members: usize,
    /// False positives of plain SWIM and of Lifeguard, over all runs.
    pub false_positives: [u64; 2],
    /// The median time from a death to the first member that knew, with plain SWIM and with
    /// Lifeguard, seconds.
    pub first_detection: [f64; 2],
    /// The same to the last member that knew.
    pub full_detection: [f64; 2],
    /// `multiplier * log10(members)` periods and 1.5 to 2 seconds, seconds.
    pub expected: [f64; 2],
    /// Datagrams of a member in a second, with Lifeguard: while nothing happens, and while others
    /// stall.
    pub messages: [f64; 2],
    /// Deaths that were measured for each protocol.
    pub deaths: [usize; 2],
}

impl Row {
    /// Lifeguard's false positives as a share of plain SWIM's.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        let [swim, lifeguard] = self.false_positives;
        (swim > 0).then(|| lifeguard as f64 / swim as f64)
    }
}

/// All sizes.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    /// What was run.
    pub experiment: Experiment,
    /// By size.
    pub rows: Vec<Row>,
    /// Events of all simulations.
    pub events: u64,
}

type Results = BTreeMap<(usize, Protocol), Vec<(u64, bool, Measured)>>;

impl Table {
    pub(super) fn new(experiment: &Experiment, mut results: Results) -> Table {
        for of_cell in results.values_mut() {
            of_cell.sort_by_key(|(repetition, deaths, _)| (*repetition, *deaths));
        }
        let empty = Vec::new();
        let mut rows: Vec<Row> = Vec::new();
        for &members in &experiment.members {
            let cell = |protocol| results.get(&(members, protocol)).unwrap_or(&empty);
            rows.push(row(
                members,
                [cell(Protocol::Swim), cell(Protocol::Lifeguard)],
            ));
        }
        let all = results.values().flatten();
        Table {
            experiment: experiment.clone(),
            rows,
            events: all.map(|(_, _, measured)| measured.events).sum(),
        }
    }

    /// The largest messages of a size by the smallest, quiet and with stalls.
    #[must_use]
    pub fn flatness(&self) -> [f64; 2] {
        [0, 1].map(|which| {
            let rates = self.rows.iter().map(|row| row.messages[which]);
            let least = rates.clone().fold(f64::INFINITY, f64::min);
            rates.fold(0.0, f64::max) / least
        })
    }
}

fn row(members: usize, cells: [&Vec<(u64, bool, Measured)>; 2]) -> Row {
    let stalls = |cell: &Vec<(u64, bool, Measured)>| -> Vec<Measured> {
        let of_part = cell.iter().filter(|(_, deaths, _)| !deaths);
        of_part.map(|(_, _, measured)| measured.clone()).collect()
    };
    let mean = |rates: Vec<f64>| rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    let lifeguard = stalls(cells[1]);
    let detections = |of: fn(&Measured) -> &Vec<Duration>| {
        cells.map(|cell| {
            let all = cell.iter().flat_map(|(_, _, measured)| of(measured));
            median(all.map(Duration::as_secs_f64).collect())
        })
    };
    let periods = f64::from(Protocol::Lifeguard.config().suspicion_multiplier)
        * (members as f64).log10().max(1.0)
        * Protocol::Lifeguard.config().ping_interval_ms as f64
        / 1_000.0;
    Row {
        members,
        false_positives: cells.map(|cell| {
            stalls(cell)
                .iter()
                .map(|measured| measured.false_positives)
                .sum()
        }),
        first_detection: detections(|measured| &measured.first_detections),
        full_detection: detections(|measured| &measured.full_detections),
        expected: [periods + 1.5, periods + 2.0],
        messages: [
            mean(lifeguard.iter().map(|m| m.quiet_messages).collect()),
            mean(lifeguard.iter().map(|m| m.messages).collect()),
        ],
        deaths: cells.map(|cell| {
            cell.iter()
                .map(|(_, _, measured)| measured.first_detections.len())
                .sum()
        }),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Experiment {
            stalling,
            repetitions,
            observed,
            seed,
            ..
        } = &self.experiment;
        writeln!(
            f,
            "Up to {repetitions} runs of each kind from seed {seed}; {stalling} members stall for {observed:?}."
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "| members | false positives, SWIM | Lifeguard | share | first detection, SWIM | Lifeguard | expected | last, Lifeguard | messages, quiet | with stalls |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let share = row
                .share()
                .map_or("–".to_owned(), |share| format!("{:.1} %", share * 100.0));
            writeln!(
                f,
                "| {} | {} | {} | {} | {:.1} s | {:.1} s | {:.1}–{:.1} s | {:.1} s | {:.2} | {:.2} |",
                row.members,
                row.false_positives[0],
                row.false_positives[1],
                share,
                row.first_detection[0],
                row.first_detection[1],
                row.expected[0],
                row.expected[1],
                row.full_detection[1],
                row.messages[0],
                row.messages[1],
            )?;
        }
        let [quiet, stalls] = self.flatness();
        writeln!(f)?;
        writeln!(
            f,
            "Messages of a member in a second, the most by the least: {quiet:.2} quiet, {stalls:.2} with stalls."
        )
    }
}
