//! `millrace consume`: records out.
//!
//! What to read is decided before the first record is: each partition's first offset and, unless
//! following, the high watermark at that moment, where its reading ends. So the command ends even
//! while others keep producing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::time::Duration;

use clap::Args;
use millrace_client::messages::PartitionDescription;
use millrace_client::{Admin, Client, ClientError, Consumer, ConsumerConfig, OffsetQuery, Start};
use tokio::sync::watch;

use super::Failure;
use super::connect::{ClientArgs, block_on, explain, interrupted};
use super::consume_group::{self, Membership};
use super::format::{Marker, Style, Template, marker};
use super::numbers::whole;
use super::output::{self, Output};
use super::start::Place;

/// When nothing came for this long although there is something to read, the broker is asked
/// whether it is still there.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a follower looks whether the topic has got more partitions.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const CONSUME_HELP: &str = "\
Examples:
  millrace consume clicks
  millrace consume clicks --follow --from latest
  millrace consume clicks --from 2026-01-31T12:00:00Z --partition 0 --count 10
  millrace consume clicks --from -5 --format '{partition}:{offset} {time} {key} {value}'
  millrace consume clicks --output json | jq .value
  millrace consume clicks --group readers --follow

Without --follow it ends at the records that were there when it began. With it, it goes on until
Ctrl-C; partitions that the topic gets meanwhile are read too, from their beginning, unless
--partition names others. Each record is followed by a newline; without --format, it is the value alone.

Records of one partition come in their order; those of different partitions come as they arrive,
in no particular order. A file that was produced to a topic of one partition comes back byte for
byte: as it is if it ended with a newline, with --no-final-newline if it did not.

--from takes earliest, latest, an offset, -N (N records before the end of each partition), a time
in RFC 3339 such as 2026-01-31T12:00:00Z or 2026-01-31T13:00:00+01:00, or @ and milliseconds since
1970; a time is that of the first record to print.

With --group it is a member of that group of consumers: the group's members share the partitions, and
go on behind what was committed, which is what was printed. --from then says where a group begins
that has committed nothing, and is earliest or latest.

--format takes text with the fields {topic} {partition} {offset} {timestamp} (ms since 1970)
{time} (RFC 3339) {key} {value} {headers} (name=value,…), and \\n \\t \\r \\0 \\xHH \\\\ {{ }}.
What is absent is printed as nothing, which an empty value is too; --null-marker tells them apart.

With --output json every record is an object on a line of its own. Keys, values and header values
that are not UTF-8 come in base64, as \"key_base64\" and \"value_base64\" in place of \"key\" and
\"value\"; what is absent is null.";

#[derive(Args)]
#[command(after_help = CONSUME_HELP)]
pub(super) struct ConsumeArgs {
    /// The topic
    topic: String,
    /// Where to begin: earliest, latest, an offset, -N, or a time
    #[arg(long, default_value = "earliest", allow_hyphen_values = true)]
    from: Place,
    /// Partitions to read [default: all]
    #[arg(short, long, value_name = "N[,…]", value_delimiter = ',', value_parser = whole::<u32>, allow_negative_numbers = true)]
    partition: Vec<u32>,
    /// Share the topic with the other members of this group, and go on where the group was
    #[arg(short, long, value_name = "NAME", conflicts_with = "partition")]
    group: Option<String>,
    /// End after this many records
    #[arg(short = 'n', long, value_name = "N", value_parser = whole::<u64>, allow_negative_numbers = true)]
    count: Option<u64>,
    /// Wait for new records
    #[arg(short, long)]
    follow: bool,
    /// How to print a record
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<Template>,
    /// What to print for a key or value that is absent [default: nothing]; escapes as in --format
    #[arg(long, value_name = "TEXT", value_parser = marker)]
    null_marker: Option<Marker>,
    /// Print newlines between records only, not after the last
    #[arg(long)]
    no_final_newline: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(arguments: ConsumeArgs) -> Result<(), Failure> {
    let style = style(&arguments)?;
    let membership = membership(&arguments)?;
    let mut printer = Printer {
        out: output::stdout()?,
        style,
        newline_between: arguments.no_final_newline,
        printed: 0,
        most: arguments.count.unwrap_or(u64::MAX),
    };
    block_on(async {
        let client = arguments.client.connect().await?;
        if let Some(membership) = &membership {
            return consume_group::consume(membership, &client, &mut printer).await;
        }
        // What was printed before the signal stands, and the command did what it was asked.
        tokio::select! {
            done = consume(&arguments, &client, &mut printer) => done?,
            () = interrupted() => {}
        }
        Ok(printer.out.flush()?)
    })
}

/// As whom to read, if as a member of a group.
fn membership(arguments: &ConsumeArgs) -> Result<Option<Membership<'_>>, Failure> {
    let Some(group) = &arguments.group else {
        return Ok(None);
    };
    Ok(Some(Membership {
        group,
        topic: &arguments.topic,
        reset: consume_group::reset(arguments.from)?,
        follow: arguments.follow,
    }))
}

