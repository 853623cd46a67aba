//! `millrace consume --group`: records out, shared with the other members of a group. What was
//! printed is committed, and nothing else, so that the next member goes on behind it.

use std::collections::{BTreeMap, HashMap};
use std::pin::{Pin, pin};
use std::time::Duration;

use millrace_client::{
    Client, ConsumedRecord, GroupConfig, GroupConsumer, GroupOffset, OffsetReset,
};

use super::Failure;
use super::connect::{explain, interrupted};
use super::consume::Printer;
use super::start::Place;

/// When nothing came for this long, the broker is asked whether it is still there; and who has no
/// partitions by then will not be given any.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to read, and as whom.
pub(super) struct Membership<'a> {
    pub(super) group: &'a str,
    pub(super) topic: &'a str,
    pub(super) reset: OffsetReset,
    pub(super) follow: bool,
}

/// Where a group begins that has committed nothing.
pub(super) fn reset(from: Place) -> Result<OffsetReset, Failure> {
    match from {
        Place::Earliest => Ok(OffsetReset::Earliest),
        Place::Latest => Ok(OffsetReset::Latest),
        _ => Err(Failure::Usage(
            "a group goes on where it was; with --group, --from says where one begins that has \
             committed nothing, and is earliest or latest"
                .into(),
        )),
    }
}

/// Reads until the end or Ctrl-C, and leaves the group then.
pub(super) async fn consume(
    membership: &Membership<'_>,
    client: &Client,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let topic = membership.topic;
    let described = match client.admin().describe_topic(topic).await {
        Ok(described) => described,
        Err(error) => return Err(explain(client, topic, error).await),
    };
    if !printer.wants_more() {
        return Ok(());
    }
    let ends = described.partitions.iter();
    let ends: HashMap<u32, i64> = ends
        .map(|known| match membership.follow {
            true => (known.partition, i64::MAX),
            false => (known.partition, known.high_watermark),
        })
        .collect();
    let mut consumer = client.group_consumer(GroupConfig {
        auto_commit: None,
        auto_offset_reset: membership.reset,
        ..GroupConfig::new(membership.group, [topic])
    })?;
    let interrupt = pin!(interrupted());
    let read = read(membership, &ends, client, &mut consumer, printer, interrupt).await;
    let left = consumer.close().await;
    read?;
    Ok(left?)
}

async fn read(
    membership: &Membership<'_>,
    ends: &HashMap<u32, i64>,
    client: &Client,
    consumer: &mut GroupConsumer,
    printer: &mut Printer,
    mut interrupt: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Failure> {
    loop {
        // A poll that is dropped takes nothing with it.
        let records = tokio::select! {
            polled = consumer.poll(PATIENCE) => polled?,
            () = &mut interrupt => return Ok(()),
        };
        // Partitions that the topic got meanwhile are read when following, and left otherwise.
        let end = |partition| match membership.follow {
            true => i64::MAX,
            false => ends.get(&partition).copied().unwrap_or_default(),
        };
        let (printed, goes_on) = print(&records, end, printer)?;
        if !printed.is_empty() {
            let offsets = printed.into_iter();
            let offsets = offsets
                .map(|(partition, offset)| GroupOffset::new(membership.topic, partition, offset));
            consumer
                .commit_offsets(&offsets.collect::<Vec<_>>())
                .await?;
        }
        if !goes_on {
            return Ok(());
        }
        if membership.follow {
            continue;
        }
        let ours = consumer.assignment();
        if records.is_empty() {
            client.admin().ping().await?;
            if ours.is_empty() {
                eprintln!(
                    "the other members of group '{}' have all partitions of topic '{}'",
                    membership.group, membership.topic
                );
                return Ok(());
            }
        }
        let is_read = |partition| {
            let position = consumer.position(membership.topic, partition);
            position.is_some_and(|position| position >= end(partition))
        };
        if !ours.is_empty() && ours.iter().all(|place| is_read(place.partition)) {
            return Ok(());
        }
    }
}

/// Prints records. Gives, by partition, the offset behind the last that was printed, and whether more
/// are wanted.
fn print(
    records: &[ConsumedRecord],
    end: impl Fn(u32) -> i64,
    printer: &mut Printer,
) -> Result<(BTreeMap<u32, i64>, bool), Failure> {
    let mut printed = BTreeMap::new();
    let mut goes_on = true;
    for record in records {
        if record.offset >= end(record.partition) {
            continue;
        }
        goes_on = printer.print(record)?;
        printed.insert(record.partition, record.offset + 1);
        if !goes_on {
            break;
        }
    }
    printer.flush()?;
    Ok((printed, goes_on))
}
