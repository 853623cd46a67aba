//! What a partition remembers of its idempotent producers: of each the epoch and the last five
//! batches, so that one that is sent again is told apart from the next one, from a gap and from
//! what a later life of the producer has fenced off.
//!
//! Pure: no clock, no I/O. The rules are Kafka's (4.1). The log is the record: whoever replays it
//! with [`Producers::replay`] on top of a snapshot comes to the same state, whichever of the batches
//! the snapshot has already.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};
use millrace_wire::batch::batch_producer;
use millrace_wire::ids::{Offset, ProducerEpoch, ProducerId};

use crate::journal::Sequence;

/// Batches remembered of each producer, as in Kafka: clients keep no more requests in flight.
pub(crate) const BATCHES_REMEMBERED: usize = 5;

/// The most producers that one partition remembers; beyond, those longest unused are forgotten.
pub(crate) const PRODUCERS_PER_PARTITION: usize = 10_000;

/// One part in so many goes when there are too many, so that looking for the oldest does not come
/// with every new producer.
const FORGOTTEN_AT_ONCE_DIVISOR: usize = 16;

/// A producer in a snapshot: id, epoch, last use and number of batches.
const PRODUCER_BYTES: usize = 8 + 2 + 8 + 1;
/// A batch in a snapshot: first and last sequence, base offset and largest timestamp.
const BATCH_BYTES: usize = 4 + 4 + 8 + 8;

/// A batch's place among those of its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    /// Sequence numbers of its first and its last record.
    pub(crate) first: i32,
    pub(crate) last: i32,
}

/// A batch carries numbers that no producer can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadNumbers {
    epoch: i16,
    sequence: i32,
}

impl std::fmt::Display for BadNumbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let BadNumbers { epoch, sequence } = self;
        write!(f, "a producer's epoch {epoch} and sequence {sequence}")
    }
}

impl Numbered {
    /// Of a batch of `record_count` offsets; none if it is not an idempotent producer's. The slice
    /// is at least as long as a batch's header.
    pub(crate) fn of(batch: &[u8], record_count: u32) -> Result<Option<Numbered>, BadNumbers> {
        let Some(producer) = batch_producer(batch) else {
            return Ok(None);
        };
        if producer.epoch.0 < 0 || producer.base_sequence < 0 {
            return Err(BadNumbers {
                epoch: producer.epoch.0,
                sequence: producer.base_sequence,
            });
        }
        Ok(Some(Numbered {
            id: producer.id,
            epoch: producer.epoch,
            first: producer.base_sequence,
            last: last_sequence(producer.base_sequence, record_count),
        }))
    }
}

/// The sequence number of the last of so many records: after the largest comes 0.
fn last_sequence(first: i32, record_count: u32) -> i32 {
    let last = i64::from(first) + i64::from(record_count.saturating_sub(1));
    i32::try_from(last % (1 << 31)).expect("it is below 2^31")
}

fn next_sequence(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

/// A batch that is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownBatch {
    first: i32,
    last: i32,
    pub(crate) base_offset: Offset,
    /// Its largest timestamp, ms since 1970: where the broker's clock counts, when it was appended.
    pub(crate) max_timestamp: i64,
    /// The journal group of this run that holds it; 0 for one of an earlier run.
    pub(crate) group: Sequence,
}

impl KnownBatch {
    fn next_offset(&self) -> Offset {
        let (first, last) = (i64::from(self.first), i64::from(self.last));
        let records = (last - first).rem_euclid(1 << 31) + 1;
        Offset(self.base_offset.0 + records)
    }
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It comes next, or nothing is known of its producer.
    Append,
    /// It is this one, sent again.
    Duplicate(KnownBatch),
}

#[cfg(test)]
impl Verdict {
    /// The offset of what a duplicate is one of.
    pub(crate) fn duplicate_at(self) -> Option<Offset> {
        match self {
            Verdict::Append => None,
            Verdict::Duplicate(known) => Some(known.base_offset),
        }
    }
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A later life of the producer has sent something.
    Fenced { current: ProducerEpoch },
    /// Another sequence number comes next.
    OutOfOrder { expected: i32 },
}

/// One producer and its batches, oldest first; places from `count` on hold nothing.
#[derive(Clone, Copy, Debug)]
struct Producer {
    epoch: ProducerEpoch,
    /// When its last batch was appended, wall clock, ms since 1970.
    used_ms: i64,
    count: u8,
    batches: [KnownBatch; BATCHES_REMEMBERED],
}

