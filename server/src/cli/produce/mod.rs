//! `millrace produce`: lines in, records out.
//!
//! Three parts run side by side: a thread cuts the input into lines (`lines`), the command hands
//! them to the producer as fast as it takes them, and a task awaits the deliveries in the order of
//! the lines. Memory is bounded by the blocks read ahead, the producer's buffer, and the number of
//! deliveries awaited.

mod lines;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use jiff::SignedDuration;
use memchr::memmem::Finder;
use millrace_client::{
    Acks, Client, ClientError, Compression, Delivery, Producer, ProducerConfig, Record,
};
use serde_json::json;
use tokio::sync::mpsc;

use self::lines::Block;
use super::Failure;
use super::connect::{ClientArgs, block_on, explain, interrupted};
use super::format::{Marker, marker, unescape};
use super::numbers::whole;
use super::output::{self, Output};
use super::serve::key_and_value;

/// Deliveries that may be awaited at once.
const DELIVERIES_AWAITED: usize = 16 << 10;
/// A batch of this size keeps a disk busy and is well below the default `max.message.bytes`.
const BATCH_BYTES: usize = 256 << 10;

const PRODUCE_HELP: &str = "\
Examples:
  millrace produce clicks < clicks.txt
  millrace produce clicks clicks.txt --compression zstd
  tail -f access.log | millrace produce log --header host=web1
  printf 'user-7\\tclicked\\n' | millrace produce clicks --key-separator '\\t'
  printf 'user-7:none\\n' | millrace produce users -k : --null-marker none
  millrace produce clicks --output json < clicks.txt

Every line is a record, without its end (\\n) and otherwise untouched, whatever its bytes. An empty
line is a record too, and so is a last line without an end: `consume --no-final-newline` gives
such a file back byte for byte. With --null-marker, a value (what is behind the separator, if there
is one) that equals the marker is stored as no value at all.

With --output json, a line says where each record went:
  {\"line\":1,\"partition\":0,\"offset\":17,\"timestamp\":1700000000000}

Records of one partition are stored in the order of their lines, each once, however often it has to
be sent. At the first record that cannot
be stored the command stops; those before it may have been stored, and lines after it too where
they went to other partitions.";

#[derive(Args)]
#[command(after_help = PRODUCE_HELP)]
pub(super) struct ProduceArgs {
    /// The topic
    topic: String,
    /// File to read; standard input if it is absent or -
    file: Option<PathBuf>,
    /// What separates a line's key from its value; \t, \n, \0 and \xHH are understood
    #[arg(short, long, value_name = "TEXT", value_parser = separator)]
    key_separator: Option<Separator>,
    /// Value that stands for none: such a record has a key and no value (a tombstone); escapes as above
    #[arg(long, value_name = "TEXT", value_parser = marker)]
    null_marker: Option<Marker>,
    /// Header that every record gets; may be given many times
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE", value_parser = key_and_value)]
    headers: Vec<(String, String)>,
    /// Partition that every record goes to [default: by key, else spread over all]
    #[arg(short, long, value_name = "N", value_parser = whole::<u32>, allow_negative_numbers = true)]
    partition: Option<u32>,
    /// When a record counts as stored: all (on the disks of a quorum), 1 (on the leader's disk),
    /// 0 (once sent)
    #[arg(long, default_value = "all", value_parser = acks)]
    acks: Acks,
    /// Whether a record that is sent again, because its answer was lost, is stored once; needs
    /// --acks all [default: true with --acks all, else false]
    #[arg(long, value_name = "true|false")]
    idempotent: Option<bool>,
    /// How batches are compressed: none, lz4 or zstd
    #[arg(long, default_value = "lz4", value_parser = compression)]
    compression: Compression,
    /// How long a record may take to be stored, retries included
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    client: ClientArgs,
}

/// Bytes between key and value. A type of its own, since clap takes a `Vec` for many values.
#[derive(Clone, Debug)]
struct Separator(Vec<u8>);

fn separator(text: &str) -> Result<Separator, String> {
    match unescape(text)? {
        bytes if bytes.is_empty() => Err("it cannot be empty".into()),
        bytes => Ok(Separator(bytes)),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text
        .parse()
        .ok()
        .and_then(|duration: SignedDuration| duration.try_into().ok());
    match parsed {
        Some(duration) if duration > Duration::ZERO => Ok(duration),
        _ => Err("it is a time with its unit, such as 500ms, 30s or 5m".into()),
    }
}

fn acks(text: &str) -> Result<Acks, String> {
    text.parse().map_err(|error: ClientError| error.to_string())
}

fn compression(text: &str) -> Result<Compression, String> {
    text.parse().map_err(|error: ClientError| error.to_string())
}

pub(super) fn run(arguments: ProduceArgs) -> Result<(), Failure> {
    let source = Source::open(arguments.file.clone())?;
    block_on(produce(arguments, source))
}

/// What is read.
struct Source {
    reader: Box<dyn Read + Send>,
    /// Its length, where it has one.
    bytes: Option<u64>,
    /// Whether a person types it.
    typed: bool,
}

impl Source {
    fn open(path: Option<PathBuf>) -> Result<Source, Failure> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            let stdin = io::stdin();
            return Ok(Source {
                typed: stdin.is_terminal(),
                reader: Box::new(stdin),
                bytes: None,
            });
        };
        let failed =
            |error: io::Error| Failure::Failed(format!("cannot read {}: {error}", path.display()));
        let file = File::open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if found.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        Ok(Source {
            reader: Box::new(file),
            bytes: found.is_file().then_some(found.len()),
            typed: false,
        })
    }
}

