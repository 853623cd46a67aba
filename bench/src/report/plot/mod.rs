//! Plots for the HTML page: each a function from a report's data to SVG and its legend.

mod axis;
mod colours;
mod draw;

use super::model::{Comparison, Interval, Repetition, SeriesResult, Sweep, SweepStep};
use super::summary::series_names;
use super::units;
use axis::Axis;
pub(super) use colours::{Colour, dark_rules};
use colours::{GREY, series as colour_of};
use draw::{Shape, draw};

/// The height of most plots.
const HEIGHT: u32 = 380;

/// A figure's name and where it is found, ns.
type Figure<T> = (&'static str, fn(&T) -> u64);

/// A plot, and what its colours mean.
pub(super) struct Plot {
    /// An `svg` element, texts escaped.
    pub(super) svg: String,
    /// Colours and what they stand for, not escaped.
    pub(super) legend: Vec<(Colour, String)>,
}

/// Latency by percentile: every series in its colour, a line for each repetition, the longest as a
/// ring at the right end. None if nothing was timed.
pub(super) fn percentiles(repetitions: &[&Repetition]) -> Option<Plot> {
    let names = series_names(repetitions);
    let all = || repetitions.iter().flat_map(|repetition| &repetition.series);
    let times = || all().flat_map(|series| series.curve.iter().map(|(_, ns)| *ns as f64));
    times().find(|ns| *ns > 0.0)?;
    let most = all()
        .flat_map(|series| &series.curve)
        .filter_map(|(quantile, _)| nines(*quantile));
    let x = Axis::nines("percentile", most.fold(1.0, f64::max));
    let y = Axis::times("latency (log)", times());
    let mut shapes = Vec::new();
    for series in all() {
        let number = names
            .iter()
            .position(|name| *name == series.name)
            .unwrap_or(0);
        let colour = colour_of(number);
        let points = series
            .curve
            .iter()
            .filter_map(|(quantile, ns)| Some((nines(*quantile)?, position(*ns)?)));
        shapes.push(Shape::Line(colour, 2, points.collect()));
        if let (Some(longest), Some((end, _))) = (position(series.latency.max), x.marks.last()) {
            shapes.push(Shape::Ring(colour, 4, (*end, longest)));
        }
    }
    let legend = names.iter().enumerate();
    Some(Plot {
        svg: draw(HEIGHT, &x, &y, &shapes),
        legend: legend
            .map(|(number, name)| (colour_of(number), (*name).to_owned()))
            .collect(),
    })
}

/// Latency over time of one series: median, 99th percentile and longest of each interval, one
/// repetition after the other. A gap is an interval in which nothing was answered.
pub(super) fn over_time(repetitions: &[&Repetition], name: &str) -> Option<Plot> {
    const FIGURES: [Figure<Interval>; 3] = [
        ("longest", |interval| interval.max),
        ("99th percentile", |interval| interval.p99),
        ("median", |interval| interval.p50),
    ];
    let colours = [GREY, colour_of(1), colour_of(0)];
    let mut begin = 0.0;
    let mut shapes = Vec::new();
    let mut lines: [Vec<Vec<(f64, f64)>>; 3] = Default::default();
    let mut times = Vec::new();
    for (number, repetition) in repetitions.iter().enumerate() {
        if number > 0 {
            shapes.push(Shape::Upright(GREY, begin));
        }
        let of_this = |series: &&SeriesResult| series.name == name;
        let timeline = repetition
            .series
            .iter()
            .find(of_this)
            .map_or(&[][..], |series| &series.timeline);
        for (lines, (_, figure)) in lines.iter_mut().zip(FIGURES) {
            lines.extend(unbroken(timeline, begin, figure));
        }
        times.extend(
            timeline
                .iter()
                .flat_map(|interval| [interval.p50 as f64, interval.max as f64]),
        );
        let end = timeline.last().map_or(0.0, |interval| interval.at_seconds);
        begin += end.max(repetition.seconds);
    }
    times.iter().find(|ns| **ns > 0.0)?;
    for (lines, colour) in lines.into_iter().zip(colours) {
        shapes.extend(lines.into_iter().map(|line| match line[..] {
            [only] => Shape::Dot(colour, 1, only),
            _ => Shape::Line(colour, if colour == GREY { 1 } else { 2 }, line),
        }));
    }
    let x = Axis::from_zero(
        "seconds, one repetition after the other",
        [begin],
        units::round,
    );
    let y = Axis::times("latency (log)", times);
    let legend = colours.into_iter().zip(FIGURES).rev();
    Some(Plot {
        svg: draw(HEIGHT, &x, &y, &shapes),
        legend: legend
            .map(|(colour, (figure, _))| (colour, figure.to_owned()))
            .collect(),
    })
}

/// A timeline's lines of one figure, broken where it has none.
fn unbroken(
    timeline: &[Interval],
    begin: f64,
    figure: fn(&Interval) -> u64,
) -> Vec<Vec<(f64, f64)>> {
    timeline
        .split(|interval| interval.max == 0)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let points = part.iter().filter_map(|interval| {
                Some((begin + interval.at_seconds, position(figure(interval))?))
            });
            points.collect()
        })
        .filter(|line: &Vec<_>| !line.is_empty())
        .collect()
}