impl PartialEq for Producer {
    fn eq(&self, other: &Producer) -> bool {
        (self.epoch, self.used_ms, self.batches()) == (other.epoch, other.used_ms, other.batches())
    }
}

impl Eq for Producer {}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Producer {
        Producer {
            epoch,
            used_ms: 0,
            count: 0,
            batches: Default::default(),
        }
    }

    fn batches(&self) -> &[KnownBatch] {
        &self.batches[..usize::from(self.count)]
    }

    fn push(&mut self, epoch: ProducerEpoch, batch: KnownBatch) {
        if self.epoch != epoch {
            (self.epoch, self.count) = (epoch, 0);
        }
        if usize::from(self.count) == BATCHES_REMEMBERED {
            self.batches.copy_within(1.., 0);
            self.count -= 1;
        }
        self.batches[usize::from(self.count)] = batch;
        self.count += 1;
    }

    fn encoded_len(&self) -> usize {
        PRODUCER_BYTES + usize::from(self.count) * BATCH_BYTES
    }

    fn encode(&self, id: ProducerId, out: &mut Vec<u8>) {
        out.put_i64_le(id.0);
        out.put_i16_le(self.epoch.0);
        out.put_i64_le(self.used_ms);
        out.put_u8(self.count);
        for batch in self.batches() {
            out.put_i32_le(batch.first);
            out.put_i32_le(batch.last);
            out.put_i64_le(batch.base_offset.0);
            out.put_i64_le(batch.max_timestamp);
        }
    }

    /// The producer at the start of `bytes`, which moves on behind it.
    fn decode(bytes: &mut &[u8]) -> Option<(ProducerId, Producer)> {
        if bytes.len() < PRODUCER_BYTES {
            return None;
        }
        let id = ProducerId(bytes.get_i64_le());
        let mut producer = Producer::new(ProducerEpoch(bytes.get_i16_le()));
        producer.used_ms = bytes.get_i64_le();
        let count = bytes.get_u8();
        let sound = id.0 >= 0
            && producer.epoch.0 >= 0
            && (1..=BATCHES_REMEMBERED).contains(&usize::from(count))
            && bytes.len() >= usize::from(count) * BATCH_BYTES;
        if !sound {
            return None;
        }
        for _ in 0..count {
            let batch = KnownBatch {
                first: bytes.get_i32_le(),
                last: bytes.get_i32_le(),
                base_offset: Offset(bytes.get_i64_le()),
                max_timestamp: bytes.get_i64_le(),
                group: Sequence(0),
            };
            let sound = batch.first >= 0
                && batch.last >= 0
                && (0..=i64::MAX - (1 << 32)).contains(&batch.base_offset.0);
            if !sound {
                return None;
            }
            producer.push(producer.epoch, batch);
        }
        Some((id, producer))
    }
}

/// A snapshot's bytes make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadSnapshot;

/// Every idempotent producer that a partition remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    known: BTreeMap<ProducerId, Producer>,
    /// No producer was used last before this, ms since 1970.
    oldest_ms: i64,
}

impl Producers {
    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What is to be done with a batch. Changes nothing.
    pub(crate) fn check(&self, batch: &Numbered) -> Result<Verdict, Refusal> {
        let Some(producer) = self.known.get(&batch.id) else {
            // Never seen, or forgotten since: whoever comes back after long goes on where it was.
            return Ok(Verdict::Append);
        };
        if batch.epoch < producer.epoch {
            let current = producer.epoch;
            return Err(Refusal::Fenced { current });
        }
        let expected = if batch.epoch > producer.epoch {
            0
        } else {
            let same = |known: &&KnownBatch| (known.first, known.last) == (batch.first, batch.last);
            if let Some(known) = producer.batches().iter().find(same) {
                return Ok(Verdict::Duplicate(*known));
            }
            let last = producer.batches().last();
            last.map_or(batch.first, |last| next_sequence(last.last))
        };
        match batch.first == expected {
            true => Ok(Verdict::Append),
            false => Err(Refusal::OutOfOrder { expected }),
        }
    }

