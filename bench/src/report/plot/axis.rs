//! Axes: from values to where they are drawn, with marks at round numbers.

use crate::report::units;

/// One axis. Positions along it are plain numbers between `from` and `to`; a logarithmic axis has
/// the logarithms of its values as positions.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) title: String,
    pub(super) from: f64,
    pub(super) to: f64,
    /// Position and name of each mark.
    pub(super) marks: Vec<(f64, String)>,
}

impl Axis {
    /// A logarithmic axis of times in ns, wide enough for all of these; those that are not above
    /// zero have no place on it.
    pub(super) fn times(title: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        let (least, most) =
            bounds(values.into_iter().filter(|value| *value > 0.0)).unwrap_or((1e3, 1e6));
        let decades = (most / least).log10();
        let factors: &[f64] = match decades {
            _ if decades <= 3.5 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let lowest = least.log10().floor() as i32;
        let highest = most.log10().ceil() as i32;
        let values: Vec<f64> = (lowest..=highest)
            .flat_map(|decade| {
                factors
                    .iter()
                    .map(move |factor| factor * 10f64.powi(decade))
            })
            .collect();
        // The nearest marks outside the values are where the axis ends.
        let from = values
            .iter()
            .rev()
            .find(|mark| **mark < least * 1.000_1)
            .unwrap_or(&least);
        let to = values
            .iter()
            .find(|mark| **mark > most * 0.999_9 && *mark > from)
            .unwrap_or(&most);
        let to = if to > from { *to } else { from * 10.0 };
        let marks = values.iter().filter(|mark| (*from..=to).contains(mark));
        Axis {
            title: title.to_owned(),
            from: from.log10(),
            to: to.log10(),
            marks: marks
                .map(|mark| (mark.log10(), units::plain(&units::time(*mark))))
                .collect(),
        }
    }

    /// An axis of quantiles by their number of nines, up to this many, and a place for the maximum.
    pub(super) fn nines(title: &str, most: f64) -> Axis {
        let whole = most.ceil().clamp(1.0, 9.0) as u32;
        let mut marks: Vec<(f64, String)> = (0..=whole)
            .map(|nines| (f64::from(nines), quantile_of_nines(nines)))
            .collect();
        let most = f64::from(whole);
        marks.push((most + 0.5, "max".to_owned()));
        Axis {
            title: title.to_owned(),
            from: 0.0,
            to: most + 0.6,
            marks,
        }
    }

    /// A linear axis from zero, wide enough for all of these, with marks named by `name`.
    pub(super) fn from_zero(
        title: &str,
        values: impl IntoIterator<Item = f64>,
        name: fn(f64) -> String,
    ) -> Axis {
        let (_, most) = bounds(values).unwrap_or((0.0, 1.0));
        let to = if most > 0.0 { most } else { 1.0 };
        Axis {
            title: title.to_owned(),
            from: 0.0,
            to,
            marks: round_marks(0.0, to, name),
        }
    }

    /// A linear axis around 1, wide enough for all of these.
    pub(super) fn ratios(title: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        let (least, most) = bounds(values).unwrap_or((1.0, 1.0));
        let (least, most) = (least.min(1.0), most.max(1.0));
        let margin = ((most - least) * 0.08).max(0.01);
        let (from, to) = (least - margin, most + margin);
        Axis {
            title: title.to_owned(),
            from,
            to,
            marks: round_marks(from, to, |ratio| {
                format!("{ratio:.3}")
                    .trim_end_matches('0')
                    .trim_end_matches('.')
                    .into()
            }),
        }
    }

    /// Names one below the other, the first on top; each at minus its number.
    pub(super) fn names(names: impl IntoIterator<Item = String>) -> Axis {
        let marks: Vec<(f64, String)> = names
            .into_iter()
            .enumerate()
            .map(|(row, name)| (-(row as f64), name))
            .collect();
        Axis {
            title: String::new(),
            from: 0.5 - marks.len().max(1) as f64,
            to: 0.5,
            marks,
        }
    }

    /// The name of the mark at a position.
    pub(super) fn mark_name(&self, position: f64) -> String {
        let near = |(mark, _): &&(f64, String)| (mark - position).abs() < 1e-9;
        self.marks
            .iter()
            .find(near)
            .map(|(_, name)| name.clone())
            .unwrap_or_default()
    }
}

/// The smallest and the largest of those that are finite.
fn bounds(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .into_iter()
        .filter(|value| value.is_finite())
        .fold(None, |bounds, value| {
            let (least, most) = bounds.unwrap_or((value, value));
            Some((value.min(least), value.max(most)))
        })
}

/// Five to ten marks at multiples of 1, 2 or 5 times a power of ten.
fn round_marks(from: f64, to: f64, name: fn(f64) -> String) -> Vec<(f64, String)> {
    let rough = (to - from) / 10.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let (first, last) = (
        (from / step).ceil() as i64,
        (to / step + 1e-9).floor() as i64,
    );
    (first..=last)
        .map(|multiple| multiple as f64 * step)
        .map(|mark| (mark, units::plain(&name(mark))))
        .collect()
}

/// A quantile by its number of nines: `99.9 %` of 0.999.
fn quantile_of_nines(nines: u32) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        _ => format!("99.{} %", "9".repeat(nines as usize - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn times_end_at_round_marks() {
        let axis = Axis::times("", [130e3, 0.0, 4.2e6, f64::NAN]);
        assert_eq!(
            names(&axis),
            ["100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms"]
        );
        assert_eq!((axis.from, axis.to), (5.0, 5e6f64.log10()));
        let wide = Axis::times("", [1e3, 1e9]);
        assert_eq!(names(&wide).len(), 7);
        assert_eq!(wide.mark_name(4.0), "10 µs");
    }

    #[test]
    fn an_axis_of_one_value_or_none_still_has_a_length() {
        for values in [vec![], vec![1e6], vec![0.0], vec![3.0, 3.0]] {
            for axis in [
                Axis::times("", values.clone()),
                Axis::from_zero("", values.clone(), units::count),
                Axis::ratios("", values.clone()),
            ] {
                assert!(axis.to > axis.from, "{values:?}: {axis:?}");
                assert!(!axis.marks.is_empty(), "{values:?}: {axis:?}");
            }
        }
        assert!(Axis::names([]).to > Axis::names([]).from);
    }

    #[test]
    fn nines_leave_room_for_the_maximum() {
        let axis = Axis::nines("", 4.3);
        assert_eq!(
            names(&axis),
            [
                "0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "max"
            ]
        );
    }

    #[test]
    fn round_marks_are_few_and_within() {
        let axis = Axis::from_zero("", [149_700.0], units::count);
        assert_eq!(names(&axis)[..3], ["0", "20 k", "40 k"]);
        let ratios = Axis::ratios("", [0.85, 1.05]);
        assert!(
            names(&ratios).contains(&"0.9") && names(&ratios).contains(&"1"),
            "{ratios:?}"
        );
    }

    #[test]
    fn quantiles_by_nines() {
        let names: Vec<String> = (0..=5).map(quantile_of_nines).collect();
        assert_eq!(
            names,
            ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]
        );
    }
}