/// Latency against throughput: a dot for each step that kept the bound, a ring for each that broke
/// it, and an upright where the best rate is.
pub(super) fn sweep(sweep: &Sweep) -> Option<Plot> {
    const FIGURES: [Figure<SweepStep>; 3] = [
        ("median", |step| step.latency.p50),
        ("99th percentile", |step| step.latency.p99),
        ("99.9th percentile", |step| step.latency.p999),
    ];
    let times = sweep
        .steps
        .iter()
        .flat_map(|step| FIGURES.map(|(_, figure)| figure(step) as f64));
    times.clone().find(|ns| *ns > 0.0)?;
    let rates = sweep
        .steps
        .iter()
        .map(|step| step.rate)
        .chain(sweep.best_rate);
    let x = Axis::from_zero("operations answered per second", rates, units::count);
    let y = Axis::times("latency (log)", times);
    let mut shapes: Vec<Shape> = sweep
        .best_rate
        .map(|rate| Shape::Upright(GREY, rate))
        .into_iter()
        .collect();
    for (number, (_, figure)) in FIGURES.into_iter().enumerate() {
        let colour = colour_of(number);
        let place = |step: &SweepStep| Some((step.rate, position(figure(step))?));
        shapes.push(Shape::Line(
            colour,
            2,
            sweep.steps.iter().filter_map(place).collect(),
        ));
        shapes.extend(sweep.steps.iter().filter_map(|step| {
            let at = place(step)?;
            Some(if step.kept {
                Shape::Dot(colour, 4, at)
            } else {
                Shape::Ring(colour, 5, at)
            })
        }));
    }
    let mut legend: Vec<(Colour, String)> = FIGURES
        .iter()
        .enumerate()
        .map(|(number, (name, _))| (colour_of(number), (*name).to_owned()))
        .collect();
    if sweep.best_rate.is_some() {
        legend.push((
            GREY,
            "the highest rate that kept the bound; rings broke it".to_owned(),
        ));
    }
    Some(Plot {
        svg: draw(HEIGHT, &x, &y, &shapes),
        legend,
    })
}

