//! What a producer decides: which partition, which batch, when it leaves, and whether again.
//!
//! # Order, and each once
//!
//! Records that one task sends to one partition are stored in the order in which they were
//! accepted, and that holds under retries. An **idempotent** producer (the default) numbers its batches
//! (`sequences`), and the broker stores them in the order of their numbers and each once: a batch whose
//! answer was lost is sent again, byte for byte, and the broker answers with the place that the first
//! attempt gave it. A partition may have up to five batches under way, as many as the broker knows
//! again. When an attempt at one fails, those behind it land first, most of them refused because it is
//! missing; then all are sent again in order. Only full batches are sent beside others of their
//! partition: what is not full gathers while anything is under way, which makes fewer and larger ones.
//!
//! Where a batch fails for good (its time is over, it is too large), those numbered after it would
//! wait for it for ever. They are numbered anew, with the next epoch, once it is certain that the broker
//! will not store them under their first numbers. Where that cannot be known, because the answer to one
//! of them was lost and what came before it may yet arrive over a connection that the client has given
//! up, that one fails too ([`ClientError::FateUnknown`]): rather a record of unknown fate, which its
//! delivery tells, than one that is stored twice, which nobody tells.
//!
//! **Without idempotence** the broker cannot refuse batch k+1 while k is missing. Therefore a partition
//! has at most one batch under way; while it is sent again, those behind it wait. Only with `retries` 0,
//! where no batch is ever sent twice, may a partition have up to `max_in_flight` batches under way: a
//! failed one is then simply missing. A batch whose fate is unknown is sent again unless the user chose
//! [`UnknownOutcome::Fail`](crate::UnknownOutcome). Its records may then be stored twice, and the
//! second copy, coming from a connection that the client has given up, may even land behind later
//! records. The places that deliveries tell are in order nonetheless.

mod identity;
mod partitioner;
pub(crate) mod planted;
mod queue;
mod sequences;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use millrace_wire::batch::{BatchBuilder, Header};

pub(crate) use identity::Identity;
pub use queue::BatchId;
pub(crate) use queue::Outcome;
use queue::{Incoming, Queue};

use super::metadata::{PartitionKey, TopicKey};
use super::random::Random;
use super::time::Time;
use crate::{ClientError, ProducerConfig, Record, UnknownOutcome};
use partitioner::Sticky;

/// What a record costs beyond its own bytes while it waits.
const RECORD_OVERHEAD_BYTES: usize = 16;

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its batch.
    pub batch: BatchId,
    /// Whether it is the batch's first record.
    pub first: bool,
    /// Its place in the batch.
    pub index: u32,
    /// Its partition.
    pub partition: u32,
}

/// What became of an attempt to hand a record over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// It is in a batch.
    Accepted(Accepted),
    /// There is no room. Try again after [`Event::Room`](super::Event::Room).
    Full,
    /// The topic is not known yet. Try again after
    /// [`Event::MetadataChanged`](super::Event::MetadataChanged).
    Wait,
    /// It will never be accepted.
    Refused(ClientError),
}

/// What a failed attempt means for its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It was not stored; another attempt may do better.
    Again,
    /// It may have been stored.
    Lost,
    /// It may have been stored, and another attempt would not tell.
    Unclear,
    /// No attempt will do better.
    Hopeless,
}

/// A failed batch's further way.
pub(crate) enum Verdict {
    /// Again, after a pause.
    Retry,
    /// No more; the error is the records'.
    GiveUp(ClientError),
    /// No more, and nobody knows whether it was stored.
    Unclear,
}

#[derive(Debug)]
pub(crate) struct Producer {
    pub(crate) config: ProducerConfig,
    pub(crate) identity: Identity,
    queues: BTreeMap<PartitionKey, Queue>,
    sticky: BTreeMap<TopicKey, Sticky>,
    /// Bytes of records accepted and not finished.
    charged: usize,
    /// Queues that may have something to send, each at most once.
    ready: VecDeque<PartitionKey>,
    /// Queues that had something to send and no connection to send it on.
    stalled: Vec<PartitionKey>,
    /// Takes no more records, and goes when the last one is finished.
    pub(crate) closed: bool,
}

impl Producer {
    pub(crate) fn new(config: ProducerConfig) -> Producer {
        Producer {
            identity: Identity::new(config.idempotent),
            config,
            queues: BTreeMap::new(),
            sticky: BTreeMap::new(),
            charged: 0,
            ready: VecDeque::new(),
            stalled: Vec::new(),
            closed: false,
        }
    }

