//! Which value of a key wins: a flag, else a variable, else the file, else the default.

use std::fmt;
use std::path::{Path, PathBuf};

use super::file::{self, FileError};
use super::keys::{Config, Key, keys, plain};

/// Variables that begin as the broker's do and are not keys of its configuration.
const OTHER_VARIABLES: [&str; 2] = ["MILLRACE_BOOTSTRAP", "MILLRACE_CONFIG"];

/// Journal files are written in whole blocks of this size.
const JOURNAL_BLOCK_BYTES: u64 = 4096;

/// Everything that may set a key.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// The environment, or the part of it that begins with `MILLRACE_`.
    pub variables: Vec<(String, String)>,
    /// Flags: the flag as typed, the key that it sets, and the value.
    pub flags: Vec<(String, String, String)>,
}

impl Inputs {
    /// The process's `MILLRACE_…` variables.
    pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with("MILLRACE_")) else {
                continue;
            };
            let Some(value) = value.to_str() else {
                return Err(ConfigError::NotText {
                    name: name.to_owned(),
                });
            };
            variables.push((name.to_owned(), value.to_owned()));
        }
        Ok(variables)
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// This line of the configuration file.
    File(PathBuf, usize),
    /// This variable.
    Variable(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path, line) => write!(f, "{}:{line}", path.display()),
            Source::Variable(name) => write!(f, "variable {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One key's value in force.
#[derive(Clone)]
pub struct Setting {
    /// The key.
    pub key: &'static Key,
    /// The value, for people.
    pub shown: String,
    /// The value, for programs.
    pub json: serde_json::Value,
    /// Where it came from.
    pub source: Source,
    text: String,
}

impl Setting {
    /// The value in one line, numbers in the key's unit and without another.
    #[must_use]
    pub fn plain(&self) -> String {
        plain(&self.json)
    }

    /// Whether somebody set it.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.source != Source::Default
    }
}

/// The configuration, and where each part of it came from.
pub struct Resolved {
    /// The typed form.
    pub config: Config,
    /// Every key in the table's order.
    pub settings: Vec<Setting>,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {error}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The file is not made of keys and values.
    #[error("{path}:{line}: {message}", path = .path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// There is no such key.
    #[error("{place}: there is no key `{key}`; {suggestion}")]
    UnknownKey {
        /// Where it was set.
        place: String,
        /// The key as written.
        key: String,
        /// What may have been meant.
        suggestion: String,
    },
    /// A variable begins with `MILLRACE_` and sets nothing.
    #[error("the variable {name} sets nothing; {suggestion}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// What may have been meant.
        suggestion: String,
    },
    /// A variable's value is not UTF-8.
    #[error("the value of the variable {name} is not UTF-8 text; set it in the file or by a flag")]
    NotText {
        /// The variable.
        name: String,
    },
    /// A value is not what the key takes.
    #[error("{place}: `{key}` is `{text}`, {reason}")]
    Value {
        /// Where it was set.
        place: String,
        /// The key.
        key: String,
        /// The value as written.
        text: String,
        /// Why not.
        reason: String,
    },
    /// One key is set twice in the same place.
    #[error("`{key}` is set twice: by {first} and by {second}; remove one")]
    Twice {
        /// The key.
        key: String,
        /// First place.
        first: Source,
        /// Second place.
        second: Source,
    },
    /// A value does not agree with another, or with the machine.
    #[error("{0}")]
    Contradiction(String),
}

/// Reads the inputs and decides.
pub fn resolve(inputs: &Inputs) -> Result<Resolved, ConfigError> {
    let mut settings: Vec<Setting> = keys().iter().map(default_setting).collect();
    if let Some(path) = &inputs.file {
        apply(&mut settings, from_file(path)?)?;
    }
    apply(&mut settings, from_variables(&inputs.variables)?)?;
    apply(
        &mut settings,
        inputs
            .flags
            .iter()
            .map(|(flag, key, text)| (key.clone(), text.clone(), Source::Flag(flag.clone())))
            .collect(),
    )?;

    let text = |name: &str| {
        let setting = settings.iter().find(|setting| setting.key.name == name);
        setting
            .expect("settings and fields come from the same table")
            .text
            .clone()
    };
    let config = Config::from_texts(text);
    agree(&config)?;
    Ok(Resolved { config, settings })
}

type Assignment = (String, String, Source);

fn default_setting(key: &'static Key) -> Setting {
    let (shown, json) = (key.check)(&key.default).expect("every default passes its own check");
    Setting {
        key,
        shown,
        json,
        source: Source::Default,
        text: key.default.clone().into_owned(),
    }
}