/// Ratios of two targets: the ratio of medians as a dot, each pair's as a ring, a bar from the
/// smallest to the largest.
pub(super) fn comparison(comparison: &Comparison) -> Option<Plot> {
    let figures = &comparison.figures;
    if figures.is_empty() {
        return None;
    }
    let x = Axis::ratios(
        "B / A",
        figures
            .iter()
            .flat_map(|figure| [figure.ratio, figure.spread.0, figure.spread.1]),
    );
    let y = Axis::names(figures.iter().map(|figure| shortened(&figure.figure)));
    let mut shapes = vec![Shape::Upright(GREY, 1.0)];
    for (row, figure) in figures.iter().enumerate() {
        let height = -(row as f64);
        let (colour, pairs) = (colour_of(0), colour_of(1));
        let (least, most) = figure.spread;
        shapes.push(Shape::Line(
            colour,
            3,
            vec![(least, height), (most, height)],
        ));
        let ratios = figure.a.iter().zip(&figure.b).map(|(a, b)| b / a);
        let within = ratios.filter(|ratio| (x.from..=x.to).contains(ratio));
        shapes.extend(within.map(|ratio| Shape::Ring(pairs, 4, (ratio, height))));
        shapes.push(Shape::Dot(colour, 6, (figure.ratio, height)));
    }
    let legend = vec![
        (
            colour_of(0),
            "ratio of medians, smallest and largest of a pair".to_owned(),
        ),
        (colour_of(1), "each pair".to_owned()),
        (GREY, "no difference".to_owned()),
    ];
    let height = 80 + 36 * figures.len() as u32;
    Some(Plot {
        svg: draw(height, &x, &y, &shapes),
        legend,
    })
}

/// Where a quantile stands on an axis of nines; the maximum is not on it.
fn nines(quantile: f64) -> Option<f64> {
    (0.0..1.0)
        .contains(&quantile)
        .then(|| -(1.0 - quantile).log10())
}

/// Where a time stands on a logarithmic axis; zero is not on it.
fn position(ns: u64) -> Option<f64> {
    (ns > 0).then(|| (ns as f64).log10())
}

/// A name that leaves room for the plot beside it.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 36;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    name.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn count(svg: &str, what: &str) -> usize {
        svg.matches(what).count()
    }

    #[test]
    fn every_series_of_every_repetition_has_its_percentile_line() {
        let report = sample::report();
        let repetitions: Vec<&Repetition> = report.workloads[0].repetitions.iter().collect();
        let plot = percentiles(&repetitions).unwrap();
        let names: Vec<&str> = plot.legend.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["produce", "end to end"]);
        for (colour, name) in &plot.legend {
            let stroke = format!("stroke=\"{}\" stroke-width=\"2\" points", colour.light());
            assert_eq!(count(&plot.svg, &stroke), 3, "{name}");
            assert_eq!(
                count(
                    &plot.svg,
                    &format!(
                        "fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
                        colour.light()
                    )
                ),
                3
            );
        }
        for label in ["percentile", "latency", "99.9 %", "max", "100 µs"] {
            assert!(plot.svg.contains(label), "no {label}");
        }
    }

    #[test]
    fn a_stall_is_a_gap_over_time() {
        let report = sample::report();
        let mut repetition = report.workloads[0].repetitions[0].clone();
        let lines = |repetition: &Repetition| {
            let plot = over_time(&[repetition], "produce").unwrap();
            count(
                &plot.svg,
                &format!("stroke=\"{}\" stroke-width=\"2\"", colour_of(0).light()),
            )
        };
        assert_eq!(lines(&repetition), 1);
        repetition.series[0].timeline[50..60].fill(Interval::default());
        assert_eq!(lines(&repetition), 2);
    }

    #[test]
    fn a_sweep_marks_each_step() {
        let plot = sweep(&sample::report().sweeps[0]).unwrap();
        // Five kept the bound and one broke it, for three figures.
        assert_eq!(count(&plot.svg, "r=\"4\""), 15);
        assert_eq!(count(&plot.svg, "r=\"5\""), 3);
        assert_eq!(plot.legend.len(), 4);
    }

    #[test]
    fn a_comparison_has_a_row_for_each_figure() {
        let plot = comparison(&sample::report().comparisons[0]).unwrap();
        assert_eq!(count(&plot.svg, "r=\"6\""), 3);
        for figure in ["produce p50", "produce p99", "produce rate"] {
            assert!(plot.svg.contains(figure));
        }
    }

    #[test]
    fn nothing_measured_is_not_plotted() {
        let repetition = Repetition::default();
        assert!(percentiles(&[&repetition]).is_none());
        assert!(over_time(&[&repetition], "produce").is_none());
        assert!(sweep(&Sweep::default()).is_none());
        assert!(comparison(&Comparison::default()).is_none());
    }
}