fn style(arguments: &ConsumeArgs) -> Result<Style, Failure> {
    let (format, marker) = (arguments.format.clone(), arguments.null_marker.clone());
    if let Output::Json = arguments.client.output {
        let excluded = match (format, marker) {
            (None, None) => return Ok(Style::Json),
            (Some(_), _) => "--format and --output json exclude each other",
            (None, Some(_)) => {
                "--null-marker and --output json exclude each other: there, what is absent is null"
            }
        };
        return Err(Failure::Usage(excluded.into()));
    }
    let marker = marker.unwrap_or_default();
    Ok(match format {
        Some(template) => Style::Template(template, marker),
        None => Style::Value(marker),
    })
}

/// One partition's part of the work.
struct Span {
    partition: u32,
    start: i64,
    /// Where reading ends; never, when following.
    end: Option<i64>,
}

async fn consume(
    arguments: &ConsumeArgs,
    client: &Client,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let topic = arguments.topic.as_str();
    let (mut spans, partitions) = match spans(arguments, &client.admin()).await {
        Ok(found) => found,
        Err(Unread::Failure(failure)) => return Err(failure),
        Err(Unread::Client(error)) => return Err(explain(client, topic, error).await),
    };
    spans.retain(|span| span.end.is_none_or(|end| span.start < end));
    if spans.is_empty() || !printer.wants_more() {
        return Ok(());
    }
    let mut consumer = client.consumer(ConsumerConfig::default())?;
    let assignment: Vec<_> = spans
        .iter()
        .map(|span| (topic, span.partition, Start::Offset(span.start)))
        .collect();
    if let Err(error) = consumer.assign(&assignment).await {
        return Err(explain(client, topic, error).await);
    }
    let ends: HashMap<u32, i64> = spans
        .iter()
        .filter_map(|span| Some((span.partition, span.end?)))
        .collect();
    let all = arguments.follow && arguments.partition.is_empty();
    let mut growth = all.then(|| watch_growth(client.admin(), topic, partitions));
    while !spans.is_empty() {
        // A poll that is dropped takes nothing with it.
        let polled = tokio::select! {
            polled = consumer.poll(PATIENCE) => polled,
            more = grown(&mut growth) => {
                consumer.assign_more(&from_their_beginning(topic, more)).await.map(|()| Vec::new())
            }
        };
        let records = match polled {
            Ok(records) => records,
            Err(error) => return Err(explain(client, topic, error).await),
        };
        if records.is_empty() && !arguments.follow {
            client.admin().ping().await?;
        }
        for record in &records {
            // A partition may be read past its end while others still have some way to go.
            let end = ends.get(&record.partition).copied().unwrap_or(i64::MAX);
            if record.offset < end && !printer.print(record)? {
                return Ok(());
            }
        }
        printer.out.flush()?;
        spans.retain(|span| span.goes_on(&consumer, topic));
    }
    Ok(())
}

impl Span {
    fn goes_on(&self, consumer: &Consumer, topic: &str) -> bool {
        let Some(end) = self.end else { return true };
        consumer
            .position(topic, self.partition)
            .is_none_or(|position| position < end)
    }
}

/// A topic's growth: how many partitions are read already, and how many there are.
struct Growth {
    read: u32,
    seen: watch::Receiver<u32>,
}

/// Looks for more partitions of a topic, until the growth is dropped.
fn watch_growth(admin: Admin, topic: &str, read: u32) -> Growth {
    let (sender, seen) = watch::channel(read);
    let topic = topic.to_owned();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            // A broker that is away, or a topic, has nothing new; the consumer says what is wrong.
            let Ok(found) = admin.metadata(Some(&[&topic])).await else {
                continue;
            };
            let partitions = found
                .topics
                .iter()
                .map(|topic| topic.partitions.len() as u32);
            let partitions = partitions.max().unwrap_or_default();
            sender.send_if_modified(|seen| {
                partitions > std::mem::replace(seen, partitions.max(*seen))
            });
        }
    });
    Growth { read, seen }
}

/// The partitions that are new, once there are any.
async fn grown(growth: &mut Option<Growth>) -> Range<u32> {
    let Some(growth) = growth else {
        return std::future::pending().await;
    };
    match growth.seen.wait_for(|seen| *seen > growth.read).await {
        Ok(seen) => {
            let new = growth.read..*seen;
            growth.read = new.end;
            new
        }
        // Nobody looks any more.
        Err(_) => std::future::pending().await,
    }
}

