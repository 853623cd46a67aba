//! Statistics over a few repetitions: medians and their spread. With five repetitions nothing finer
//! than the smallest and the largest can be said.

use crate::report::model::ComparedFigure;

/// A few values of the same figure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub smallest: f64,
    /// The largest.
    pub largest: f64,
}

impl Summary {
    /// The summary of these values; none if there are none. Values that are not numbers are left
    /// out.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Summary> {
        let mut sorted: Vec<f64> = values
            .iter()
            .copied()
            .filter(|value| !value.is_nan())
            .collect();
        sorted.sort_by(f64::total_cmp);
        let (&smallest, &largest) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Summary {
            median,
            smallest,
            largest,
        })
    }

    /// The smallest and the largest.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        (self.smallest, self.largest)
    }
}

/// The median, that of an even number of values being the mean of the middle two; none of none.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    Some(Summary::of(values)?.median)
}

/// One figure of two targets that took turns, pair by pair: the ratio of their medians, and the
/// smallest and largest ratio of a pair. A pair counts if both are finite and the first is above
/// zero; none if no pair does, for then there is nothing to compare.
#[must_use]
pub fn compare_pairs(figure: &str, unit: &str, pairs: &[(f64, f64)]) -> Option<ComparedFigure> {
    let usable = |(a, b): &(f64, f64)| a.is_finite() && b.is_finite() && *a > 0.0;
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().filter(usable).unzip();
    let ratios: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b / a).collect();
    let spread = Summary::of(&ratios)?.spread();
    let ratio = median(&b)? / median(&a)?;
    Some(ComparedFigure {
        figure: figure.to_owned(),
        unit: unit.to_owned(),
        a,
        b,
        ratio,
        spread,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers_of_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[f64::NAN, 1.0]), Some(1.0));
    }

    #[test]
    fn the_spread_is_the_smallest_and_the_largest() {
        let summary = Summary::of(&[5.0, 9.0, 4.0]).unwrap();
        assert_eq!(
            summary,
            Summary {
                median: 5.0,
                smallest: 4.0,
                largest: 9.0
            }
        );
        assert_eq!(summary.spread(), (4.0, 9.0));
    }

    #[test]
    fn the_ratio_of_medians_with_the_spread_of_pairs() {
        let pairs = [(100.0, 90.0), (110.0, 121.0), (90.0, 45.0)];
        let compared = compare_pairs("produce p99", "ns", &pairs).unwrap();
        assert_eq!(compared.ratio, 90.0 / 100.0);
        assert_eq!(compared.spread.0, 0.5);
        assert!((compared.spread.1 - 1.1).abs() < 1e-12);
        assert_eq!(compared.a, [100.0, 110.0, 90.0]);
        assert_eq!(compared.b, [90.0, 121.0, 45.0]);
    }

    #[test]
    fn equal_targets_have_a_ratio_of_one() {
        let compared = compare_pairs("produce p50", "ns", &[(5.0, 5.0), (7.0, 7.0)]).unwrap();
        assert_eq!((compared.ratio, compared.spread), (1.0, (1.0, 1.0)));
    }

    #[test]
    fn pairs_that_have_no_ratio_are_left_out() {
        let pairs = [
            (0.0, 5.0),
            (2.0, 4.0),
            (f64::NAN, 1.0),
            (1.0, f64::INFINITY),
        ];
        let compared = compare_pairs("errors", "", &pairs).unwrap();
        assert_eq!((compared.a.len(), compared.ratio), (1, 2.0));
        assert!(compare_pairs("errors", "", &[(0.0, 0.0)]).is_none());
    }
}