async fn produce(arguments: ProduceArgs, source: Source) -> Result<(), Failure> {
    let client = arguments.client.connect().await?;
    check_topic(&client, &arguments.topic).await?;
    let producer = client.producer(ProducerConfig {
        idempotent: arguments.idempotent.unwrap_or(arguments.acks == Acks::All),
        acks: arguments.acks,
        compression: arguments.compression,
        batch_bytes: BATCH_BYTES,
        delivery_timeout: arguments.timeout,
        ..ProducerConfig::default()
    })?;
    if source.typed {
        eprintln!("reading records from the terminal, one a line; Ctrl-D ends");
    }
    let bar = progress(&source, arguments.client.output);
    let begun = Instant::now();

    let (deliveries, awaited) = mpsc::channel(DELIVERIES_AWAITED);
    let mut settling = tokio::spawn(settle(awaited, arguments.client.output == Output::Json));
    let feeding = feed(
        &arguments,
        lines::read(source.reader),
        &producer,
        deliveries,
        &bar,
    );
    // Dropping `feeding` closes the channel, so that `settling` ends with what was accepted.
    let fed = tokio::select! {
        fed = feeding => fed,
        () = interrupted() => {
            eprintln!("finishing what was read; Ctrl-C again gives it up");
            Err(Stop::Interrupted)
        }
    };
    let (records, settled) = tokio::select! {
        joined = &mut settling => joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())),
        () = interrupted() => {
            return Err(Failure::Interrupted("gave up; the last records may or may not be stored".into()));
        }
    };
    bar.finish_and_clear();

    let summary = format!(
        "{} {}",
        HumanCount(records),
        if arguments.acks == Acks::None {
            "records were sent"
        } else {
            "records were stored"
        }
    );
    // A delivery that failed comes first: it is why the lines could not go on.
    match settled.and(fed) {
        Ok(()) => {
            if io::stderr().is_terminal() {
                eprintln!("{summary} in {:.1} s", begun.elapsed().as_secs_f64());
            }
            Ok(())
        }
        Err(Stop::Interrupted) => Err(Failure::Interrupted(format!("interrupted; {summary}"))),
        Err(Stop::Input(message)) => Err(Failure::Failed(format!("{message} ({summary})"))),
        Err(Stop::Output(error)) => Err(error.into()),
        Err(Stop::Refused(line, error)) => {
            let failure = explain(&client, &arguments.topic, error).await;
            Err(failure.within(|| format!("line {line} was not stored ({summary})")))
        }
        Err(Stop::Told) => Err(Failure::Failed(format!(
            "the deliveries ended early ({summary})"
        ))),
    }
}

