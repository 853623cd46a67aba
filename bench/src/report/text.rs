//! A report as text, for a terminal or a file.

use super::model::{Comparison, Report, Sweep, WorkloadResult};
use super::summary::medians;
use super::table::{LINE, wrap};
use super::tables;

/// The report as text of lines that fit 110 columns.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut page = Page::default();
    page.heading("Environment");
    for (name, text) in tables::environment(&report.environment) {
        page.named(name, &text);
    }
    if let Some(limits) = &report.limits {
        page.heading("Limits of this machine");
        page.text.push_str(&tables::limits(limits).to_text());
    }
    for workload in &report.workloads {
        page.workload(workload);
    }
    for sweep in &report.sweeps {
        page.sweep(sweep);
    }
    for comparison in &report.comparisons {
        page.comparison(comparison);
    }
    if !report.notes.is_empty() {
        page.heading("Notes");
        for note in &report.notes {
            page.named("-", note);
        }
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn heading(&mut self, heading: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let lines = wrap(heading, LINE);
        let longest = lines
            .iter()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0);
        self.lines(lines);
        self.lines([("-").repeat(longest)]);
    }

    fn lines(&mut self, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            self.text.push_str(&line);
            self.text.push('\n');
        }
    }

    fn paragraph(&mut self, text: &str) {
        if !text.is_empty() {
            self.lines(wrap(text, LINE));
        }
    }

    /// A name and a text, whose further lines stand below its first.
    fn named(&mut self, name: &str, text: &str) {
        let indent = if name.len() < 2 { 2 } else { 10 };
        for (number, line) in wrap(text, LINE - indent).into_iter().enumerate() {
            let name = if number == 0 { name } else { "" };
            self.lines([format!("{name:<indent$}{line}").trim_end().to_owned()]);
        }
    }

    fn workload(&mut self, workload: &WorkloadResult) {
        self.heading(&workload.name);
        self.paragraph(&workload.description);
        self.paragraph(&tables::settings(&workload.settings));
        let series = medians(workload);
        if !series.is_empty() {
            self.text.push('\n');
            self.text.push_str(&tables::workload(&series).to_text());
        }
        self.text.push('\n');
        for line in tables::workload_lines(workload, &series) {
            self.paragraph(&line);
        }
        if !workload.stages.is_empty() {
            self.text.push('\n');
            self.text
                .push_str(&tables::stages(&workload.stages).to_text());
        }
        if !workload.changes.is_empty() {
            self.text.push('\n');
            self.text
                .push_str(&tables::changes(&workload.changes).to_text());
        }
        if !workload.bounds.is_empty() {
            self.text.push('\n');
            self.text
                .push_str(&tables::bounds(&workload.bounds).to_text());
        }
    }

    fn sweep(&mut self, sweep: &Sweep) {
        self.heading(&format!("Sweep of {}", sweep.workload));
        self.text.push_str(&tables::sweep(sweep).to_text());
        self.text.push('\n');
        self.paragraph(&tables::sweep_line(sweep));
    }

    fn comparison(&mut self, comparison: &Comparison) {
        self.heading(&format!("Comparison under {}", comparison.workload));
        self.paragraph(&format!("A: {}", comparison.a));
        self.paragraph(&format!("B: {}", comparison.b));
        self.text.push('\n');
        self.text
            .push_str(&tables::comparison(comparison).to_text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_line_fits_and_every_part_is_there() {
        let text = render(&sample::report());
        for line in text.lines() {
            assert!(line.chars().count() <= LINE, "{line}");
            assert_eq!(line, line.trim_end());
        }
        for part in sample::WORDS {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
    }

    #[test]
    fn figures_are_medians_with_their_spread() {
        let text = render(&sample::report());
        let line = |name: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .expect(name)
        };
        let produce: Vec<&str> = line("produce ").split_whitespace().collect();
        // Repetitions of 100, 110 and 120 µs.
        assert_eq!(produce[1..3], ["110", "µs"], "{produce:?}");
        assert!(line("  spread").contains("-9/+9 %"), "{}", line("  spread"));
        let bound = line("produce p50");
        assert!(
            bound.contains("1.26") && bound.contains("≤ 1.5") && bound.contains("yes"),
            "{bound}"
        );
        let missed = line("produce p99");
        assert!(missed.contains("NO"), "{missed}");
        let generator = line("generator:");
        assert!(
            generator.contains("busy 34 %") && generator.contains("p99 2.00 µs"),
            "{generator}"
        );
        let compared = text
            .lines()
            .rfind(|line| line.starts_with("produce p99"))
            .unwrap();
        assert!(
            compared.contains("0.900") && compared.contains("0.850 to 1.050"),
            "{compared}"
        );
    }

    #[test]
    fn a_change_of_members_is_told_with_medians_and_maxima() {
        let text = render(&sample::report());
        let cells = |event: &str| -> Vec<&str> {
            let line = text.lines().find(|line| line.starts_with(event));
            line.expect(event).split_whitespace().collect()
        };
        assert_eq!(
            cells("join "),
            "join 3 1.90 s 3.20 s 1000 1000 24.0 ms 310 ms"
                .split(' ')
                .collect::<Vec<_>>()
        );
        assert_eq!(cells("leave ")[6..], ["0", "0", "-", "-"]);
    }

    #[test]
    fn a_long_or_hostile_text_neither_widens_nor_colours_the_page() {
        let mut report = sample::report();
        report.notes = vec!["x".repeat(500), "\x1b[2Jgone".to_owned()];
        report.workloads[0].description = "word ".repeat(100);
        report.workloads[0].repetitions[0].series[0].name = "name ".repeat(30);
        report.workloads[0].bounds[0].limit = "limit ".repeat(50);
        let text = render(&report);
        assert!(
            text.lines().all(|line| line.chars().count() <= LINE),
            "{text}"
        );
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn an_empty_report_is_a_short_one() {
        let text = render(&Report::default());
        assert!(text.starts_with("Environment\n-----------\n"), "{text}");
        assert!(text.lines().count() < 8, "{text}");
    }
}
