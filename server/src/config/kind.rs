//! The kinds of values a key can have: how each is read from text and shown again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;

use crate::value_type::ValueType;

/// One kind of value.
pub(super) trait Kind {
    /// What the program works with.
    type Value: Clone;
    /// What may be written, for help and for error messages.
    const HINT: &'static str;
    /// What the value is made of, as [`Kind::json`] has it.
    const TYPE: ValueType = ValueType::Text;
    /// Reads a value. The error is half a sentence that follows "`key` is `text`, ".
    fn parse(text: &str) -> Result<Self::Value, String>;
    /// The value as a person would write it.
    fn show(value: &Self::Value) -> String;
    /// The value for programs: sizes and durations become plain numbers of the key's unit.
    fn json(value: &Self::Value) -> serde_json::Value {
        Self::show(value).into()
    }
    /// The number that limits apply to, where there is one.
    fn number(_value: &Self::Value) -> Option<u64> {
        None
    }
}

fn expected<K: Kind>() -> String {
    format!("which is not {}", K::HINT)
}

/// An address to listen on.
pub(super) struct Address;

impl Kind for Address {
    type Value = SocketAddr;
    const HINT: &'static str =
        "an IP address and a port, such as 0.0.0.0:9092, 127.0.0.1:9092 or [::]:9092";

    fn parse(text: &str) -> Result<SocketAddr, String> {
        text.parse().map_err(|_| expected::<Self>())
    }

    fn show(value: &SocketAddr) -> String {
        value.to_string()
    }
}

/// A name or address of a machine, without a port.
pub(super) struct Host;

impl Kind for Host {
    type Value = String;
    const HINT: &'static str =
        "a host name or an IP address, such as broker-1.example.com, without a port";

    fn parse(text: &str) -> Result<String, String> {
        let is_address = text.parse::<std::net::IpAddr>().is_ok();
        let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = !text.is_empty() && text.len() <= 253 && text.chars().all(in_name);
        if is_address || is_name {
            Ok(text.to_owned())
        } else {
            Err(expected::<Self>())
        }
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

/// A path; relative ones are taken from the working directory.
pub(super) struct Path;

impl Kind for Path {
    type Value = PathBuf;
    const HINT: &'static str = "a path";

    fn parse(text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            Err(expected::<Self>())
        } else {
            Ok(PathBuf::from(text))
        }
    }

    fn show(value: &PathBuf) -> String {
        value.display().to_string()
    }
}

/// True or false.
pub(super) struct Bool;

impl Kind for Bool {
    type Value = bool;
    const HINT: &'static str = "true or false";
    const TYPE: ValueType = ValueType::Boolean;

    fn parse(text: &str) -> Result<bool, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(expected::<Self>()),
        }
    }

    fn show(value: &bool) -> String {
        value.to_string()
    }

    fn json(value: &bool) -> serde_json::Value {
        (*value).into()
    }
}

/// A number of things.
pub(super) struct Count;

impl Kind for Count {
    type Value = u32;
    const HINT: &'static str = "a whole number";
    const TYPE: ValueType = ValueType::Int;

    fn parse(text: &str) -> Result<u32, String> {
        text.parse().map_err(|_| expected::<Self>())
    }

    fn show(value: &u32) -> String {
        value.to_string()
    }

    fn json(value: &u32) -> serde_json::Value {
        (*value).into()
    }

    fn number(value: &u32) -> Option<u64> {
        Some(u64::from(*value))
    }
}

/// A number of bytes.
pub(super) struct Bytes;

impl Kind for Bytes {
    type Value = u64;
    const HINT: &'static str = "a number of bytes, such as 1048576, 64MiB or 1GiB";
    const TYPE: ValueType = ValueType::Long;

    fn parse(text: &str) -> Result<u64, String> {
        ByteSize::from_str(text)
            .map(|size| size.as_u64())
            .map_err(|_| expected::<Self>())
    }

    fn show(value: &u64) -> String {
        // Exact, unlike a rounded "1.5 GiB": what is printed can be put back into a file.
        let exact = [(30, "GiB"), (20, "MiB"), (10, "KiB")]
            .into_iter()
            .find(|(bits, _)| *value != 0 && value.trailing_zeros() >= *bits);
        match exact {
            Some((bits, unit)) => format!("{}{unit}", value >> bits),
            None => value.to_string(),
        }
    }

    fn json(value: &u64) -> serde_json::Value {
        (*value).into()
    }

    fn number(value: &u64) -> Option<u64> {
        Some(*value)
    }
}

fn duration<K: Kind>(text: &str, unit: fn(u64) -> Duration) -> Result<Duration, String> {
    if let Ok(number) = text.parse() {
        return Ok(unit(number));
    }
    let duration: SignedDuration = text.parse().map_err(|_| expected::<K>())?;
    Duration::try_from(duration).map_err(|_| expected::<K>())
}

/// A duration in milliseconds.
pub(super) struct Millis;

impl Kind for Millis {
    type Value = Duration;
    const HINT: &'static str = "a number of milliseconds, or a duration such as 500ms, 10s or 1m";
    const TYPE: ValueType = ValueType::Long;

