//! What a consumer decides: where each partition stands, what to fetch next, and over which request.
//!
//! # One fetch a shard, and when there is a second
//!
//! All partitions of a shard are asked for in one long-polling fetch, the *wide* one: a consumer at
//! the tail of a thousand silent partitions has a single request outstanding on each shard. Requests
//! name every partition they ask for, so when a few of many partitions are busy, answering them
//! through the wide fetch would send the whole set again for every batch. Instead, partitions that
//! had data within the last second move to a *narrow* fetch of their own and the wide one stays parked at
//! the broker. A partition belongs to the fetch that was told of it last: one that has grown cold
//! is taken back by the next wide fetch, one that has become hot is taken out of the parked one, and
//! whatever the earlier fetch still says of it is dropped. Narrow fetches wait at most
//! one second, and at most four of them are out on a connection.
//!
//! # Memory
//!
//! A fetch reserves what it may bring; reserved and buffered bytes together stay within
//! `prefetch_bytes` (a single batch that is larger still comes). A partition with
//! `partition_max_bytes` waiting to be polled is not fetched.
//!
//! # Positions
//!
//! The position to *fetch* runs ahead with what is buffered. The position of the *user* is the
//! [`Reader`]'s, and advances with records that were handed out.

mod fetches;
mod reader;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_wire::batch::{BatchError, BatchHeader, iter_batches};

pub(crate) use fetches::Draft;
pub use fetches::FetchId;
use fetches::FetchTable;
pub use reader::{Progress, Reader};

use super::metadata::PartitionKey;
use super::time::Time;
use crate::{ClientError, ConsumerConfig, OutOfRange, Start};

/// A partition that had data this recently is hot.
const HOT: Duration = Duration::from_secs(1);

/// Asked as a timestamp: the high watermark.
pub(crate) const LATEST: i64 = -1;
/// Asked as a timestamp: the log start.
pub(crate) const EARLIEST: i64 = -2;

/// Batches of one partition, as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// The first offset wanted of it; the first batch may begin before.
    pub offset: i64,
    /// Whole batches.
    pub data: Bytes,
}

/// Where a partition is to be read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// At this offset.
    At(i64),
    /// Where the broker says; asked by timestamp.
    Ask(i64),
    /// The question is under way.
    Asked(i64),
    /// Nowhere until it is sought: an error was told.
    Parked,
}

#[derive(Debug)]
struct Position {
    next: Next,
    /// Where reading began, for whoever asks before anything was handed out.
    begin: Option<i64>,
    /// Grows with every seek, so that answers to older questions are known.
    generation: u64,
    fetch: Option<FetchId>,
    /// Bytes waiting to be polled.
    buffered: usize,
    not_before: Time,
    failures: u32,
    last_data: Option<Time>,
    high_watermark: Option<i64>,
    log_start: i64,
}

/// What the broker said of a partition in a fetch's answer.
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    pub(crate) result: Result<Bytes, ClientError>,
}

/// What must be done about a partition's failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing: it was seen to.
    None,
    /// Try again after a pause; the metadata may be wrong.
    Retry,
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) config: ConsumerConfig,
    positions: BTreeMap<PartitionKey, Position>,
    generation: u64,
    /// Partitions that are left alone until they are resumed.
    paused: BTreeSet<PartitionKey>,
    /// Partitions in no fetch that could be in one.
    free: BTreeSet<PartitionKey>,
    /// Partitions whose offset must be asked for.
    to_ask: BTreeSet<PartitionKey>,
    fetches: FetchTable,
    /// Partitions that had data lately, and perhaps some that have grown cold since.
    hot: BTreeSet<PartitionKey>,
    chunks: VecDeque<(PartitionKey, Chunk)>,
    buffered: usize,
    errors: VecDeque<(PartitionKey, ClientError)>,
    /// Something changed since fetches were last planned.
    pub(crate) dirty: bool,
}

impl Consumer {
    pub(crate) fn new(config: ConsumerConfig) -> Consumer {
        Consumer {
            config,
            positions: BTreeMap::new(),
            generation: 0,
            paused: BTreeSet::new(),
            free: BTreeSet::new(),
            to_ask: BTreeSet::new(),
            fetches: FetchTable::default(),
            hot: BTreeSet::new(),
            chunks: VecDeque::new(),
            buffered: 0,
            errors: VecDeque::new(),
            dirty: false,
        }
    }