/// Refuses a topic that is not there before anyone types a line for it.
async fn check_topic(client: &Client, topic: &str) -> Result<(), Failure> {
    let found = client.admin().metadata(Some(&[topic])).await?;
    for metadata in &found.topics {
        if let Err(error) = ClientError::check(&metadata.status) {
            return Err(explain(client, topic, error).await);
        }
    }
    Ok(())
}

/// Why producing stopped before the end of the input.
enum Stop {
    /// The input cannot be read, or a line is not as it must be.
    Input(String),
    /// The record of this line was refused.
    Refused(u64, ClientError),
    /// Standard output cannot be written.
    Output(io::Error),
    /// Ctrl-C.
    Interrupted,
    /// The task that awaits the deliveries has stopped, and says why.
    Told,
}

/// Hands the lines to the producer, and their deliveries on.
async fn feed(
    arguments: &ProduceArgs,
    mut blocks: mpsc::Receiver<io::Result<Block>>,
    producer: &Producer,
    deliveries: mpsc::Sender<(u64, Delivery)>,
    bar: &ProgressBar,
) -> Result<(), Stop> {
    let headers: Vec<_> = arguments
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), Some(Bytes::from(value.clone()))))
        .collect();
    let topic: Arc<str> = arguments.topic.as_str().into();
    let separator = arguments
        .key_separator
        .as_ref()
        .map(|Separator(bytes)| Finder::new(bytes));
    let is_null = |value: &Bytes| {
        let marker = arguments.null_marker.as_ref();
        marker.is_some_and(|Marker(marker)| marker == value)
    };
    let mut number = 0;
    while let Some(block) = blocks.recv().await {
        let block =
            block.map_err(|error| Stop::Input(format!("cannot read the input: {error}")))?;
        for line in block.lines {
            number += 1;
            let (key, value) = match &separator {
                None => (None, line),
                Some(separator) => split(&line, separator, number)?,
            };
            let record = Record {
                topic: Arc::clone(&topic),
                partition: arguments.partition,
                key,
                value: (!is_null(&value)).then_some(value),
                headers: headers.clone(),
                timestamp: None,
            };
            let delivery = producer
                .send(record)
                .await
                .map_err(|error| Stop::Refused(number, error))?;
            deliveries
                .send((number, delivery))
                .await
                .map_err(|_| Stop::Told)?;
        }
        bar.inc(block.bytes);
    }
    Ok(())
}

fn split(
    line: &Bytes,
    separator: &Finder<'_>,
    number: u64,
) -> Result<(Option<Bytes>, Bytes), Stop> {
    let Some(at) = separator.find(line) else {
        return Err(Stop::Input(format!(
            "line {number} has no key: the separator '{}' is not in it",
            separator.needle().escape_ascii()
        )));
    };
    Ok((
        Some(line.slice(..at)),
        line.slice(at + separator.needle().len()..),
    ))
}

/// Awaits the deliveries and counts them, up to the first that failed.
async fn settle(
    mut deliveries: mpsc::Receiver<(u64, Delivery)>,
    report: bool,
) -> (u64, Result<(), Stop>) {
    let mut stored = 0;
    let outcome = async {
        let mut out = output::stdout().map_err(Stop::Output)?;
        while let Some((line, delivery)) = deliveries.recv().await {
            let place = delivery.await.map_err(|error| Stop::Refused(line, error))?;
            stored += 1;
            if report {
                let told = json!({
                    "line": line, "partition": place.partition, "offset": place.offset,
                    "timestamp": place.timestamp,
                });
                writeln!(out, "{told}").map_err(Stop::Output)?;
                if deliveries.is_empty() {
                    out.flush().map_err(Stop::Output)?;
                }
            }
        }
        out.flush().map_err(Stop::Output)
    }
    .await;
    (stored, outcome)
}

/// A bar on a terminal, and nothing anywhere else.
fn progress(source: &Source, output: Output) -> ProgressBar {
    if source.typed || (output == Output::Json && io::stdout().is_terminal()) {
        return ProgressBar::hidden();
    }
    let style =
        |template| ProgressStyle::with_template(template).expect("the template is constant");
    let bar = match source.bytes {
        Some(bytes) => ProgressBar::new(bytes).with_style(style(
            "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        )),
        None => ProgressBar::no_length().with_style(style("{spinner} {bytes} {bytes_per_sec}")),
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