    fn parse(text: &str) -> Result<Duration, String> {
        let duration = duration::<Self>(text, Duration::from_millis)?;
        if duration.subsec_nanos() % 1_000_000 == 0 {
            Ok(duration)
        } else {
            Err(expected::<Self>())
        }
    }

    fn show(value: &Duration) -> String {
        value.as_millis().to_string()
    }

    fn json(value: &Duration) -> serde_json::Value {
        Self::number(value).into()
    }

    fn number(value: &Duration) -> Option<u64> {
        Some(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A duration in microseconds.
pub(super) struct Micros;

impl Kind for Micros {
    type Value = Duration;
    const HINT: &'static str = "a number of microseconds, or a duration such as 50us or 2ms";
    const TYPE: ValueType = ValueType::Long;

    fn parse(text: &str) -> Result<Duration, String> {
        let duration = duration::<Self>(text, Duration::from_micros)?;
        if duration.subsec_nanos() % 1_000 == 0 {
            Ok(duration)
        } else {
            Err(expected::<Self>())
        }
    }

    fn show(value: &Duration) -> String {
        value.as_micros().to_string()
    }

    fn json(value: &Duration) -> serde_json::Value {
        Self::number(value).into()
    }

    fn number(value: &Duration) -> Option<u64> {
        Some(u64::try_from(value.as_micros()).unwrap_or(u64::MAX))
    }
}

/// A value, or `auto` for one that depends on the machine.
pub(super) struct Auto<K>(std::marker::PhantomData<K>);

/// What may be written where `auto` is allowed.
pub(super) trait AutoHint {
    const AUTO_HINT: &'static str;
}

impl AutoHint for Bytes {
    const AUTO_HINT: &'static str = "auto or a number of bytes, such as 1048576, 64MiB or 1GiB";
}

impl AutoHint for Address {
    const AUTO_HINT: &'static str = "auto or an IP address and a port, such as 0.0.0.0:9093";
}

impl AutoHint for Host {
    const AUTO_HINT: &'static str =
        "auto or a host name or an IP address without a port, such as broker-1.example.com";
}

impl AutoHint for Count {
    const AUTO_HINT: &'static str = "auto or a whole number";
}

impl<K: Kind + AutoHint> Kind for Auto<K> {
    type Value = Option<K::Value>;
    const HINT: &'static str = K::AUTO_HINT;
    const TYPE: ValueType = K::TYPE;

    fn parse(text: &str) -> Result<Self::Value, String> {
        match text {
            "auto" => Ok(None),
            _ => K::parse(text).map(Some).map_err(|_| expected::<Self>()),
        }
    }

    fn show(value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| "auto".to_owned(), K::show)
    }

    fn json(value: &Self::Value) -> serde_json::Value {
        value.as_ref().map_or_else(|| "auto".into(), K::json)
    }

    fn number(value: &Self::Value) -> Option<u64> {
        value.as_ref().and_then(K::number)
    }
}

/// Which events are logged, in the syntax of `RUST_LOG`.
pub(super) struct LogLevel;

impl Kind for LogLevel {
    type Value = String;
    const HINT: &'static str =
        "error, warn, info, debug or trace, or directives such as info,millrace_shard=debug";

    fn parse(text: &str) -> Result<String, String> {
        // A directive of one word that is no level would be taken for the name of a module and
        // silence everything else.
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let words_are_levels = text
            .split(',')
            .all(|part| part.contains('=') || levels.contains(&part.trim()));
        if !words_are_levels || tracing_subscriber::EnvFilter::try_new(text).is_err() {
            return Err(expected::<Self>());
        }
        Ok(text.to_owned())
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

impl Kind for crate::logging::LogFormat {
    type Value = crate::logging::LogFormat;
    const HINT: &'static str = "auto, text or json";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|()| expected::<Self>())
    }

    fn show(value: &Self) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown_exactly() {
        for (text, bytes, shown) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("67108864", 64 << 20, "64MiB"),
            ("1GiB", 1 << 30, "1GiB"),
            ("1536 KiB", 1536 << 10, "1536KiB"),
            ("1kB", 1000, "1000"),
            ("0", 0, "0"),
        ] {
            assert_eq!(Bytes::parse(text), Ok(bytes), "{text}");
            assert_eq!(Bytes::show(&bytes), shown);
        }
        for text in ["", "lots", "-1", "12 bananas"] {
            assert!(Bytes::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        assert_eq!(Millis::parse("1500"), Ok(Duration::from_millis(1500)));
        assert_eq!(Millis::parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(Millis::parse("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(Micros::parse("2ms"), Ok(Duration::from_micros(2000)));
        for text in ["", "soon", "-5s", "1us"] {
            assert!(Millis::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        for text in ["info", "warn,millrace_shard=debug", "off"] {
            assert!(LogLevel::parse(text).is_ok(), "{text}");
        }
        for text in ["loud", "", "millrace=loud", "information"] {
            assert!(LogLevel::parse(text).is_err(), "{text}");
        }
    }
}
