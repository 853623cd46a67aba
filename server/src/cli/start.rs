//! Where to begin reading: `--from`.

use std::str::FromStr;

use jiff::Timestamp;

/// A place in a partition, as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The oldest record.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// This offset.
    Offset(i64),
    /// This many records before the end.
    BeforeEnd(i64),
    /// The first record at or after this time, ms since 1970.
    Time(i64),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let wrong = || {
            "it is one of earliest, latest, an offset such as 1000, -N for N records before the \
             end, a time such as 2026-01-31T12:00:00Z, or @ and milliseconds since 1970"
                .to_owned()
        };
        match text {
            "earliest" | "beginning" => return Ok(Place::Earliest),
            "latest" | "end" => return Ok(Place::Latest),
            _ => {}
        }
        if let Some(ms) = text.strip_prefix('@') {
            return ms
                .parse()
                .ok()
                .filter(|ms| *ms >= 0)
                .map(Place::Time)
                .ok_or_else(wrong);
        }
        if let Some(count) = text.strip_prefix('-') {
            return count
                .parse()
                .ok()
                .filter(|n| *n > 0)
                .map(Place::BeforeEnd)
                .ok_or_else(wrong);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Place::Offset).map_err(|_| wrong());
        }
        match text.parse::<Timestamp>() {
            Ok(time) => Ok(Place::Time(time.as_millisecond())),
            Err(_) if text.contains('T') => Err(format!(
                "{}; a time needs its zone too, such as Z or +02:00 at the end",
                wrong()
            )),
            Err(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        for (text, place) in [
            ("earliest", Place::Earliest),
            ("latest", Place::Latest),
            ("0", Place::Offset(0)),
            ("1000", Place::Offset(1000)),
            ("-10", Place::BeforeEnd(10)),
            ("@1700000000123", Place::Time(1_700_000_000_123)),
            ("2023-11-14T22:13:20Z", Place::Time(1_700_000_000_000)),
            (
                "2023-11-15T00:13:20.5+02:00",
                Place::Time(1_700_000_000_500),
            ),
        ] {
            assert_eq!(text.parse(), Ok(place), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_is() {
        for text in [
            "",
            "newest",
            "@",
            "@-1",
            "-0",
            "1.5",
            "99999999999999999999",
            "2023-11-14",
        ] {
            let error = text.parse::<Place>().unwrap_err();
            assert!(
                error.contains("earliest, latest, an offset"),
                "{text}: {error}"
            );
        }
        let error = "2023-11-14T22:13:20".parse::<Place>().unwrap_err();
        assert!(error.contains("needs its zone"), "{error}");
    }
}
