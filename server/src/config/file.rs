//! The configuration file: YAML, flattened to dotted keys, each with its line.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// One `key: value` of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Dotted name: nesting and dots are the same thing.
    pub key: String,
    /// The value as written, without its quotes.
    pub text: String,
    /// Line of the value, from 1.
    pub line: usize,
}

/// What is wrong with the file's form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Flattens a file. Whether the keys exist is decided elsewhere.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, FileError> {
    let mut reader = Reader {
        entries: Vec::new(),
        path: Vec::new(),
        pending: None,
        documents: 0,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| FileError {
            line: error.marker().line(),
            message: format!("this is not valid YAML: {}", error.info()),
        })?;
        let line = span.start.line();
        reader
            .on(event, line)
            .map_err(|message| FileError { line, message })?;
    }
    Ok(reader.entries)
}

struct Reader {
    entries: Vec<Entry>,
    /// Keys of the mappings that are open.
    path: Vec<String>,
    /// A key whose value has not come yet.
    pending: Option<String>,
    documents: u32,
}

impl Reader {
    fn on(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("a second document begins here; the file holds one".into());
                }
            }
            Event::Alias(_) => return Err("aliases are not used here; write the value out".into()),
            Event::SequenceStart(..) | Event::SequenceEnd => {
                return Err(match &self.pending {
                    Some(key) => format!(
                        "`{}` is a list; every key has a single value",
                        self.name(key)
                    ),
                    None => "this is a list; the file is made of `key: value` lines".into(),
                });
            }
            Event::MappingStart(..) => match self.pending.take() {
                Some(key) => self.path.push(key),
                // The document itself. A mapping as a key of another has no pending key either.
                None if self.path.is_empty() && self.entries.is_empty() => {
                    self.path.push(String::new());
                }
                None => return Err("a key cannot itself be `{…}`".into()),
            },
            Event::MappingEnd => {
                self.path.pop();
            }
            Event::Scalar(text, style, ..) => return self.scalar(&text, style, line),
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, line: usize) -> Result<(), String> {
        let plain = style == ScalarStyle::Plain;
        let Some(key) = self.pending.take() else {
            if !self.path.is_empty() {
                self.pending = Some(text.to_owned());
                return Ok(());
            }
            // A file with nothing but comments reads as one empty scalar.
            return if plain && text.is_empty() {
                Ok(())
            } else {
                Err(format!("`{text}` is no `key: value` line"))
            };
        };
        let key = self.name(&key);
        if plain && matches!(text, "" | "~" | "null") {
            return Err(format!(
                "`{key}` has no value; give it one or remove the line"
            ));
        }
        self.entries.push(Entry {
            key,
            text: text.to_owned(),
            line,
        });
        Ok(())
    }

    fn name(&self, key: &str) -> String {
        let outer = self.path.iter().filter(|part| !part.is_empty());
        outer
            .map(String::as_str)
            .chain([key])
            .collect::<Vec<_>>()
            .join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, text: &str, line: usize) -> Entry {
        Entry {
            key: key.into(),
            text: text.into(),
            line,
        }
    }

    #[test]
    fn nesting_and_dots_are_the_same() {
        let text = "# a comment\nbind: 127.0.0.1:9092\njournal:\n  file_bytes: 64MiB\n  max_files: 4\nlog.level: \"warn\"\ntopic:\n  defaults: {retention.ms: -1}\n";
        assert_eq!(
            parse(text).unwrap(),
            [
                entry("bind", "127.0.0.1:9092", 2),
                entry("journal.file_bytes", "64MiB", 4),
                entry("journal.max_files", "4", 5),
                entry("log.level", "warn", 6),
                entry("topic.defaults.retention.ms", "-1", 8),
            ]
        );
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        for text in ["", "\n\n", "# only words\n", "---\n", "{}"] {
            assert_eq!(parse(text), Ok(vec![]), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_keys_and_values_is_refused_with_its_line() {
        for (text, line, part) in [
            ("bind: 1\njournal:\n  - 1\n", 3, "`journal` is a list"),
            ("- bind\n", 1, "this is a list"),
            ("bind\n", 1, "`bind` is no `key: value` line"),
            ("bind: 1\nlog:\n", 2, "`log` has no value"),
            ("log:\n  level: ~\n", 2, "`log.level` has no value"),
            ("bind: 1\n---\nbind: 2\n", 2, "a second document"),
            ("a: &x 1\nb: *x\n", 2, "aliases are not used"),
            ("bind: 1\n\tlog: 2\n", 1, "not valid YAML"),
            ("{a: 1}: 2\n", 1, "a key cannot itself be"),
            ("a: \"open\n", 1, "not valid YAML"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(part), "{text:?}: {error:?}");
            assert_eq!(error.line, line, "{text:?}: {error:?}");
        }
    }
}