    /// Batches of one partition that may be under way; the module's documentation says why.
    fn flying_limit(&self) -> usize {
        // An idempotent one has a limit of its own besides.
        if self.config.idempotent || self.config.retries == 0 {
            self.config.max_in_flight.max(1)
        } else {
            1
        }
    }

    /// Which partition a record goes to.
    pub(crate) fn choose(
        &mut self,
        topic: TopicKey,
        record: &Record,
        partitions: u32,
        random: &mut Random,
    ) -> u32 {
        if let Some(partition) = record.partition {
            return partition;
        }
        if let Some(key) = &record.key {
            return millrace_wire::partitioning::partition_for_key(key, partitions).0;
        }
        let sticky = self.sticky.entry(topic).or_default();
        sticky.partition(partitions, self.config.batch_bytes, random)
    }

    /// Takes a record for a partition, if there is room. `next_id` numbers a new batch.
    pub(crate) fn push(
        &mut self,
        now: Time,
        key: PartitionKey,
        record: &Record,
        timestamp: i64,
        next_id: &mut u64,
    ) -> Push {
        let (record_key, value) = (record.key.as_deref(), record.value.as_deref());
        let headers = wire_headers(record);
        let bytes = BatchBuilder::record_len(record_key, value, &headers);
        let charge = bytes + RECORD_OVERHEAD_BYTES;
        if self.charged > 0 && self.charged + charge > self.config.buffer_bytes {
            return Push::Full;
        }
        let incoming = Incoming {
            record,
            headers: &headers,
            timestamp,
            charge,
        };
        let idempotent = self.config.idempotent;
        let queue = self
            .queues
            .entry(key)
            .or_insert_with(|| Queue::new(idempotent));
        if queue
            .open_bytes()
            .is_some_and(|open| open + bytes > self.config.batch_bytes)
        {
            queue.close_open();
        }
        let mut pushed = queue.push(now, incoming, &self.config, next_id);
        if pushed.is_err() && queue.open_bytes().is_some() {
            // It does not go with the records before it (its timestamp is too far from theirs).
            queue.close_open();
            pushed = queue.push(now, incoming, &self.config, next_id);
        }
        let accepted = match pushed {
            Ok(accepted) => Accepted {
                partition: key.partition,
                ..accepted
            },
            Err(error) => return Push::Refused(error),
        };
        if queue
            .open_bytes()
            .is_some_and(|open| open >= self.config.batch_bytes)
        {
            queue.close_open();
        }
        self.charged += charge;
        if record.partition.is_none()
            && record.key.is_none()
            && let Some(sticky) = self.sticky.get_mut(&key.topic)
        {
            sticky.count(bytes);
        }
        self.touch(now, key);
        Push::Accepted(accepted)
    }

    /// Lists the queue if it has something to send.
    pub(crate) fn touch(&mut self, now: Time, key: PartitionKey) {
        let limit = self.flying_limit();
        if let Some(queue) = self.queues.get_mut(&key)
            && !queue.listed
            && queue.is_sendable(now, limit)
        {
            queue.listed = true;
            self.ready.push_back(key);
        }
    }

    /// The next queue that has something to send.
    pub(crate) fn next_ready(&mut self, now: Time) -> Option<PartitionKey> {
        let limit = self.flying_limit();
        while let Some(key) = self.ready.pop_front() {
            if let Some(queue) = self.queues.get_mut(&key) {
                queue.listed = false;
                if queue.is_sendable(now, limit) {
                    return Some(key);
                }
                if queue.is_disposable() {
                    self.queues.remove(&key);
                }
            }
        }
        None
    }

