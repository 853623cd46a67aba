//! How `consume` writes a record: the value alone, a template, or JSON.

use std::io::{self, Write};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use millrace_client::ConsumedRecord;
use serde::Serialize;

/// A template: text with fields in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Time,
    Key,
    Value,
    Headers,
}

const FIELDS: [(&str, Field); 8] = [
    ("topic", Field::Topic),
    ("partition", Field::Partition),
    ("offset", Field::Offset),
    ("timestamp", Field::Timestamp),
    ("time", Field::Time),
    ("key", Field::Key),
    ("value", Field::Value),
    ("headers", Field::Headers),
];

impl FromStr for Template {
    type Err = String;

    fn from_str(template: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut characters = template.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '{' | '}' if characters.next_if_eq(&character).is_some() => text.push(character),
                '{' => {
                    let name = name(&mut characters)?;
                    parts.push(Part::Text(unescape(&std::mem::take(&mut text))?));
                    parts.push(Part::Field(field(&name)?));
                }
                '}' => return Err("a '}' stands alone; write '}}' for the character itself".into()),
                _ => text.push(character),
            }
        }
        parts.push(Part::Text(unescape(&text)?));
        Ok(Template(parts))
    }
}

/// The rest of a field, up to its closing brace.
fn name(characters: &mut impl Iterator<Item = char>) -> Result<String, String> {
    let mut name = String::new();
    loop {
        match characters.next() {
            Some('}') => return Ok(name),
            Some(character) => name.push(character),
            None => {
                return Err(format!(
                    "the field '{{{name}' has no '}}'; write '{{{{' for the character '{{' itself"
                ));
            }
        }
    }
}

fn field(name: &str) -> Result<Field, String> {
    if let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) {
        return Ok(*field);
    }
    let known: Vec<String> = FIELDS
        .iter()
        .map(|(known, _)| format!("{{{known}}}"))
        .collect();
    Err(format!(
        "there is no field {{{name}}}; the fields are {}, and '{{{{' is the character itself",
        known.join(" ")
    ))
}

/// Replaces `\n`, `\t`, `\r`, `\0`, `\\` and `\xHH`.
pub(super) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match characters.next() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = characters.by_ref().take(2).collect();
                let byte = u8::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.len() == 2);
                byte.ok_or_else(|| format!("'\\x{digits}' is not \\x and two hex digits"))?
            }
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(format!(
                    "'\\{other}' means nothing; known are \\n \\t \\r \\0 \\xHH and \\\\"
                ));
            }
        });
    }
    Ok(bytes)
}

/// The bytes that stand for an absent value, in either direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marker(pub(super) Vec<u8>);

/// Reads a marker from the command line.
pub(super) fn marker(text: &str) -> Result<Marker, String> {
    unescape(text).map(Marker)
}

impl Marker {
    fn or<'a>(&'a self, bytes: Option<&'a [u8]>) -> &'a [u8] {
        bytes.unwrap_or(&self.0)
    }
}

impl Template {
    fn write(
        &self,
        record: &ConsumedRecord,
        null: &Marker,
        out: &mut impl Write,
    ) -> io::Result<()> {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.write_all(text)?,
                Part::Field(field) => field.write(record, null, out)?,
            }
        }
        Ok(())
    }
}

impl Field {
    fn write(self, record: &ConsumedRecord, null: &Marker, out: &mut impl Write) -> io::Result<()> {
        match self {
            Field::Topic => write!(out, "{}", record.topic),
            Field::Partition => write!(out, "{}", record.partition),
            Field::Offset => write!(out, "{}", record.offset),
            Field::Timestamp => write!(out, "{}", record.timestamp),
            Field::Time => match Timestamp::from_millisecond(record.timestamp) {
                Ok(time) => write!(out, "{time:.3}"),
                // Further away than calendars go; a producer may write any number.
                Err(_) => write!(out, "@{}", record.timestamp),
            },
            Field::Key => out.write_all(null.or(record.key.as_deref())),
            Field::Value => out.write_all(null.or(record.value.as_deref())),
            Field::Headers => {
                for (position, (name, value)) in record.headers.iter().enumerate() {
                    let comma = if position == 0 { "" } else { "," };
                    write!(out, "{comma}{name}=")?;
                    out.write_all(null.or(value.as_deref()))?;
                }
                Ok(())
            }
        }
    }
}

/// How a record is written.
#[derive(Clone, Debug)]
pub(super) enum Style {
    /// Its value as it is, or what stands for none.
    Value(Marker),
    /// By a template, with what stands for an absent key or value.
    Template(Template, Marker),
    /// As a JSON object.
    Json,
}

