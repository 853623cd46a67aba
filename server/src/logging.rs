//! Where events go: to standard error, as lines for people or as JSON objects for programs.
//! Standard output belongs to what a command was asked for.
//!
//! A shard hands its events to a thread that writes them, because standard error may be a pipe that
//! nobody empties, and a shard never blocks. What does not fit that thread's bounded queue is
//! dropped. Errors alone are written at once, by whoever has one: the process may be about to end.

use std::fmt;
use std::io::{IsTerminal, Stderr};
use std::str::FromStr;

use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::EitherWriter;

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text; coloured on a terminal.
    Auto,
    /// Text, never coloured.
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<LogFormat, ()> {
        match text {
            "auto" => Ok(LogFormat::Auto),
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Auto => "auto",
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

/// Writes what is still queued when it is dropped: to be held until the process ends.
#[must_use]
pub struct Logging {
    _guard: WorkerGuard,
}

/// Starts logging for the rest of the process. `level` is in the syntax of `RUST_LOG` and was
/// checked with the configuration.
///
/// # Panics
/// When called twice, or with a level that was not checked.
pub fn start(level: &str, format: LogFormat) -> Logging {
    let filter = EnvFilter::try_new(level).expect("the level is checked with the configuration");
    let coloured = format == LogFormat::Auto
        && std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (queue, guard) = tracing_appender::non_blocking(std::io::stderr());
    let events = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(coloured)
        .with_writer(Output { queue });
    match format {
        LogFormat::Json => events.json().flatten_event(true).init(),
        LogFormat::Auto | LogFormat::Text => events.init(),
    }
    Logging { _guard: guard }
}

/// Standard error: by way of the queue, or at once for errors.
struct Output {
    queue: NonBlocking,
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = EitherWriter<NonBlocking, Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        EitherWriter::A(self.queue.clone())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        if *metadata.level() == Level::ERROR {
            EitherWriter::B(std::io::stderr())
        } else {
            self.make_writer()
        }
    }
}