fn from_their_beginning(topic: &str, partitions: Range<u32>) -> Vec<(&str, u32, Start)> {
    partitions
        .map(|partition| (topic, partition, Start::Earliest))
        .collect()
}

/// Why it is not known what to read.
enum Unread {
    Failure(Failure),
    Client(ClientError),
}

impl From<ClientError> for Unread {
    fn from(error: ClientError) -> Unread {
        Unread::Client(error)
    }
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Unread {
        Unread::Failure(failure)
    }
}

/// Works out what to read, and how many partitions the topic has.
async fn spans(arguments: &ConsumeArgs, admin: &Admin) -> Result<(Vec<Span>, u32), Unread> {
    let topic = arguments.topic.as_str();
    let described = admin.describe_topic(topic).await?;
    for partition in &arguments.partition {
        if !described
            .partitions
            .iter()
            .any(|known| known.partition == *partition)
        {
            let last = described.partitions.len().saturating_sub(1);
            return Err(Failure::Failed(format!(
                "topic '{topic}' has no partition {partition}; its partitions are 0 to {last}"
            ))
            .into());
        }
    }
    let wanted = |known: &&PartitionDescription| {
        arguments.partition.is_empty() || arguments.partition.contains(&known.partition)
    };
    let mut spans = Vec::new();
    for known in described.partitions.iter().filter(wanted) {
        ClientError::check(&known.status).map_err(|error| {
            Failure::from(error).within(|| format!("{topic}/{}", known.partition))
        })?;
        spans.push(Span {
            partition: known.partition,
            start: start(arguments.from, known, topic)?,
            end: (!arguments.follow).then_some(known.high_watermark),
        });
    }
    if let Place::Time(time) = arguments.from {
        let questions: Vec<_> = spans
            .iter()
            .map(|span| (topic, span.partition, OffsetQuery::AtTimestamp(time)))
            .collect();
        for (span, answer) in spans.iter_mut().zip(admin.list_offsets(&questions).await?) {
            // No record is that young: the end, as `start` put it.
            span.start = answer.offset?.unwrap_or(span.start);
        }
    }
    Ok((spans, described.partitions.len() as u32))
}

/// Where to begin in a partition. For a time, the end, until the broker has been asked.
fn start(place: Place, known: &PartitionDescription, topic: &str) -> Result<i64, Failure> {
    let (first, end) = (known.log_start, known.high_watermark);
    match place {
        Place::Earliest => Ok(first),
        Place::Latest | Place::Time(_) => Ok(end),
        Place::BeforeEnd(count) => Ok(end.saturating_sub(count).max(first)),
        Place::Offset(offset) if (first..=end).contains(&offset) => Ok(offset),
        Place::Offset(offset) => Err(Failure::Failed(format!(
            "{topic}/{} has no offset {offset}: its records begin at {first} and end before \
             {end}; choose another --from, or the partition by --partition",
            known.partition
        ))),
    }
}

/// Writes records to standard output.
pub(super) struct Printer {
    out: BufWriter<File>,
    style: Style,
    newline_between: bool,
    printed: u64,
    most: u64,
}

impl Printer {
    /// Prints a record. False when that was the last one wanted.
    pub(super) fn print(
        &mut self,
        record: &millrace_client::ConsumedRecord,
    ) -> Result<bool, Failure> {
        if self.newline_between && self.printed > 0 {
            self.out.write_all(b"\n")?;
        }
        self.style.write(record, &mut self.out)?;
        if !self.newline_between {
            self.out.write_all(b"\n")?;
        }
        self.printed += 1;
        Ok(self.wants_more())
    }

    pub(super) fn wants_more(&self) -> bool {
        self.printed < self.most
    }

    /// What was printed is with the reader.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_offsets_within_the_partition() {
        let known = PartitionDescription {
            log_start: 10,
            high_watermark: 20,
            ..Default::default()
        };
        for (place, offset) in [
            (Place::Earliest, 10),
            (Place::Latest, 20),
            (Place::Offset(10), 10),
            (Place::Offset(20), 20),
            (Place::BeforeEnd(3), 17),
            (Place::BeforeEnd(100), 10),
        ] {
            assert_eq!(start(place, &known, "t").unwrap(), offset, "{place:?}");
        }
        for offset in [9, 21] {
            let Err(Failure::Failed(message)) = start(Place::Offset(offset), &known, "t") else {
                panic!("{offset} was taken");
            };
            assert!(
                message.contains("begin at 10 and end before 20"),
                "{message}"
            );
        }
    }
}
