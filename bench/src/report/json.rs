//! A report as JSON, both ways. `format_version` stands at the top; it rises whenever a reader of
//! the old format would misread the new one.

use serde::{Deserialize, Serialize};

use super::model::Report;

/// The format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Why a file could not be read as a report.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON, or JSON of something else.
    #[error("this is no report of millrace-bench; give a file written with --output json ({0})")]
    NotAReport(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error(
        "this report has format {found}, and this millrace-bench reads formats up to {known}; read it with the \
         millrace-bench that wrote it, or a newer one"
    )]
    Newer {
        /// The format of the report.
        found: u32,
        /// The newest format that can be read here.
        known: u32,
    },
}

#[derive(Serialize)]
struct Written<'a> {
    format_version: u32,
    #[serde(flatten)]
    report: &'a Report,
}

#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

/// The report as one line of JSON. Its numbers have to be finite: JSON has no others, and a report
/// with one cannot be read again.
#[must_use]
pub fn render(report: &Report) -> String {
    let written = Written {
        format_version: FORMAT_VERSION,
        report,
    };
    serde_json::to_string(&written).expect("a report has names for keys and nothing that can fail")
}

/// Reads a report again.
///
/// # Errors
///
/// If it is none, or of a newer format.
pub fn read(text: &str) -> Result<Report, JsonError> {
    let Version { format_version } = serde_json::from_str(text)?;
    if format_version > FORMAT_VERSION {
        return Err(JsonError::Newer {
            found: format_version,
            known: FORMAT_VERSION,
        });
    }
    Ok(serde_json::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report::sample;

    /// Whether two JSON values are the same but for the last digit of a number, which reading may
    /// change.
    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Number(a), Value::Number(b)) if a.is_f64() => {
                let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                (a - b).abs() <= a.abs() * 1e-14
            }
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
            }
            _ => a == b,
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        for report in [sample::report(), Report::default()] {
            let text = render(&report);
            assert!(
                text.starts_with(r#"{"format_version":1,"#),
                "{}",
                &text[..80]
            );
            let read = read(&text).unwrap();
            let (read, written) = [&read, &report]
                .map(|report| serde_json::to_value(report).unwrap())
                .into();
            assert!(
                same(&read, &written),
                "what was read is not what was written"
            );
        }
    }

    #[test]
    fn a_newer_format_is_refused_with_both_versions() {
        // Nothing else of a newer format need be as it is now.
        let error = read(r#"{"format_version": 7, "something": "new"}"#).unwrap_err();
        assert!(matches!(
            error,
            JsonError::Newer {
                found: 7,
                known: FORMAT_VERSION
            }
        ));
        let said = error.to_string();
        assert!(
            said.contains("format 7") && said.contains("up to 1"),
            "{said}"
        );
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for text in ["", "[]", "{}", r#"{"format_version":1}"#, "p50 12 µs"] {
            let error = read(text).unwrap_err();
            assert!(matches!(error, JsonError::NotAReport(_)), "{text}: {error}");
            assert!(error.to_string().contains("--output json"), "{error}");
        }
    }
}
