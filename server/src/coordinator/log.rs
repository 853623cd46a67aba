//! A coordinator's log: appending records, reading all of them, and keeping it short.

use std::rc::Rc;

use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_shard::error::StorageError;
use millrace_shard::log::{Durable, Partition, PartitionStatus};
use millrace_wire::batch::{
    BatchBuilder, BatchError, BuildError, Compression, DEFAULT_MAX_UNCOMPRESSED_BYTES, Records,
};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{Offset, PartitionIndex, TopicName};

use super::partition::Coordinator;
use super::record::{Record, RecordError};

/// What most changes take; a coordinator waits for so much room before it makes one.
pub(super) const TYPICAL_BATCH_BYTES: usize = 4096;

/// How much of the log is read at once.
const READ_BYTES: usize = 1024 * 1024;

/// The log is written anew when it is so many times as long as what counts in it, …
const REWRITE_FACTOR: u64 = 4;
/// … and at least so long.
const REWRITE_LEAST_BYTES: u64 = 4 * 1024 * 1024;

/// How many keys one batch of the rewriting has at most.
const REWRITE_KEYS: usize = 500;

/// Why a coordinator's log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It holds what cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It holds a batch that does not parse, though its checksum was right.
    #[error("the groups' log has a batch that does not parse: {0}")]
    Batch(#[from] BatchError),
    /// A change is too large for a batch.
    #[error("a change of a group cannot be written down: {0}")]
    Build(#[from] BuildError),
    /// Acknowledged records are lost.
    #[error(
        "the groups' log is damaged from offset {0} on, so which offsets were committed is not known; repair the partition of __groups, accepting the loss"
    )]
    Damaged(Offset),
}

impl LogError {
    pub(super) fn to_wire(&self) -> WireError {
        match self {
            LogError::Storage(error) => error.to_wire(),
            LogError::Damaged(_) => WireError::new(ErrorCode::PartitionDamaged, self.to_string()),
            _ => WireError::new(ErrorCode::CoordinatorNotAvailable, self.to_string()),
        }
    }
}

/// Appends records as one batch; they have their places when this returns. Tells when they are
/// durable, and their length.
pub(super) fn append<E: Env>(
    env: &E,
    partition: &Rc<Partition<E>>,
    records: &[Record],
) -> Result<(Durable, u64), LogError> {
    let now = env.wall_clock_ms();
    let mut builder = BatchBuilder::new(Compression::None);
    for record in records {
        let (key, value) = record.encode();
        builder.push(now, Some(&key), value.as_deref(), &[])?;
    }
    let batch = builder.build()?;
    let bytes = batch.len() as u64;
    let count = u32::try_from(records.len()).expect("far fewer than 2^32 records");
    // Committing must work on a full disk: consumers go on, and deleting makes room.
    let appended = partition.place_from_reserve(batch, count, now)?;
    Ok((appended.durable, bytes))
}

/// Reads the whole log, and hands over each record in order. How many bytes it had.
pub(super) async fn read_all<E: Env>(
    env: &E,
    partition: &Rc<Partition<E>>,
    mut take: impl FnMut(Record),
) -> Result<u64, LogError> {
    if let PartitionStatus::Damaged { from } = partition.status() {
        return Err(LogError::Damaged(from));
    }
    let mut bytes = 0;
    let mut next = partition.watermarks().log_start;
    let end = partition.watermarks().visible;
    while next < end {
        let read = partition.read(next, READ_BYTES, true).await?;
        if read.batches.is_empty() {
            break;
        }
        for batch in read.batches {
            bytes += batch.len() as u64;
            for record in Records::decode(&batch, DEFAULT_MAX_UNCOMPRESSED_BYTES)? {
                let record = record?;
                if record.offset < next {
                    continue;
                }
                next = Offset(record.offset.0 + 1);
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                take(Record::decode(key, value)?);
            }
            env.yield_now().await;
        }
    }
    Ok(bytes)
}

impl<E: Env> Coordinator<E> {
    /// Writes every group anew in the background when the log is much longer than what counts in it,
    /// and lets go of what lies before.
    pub(super) fn rewrite_if_due(self: &Rc<Self>) {
        let written = self.written_bytes.get();
        let due = (self.rewritten_bytes.get() * REWRITE_FACTOR).max(REWRITE_LEAST_BYTES);
        if written < due || self.rewriting.replace(true) {
            return;
        }
        let coordinator = Rc::clone(self);
        let task = async move {
            if let Err(error) = coordinator.rewrite().await {
                tracing::warn!(partition = %coordinator.partition.id(), %error, "the groups' log could not be shortened; it is tried again when it has grown");
            }
            coordinator.rewriting.set(false);
        };
        drop(self.env.spawn(
            Queue::Background,
            "shorten groups' log",
            OnPanic::StopProcess,
            task,
        ));
    }

    /// Groups go on changing meanwhile: each key is written as it is at that moment, and whatever
    /// changes later follows it in the log.
    async fn rewrite(self: &Rc<Self>) -> Result<(), LogError> {
        let begin = self.partition.watermarks().appended;
        self.written_bytes.set(0);
        let keys = self.keys();
        let (mut rewritten, mut last) = (0, None);
        for keys in keys.chunks(REWRITE_KEYS) {
            let room = self.partition.room_from_reserve(TYPICAL_BATCH_BYTES);
            room.await?;
            // Between looking and writing nothing is waited for, so nothing changes.
            let records = self.records_of(keys);
            if !records.is_empty() {
                let (durable, bytes) = append(&self.env, &self.partition, &records)?;
                (rewritten, last) = (rewritten + bytes, Some(durable));
            }
            self.env.yield_now().await;
        }
        if let Some(durable) = last {
            durable.wait().await?;
        }
        self.rewritten_bytes.set(rewritten);
        self.partition.delete_records(begin).await?;
        Ok(())
    }

    fn keys(&self) -> Vec<Key> {
        let state = self.state.borrow();
        let mut keys = Vec::new();
        for (name, held) in &state.groups {
            keys.push((Rc::clone(name), None));
            let offsets = held.group.offset_values();
            keys.extend(
                offsets.map(|(topic, partition, _)| {
                    (Rc::clone(name), Some((topic.clone(), partition)))
                }),
            );
        }
        keys
    }

    fn records_of(&self, keys: &[Key]) -> Vec<Record> {
        let state = self.state.borrow();
        let record = |(name, offset): &Key| {
            let group = &state.groups.get(name)?.group;
            let name = name.to_string();
            Some(match offset {
                None => Record::Group {
                    group: name,
                    value: Some(group.recorded()?),
                },
                Some((topic, partition)) => Record::Offset {
                    group: name,
                    topic: topic.clone(),
                    partition: *partition,
                    value: Some(group.offset(topic, *partition)?.clone()),
                },
            })
        };
        keys.iter().filter_map(record).collect()
    }
}

/// A key of the log: a group, or one of its offsets.
type Key = (Rc<str>, Option<(TopicName, PartitionIndex)>);