    /// Puts a queue aside that cannot be sent from now.
    pub(crate) fn stall(&mut self, key: PartitionKey) {
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.listed = true;
            self.stalled.push(key);
        }
    }

    /// Something has changed for those put aside.
    pub(crate) fn unstall(&mut self) {
        self.ready.extend(self.stalled.drain(..));
    }

    /// Whether the queue's next batch must wait for the producer's id.
    pub(crate) fn awaits_id(&self, key: PartitionKey) -> bool {
        self.identity.known().is_none() && self.queues.get(&key).is_some_and(Queue::needs_id)
    }

    /// Partitions whose batches wait for the producer's id.
    pub(crate) fn awaiting_id(&self) -> Vec<PartitionKey> {
        let queues = self.queues.iter().filter(|(_, queue)| queue.needs_id());
        queues.map(|(key, _)| *key).collect()
    }

    /// Makes the queue's next batch ready to send and gives its length.
    pub(crate) fn prepare(&mut self, key: PartitionKey) -> Result<usize, (BatchId, ClientError)> {
        let Some(queue) = self.queues.get_mut(&key) else {
            return Ok(0);
        };
        queue.prepare()
    }

    /// Takes the batch that was prepared; it is under way from now on.
    pub(crate) fn take(&mut self, now: Time, key: PartitionKey) -> Option<(BatchId, Bytes)> {
        let id = self.identity.known();
        let taken = self.queues.get_mut(&key)?.take(id);
        self.touch(now, key);
        taken
    }

    /// The batch is stored, or given up. Tells whether it was known.
    pub(crate) fn finish(
        &mut self,
        now: Time,
        key: PartitionKey,
        id: BatchId,
        stored: bool,
    ) -> bool {
        let Some(queue) = self.queues.get_mut(&key) else {
            return false;
        };
        let Some(batch) = queue.remove(id, stored) else {
            return false;
        };
        self.charged -= batch.charge;
        if let Some(retired) = queue.take_retired() {
            self.identity.forget(retired, now);
        }
        if queue.is_disposable() && !queue.listed {
            self.queues.remove(&key);
        } else {
            self.touch(now, key);
        }
        true
    }

    /// An attempt at the batch failed. The caller finishes it if this gives it up.
    pub(crate) fn fail(
        &mut self,
        now: Time,
        key: PartitionKey,
        id: BatchId,
        error: &ClientError,
        outcome: Outcome,
        pause: impl FnOnce(u32) -> std::time::Duration,
    ) -> Option<Verdict> {
        let (retries, timeout) = (self.config.retries, self.config.delivery_timeout);
        let queue = self.queues.get_mut(&key)?;
        let (batch, progress) = queue.landed(id, outcome)?;
        let may_retry = match progress {
            Progress::Again => true,
            Progress::Lost => self.config.unknown_outcome == UnknownOutcome::Retry,
            Progress::Hopeless => false,
            Progress::Unclear => return Some(Verdict::Unclear),
        };
        if !may_retry || batch.attempts > retries || now.since(batch.created) >= timeout {
            return Some(Verdict::GiveUp(error.clone()));
        }
        batch.last = Some(error.to_string());
        let again = now.plus(pause(batch.attempts));
        queue.not_before = again;
        if let Some(retired) = queue.take_retired() {
            self.identity.forget(retired, now);
        }
        Some(Verdict::Retry)
    }

    /// Batches that have waited too long, each with what its last failure said.
    pub(crate) fn expire(
        &mut self,
        now: Time,
        key: PartitionKey,
    ) -> Vec<(BatchId, Option<String>)> {
        let timeout = self.config.delivery_timeout;
        self.queues
            .get(&key)
            .map(|queue| queue.expired(now, timeout))
            .unwrap_or_default()
    }

    /// When the queue needs attention next.
    pub(crate) fn next_deadline(&self, now: Time, key: PartitionKey) -> Option<Time> {
        self.queues
            .get(&key)?
            .next_deadline(now, self.config.delivery_timeout)
    }

    /// Batches of this queue that are not under way, for when its partition turns out not to exist.
    pub(crate) fn waiting(&mut self, key: PartitionKey) -> Vec<BatchId> {
        self.queues
            .get_mut(&key)
            .map(Queue::waiting)
            .unwrap_or_default()
    }

    /// Lets everything gathered leave without lingering.
    pub(crate) fn flush(&mut self, now: Time) {
        let keys: Vec<PartitionKey> = self.queues.keys().copied().collect();
        for key in keys {
            if let Some(queue) = self.queues.get_mut(&key) {
                queue.close_open();
            }
            self.touch(now, key);
        }
    }

    /// Whether nothing is waiting or under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.charged == 0
    }

    /// The connection that the queue's batches under way are on.
    pub(crate) fn route_in_use(&self, key: PartitionKey) -> Option<super::ConnectionId> {
        self.queues.get(&key)?.route_in_use()
    }

    pub(crate) fn set_route(&mut self, key: PartitionKey, id: super::ConnectionId) {
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.route = Some(id);
        }
    }
}

/// The record's headers as batches take them; costs nothing where there are none.
fn wire_headers(record: &Record) -> Vec<Header> {
    let convert = |(name, value): &crate::Header| Header {
        key: name.clone().into(),
        value: value.clone(),
    };
    record.headers.iter().map(convert).collect()
}