fn from_file(path: &Path) -> Result<Vec<Assignment>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let entries = file::parse(&text).map_err(|FileError { line, message }| ConfigError::Form {
        path: path.to_owned(),
        line,
        message,
    })?;
    let sourced = |entry: file::Entry| {
        (
            entry.key,
            entry.text,
            Source::File(path.to_owned(), entry.line),
        )
    };
    Ok(entries.into_iter().map(sourced).collect())
}

fn from_variables(variables: &[(String, String)]) -> Result<Vec<Assignment>, ConfigError> {
    let mut assignments = Vec::new();
    for (name, text) in variables {
        if OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let Some(key) = keys().iter().find(|key| key.variable() == *name) else {
            let known: Vec<String> = keys()
                .iter()
                .map(Key::variable)
                .chain(OTHER_VARIABLES.map(String::from))
                .collect();
            return Err(ConfigError::UnknownVariable {
                name: name.clone(),
                suggestion: suggestion(name, known.iter().map(String::as_str)),
            });
        };
        assignments.push((
            key.name.clone().into_owned(),
            text.clone(),
            Source::Variable(name.clone()),
        ));
    }
    Ok(assignments)
}

/// Lays one kind of source over what is there. Within it, no key may come twice.
fn apply(settings: &mut [Setting], assignments: Vec<Assignment>) -> Result<(), ConfigError> {
    let mut seen: Vec<(String, Source)> = Vec::new();
    for (key, text, source) in assignments {
        let Some(setting) = settings.iter_mut().find(|setting| setting.key.name == key) else {
            return Err(unknown_key(key, &source));
        };
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == key) {
            return Err(ConfigError::Twice {
                key,
                first: first.clone(),
                second: source,
            });
        }
        (setting.shown, setting.json) =
            (setting.key.check)(&text).map_err(|reason| ConfigError::Value {
                place: source.to_string(),
                key: key.clone(),
                text: text.clone(),
                reason,
            })?;
        setting.text = text;
        setting.source = source.clone();
        seen.push((key, source));
    }
    Ok(())
}

fn unknown_key(key: String, source: &Source) -> ConfigError {
    let inside = format!("{key}.");
    let suggestion = if keys().iter().any(|known| known.name.starts_with(&inside)) {
        format!("`{key}` is a section, its keys are written below it, indented, or as `{key}.…`")
    } else {
        suggestion(&key, keys().iter().map(|known| &*known.name))
    };
    ConfigError::UnknownKey {
        place: source.to_string(),
        key,
        suggestion,
    }
}

