//! Idempotent producers: what they send, again and again where an answer may have been lost, and
//! what becomes of each batch if the storage remembers what it must.

use bytes::BytesMut;
use millrace_wire::batch::{BatchProducer, batch_producer, set_batch_producer};
use millrace_wire::ids::{Offset, PartitionId, ProducerEpoch, ProducerId};

use super::client::{Broker, make_batch};
use super::draws::Draws;
use super::model::{ModelPartition, Violation, ensure};
use crate::env::Env;
use crate::error::StorageError;
use crate::log::Appended;

/// Producers that write to one partition.
const PRODUCERS: i64 = 3;

/// Batches that are kept to be sent again, beyond what the storage remembers.
const KEPT: usize = 12;

/// The storage remembers so many of each producer.
const REMEMBERED: usize = 5;

/// A batch as it was sent.
#[derive(Clone)]
pub struct Sent {
    pub batch: BytesMut,
    pub timestamps: Vec<i64>,
}

/// What must become of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Appended,
    /// It is there, at this offset.
    Duplicate(Offset),
    Refused,
    /// What was known of the producer may be lost with acknowledged records: only what is there may
    /// count as a duplicate.
    Unsure,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It was appended, or failed as any batch may.
    New,
    Again,
    Refused,
}

impl ModelPartition {
    /// The batches of a producer's latest epoch that are there: sequence numbers and offsets.
    fn of_producer(&self, id: ProducerId) -> (ProducerEpoch, Vec<(i32, i32, Offset)>) {
        let mut epoch = ProducerEpoch(-1);
        let mut found = Vec::new();
        for batch in &self.batches {
            let Some(producer) = batch_producer(&batch.bytes).filter(|producer| producer.id == id)
            else {
                continue;
            };
            if producer.epoch != epoch {
                epoch = producer.epoch;
                found.clear();
            }
            let records = i32::try_from(batch.timestamps.len()).expect("few records");
            let last = after(producer.base_sequence, records - 1);
            found.push((producer.base_sequence, last, batch.base));
        }
        (epoch, found)
    }

    /// What must become of this batch of so many records.
    pub fn expects(&self, batch: &[u8], records: usize) -> Expected {
        let Some(producer) = batch_producer(batch) else {
            return Expected::Appended;
        };
        if producer.id.0 < self.first_producer {
            return Expected::Unsure;
        }
        let (epoch, batches) = self.of_producer(producer.id);
        let Some((_, newest, _)) = batches.last().copied() else {
            return Expected::Appended;
        };
        let first = producer.base_sequence;
        let expected = match producer.epoch.cmp(&epoch) {
            std::cmp::Ordering::Less => return Expected::Refused,
            std::cmp::Ordering::Greater => 0,
            std::cmp::Ordering::Equal => {
                let last = after(first, i32::try_from(records).expect("few records") - 1);
                let mut recent = batches.iter().rev().take(REMEMBERED);
                if let Some((_, _, at)) = recent.find(|(f, l, _)| (*f, *l) == (first, last)) {
                    return Expected::Duplicate(*at);
                }
                after(newest, 1)
            }
        };
        if first == expected {
            Expected::Appended
        } else {
            Expected::Refused
        }
    }

    /// The next batch of one of the producers, or one that has been sent before.
    fn next_sent(&mut self, draws: &Draws, now_ms: i64) -> Sent {
        if draws.chance(40)
            && let Some(sent) = draws.pick(&self.sent)
        {
            return sent.clone();
        }
        let (mut batch, timestamps) = make_batch(draws, now_ms);
        let number = i64::try_from(draws.below(PRODUCERS.unsigned_abs())).expect("small");
        let id = ProducerId(self.first_producer + number);
        let (epoch, batches) = self.of_producer(id);
        let mut producer = BatchProducer {
            id,
            epoch,
            base_sequence: 0,
        };
        match batches.last() {
            // Some begin where the numbers are about to begin again.
            None => {
                producer.epoch = ProducerEpoch(0);
                producer.base_sequence = if number == 0 { i32::MAX - 4 } else { 0 };
            }
            Some(_) if draws.chance(4) => producer.epoch = ProducerEpoch(epoch.0 + 1),
            Some((_, last, _)) => {
                let gap = if draws.chance(4) { 5 } else { 1 };
                producer.base_sequence = after(*last, gap);
            }
        }
        set_batch_producer(&mut batch, producer);
        let sent = Sent { batch, timestamps };
        if self.sent.len() == KEPT {
            self.sent.remove(0);
        }
        self.sent.push(sent.clone());
        sent
    }

