//! The table of keys, and the typed [`Config`] made from it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use super::kind::{Address, Auto, Bool, Bytes, Count, Host, Kind, LogLevel, Micros, Millis, Path};
use crate::logging::LogFormat;
use crate::topic_config::TopicConfig;
use crate::value_type::ValueType;

/// One row of the table.
pub struct Key {
    /// Dotted name, as in the file.
    pub name: Cow<'static, str>,
    /// The default, as text.
    pub default: Cow<'static, str>,
    /// Least and most, as text, where there are limits.
    pub limits: Option<Limits>,
    /// What it does.
    pub doc: &'static str,
    /// What its value is made of.
    pub kind: ValueType,
    /// Checks a text and normalises it: as a person reads it, and for programs.
    pub(super) check: Check,
}

/// How a text is checked and normalised.
pub(super) type Check =
    Box<dyn Fn(&str) -> Result<(String, serde_json::Value), String> + Send + Sync>;

/// Topic configuration keys, in Kafka's names, are the broker's keys with this before them.
pub const TOPIC_DEFAULTS: &str = "topic.defaults.";

/// The least and the most that a key may be.
#[derive(Clone, Copy)]
pub struct Limits {
    /// The least.
    pub least: &'static str,
    /// The most.
    pub most: &'static str,
}

impl Key {
    /// The variable that sets the key: `MILLRACE_JOURNAL_FILE_BYTES` for `journal.file_bytes`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("MILLRACE_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// The default, as [`super::Setting::plain`] has values.
    #[must_use]
    pub fn plain_default(&self) -> String {
        let (_, json) = (self.check)(&self.default).expect("every default passes its own check");
        plain(&json)
    }
}

/// A value without the quotes of JSON.
pub(super) fn plain(json: &serde_json::Value) -> String {
    match json.as_str() {
        Some(text) => text.to_owned(),
        None => json.to_string(),
    }
}

fn check<K: Kind>(
    text: &str,
    limits: Option<Limits>,
) -> Result<(String, serde_json::Value), String> {
    let value = K::parse(text)?;
    if let (Some(limits), Some(number)) = (limits, K::number(&value)) {
        let limit = |text| K::parse(text).ok().as_ref().and_then(K::number);
        if limit(limits.least).is_some_and(|least| number < least)
            || limit(limits.most).is_some_and(|most| number > most)
        {
            return Err(format!(
                "which is not between {} and {}",
                limits.least, limits.most
            ));
        }
    }
    Ok((K::show(&value), K::json(&value)))
}