    /// Reads these partitions and no others.
    pub(crate) fn assign(&mut self, partitions: impl IntoIterator<Item = (PartitionKey, Start)>) {
        self.positions.clear();
        self.paused.clear();
        self.free.clear();
        self.to_ask.clear();
        self.chunks.clear();
        self.buffered = 0;
        self.errors.clear();
        for (key, start) in partitions {
            self.place(key, start);
        }
    }

    /// Reads these partitions as well; those that are read already go on where they are.
    pub(crate) fn assign_more(
        &mut self,
        partitions: impl IntoIterator<Item = (PartitionKey, Start)>,
    ) {
        for (key, start) in partitions {
            if !self.positions.contains_key(&key) {
                self.place(key, start);
            }
        }
    }

    /// Reads these partitions no more.
    pub(crate) fn unassign(&mut self, keys: impl IntoIterator<Item = PartitionKey>) {
        for key in keys {
            self.drop_chunks(key);
            self.errors.retain(|(of, _)| *of != key);
            self.positions.remove(&key);
            self.paused.remove(&key);
            self.hot.remove(&key);
            self.file(key);
        }
    }

    /// Leaves the partition alone until it is resumed. What was fetched and not handed out is
    /// dropped, and fetched again then; `unfinished` is where handing out has come to in a chunk that
    /// was taken and is dropped by whoever took it.
    pub(crate) fn pause(&mut self, key: PartitionKey, unfinished: Option<i64>) {
        self.paused.insert(key);
        let mut chunks = self.chunks.iter();
        let buffered = chunks
            .find(|(of, _)| *of == key)
            .map(|(_, chunk)| chunk.offset);
        self.drop_chunks(key);
        if let Some(position) = self.positions.get_mut(&key) {
            position.buffered = 0;
            position.fetch = None;
            if let (Next::At(_), Some(offset)) = (position.next, unfinished.or(buffered)) {
                position.next = Next::At(offset);
            }
        }
        self.file(key);
    }

    /// Goes on with a partition that was paused.
    pub(crate) fn resume(&mut self, key: PartitionKey) {
        self.paused.remove(&key);
        self.file(key);
    }

    /// Whether it is not known yet where the partition is to be read.
    pub(crate) fn is_unresolved(&self, key: PartitionKey) -> bool {
        let position = self.positions.get(&key);
        position.is_some_and(|p| matches!(p.next, Next::Ask(_) | Next::Asked(_)))
    }

    /// Goes on from another place. Tells whether the partition is assigned.
    pub(crate) fn seek(&mut self, key: PartitionKey, start: Start) -> bool {
        if !self.positions.contains_key(&key) {
            return false;
        }
        self.drop_chunks(key);
        self.errors.retain(|(of, _)| *of != key);
        self.place(key, start);
        true
    }

    fn place(&mut self, key: PartitionKey, start: Start) {
        self.generation += 1;
        let next = match start {
            Start::Earliest => Next::Ask(EARLIEST),
            Start::Latest => Next::Ask(LATEST),
            Start::Timestamp(ms) => Next::Ask(ms.max(0)),
            Start::Offset(offset) => Next::At(offset),
        };
        let position = Position {
            next,
            begin: match next {
                Next::At(offset) => Some(offset),
                _ => None,
            },
            generation: self.generation,
            fetch: None,
            buffered: 0,
            not_before: Time::default(),
            failures: 0,
            last_data: None,
            high_watermark: None,
            log_start: 0,
        };
        self.positions.insert(key, position);
        self.file(key);
    }

    /// Puts a partition into the list that its state asks for.
    fn file(&mut self, key: PartitionKey) {
        self.free.remove(&key);
        self.to_ask.remove(&key);
        let Some(position) = self.positions.get(&key) else {
            return;
        };
        match position.next {
            Next::Ask(_) => {
                self.to_ask.insert(key);
            }
            Next::At(_) => {
                let room = position.buffered < self.config.partition_max_bytes.max(1) as usize;
                if position.fetch.is_none() && room && !self.paused.contains(&key) {
                    self.free.insert(key);
                }
            }
            Next::Asked(_) | Next::Parked => {}
        }
        self.dirty = true;
    }

    fn drop_chunks(&mut self, key: PartitionKey) {
        let buffered = &mut self.buffered;
        self.chunks.retain(|(of, chunk)| {
            if *of == key {
                *buffered -= chunk.data.len();
            }
            *of != key
        });
    }