/// Says what may have been meant: a name that is spelled nearly the same, or
/// one whose last parts are.
pub fn suggestion<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let alike = strsim::normalized_damerau_levenshtein;
    let likeness = |name: &str| {
        let begins = name.match_indices('.').map(|(dot, _)| dot + 1);
        let part = begins
            .map(|begin| alike(wrong, &name[begin..]))
            .fold(0.0, f64::max);
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        alike(wrong, name)
            .max(part * 0.95)
            .max(alike(&last(wrong), &last(name)) * 0.9)
    };
    let best = known
        .map(|name| (likeness(name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((likeness, name)) if likeness >= 0.6 => format!("did you mean `{name}`?"),
        _ => "`millrace config` lists every key there is".into(),
    }
}

/// Checks what one key alone cannot know.
fn agree(config: &Config) -> Result<(), ConfigError> {
    let bound = |small: (&str, u64), large: (&str, u64)| {
        if small.1 > large.1 {
            return Err(ConfigError::Contradiction(format!(
                "`{}` is {} and `{}` is {}: the first cannot be more than the second",
                small.0, small.1, large.0, large.1
            )));
        }
        Ok(())
    };
    let (storage, network, journal) = (&config.storage, &config.network, &config.journal);
    if let Some(unwritten) = storage.unwritten_bytes {
        bound(
            ("storage.flush_bytes", storage.flush_bytes),
            ("storage.unwritten_bytes", unwritten),
        )?;
    }
    bound(
        ("network.max_frame_bytes", network.max_frame_bytes),
        ("network.buffer_bytes", network.buffer_bytes),
    )?;
    if let Some(bytes) = journal.file_bytes
        && bytes % JOURNAL_BLOCK_BYTES != 0
    {
        return Err(ConfigError::Contradiction(format!(
            "`journal.file_bytes` is {bytes}, which is not a multiple of {JOURNAL_BLOCK_BYTES}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(key: &str, text: &str) -> (String, String, String) {
        ("--set".into(), key.into(), text.into())
    }

    fn variable(name: &str, text: &str) -> (String, String) {
        (name.into(), text.into())
    }

    fn source<'a>(resolved: &'a Resolved, key: &str) -> &'a Source {
        &resolved
            .settings
            .iter()
            .find(|setting| setting.key.name == key)
            .unwrap()
            .source
    }

    #[test]
    fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("m.yaml");
        std::fs::write(
            &path,
            "journal:\n  max_files: 10\n  linger_us: 10\nshards: 10\n",
        )
        .unwrap();
        let resolved = resolve(&Inputs {
            file: Some(path.clone()),
            variables: vec![
                variable("MILLRACE_SHARDS", "20"),
                variable("MILLRACE_JOURNAL_LINGER_US", "20us"),
                variable("MILLRACE_BOOTSTRAP", "elsewhere:9092"),
            ],
            flags: vec![("--shards".into(), "shards".into(), "30".into())],
        })
        .unwrap();
        assert_eq!(resolved.config.shards, Some(30));
        assert_eq!(resolved.config.journal.linger_us.as_micros(), 20);
        assert_eq!(resolved.config.journal.max_files, 10);
        assert_eq!(resolved.config.journal.max_group_writes, 1000);
        assert_eq!(
            *source(&resolved, "shards"),
            Source::Flag("--shards".into())
        );
        assert_eq!(
            *source(&resolved, "journal.linger_us"),
            Source::Variable("MILLRACE_JOURNAL_LINGER_US".into())
        );
        assert_eq!(
            *source(&resolved, "journal.max_files"),
            Source::File(path, 2)
        );
        assert_eq!(
            *source(&resolved, "journal.max_group_writes"),
            Source::Default
        );
    }

    #[test]
    fn refusals_name_the_place_and_what_to_do() {
        let flags = |key: &str, text: &str| Inputs {
            flags: vec![flag(key, text)],
            ..Inputs::default()
        };
        let variables = |name: &str, text: &str| Inputs {
            variables: vec![variable(name, text)],
            ..Inputs::default()
        };
        for (inputs, parts) in [
            (
                flags("journal.file_byte", "1"),
                ["flag --set", "did you mean `journal.file_bytes`?"],
            ),
            (
                flags("max_files", "1"),
                ["no key `max_files`", "did you mean `journal.max_files`?"],
            ),
            (flags("journal", "1"), ["no key `journal`", "is a section"]),
            (
                flags("zzz", "1"),
                ["no key `zzz`", "`millrace config` lists"],
            ),
            (
                flags("journal.max_files", "many"),
                ["`many`", "a whole number"],
            ),
            (
                flags("journal.max_files", "3"),
                ["`3`", "between 4 and 1024"],
            ),
            (
                flags("bind", "localhost"),
                ["`localhost`", "an IP address and a port"],
            ),
            (
                variables("MILLRACE_SHARD", "1"),
                ["MILLRACE_SHARD ", "did you mean `MILLRACE_SHARDS`?"],
            ),
            (
                variables("MILLRACE_SHARDS", "0"),
                ["variable MILLRACE_SHARDS", "between 1 and 1024"],
            ),
            (
                flags("storage.flush_bytes", "64KiB "),
                ["`64KiB `", "a number of bytes"],
            ),
            (
                flags("journal.file_bytes", "4000kB"),
                ["`journal.file_bytes` is 4000000", "multiple of 4096"],
            ),
            (
                flags("network.buffer_bytes", "50MiB"),
                ["network.max_frame_bytes", "cannot be more"],
            ),
        ] {
            let Err(error) = resolve(&inputs) else {
                panic!("{inputs:?} was taken")
            };
            for part in parts {
                assert!(error.to_string().contains(part), "{inputs:?}: {error}");
            }
        }
    }

    #[test]
    fn a_key_set_twice_in_one_place_is_refused() {
        let inputs = Inputs {
            flags: vec![flag("shards", "1"), flag("shards", "2")],
            ..Inputs::default()
        };
        assert!(matches!(resolve(&inputs), Err(ConfigError::Twice { .. })));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let inputs = Inputs {
            file: Some("no/such.yaml".into()),
            ..Inputs::default()
        };
        let error = resolve(&inputs).err().unwrap().to_string();
        assert!(
            error.contains("no/such.yaml") && error.contains("No such file"),
            "{error}"
        );
    }
}