/// Makes the structs and the table. A row is
/// `field: Type as Kind = "default" [in "least" to "most"], "doc";`.
macro_rules! configuration {
    (
        $($field:ident: $type:ty as $kind:ty = $default:literal $(in $least:literal to $most:literal)?, $doc:literal;)*
        $($(#[$section_doc:meta])* section $section:ident: $Section:ident {
            $($inner:ident: $inner_type:ty as $inner_kind:ty = $inner_default:literal
                $(in $inner_least:literal to $inner_most:literal)?, $inner_doc:literal;)*
        })*
    ) => {
        /// Every setting of the broker, checked.
        #[derive(Clone, Debug)]
        pub struct Config {
            $(#[doc = $doc] pub $field: $type,)*
            $($(#[$section_doc])* pub $section: $Section,)*
            /// What a topic has where it sets nothing itself.
            pub topic_defaults: TopicConfig,
        }

        $($(#[$section_doc])*
        #[derive(Clone, Debug)]
        pub struct $Section { $(#[doc = $inner_doc] pub $inner: $inner_type,)* })*

        fn own_keys() -> Vec<Key> {
            vec![
            $(configuration!(@key stringify!($field), $kind, $default, $doc $(, $least, $most)?),)*
            $($(configuration!(@key concat!(stringify!($section), ".", stringify!($inner)),
                $inner_kind, $inner_default, $inner_doc $(, $inner_least, $inner_most)?),)*)*
            ]
        }

        impl Config {
            /// Builds the typed form from texts that were checked before.
            pub(super) fn from_texts(text: impl Fn(&str) -> String) -> Config {
                Config {
                    $($field: configuration!(@value text, stringify!($field), $kind),)*
                    $($section: $Section {
                        $($inner: configuration!(@value text,
                            concat!(stringify!($section), ".", stringify!($inner)), $inner_kind),)*
                    },)*
                    topic_defaults: topic_defaults(text),
                }
            }
        }
    };
    (@key $name:expr, $kind:ty, $default:literal, $doc:literal $(, $least:literal, $most:literal)?) => {{
        const LIMITS: Option<Limits> = configuration!(@limits $($least, $most)?);
        Key {
            name: $name.into(),
            default: $default.into(),
            limits: LIMITS,
            doc: $doc,
            kind: <$kind as Kind>::TYPE,
            check: Box::new(|text| check::<$kind>(text, LIMITS)),
        }
    }};
    (@limits) => { None };
    (@limits $least:literal, $most:literal) => { Some(Limits { least: $least, most: $most }) };
    (@value $text:ident, $name:expr, $kind:ty) => {
        <$kind as Kind>::parse(&$text($name)).expect("every text is checked before it gets here")
    };
}

configuration! {
    bind: SocketAddr as Address = "0.0.0.0:9092",
        "Address and port to listen on; port 0 takes a free one.";
    data_dir: PathBuf as Path = "./data",
        "Directory that holds everything stored; made if it does not exist.";
    shards: Option<u32> as Auto<Count> = "auto" in "1" to "1024",
        "Number of shards, each a pinned thread; auto: one for each CPU the process may use.";
    allow_anonymous_remote: bool as Bool = "false",
        "Serve peers that are not on this machine although there is no authentication.";

    /// What is logged, and how.
    section log: Log {
        level: String as LogLevel = "info",
            "Least severe level that is logged, or directives by module as in RUST_LOG.";
        format: LogFormat as LogFormat = "auto",
            "How events are written: text, json, or auto for text.";
    }

    /// Where acknowledged records are made durable.
    section journal: Journal {
        file_bytes: Option<u64> as Auto<Bytes> = "auto" in "1MiB" to "4GiB",
            "Size of one journal file; auto: a 256th of the file system, from 4MiB to 64MiB.";
        max_files: u32 as Count = "32" in "4" to "1024",
            "Most journal files of one shard; producing waits when all hold records not yet in segments.";
        linger_us: Duration as Micros = "0" in "0" to "100000",
            "How long a group waits for more records before it is written; 0 writes at once.";
        max_group_bytes: u64 as Bytes = "4MiB" in "64KiB" to "64MiB",
            "Most bytes made durable by one write.";
        max_group_writes: u32 as Count = "1000" in "1" to "100000",
            "Most appends made durable by one write.";
    }

    /// Segments, and the disk they are on.
    section storage: Storage {
        disk_reserve_bytes: Option<u64> as Auto<Bytes> = "auto",
            "Free space below which producing is refused; auto: 5 % of the file system, from 64MiB to 1GiB, less on a small one.";
        open_files_max: u32 as Count = "256" in "16" to "100000",
            "Most segment files that one shard keeps open.";
        flush_bytes: u64 as Bytes = "1MiB" in "64KiB" to "64MiB",
            "Bytes of a partition that are gathered before they are written to its segment.";
        unwritten_bytes: Option<u64> as Auto<Bytes> = "auto" in "4MiB" to "16GiB",
            "Most bytes of one shard that are in memory and not yet in segments; producing waits beyond. auto: an eighth of the memory, shared by the shards, from 64MiB to 1GiB.";
        housekeeping_interval_ms: Duration as Millis = "1000" in "10" to "3600000",
            "How often retention is applied.";
    }

    /// Idempotent producers: what tells a batch that is sent again from a new one.
    section producers: Producers {
        expiration_ms: Duration as Millis = "86400000" in "1000" to "31536000000",
            "How long a partition remembers an idempotent producer that sends it nothing; one that comes back later goes on, but what it sends again is no longer told apart.";
    }

    /// Recent batches in memory.
    section cache: Cache {
        bytes: u64 as Bytes = "128MiB" in "1MiB" to "1TiB",
            "Most bytes of batches that one shard keeps in memory for consumers at the end of a partition.";
    }

    /// Connections and their limits.
    section network: Network {
        max_connections: u32 as Count = "10000" in "1" to "1000000",
            "Most connections of one shard; more are closed at once.";
        max_half_open: u32 as Count = "1024" in "1" to "1000000",
            "Most connections of one shard that have not finished their handshake.";
        handshake_timeout_ms: Duration as Millis = "5000" in "100" to "600000",
            "A connection that has not finished its handshake by then is closed.";
        frame_timeout_ms: Duration as Millis = "30000" in "100" to "600000",
            "A connection that has not finished a frame it began by then is closed.";
        max_frame_bytes: u64 as Bytes = "100MiB" in "64KiB" to "100MiB",
            "Longest frame taken from a client.";
        max_in_flight: u32 as Count = "64" in "1" to "10000",
            "Most unanswered requests of one connection before it is no longer read from.";
        buffer_bytes: u64 as Bytes = "256MiB" in "1MiB" to "1TiB",
            "Most bytes of requests being received or served on one shard; connections wait beyond.";
    }

    /// The Kafka protocol.
    section kafka: Kafka {
        bind: Option<SocketAddr> as Auto<Address> = "auto",
            "Address and port for Kafka clients alone; auto: they are served on the same as native ones (bind).";
        advertised_host: Option<String> as Auto<Host> = "auto",
            "Host name or address that Kafka clients are told to connect to; auto: the address under which each reached the broker.";
        advertised_port: Option<u32> as Auto<Count> = "auto" in "1" to "65535",
            "Port that Kafka clients are told to connect to; auto: the one that the broker listens on.";
        auto_create_topics: bool as Bool = "true",
            "Whether a topic is created when a Kafka client asks for its metadata and there is none.";
    }

    /// Consumer groups.
    section groups: Groups {
        initial_rebalance_delay_ms: Duration as Millis = "3000" in "0" to "600000",
            "How long the first rebalance of an empty group of Kafka clients waits for more members.";
        native_initial_rebalance_delay_ms: Duration as Millis = "100" in "0" to "600000",
            "How long the first rebalance of an empty group of native consumers waits for more members.";
        partitions: u32 as Count = "50" in "1" to "1000",
            "Number of partitions of the internal topic that groups are kept in; counts when the first group is made.";
        min_session_timeout_ms: Duration as Millis = "6000" in "1" to "3600000",
            "Shortest session timeout that a member of a group may ask for.";
        max_session_timeout_ms: Duration as Millis = "1800000" in "1" to "86400000",
            "Longest session timeout that a member of a group may ask for.";
        max_size: u32 as Count = "10000" in "1" to "1000000",
            "Most members of one group.";
        offset_metadata_max_bytes: u64 as Bytes = "4KiB" in "0" to "31KiB",
            "Longest text that a client may keep with an offset.";
        offsets_retention_ms: Duration as Millis = "604800000" in "1000" to "31536000000",
            "How long offsets are kept once their group has no members.";
        offsets_retention_check_interval_ms: Duration as Millis = "600000" in "100" to "86400000",
            "How often offsets are looked at that may have to go.";
    }

    /// What new topics get.
    section topic: Topic {
        default_partitions: u32 as Count = "1" in "1" to "10000",
            "Number of partitions of a topic that is created without one.";
    }
}

static KEYS: LazyLock<Vec<Key>> =
    LazyLock::new(|| own_keys().into_iter().chain(topic_keys()).collect());

/// The rows that come from the table of topic configuration.
fn topic_keys() -> Vec<Key> {
    let defaults = TopicConfig::default();
    let entries: Vec<_> = defaults.entries().collect();
    let key = |(name, default): (&'static str, String)| Key {
        name: format!("{TOPIC_DEFAULTS}{name}").into(),
        default: default.into(),
        limits: None,
        doc: TopicConfig::doc(name).unwrap_or_default(),
        kind: TopicConfig::kind(name).unwrap_or(ValueType::Text),
        check: Box::new(move |text| {
            let mut config = TopicConfig::default();
            config
                .set(name, text)
                .map_err(|error| format!("which is refused: {error}"))?;
            let shown = config
                .entries()
                .find(|(entry, _)| *entry == name)
                .map(|(_, shown)| shown);
            let shown = shown.unwrap_or_default();
            let json = shown
                .parse::<i64>()
                .map_or_else(|_| shown.clone().into(), Into::into);
            Ok((shown, json))
        }),
    };
    entries.into_iter().map(key).collect()
}

fn topic_defaults(text: impl Fn(&str) -> String) -> TopicConfig {
    let mut config = TopicConfig::default();
    for name in TopicConfig::keys() {
        config
            .set(name, &text(&format!("{TOPIC_DEFAULTS}{name}")))
            .expect("every text is checked before it gets here");
    }
    config
}

/// Every key, in the order in which they are shown.
#[must_use]
pub fn keys() -> &'static [Key] {
    &KEYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check() {
        for key in keys() {
            assert!((key.check)(&key.default).is_ok(), "{}", key.name);
            if let Some(limits) = key.limits {
                assert!((key.check)(limits.least).is_ok(), "{}", key.name);
                assert!((key.check)(limits.most).is_ok(), "{}", key.name);
            }
        }
    }

    #[test]
    fn variables_tell_keys_apart() {
        let mut variables: Vec<_> = keys().iter().map(Key::variable).collect();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), keys().len());
        assert!(variables.contains(&"MILLRACE_JOURNAL_FILE_BYTES".to_owned()));
    }
}
