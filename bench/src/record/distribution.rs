//! A histogram of times as the figures and the curve of a report.

use hdrhistogram::{Counter, Histogram};

use crate::report::model::Latency;

/// The longest time that is told apart, 10 minutes in ns: a longer one counts as this.
pub const LONGEST_NS: u64 = 600_000_000_000;

/// Points of a curve for each nine.
const POINTS_PER_NINE: u32 = 20;

/// No curve is drawn beyond this many nines (99.999 %).
const MOST_NINES: f64 = 5.0;

/// An empty histogram of times from 1 ns to [`LONGEST_NS`], exact to three digits. What lies
/// outside is for `saturating_record`.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    with_digits(3)
}

/// An empty histogram of the same range, exact to so many digits (1 to 5).
pub(super) fn with_digits<C: Counter>(digits: u8) -> Histogram<C> {
    Histogram::new_with_bounds(1, LONGEST_NS, digits).expect("constant bounds are good ones")
}

/// The usual figures of a distribution; all zero if nothing was recorded.
#[must_use]
pub fn latency(histogram: &Histogram<u64>) -> Latency {
    if histogram.is_empty() {
        return Latency::default();
    }
    Latency {
        count: histogram.len(),
        mean: histogram.mean(),
        p50: histogram.value_at_quantile(0.5),
        p90: histogram.value_at_quantile(0.9),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        p9999: histogram.value_at_quantile(0.9999),
        max: histogram.max(),
    }
}

/// The distribution as points (quantile, ns) to be drawn over the number of nines: evenly spaced
/// there, as far as the count supports (the quantile of all but one operation) and to five nines
/// at most. The last point is the maximum, at quantile 1. Empty if nothing was recorded.
#[must_use]
pub fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let nines = (histogram.len() as f64).log10().min(MOST_NINES);
    // Rounded up by less than a step where the count is a power of ten but for the rounding.
    let steps = (nines * f64::from(POINTS_PER_NINE) + 1e-9).floor() as u32;
    let quantiles =
        (0..=steps).map(|step| quantile_of(f64::from(step) / f64::from(POINTS_PER_NINE)));
    quantiles
        .clone()
        .zip(histogram.value_at_quantiles(quantiles))
        .chain([(1.0, histogram.max())])
        .collect()
}

/// The quantile of so many nines: 0.9 of one, 0.99 of two.
fn quantile_of(nines: f64) -> f64 {
    1.0 - 10f64.powf(-nines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 µs, 2 µs, … so many µs.
    fn ramp(count: u64) -> Histogram<u64> {
        let mut ramp = histogram();
        for microseconds in 1..=count {
            ramp.saturating_record(microseconds * 1_000);
        }
        ramp
    }

    fn assert_close(value: u64, expected: u64) {
        let error = (value as f64 / expected as f64 - 1.0).abs();
        assert!(error <= 0.001, "{value} is not {expected} to three digits");
    }

    #[test]
    fn the_figures_of_an_even_distribution_are_its_ranks() {
        let figures = latency(&ramp(100_000));
        assert_eq!(figures.count, 100_000);
        assert_close(figures.p50, 50_000_000);
        assert_close(figures.p90, 90_000_000);
        assert_close(figures.p99, 99_000_000);
        assert_close(figures.p999, 99_900_000);
        assert_close(figures.p9999, 99_990_000);
        assert_close(figures.max, 100_000_000);
        assert!((figures.mean / 50_000_500.0 - 1.0).abs() < 0.001);
    }

    #[test]
    fn one_slow_operation_of_a_thousand_shows_beyond_the_third_nine() {
        let mut histogram = histogram();
        for _ in 0..999 {
            histogram.saturating_record(50_000);
        }
        histogram.saturating_record(100_000_000);
        let figures = latency(&histogram);
        assert_close(figures.p999, 50_000);
        assert_close(figures.p9999, 100_000_000);
        assert_close(figures.max, 100_000_000);
    }

    #[test]
    fn times_out_of_range_count_as_the_shortest_and_the_longest() {
        let mut histogram = histogram();
        histogram.saturating_record(0);
        histogram.saturating_record(u64::MAX);
        let figures = latency(&histogram);
        assert_eq!(figures.count, 2);
        assert!(figures.p50 <= 1);
        assert_close(figures.max, LONGEST_NS);
    }

    #[test]
    fn a_curve_rises_and_has_the_nines_that_the_count_supports() {
        for (count, nines) in [
            (10u64, 1.0f64),
            (1_000, 3.0),
            (20_000, 4.3),
            (1_000_000, 5.0),
        ] {
            let curve = curve(&ramp(count));
            assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
            let [.., (last, _), (one, max)] = curve[..] else {
                panic!("{count} operations: a curve of {} points", curve.len());
            };
            assert!(
                (-(1.0 - last).log10() - nines).abs() < 0.001,
                "{count} operations: {last}"
            );
            assert_eq!(one, 1.0);
            assert_close(max, count * 1_000);
        }
    }

    #[test]
    fn a_curve_passes_through_the_figures() {
        let ramp = ramp(100_000);
        let (figures, curve) = (latency(&ramp), curve(&ramp));
        for (quantile, figure) in [
            (0.9, figures.p90),
            (0.99, figures.p99),
            (0.999, figures.p999),
        ] {
            let (_, drawn) = curve
                .iter()
                .find(|(q, _)| (q - quantile).abs() < 1e-9)
                .unwrap();
            assert_close(*drawn, figure);
        }
    }

    #[test]
    fn nothing_recorded_has_neither_figures_nor_a_curve() {
        assert_eq!(latency(&histogram()), Latency::default());
        assert!(curve(&histogram()).is_empty());
    }
}