    /// Takes note of a batch that was appended. Of more than `limit` producers those longest unused
    /// are forgotten.
    pub(crate) fn record(
        &mut self,
        batch: Numbered,
        base_offset: Offset,
        max_timestamp: i64,
        group: Sequence,
        now_ms: i64,
        limit: usize,
    ) {
        if !self.known.contains_key(&batch.id) {
            if self.known.len() >= limit.max(1) {
                let all = self.known.len();
                let most = (limit.max(1) - 1).min(all - all.div_ceil(FORGOTTEN_AT_ONCE_DIVISOR));
                self.forget_oldest(all - most);
            }
            if self.known.is_empty() {
                self.oldest_ms = now_ms;
            }
        }
        let producer = self.known.entry(batch.id);
        let producer = producer.or_insert_with(|| Producer::new(batch.epoch));
        let (first, last) = (batch.first, batch.last);
        producer.push(
            batch.epoch,
            KnownBatch {
                first,
                last,
                base_offset,
                max_timestamp,
                group,
            },
        );
        producer.used_ms = now_ms;
        self.oldest_ms = self.oldest_ms.min(now_ms);
    }

    /// Takes note of a batch that the log is found to hold: as it is, since what is in the log was
    /// in order when it was appended. One that is known already, from a snapshot taken after it,
    /// changes nothing.
    pub(crate) fn replay(
        &mut self,
        batch: Numbered,
        base_offset: Offset,
        max_timestamp: i64,
        now_ms: i64,
    ) {
        let last = self
            .known
            .get(&batch.id)
            .and_then(|known| known.batches().last());
        if last.is_some_and(|last| last.base_offset >= base_offset) {
            return;
        }
        let (group, limit) = (Sequence(0), PRODUCERS_PER_PARTITION);
        self.record(batch, base_offset, max_timestamp, group, now_ms, limit);
    }

    /// The log was cut: batches that reach beyond `end` are not there any more, and are not
    /// duplicates when they come again. A producer without any batch left is unknown.
    pub(crate) fn cut(&mut self, end: Offset) {
        self.known.retain(|_, producer| {
            let kept = producer.batches().iter();
            let kept = kept.take_while(|batch| batch.next_offset() <= end).count();
            producer.count = u8::try_from(kept).expect("there are few");
            kept > 0
        });
    }

    /// Forgets producers that have not been used for so long.
    pub(crate) fn expire(&mut self, now_ms: i64, unused_ms: u64) {
        if self.known.is_empty() || !is_expired(self.oldest_ms, now_ms, unused_ms) {
            return;
        }
        self.known
            .retain(|_, producer| !is_expired(producer.used_ms, now_ms, unused_ms));
        let used = self.known.values().map(|producer| producer.used_ms);
        self.oldest_ms = used.min().unwrap_or(0);
    }

    pub(crate) fn forget_oldest(&mut self, count: usize) {
        let used = |(id, producer): (&ProducerId, &Producer)| (producer.used_ms, *id);
        let mut by_use: Vec<_> = self.known.iter().map(used).collect();
        let count = count.min(by_use.len());
        if count == 0 {
            return;
        }
        by_use.select_nth_unstable(count - 1);
        for (_, id) in &by_use[..count] {
            self.known.remove(id);
        }
    }

    /// Hands the producers that are not expired to `put`, in pieces of at most `piece_bytes` (or one
    /// producer), for [`Producers::take_in`].
    pub(crate) fn encode(
        &self,
        now_ms: i64,
        unused_ms: u64,
        piece_bytes: usize,
        mut put: impl FnMut(&[u8]),
    ) {
        let mut piece = Vec::new();
        for (id, producer) in &self.known {
            if is_expired(producer.used_ms, now_ms, unused_ms) {
                continue;
            }
            if !piece.is_empty() && piece.len() + producer.encoded_len() > piece_bytes {
                put(&piece);
                piece.clear();
            }
            producer.encode(*id, &mut piece);
        }
        if !piece.is_empty() {
            put(&piece);
        }
    }

    /// Takes in a piece of a snapshot: what it says of a producer replaces what was known. A clock
    /// that has gone back since makes nobody last longer than from now on.
    pub(crate) fn take_in(&mut self, mut piece: &[u8], now_ms: i64) -> Result<(), BadSnapshot> {
        while !piece.is_empty() {
            let (id, mut producer) = Producer::decode(&mut piece).ok_or(BadSnapshot)?;
            producer.used_ms = producer.used_ms.min(now_ms);
            self.oldest_ms = match self.known.is_empty() {
                true => producer.used_ms,
                false => self.oldest_ms.min(producer.used_ms),
            };
            self.known.insert(id, producer);
        }
        Ok(())
    }
}

fn is_expired(used_ms: i64, now_ms: i64, unused_ms: u64) -> bool {
    used_ms.saturating_add_unsigned(unused_ms) <= now_ms
}

#[cfg(test)]
mod tests;
