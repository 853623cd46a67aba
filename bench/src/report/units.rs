//! Numbers as people read them: three digits and a unit that suits their size.

/// A scale: from how much on a unit is used, and its name.
type Steps = [(f64, &'static str)];

const TIME: &Steps = &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
const BYTES: &Steps = &[(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"), (1.0, "B")];
const BYTE_RATE: &Steps = &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")];
const COUNT: &Steps = &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;
const GIB: f64 = 1024.0 * MIB;

/// What stands where there is nothing to say.
pub(super) const NONE: &str = "-";

/// A time given in ns.
pub(super) fn time(ns: f64) -> String {
    scaled(ns, TIME)
}

/// A size in bytes.
pub(super) fn size(bytes: f64) -> String {
    // Most sizes are powers of two: 4 KiB, not 4.00.
    plain(&scaled(bytes, BYTES))
}

/// A number and its unit without zeros behind the point: `20 ms` of `20.0 ms`. For what is round by
/// its nature, such as the marks of an axis.
pub(super) fn plain(text: &str) -> String {
    text.replace(".00 ", " ").replace(".0 ", " ")
}

/// Bytes a second.
pub(super) fn byte_rate(bytes: f64) -> String {
    scaled(bytes, BYTE_RATE)
}

/// How many of something.
pub(super) fn count(number: f64) -> String {
    scaled(number, COUNT)
}

/// A value in one of the units that the model names; another unit is put behind the number as it
/// is.
pub(super) fn value(value: f64, unit: &str) -> String {
    match unit {
        "ns" => time(value),
        "B" => size(value),
        "B/s" => byte_rate(value),
        "" => digits(value),
        // "12.3 k" and "records/s" are read as one unit.
        _ if !unit.starts_with('/') => format!("{} {unit}", count(value)),
        _ => format!("{}{unit}", count(value)),
    }
}

/// A round number, such as a target: no more digits than it needs.
pub(super) fn round(number: f64) -> String {
    let text = digits(number);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A ratio.
pub(super) fn ratio(ratio: f64) -> String {
    digits(ratio)
}

/// A share of one, as a percentage.
pub(super) fn share(share: f64) -> String {
    if share.is_finite() {
        format!("{:.0} %", share * 100.0)
    } else {
        NONE.to_owned()
    }
}

/// A share of which one in a hundred matters: `0.4 %`.
pub(super) fn fine_share(value: f64) -> String {
    if value.is_finite() && value < 0.1 {
        format!("{:.1} %", value * 100.0)
    } else {
        share(value)
    }
}

/// How far the smallest and the largest of a few values lie from their median: `-3/+5 %`.
pub(super) fn spread(median: f64, (smallest, largest): (f64, f64)) -> String {
    if !(median.is_finite() && median > 0.0) {
        return NONE.to_owned();
    }
    let percent = |value: f64| (value / median - 1.0).abs() * 100.0;
    format!("-{:.0}/+{:.0} %", percent(smallest), percent(largest))
}

fn scaled(value: f64, steps: &Steps) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    // Chosen by the number as it will be rounded, so that 999.9 µs is 1.00 ms and not 1000 µs.
    let rounded = value.abs() * (1.0 + 0.5e-3);
    let (factor, unit) = steps
        .iter()
        .find(|(factor, _)| rounded >= *factor)
        .or(steps.last())
        .copied()
        .unwrap_or((1.0, ""));
    // A whole number of the smallest unit has no fraction to show.
    let number = if factor == 1.0 && value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        digits(value / factor)
    };
    format!("{number} {unit}").trim_end().to_owned()
}

/// Three digits, or all of those before the point.
fn digits(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => NONE.to_owned(),
        _ if size >= 99.95 => format!("{value:.0}"),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.9995 || size == 0.0 => format!("{value:.2}"),
        _ if size >= 0.0995 => format!("{value:.3}"),
        _ if size >= 0.00095 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_scaled() {
        for (ns, text) in [
            (0.0, "0 ns"),
            (950.0, "950 ns"),
            (1_234.0, "1.23 µs"),
            (41_230.0, "41.2 µs"),
            (999_400.0, "999 µs"),
            (999_900.0, "1.00 ms"),
            (12_345_678.0, "12.3 ms"),
            (2.5e9, "2.50 s"),
            (6e11, "600 s"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(time(ns), text, "{ns}");
        }
    }

    #[test]
    fn rates_and_sizes_are_scaled() {
        assert_eq!(byte_rate(850e6), "850 MB/s");
        assert_eq!(byte_rate(3.214e9), "3.21 GB/s");
        assert_eq!(size(4096.0), "4 KiB");
        assert_eq!(size(1_100.0), "1.07 KiB");
        assert_eq!(size(64.0), "64 B");
        assert_eq!(value(123_456.0, "records/s"), "123 k records/s");
        assert_eq!(value(512.0, "records/s"), "512 records/s");
        assert_eq!(value(1_234.0, "ns"), "1.23 µs");
        assert_eq!(value(0.5, ""), "0.500");
        assert_eq!(value(312_000.0, "/s"), "312 k/s");
        assert_eq!(value(12.0, "/s"), "12/s");
    }

    #[test]
    fn ratios_keep_three_digits() {
        for (number, text) in [
            (1.0, "1.00"),
            (0.985, "0.985"),
            (0.9996, "1.00"),
            (12.34, "12.3"),
            (0.012, "0.0120"),
            (1e-6, "1.0e-6"),
        ] {
            assert_eq!(ratio(number), text, "{number}");
        }
    }

    #[test]
    fn round_numbers_have_no_zeros_behind() {
        for (number, text) in [
            (1.5, "1.5"),
            (3.0, "3"),
            (0.85, "0.85"),
            (100.0, "100"),
            (0.01, "0.01"),
        ] {
            assert_eq!(round(number), text);
        }
    }

    #[test]
    fn spreads_are_percentages_of_the_median() {
        assert_eq!(spread(100.0, (97.0, 105.0)), "-3/+5 %");
        assert_eq!(spread(0.0, (0.0, 1.0)), "-");
    }
}
