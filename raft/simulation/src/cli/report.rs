//! What came of the runs, for people and for programs.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Output;
use crate::plan::Mix;
use crate::regression::Regression;
use crate::runner::{Summary, Violation};

#[derive(Serialize)]
pub(super) struct Report {
    pub simulator: &'static str,
    pub version: u32,
    pub rows: Vec<Row>,
}

/// What came of one mix.
#[derive(Serialize)]
pub(super) struct Row {
    mix: Mix,
    runs: u64,
    virtual_seconds: f64,
    events: u64,
    seconds: f64,
    busy_seconds: f64,
    events_per_second_and_core: f64,
    /// In hexadecimal: many readers of JSON keep 53 bits of a number.
    fingerprint: String,
    slowest_seed: Option<u64>,
    slowest_seconds: Option<f64>,
    pub violations: Vec<Failure>,
}

#[derive(Serialize)]
pub(super) struct Failure {
    seed: u64,
    at_seconds: f64,
    rule: String,
    detail: String,
    again: String,
    saved: Option<Saved>,
}

#[derive(Serialize)]
pub(super) struct Saved {
    pub path: PathBuf,
    pub faults: usize,
}

impl Row {
    pub fn new(mix: Mix, length: Duration, summary: &Summary, violations: Vec<Failure>) -> Self {
        Self {
            mix,
            runs: summary.runs,
            virtual_seconds: summary.runs as f64 * length.as_secs_f64(),
            events: summary.events,
            seconds: summary.seconds,
            busy_seconds: summary.busy_seconds,
            events_per_second_and_core: summary.events_per_second_and_core(),
            fingerprint: format!("{:016x}", summary.fingerprint),
            slowest_seed: summary.slowest.map(|(seed, _)| seed),
            slowest_seconds: summary.slowest.map(|(_, seconds)| seconds),
            violations,
        }
    }

    fn cells(&self) -> [String; 7] {
        [
            self.mix.to_string(),
            grouped(self.runs),
            span(self.virtual_seconds),
            grouped(self.events),
            grouped(self.events_per_second_and_core as u64),
            span(self.seconds),
            grouped(self.violations.len() as u64),
        ]
    }
}

impl Failure {
    pub fn new(seed: u64, violation: &Violation, again: String, saved: Option<Saved>) -> Self {
        Self {
            seed,
            at_seconds: violation.at.as_secs_f64(),
            rule: violation.rule.clone(),
            detail: violation.detail.clone(),
            again,
            saved,
        }
    }
}

impl Report {
    pub fn text(&self, output: Output) -> String {
        match output {
            Output::Json => {
                let mut text =
                    serde_json::to_string_pretty(self).expect("names and numbers become JSON");
                text.push('\n');
                text
            }
            Output::Table => self.table() + &self.findings(),
        }
    }

    fn table(&self) -> String {
        let titles = [
            "mix",
            "runs",
            "virtual time",
            "events",
            "events/s/core",
            "took",
            "violations",
        ];
        let mut lines = vec![titles.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: [usize; 7] = std::array::from_fn(|column| {
            let width = |line: &[String; 7]| line[column].len();
            lines.iter().map(width).max().unwrap_or(0)
        });
        let mut text = String::new();
        for line in &lines {
            let mut cells = line.iter().zip(widths);
            // Names to the left, numbers to the right.
            if let Some((name, width)) = cells.next() {
                text += &format!("{name:<width$}");
            }
            for (cell, width) in cells {
                text += &format!("  {cell:>width$}");
            }
            text.push('\n');
        }
        text
    }

    fn findings(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            for failure in &row.violations {
                text += &format!(
                    "\nseed {} of {}, at {:.6} s: broken is \"{}\"\n  {}\n  again: {}\n",
                    failure.seed,
                    row.mix,
                    failure.at_seconds,
                    failure.rule,
                    failure.detail.replace('\n', "\n  "),
                    failure.again,
                );
                if let Some(saved) = &failure.saved {
                    text += &format!(
                        "  faults that it needs: {}, kept: scripts/simulate {} --regression {}\n",
                        saved.faults,
                        self.simulator,
                        saved.path.display(),
                    );
                }
            }
        }
        text
    }
}

/// What a regression file holds, before it runs.
pub(super) fn describe(regression: &Regression) -> String {
    let mut text = format!(
        "seed {}, {} nodes, {}, written by version {}\n{}\n",
        regression.seed,
        regression.nodes,
        span(regression.length.as_secs_f64()),
        regression.version,
        regression.note,
    );
    for timed in &regression.plan.faults {
        writeln!(text, "  {timed}").expect("a string takes all");
    }
    text
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds in the unit that is easiest to read.
fn span(seconds: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(86_400.0, "days"), (3_600.0, "h"), (60.0, "min")];
    UNITS
        .iter()
        .find(|(unit, _)| seconds >= 2.0 * unit)
        .map_or_else(
            || format!("{seconds:.1} s"),
            |(unit, name)| format!("{:.1} {name}", seconds / unit),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        let numbers = [0, 7, 999, 1_000, 123_456, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "7", "999", "1,000", "123,456", "1,234,567"]);
        let spans = [0.25, 119.0, 120.0, 7_200.0, 172_800.0].map(span);
        assert_eq!(spans, ["0.2 s", "119.0 s", "2.0 min", "2.0 h", "2.0 days"]);
    }
}