    /// Acknowledged records were given up: the producers of before are not to be relied on.
    pub fn forget_producers(&mut self) {
        self.first_producer += PRODUCERS;
    }
}

/// The sequence number so many after another: the largest is followed by 0.
fn after(sequence: i32, count: i32) -> i32 {
    let sum = (i64::from(sequence) + i64::from(count)) % (1 << 31);
    i32::try_from(sum).expect("it is below 2^31")
}

impl Broker {
    /// The next batch for a partition: plain, or an idempotent producer's.
    pub fn next_batch(&self, draws: &Draws, id: PartitionId) -> Sent {
        let now_ms = self.env.wall_clock_ms();
        let mut model = self.model.borrow_mut();
        match model.partitions.get_mut(&id) {
            Some(known) if draws.chance(60) => known.next_sent(draws, now_ms),
            _ => {
                let (batch, timestamps) = make_batch(draws, now_ms);
                Sent { batch, timestamps }
            }
        }
    }

    /// What must become of a batch for a partition.
    pub fn expect(&self, id: PartitionId, batch: &[u8], records: usize) -> Expected {
        let model = self.model.borrow();
        let known = model.partitions.get(&id);
        known.map_or(Expected::Appended, |known| known.expects(batch, records))
    }

    /// Holds what became of a batch against what must.
    pub fn judge(
        &self,
        id: PartitionId,
        batch: &[u8],
        expected: Expected,
        appended: &Result<Appended, StorageError>,
    ) -> Result<Became, Violation> {
        let mut model = self.model.borrow_mut();
        let producer = batch_producer(batch);
        match appended {
            Ok(appended) if appended.duplicate_of.is_some() => {
                let known = model.partitions.get(&id).expect("it was there just now");
                let at = appended.base_offset;
                let there = known.batches.iter().find(|known| known.base == at);
                let there = there.filter(|known| batch_producer(&known.bytes) == producer);
                let Some(there) = there else {
                    return Err(format!(
                        "{id}: {producer:?} counts as a duplicate of what is at {at}, which is another batch"
                    ));
                };
                let (is_new, safe) = (there.is_new, there.safe);
                ensure!(
                    [Expected::Duplicate(at), Expected::Unsure].contains(&expected),
                    "{id}: {producer:?} counts as a duplicate of what is at {at}: {expected:?}"
                );
                model.count("duplicates answered");
                if !is_new {
                    model.count("duplicates of an earlier life");
                }
                if !safe {
                    model.count("duplicates on their way");
                }
                Ok(Became::Again)
            }
            Ok(appended) => {
                ensure!(
                    [Expected::Appended, Expected::Unsure].contains(&expected),
                    "{id}: {producer:?} was appended at {}: {expected:?}",
                    appended.base_offset
                );
                if producer.is_some() {
                    model.count("batches of idempotent producers");
                }
                Ok(Became::New)
            }
            Err(
                error @ (StorageError::OutOfOrderSequence { .. }
                | StorageError::InvalidProducerEpoch { .. }),
            ) => {
                ensure!(
                    [Expected::Refused, Expected::Unsure].contains(&expected),
                    "{id}: {expected:?}, but {error}"
                );
                model.count("batches out of order");
                Ok(Became::Refused)
            }
            Err(_) => Ok(Became::New),
        }
    }
}