    /// Partitions whose place is not known yet.
    pub(crate) fn unresolved(&self) -> usize {
        let open = |position: &&Position| matches!(position.next, Next::Ask(_) | Next::Asked(_));
        self.positions.values().filter(open).count()
    }

    /// Where reading of the partition began.
    pub(crate) fn begin(&self, key: PartitionKey) -> Option<i64> {
        self.positions.get(&key)?.begin
    }

    pub(crate) fn high_watermark(&self, key: PartitionKey) -> Option<i64> {
        self.positions.get(&key)?.high_watermark
    }

    /// The next chunk to be polled; its bytes no longer count.
    pub(crate) fn take_chunk(&mut self) -> Option<Chunk> {
        let (key, chunk) = self.chunks.pop_front()?;
        self.buffered -= chunk.data.len();
        if let Some(position) = self.positions.get_mut(&key) {
            position.buffered -= chunk.data.len();
        }
        self.file(key);
        Some(chunk)
    }

    pub(crate) fn take_error(&mut self) -> Option<ClientError> {
        self.errors.pop_front().map(|(_, error)| error)
    }

    /// Whether a poll would find something.
    pub(crate) fn has_news(&self) -> bool {
        !self.chunks.is_empty() || !self.errors.is_empty()
    }

    /// Tells the user of an error once; the partition rests until it is sought.
    pub(crate) fn park(&mut self, key: PartitionKey, error: ClientError) {
        let Some(position) = self.positions.get_mut(&key) else {
            return;
        };
        position.next = Next::Parked;
        position.fetch = None;
        self.errors.push_back((key, error));
        self.file(key);
    }

    /// The partition's data turned out to be damaged after it was taken: nothing that was fetched
    /// behind it is given out.
    pub(crate) fn rest(&mut self, key: PartitionKey) {
        self.drop_chunks(key);
        if let Some(position) = self.positions.get_mut(&key) {
            position.next = Next::Parked;
            position.fetch = None;
            position.buffered = 0;
        }
        self.file(key);
    }

    /// Leaves the partition alone for a while.
    pub(crate) fn postpone(
        &mut self,
        now: Time,
        key: PartitionKey,
        pause: impl FnOnce(u32) -> Duration,
    ) {
        if let Some(position) = self.positions.get_mut(&key) {
            position.failures += 1;
            position.not_before = now.plus(pause(position.failures));
            self.dirty = true;
        }
    }

    /// When the next of the partitions that were left alone may be tried again.
    pub(crate) fn next_ripe(&self, now: Time) -> Option<Time> {
        let waiting = self.free.iter().chain(&self.to_ask);
        let times = waiting
            .filter_map(|key| self.positions.get(key))
            .map(|p| p.not_before);
        times.filter(|at| *at > now).min()
    }

    /// Partitions whose offset must be asked for now.
    pub(crate) fn questions(&self, now: Time) -> Vec<PartitionKey> {
        let ready = |key: &&PartitionKey| self.is_ripe(**key, now);
        self.to_ask.iter().filter(ready).copied().collect()
    }

    /// Partitions that could be fetched now.
    pub(crate) fn fetchable(&self, now: Time) -> Vec<PartitionKey> {
        let ready = |key: &&PartitionKey| self.is_ripe(**key, now);
        self.free.iter().filter(ready).copied().collect()
    }

    fn is_ripe(&self, key: PartitionKey, now: Time) -> bool {
        self.positions
            .get(&key)
            .is_some_and(|position| position.not_before <= now)
    }

    /// Marks the question as asked: what to ask, and the generation to give back with the answer.
    pub(crate) fn ask(&mut self, key: PartitionKey) -> Option<(i64, u64)> {
        let position = self.positions.get_mut(&key)?;
        let Next::Ask(timestamp) = position.next else {
            return None;
        };
        position.next = Next::Asked(timestamp);
        let generation = position.generation;
        self.file(key);
        Some((timestamp, generation))
    }