impl Style {
    /// Writes a record, without the newline that follows it.
    pub(super) fn write(&self, record: &ConsumedRecord, out: &mut impl Write) -> io::Result<()> {
        match self {
            Style::Value(null) => out.write_all(null.or(record.value.as_deref())),
            Style::Template(template, null) => template.write(record, null, out),
            Style::Json => Ok(serde_json::to_writer(out, &JsonRecord::new(record))?),
        }
    }
}

/// A record in JSON. Keys, values and header values that are not UTF-8 are in a field with
/// `_base64` after its name, in place of the plain one; what is absent is null.
#[derive(Serialize)]
struct JsonRecord<'a> {
    topic: &'a str,
    partition: u32,
    offset: i64,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    headers: Vec<JsonHeader<'a>>,
}

#[derive(Serialize)]
struct JsonHeader<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// The plain field or the one in base64.
fn text_or_base64(bytes: Option<&[u8]>) -> (Option<Option<&str>>, Option<String>) {
    match bytes.map(std::str::from_utf8) {
        None => (Some(None), None),
        Some(Ok(text)) => (Some(Some(text)), None),
        Some(Err(_)) => (None, bytes.map(|bytes| STANDARD.encode(bytes))),
    }
}

impl JsonRecord<'_> {
    fn new(record: &ConsumedRecord) -> JsonRecord<'_> {
        let (key, key_base64) = text_or_base64(record.key.as_deref());
        let (value, value_base64) = text_or_base64(record.value.as_deref());
        JsonRecord {
            topic: &record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key,
            key_base64,
            value,
            value_base64,
            headers: record
                .headers
                .iter()
                .map(|(name, value)| {
                    let (value, value_base64) = text_or_base64(value.as_deref());
                    JsonHeader {
                        name,
                        value,
                        value_base64,
                    }
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record() -> ConsumedRecord {
        ConsumedRecord {
            topic: "clicks".into(),
            partition: 3,
            offset: 42,
            timestamp: 1_700_000_000_123,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v\xff")),
            headers: vec![
                ("a".into(), Some(Bytes::from_static(b"1"))),
                ("b".into(), None),
            ],
        }
    }

    fn written(style: &Style, record: &ConsumedRecord) -> Vec<u8> {
        let mut out = Vec::new();
        style.write(record, &mut out).unwrap();
        out
    }

    #[test]
    fn a_template_puts_the_fields_in_place() {
        for (template, expected) in [
            ("{value}", &b"v\xff"[..]),
            ("{topic}/{partition}@{offset}: {key}", b"clicks/3@42: k"),
            (
                "{timestamp} {time}",
                b"1700000000123 2023-11-14T22:13:20.123Z",
            ),
            ("{headers}", b"a=1,b="),
            (r"{{{key}}}\t\x41\\", b"{k}\tA\\"),
            ("", b""),
        ] {
            let style = Style::Template(template.parse().unwrap(), Marker::default());
            assert_eq!(written(&style, &record()), expected, "{template}");
        }
    }

    #[test]
    fn what_is_absent_is_what_the_marker_says() {
        let absent = ConsumedRecord {
            key: None,
            value: None,
            ..record()
        };
        for (marker, value, fields) in [("", "", "|,a=1,b="), ("-", "-", "-|-,a=1,b=-")] {
            let null = Marker(marker.into());
            assert_eq!(
                written(&Style::Value(null.clone()), &absent),
                value.as_bytes()
            );
            let template = Style::Template("{key}|{value},{headers}".parse().unwrap(), null);
            assert_eq!(written(&template, &absent), fields.as_bytes());
        }
    }

    #[test]
    fn a_wrong_template_is_told_the_fields() {
        for (template, part) in [
            ("{valeu}", "the fields are {topic} {partition}"),
            ("{", "has no '}'"),
            ("{value", "'{value' has no '}'"),
            ("{}", "no field {}"),
            ("}", "write '}}'"),
            (r"\q", r"'\q' means nothing"),
            (r"\x4", "two hex digits"),
            ("\\", r"'\' means nothing"),
        ] {
            let error = template.parse::<Template>().unwrap_err();
            assert!(error.contains(part), "{template}: {error}");
        }
    }

    #[test]
    fn json_keeps_every_byte() {
        let parsed: serde_json::Value =
            serde_json::from_slice(&written(&Style::Json, &record())).unwrap();
        assert_eq!(
            parsed,
            serde_json::json!({
                "topic": "clicks", "partition": 3, "offset": 42, "timestamp": 1_700_000_000_123_i64,
                "key": "k", "value_base64": "dv8=",
                "headers": [{"name": "a", "value": "1"}, {"name": "b", "value": null}],
            })
        );
        let empty = ConsumedRecord {
            key: None,
            value: None,
            ..record()
        };
        let parsed: serde_json::Value =
            serde_json::from_slice(&written(&Style::Json, &empty)).unwrap();
        assert_eq!(parsed["value"], serde_json::Value::Null);
        assert!(parsed.as_object().unwrap().contains_key("key"));
    }
}
