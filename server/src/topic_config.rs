//! Topic configuration, in Kafka's names. One table says what each key means, what it may hold and
//! what it is when nobody set it; parsing, listing and the documentation all come from that table.
//! Pure values: nothing here touches a disk or a core.

use std::fmt;

use crate::value_type::ValueType;

/// A topic's configuration with every key filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// `retention.ms`: how long records are kept; for ever when absent.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`: how many bytes a partition keeps; no limit when absent.
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`: a segment file is closed when it reaches this size.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment file is closed when it is this old.
    pub segment_ms: u64,
    /// `max.message.bytes`: the largest batch that is taken, as it comes (compressed).
    pub max_message_bytes: u32,
    /// `compression.type`.
    pub compression: CompressionType,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `min.insync.replicas`: how many replicas must be in sync for `acks=all`.
    pub min_insync_replicas: u32,
}

/// What happens to the compression of what producers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// Batches are kept as the producer compressed them.
    Producer,
    /// Batches are kept uncompressed.
    Uncompressed,
    /// Batches are kept in gzip.
    Gzip,
    /// Batches are kept in snappy.
    Snappy,
    /// Batches are kept in lz4.
    Lz4,
    /// Batches are kept in zstd.
    Zstd,
}

/// Whose clock a record's timestamp is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, when the batch was appended.
    LogAppendTime,
}

/// Why a configuration entry was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicConfigError {
    /// No such key.
    #[error("there is no topic configuration '{name}'{}", did_you_mean(suggestion.as_deref()))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The key that was perhaps meant.
        suggestion: Option<String>,
    },
    /// The value cannot be this.
    #[error("'{name}' cannot be '{value}': {why}")]
    Value {
        /// The key.
        name: &'static str,
        /// The value as it came.
        value: String,
        /// What it must be.
        why: String,
    },
    /// The same key twice in one request.
    #[error("'{0}' is given more than once; give it once")]
    Twice(String),
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(key) => format!("; did you mean '{key}'?"),
        None => format!(
            "; the keys are {}",
            TopicConfig::keys().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// One row of the table.
struct Key {
    name: &'static str,
    kind: ValueType,
    doc: &'static str,
    set: fn(&mut TopicConfig, &str) -> Result<(), String>,
    get: fn(&TopicConfig) -> String,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The largest `max.message.bytes`. A batch travels in one frame and in one group of the journal,
/// and a shard validates it without giving way to others, so this stays well below a frame's limit.
pub const MAX_MESSAGE_BYTES_LIMIT: u32 = 16 * 1024 * 1024;
/// The smallest `segment.bytes`: a header block and a few blocks of batches.
pub const MIN_SEGMENT_BYTES: u64 = 16 * 1024;
/// The largest `segment.bytes`.
pub const MAX_SEGMENT_BYTES: u64 = 16 * 1024 * 1024 * 1024;

const KEYS: [Key; 9] = [
    Key {
        name: "cleanup.policy",
        kind: ValueType::List,
        doc: "what is done with old records; 'delete' removes them by retention",
        set: |_, value| match value {
            "delete" => Ok(()),
            "compact" | "compact,delete" | "delete,compact" => {
                Err("compaction by key is not there yet; use 'delete'".into())
            }
            _ => Err("it must be 'delete'".into()),
        },
        get: |_| "delete".into(),
    },
    Key {
        name: "compression.type",
        kind: ValueType::Text,
        doc: "'producer' keeps batches as they come; 'uncompressed', 'gzip', 'snappy', 'lz4' and 'zstd' recompress those that come otherwise, in a thread beside the shards",
        set: |config, value| {
            config.compression = CompressionType::parse(value)?;
            Ok(())
        },
        get: |config| config.compression.to_string(),
    },
    Key {
        name: "max.message.bytes",
        kind: ValueType::Int,
        doc: "the largest record batch taken, in bytes, as compressed by the producer",
        set: |config, value| {
            let bytes = number_between(value, 1, u64::from(MAX_MESSAGE_BYTES_LIMIT))?;
            config.max_message_bytes = u32::try_from(bytes).map_err(|e| e.to_string())?;
            Ok(())
        },
        get: |config| config.max_message_bytes.to_string(),
    },
    Key {
        name: "message.timestamp.type",
        kind: ValueType::Text,
        doc: "'CreateTime' keeps the producer's timestamps, 'LogAppendTime' stamps batches on arrival",
        set: |config, value| {
            config.timestamp_type = match value {
                "CreateTime" => TimestampType::CreateTime,
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => return Err("it must be 'CreateTime' or 'LogAppendTime'".into()),
            };
            Ok(())
        },
        get: |config| config.timestamp_type.to_string(),
    },
    Key {
        name: "min.insync.replicas",
        kind: ValueType::Int,
        doc: "how many replicas must be in sync for a batch with acks=all to be taken; a node by itself is one",
        set: |config, value| {
            let replicas = number_between(value, 1, i32::MAX as u64)?;
            config.min_insync_replicas = u32::try_from(replicas).map_err(|e| e.to_string())?;
            Ok(())
        },
        get: |config| config.min_insync_replicas.to_string(),
    },
    Key {
        name: "retention.bytes",
        kind: ValueType::Long,
        doc: "bytes a partition keeps before its oldest segments are removed; -1 for no limit",
        set: |config, value| {
            config.retention_bytes = number_or_unlimited(value)?;
            Ok(())
        },
        get: |config| or_minus_one(config.retention_bytes),
    },
    Key {
        name: "retention.ms",
        kind: ValueType::Long,
        doc: "how long records are kept, in milliseconds; -1 for ever",
        set: |config, value| {
            config.retention_ms = number_or_unlimited(value)?;
            Ok(())
        },
        get: |config| or_minus_one(config.retention_ms),
    },
    Key {
        name: "segment.bytes",
        kind: ValueType::Long,
        doc: "size at which a segment file is closed and the next begun",
        set: |config, value| {
            config.segment_bytes = number_between(value, MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES)?;
            Ok(())
        },
        get: |config| config.segment_bytes.to_string(),
    },
    Key {
        name: "segment.ms",
        kind: ValueType::Long,
        doc: "age at which a segment file is closed even if it is small, in milliseconds",
        set: |config, value| {
            config.segment_ms = number_between(value, 1, i64::MAX as u64)?;
            Ok(())
        },
        get: |config| config.segment_ms.to_string(),
    },
];

impl Default for TopicConfig {
    /// Kafka's defaults.
    fn default() -> TopicConfig {
        TopicConfig {
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            segment_bytes: 1024 * 1024 * 1024,
            segment_ms: 7 * DAY_MS,
            max_message_bytes: 1024 * 1024 + 12,
            compression: CompressionType::Producer,
            timestamp_type: TimestampType::CreateTime,
            min_insync_replicas: 1,
        }
    }
}

impl TopicConfig {
    /// The keys that exist, sorted.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        KEYS.iter().map(|key| key.name)
    }

    /// What a key means, in one line.
    #[must_use]
    pub fn doc(name: &str) -> Option<&'static str> {
        KEYS.iter().find(|key| key.name == name).map(|key| key.doc)
    }

    /// What a key's value is made of.
    #[must_use]
    pub fn kind(name: &str) -> Option<ValueType> {
        KEYS.iter().find(|key| key.name == name).map(|key| key.kind)
    }

    /// Sets one key.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), TopicConfigError> {
        let key = find(name)?;
        (key.set)(self, value.trim()).map_err(|why| TopicConfigError::Value {
            name: key.name,
            value: value.to_owned(),
            why,
        })
    }

    /// These defaults with `entries` set over them; no key may come twice.
    pub fn with<'a>(
        &self,
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<TopicConfig, TopicConfigError> {
        let mut config = self.clone();
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in entries {
            if seen.contains(&name) {
                return Err(TopicConfigError::Twice(name.to_owned()));
            }
            config.set(name, value)?;
            seen.push(name);
        }
        Ok(config)
    }

    /// Every key with its value, sorted by key.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        KEYS.iter().map(|key| (key.name, (key.get)(self)))
    }

    /// Whether a key of this name exists; the error suggests one that does.
    pub fn check_name(name: &str) -> Result<(), TopicConfigError> {
        find(name).map(|_| ())
    }
}

fn find(name: &str) -> Result<&'static Key, TopicConfigError> {
    KEYS.iter()
        .find(|key| key.name == name)
        .ok_or_else(|| TopicConfigError::Unknown {
            name: name.to_owned(),
            suggestion: suggest(name),
        })
}

/// The key most like `name`, if one is like it at all.
fn suggest(name: &str) -> Option<String> {
    let plain = name.to_ascii_lowercase().replace(['_', '-'], ".");
    KEYS.iter()
        .map(|key| (strsim::jaro_winkler(&plain, key.name), key.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

fn number_between(value: &str, low: u64, high: u64) -> Result<u64, String> {
    match value.parse::<u64>() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("it must be a whole number from {low} to {high}")),
    }
}

fn number_or_unlimited(value: &str) -> Result<Option<u64>, String> {
    match value.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(number) if number >= 0 => Ok(Some(number.unsigned_abs())),
        _ => Err("it must be a whole number, or -1 for no limit".into()),
    }
}

fn or_minus_one(value: Option<u64>) -> String {
    value.map_or_else(|| "-1".into(), |number| number.to_string())
}

impl CompressionType {
    fn parse(value: &str) -> Result<CompressionType, String> {
        match value {
            "producer" => Ok(CompressionType::Producer),
            "uncompressed" | "none" => Ok(CompressionType::Uncompressed),
            "gzip" => Ok(CompressionType::Gzip),
            "snappy" => Ok(CompressionType::Snappy),
            "lz4" => Ok(CompressionType::Lz4),
            "zstd" => Ok(CompressionType::Zstd),
            _ => Err(
                "it must be 'producer', 'uncompressed', 'gzip', 'snappy', 'lz4' or 'zstd'".into(),
            ),
        }
    }
}

impl fmt::Display for CompressionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CompressionType::Producer => "producer",
            CompressionType::Uncompressed => "uncompressed",
            CompressionType::Gzip => "gzip",
            CompressionType::Snappy => "snappy",
            CompressionType::Lz4 => "lz4",
            CompressionType::Zstd => "zstd",
        })
    }
}

impl fmt::Display for TimestampType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_can_be_set_again() {
        let mut changed = TopicConfig::default();
        for (name, value) in [
            ("retention.ms", "60000"),
            ("retention.bytes", "1000"),
            ("segment.bytes", "65536"),
            ("segment.ms", "100"),
            ("max.message.bytes", "2000"),
            ("compression.type", "lz4"),
            ("min.insync.replicas", "2"),
            ("message.timestamp.type", "LogAppendTime"),
        ] {
            changed.set(name, value).expect("a good value");
        }
        for config in [TopicConfig::default(), changed] {
            let listed: Vec<_> = config.entries().collect();
            let again = TopicConfig::default()
                .with(listed.iter().map(|(name, value)| (*name, value.as_str())))
                .expect("listed values are good");
            assert_eq!(config, again);
        }
    }

    #[test]
    fn the_table_is_sorted_and_documented() {
        let names: Vec<_> = TopicConfig::keys().collect();
        assert!(names.is_sorted());
        assert!(
            names
                .iter()
                .all(|name| TopicConfig::doc(name).is_some_and(|doc| !doc.is_empty()))
        );
    }

    #[test]
    fn minus_one_is_no_limit() {
        let config = TopicConfig::default()
            .with([("retention.ms", "-1")])
            .expect("allowed");
        assert_eq!(config.retention_ms, None);
    }

    #[test]
    fn a_wrong_key_gets_the_right_one_suggested() {
        for (wrong, right) in [
            ("retention_ms", "retention.ms"),
            ("retenton.ms", "retention.ms"),
            ("segment.byte", "segment.bytes"),
            ("cleanup.polcy", "cleanup.policy"),
        ] {
            let error = TopicConfig::check_name(wrong).expect_err("unknown");
            assert!(
                error
                    .to_string()
                    .ends_with(&format!("did you mean '{right}'?")),
                "{error}"
            );
        }
        let error = TopicConfig::check_name("colour")
            .expect_err("unknown")
            .to_string();
        assert!(error.contains("the keys are cleanup.policy, "), "{error}");
    }

    #[test]
    fn wrong_values_say_what_is_right() {
        for (name, value, says) in [
            ("retention.ms", "-2", "-1 for no limit"),
            ("retention.bytes", "many", "-1 for no limit"),
            ("segment.bytes", "10", "from 16384"),
            ("max.message.bytes", "99999999", "to 16777216"),
            ("cleanup.policy", "compact", "not there yet"),
            ("cleanup.policy", "burn", "must be 'delete'"),
            ("compression.type", "brotli", "'gzip', 'snappy'"),
            ("min.insync.replicas", "0", "from 1"),
            (
                "message.timestamp.type",
                "createtime",
                "'CreateTime' or 'LogAppendTime'",
            ),
            ("segment.ms", "0", "from 1"),
        ] {
            let error = TopicConfig::default()
                .with([(name, value)])
                .expect_err(name)
                .to_string();
            assert!(error.contains(says), "{error}");
        }
        let twice = TopicConfig::default().with([("segment.ms", "5"), ("segment.ms", "6")]);
        assert_eq!(twice, Err(TopicConfigError::Twice("segment.ms".into())));
    }
}