    /// The answer to such a question.
    pub(crate) fn answered(
        &mut self,
        key: PartitionKey,
        generation: u64,
        answer: Result<i64, ClientError>,
    ) -> Trouble {
        let Some(position) = self.positions.get_mut(&key) else {
            return Trouble::None;
        };
        let Next::Asked(timestamp) = position.next else {
            return Trouble::None;
        };
        if position.generation != generation {
            return Trouble::None;
        }
        let mut trouble = Trouble::None;
        position.next = match answer {
            Ok(offset) if offset >= 0 => {
                position.begin = Some(offset);
                position.failures = 0;
                Next::At(offset)
            }
            // No record is that young: behind the newest.
            Ok(_) => Next::Ask(LATEST),
            Err(error) if error.is_retriable() => {
                trouble = Trouble::Retry;
                Next::Ask(timestamp)
            }
            Err(error) => {
                self.errors.push_back((key, error));
                Next::Parked
            }
        };
        self.file(key);
        trouble
    }

    /// What a fetch's answer says of one of its partitions.
    pub(crate) fn fetched(
        &mut self,
        now: Time,
        fetch: FetchId,
        key: PartitionKey,
        topic: &Arc<str>,
        told: Told,
    ) -> Trouble {
        let Some(position) = self.positions.get_mut(&key) else {
            return Trouble::None;
        };
        let Next::At(offset) = position.next else {
            return Trouble::None;
        };
        if position.fetch != Some(fetch) {
            return Trouble::None;
        }
        if told.high_watermark >= 0 {
            position.high_watermark = Some(told.high_watermark);
            position.log_start = told.log_start;
        }
        match told.result {
            Ok(data) if data.is_empty() => {
                position.failures = 0;
                Trouble::None
            }
            Ok(data) => {
                let topic = topic.clone();
                self.receive(
                    now,
                    key,
                    Chunk {
                        topic,
                        partition: key.partition,
                        offset,
                        data,
                    },
                );
                Trouble::None
            }
            Err(error) if error.code() == Some(crate::ErrorCode::OffsetOutOfRange) => {
                self.out_of_range(key, topic, offset, &told.high_watermark);
                Trouble::None
            }
            Err(error) if error.is_retriable() => Trouble::Retry,
            Err(error) => {
                self.park(key, error);
                Trouble::None
            }
        }
    }

    fn receive(&mut self, now: Time, key: PartitionKey, chunk: Chunk) {
        match end_of(&chunk.data) {
            Ok(end) if end > chunk.offset => {
                let bytes = chunk.data.len();
                if let Some(position) = self.positions.get_mut(&key) {
                    position.next = Next::At(end);
                    position.buffered += bytes;
                    position.last_data = Some(now);
                    position.failures = 0;
                }
                self.buffered += bytes;
                self.hot.insert(key);
                self.chunks.push_back((key, chunk));
            }
            Ok(end) => {
                let reason = format!("it ends at offset {end}, before what was asked for");
                self.park(key, corrupt(&chunk, reason));
            }
            Err(error) => self.park(key, corrupt(&chunk, error.to_string())),
        }
    }

    fn out_of_range(&mut self, key: PartitionKey, topic: &Arc<str>, offset: i64, end: &i64) {
        let Some(position) = self.positions.get_mut(&key) else {
            return;
        };
        let log_start = position.log_start;
        let to = match self.config.out_of_range {
            OutOfRange::Earliest => EARLIEST,
            OutOfRange::Latest => LATEST,
            OutOfRange::Error => {
                let (topic, partition) = (topic.to_string(), key.partition);
                let high_watermark = *end;
                self.park(
                    key,
                    ClientError::OffsetOutOfRange {
                        topic,
                        partition,
                        offset,
                        log_start,
                        high_watermark,
                    },
                );
                return;
            }
        };
        position.next = Next::Ask(to);
        self.file(key);
    }

    fn is_hot(&self, key: PartitionKey, now: Time) -> bool {
        let last = self
            .positions
            .get(&key)
            .and_then(|position| position.last_data);
        last.is_some_and(|at| now.since(at) < HOT)
    }
}

/// The offset after the last of these batches. Their checksums are verified when they are read.
fn end_of(data: &[u8]) -> Result<i64, BatchError> {
    let mut end = -1;
    for batch in iter_batches(data) {
        end = BatchHeader::parse(batch?)?.next_offset().0;
    }
    Ok(end)
}

fn corrupt(chunk: &Chunk, reason: String) -> ClientError {
    ClientError::Corrupt {
        topic: chunk.topic.to_string(),
        partition: chunk.partition,
        offset: chunk.offset,
        reason,
    }
}
