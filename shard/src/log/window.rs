//! The duplicate window of a partition replica: [`Producers`] between the appends, the journal's
//! checkpoint and the shard's bounds.

use std::rc::Rc;

use millrace_wire::ids::Offset;

use super::partition::Partition;
use super::producers::{Numbered, PRODUCERS_PER_PARTITION, Producers, Refusal, Verdict};
use super::{Appended, Durable};
use crate::env::Env;
use crate::error::StorageError;
use crate::journal::Sequence;
use crate::journal::planted::{self, Bug};
use crate::metrics::Counter;

/// The most producers that the partitions of a shard remember together: a checkpoint takes all of
/// them at once, at most 14 MB. Beyond, a partition remembers a new one in place of others of its
/// own; one that has none may still begin with one.
pub(crate) const PRODUCERS_PER_SHARD: usize = 100_000;

/// A snapshot is in pieces of this length: an entry of the journal each.
pub(crate) const PRODUCERS_PIECE_BYTES: usize = 64 << 10;

impl<E: Env> Partition<E> {
    /// How many idempotent producers it remembers.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.producers.borrow().len()
    }

    /// Which batch a batch is of an idempotent producer, for [`Partition::remember`] when it has its
    /// place; or the answer, if it is here already: of the same offset, and durable when that is.
    pub(super) fn check_producer(
        &self,
        batch: &[u8],
        record_count: u32,
    ) -> Result<Result<Option<Numbered>, Appended>, StorageError> {
        let numbered = Numbered::of(batch, record_count);
        let numbered = numbered.map_err(|bad| StorageError::InvalidBatch(bad.to_string()))?;
        let Some(numbered) = numbered else {
            return Ok(Ok(None));
        };
        let verdict = self.producers.borrow().check(&numbered);
        let known = match verdict {
            Ok(Verdict::Append) => return Ok(Ok(Some(numbered))),
            Ok(Verdict::Duplicate(known)) => known,
            Err(Refusal::Fenced { current }) => {
                return Err(StorageError::InvalidProducerEpoch {
                    partition: self.id(),
                    producer: numbered.id,
                    epoch: numbered.epoch,
                    current,
                });
            }
            Err(Refusal::OutOfOrder { expected }) => {
                return Err(StorageError::OutOfOrderSequence {
                    partition: self.id(),
                    producer: numbered.id,
                    sequence: numbered.first,
                    expected,
                });
            }
        };
        let durable = Durable::new(Rc::clone(&self.shared.settled), known.group);
        if planted::is(Bug::DuplicateInFlightAppended) && durable.outcome().is_none() {
            return Ok(Ok(Some(numbered)));
        }
        self.shared.metrics.add(Counter::DuplicateBatches, 1);
        Ok(Err(Appended {
            base_offset: known.base_offset,
            durable,
            duplicate_of: Some(known.max_timestamp),
        }))
    }

    /// A batch of an idempotent producer has its place.
    pub(super) fn remember(
        &self,
        batch: Numbered,
        base_offset: Offset,
        max_timestamp: i64,
        group: Sequence,
    ) {
        let now_ms = self.shared.env.wall_clock_ms();
        let full = self.shared.producers() >= PRODUCERS_PER_SHARD;
        self.change_producers(|producers| {
            let limit = match full {
                true => producers.len().min(PRODUCERS_PER_PARTITION),
                false => PRODUCERS_PER_PARTITION,
            };
            producers.record(batch, base_offset, max_timestamp, group, now_ms, limit);
        });
    }

    /// Changes what is remembered, and counts it on the shard.
    pub(super) fn change_producers(&self, change: impl FnOnce(&mut Producers)) {
        let mut producers = self.producers.borrow_mut();
        let before = producers.len();
        change(&mut producers);
        self.shared.count_producers(before, producers.len());
    }

    /// Forgets producers that nobody has used for long.
    pub(crate) fn expire_producers(&self, now_ms: i64) {
        let unused_ms = self.shared.config.producer_expiration_ms();
        self.change_producers(|producers| producers.expire(now_ms, unused_ms));
    }

    /// Hands `put` a snapshot of the producers, in pieces, as of everything handed to the journal so
    /// far.
    pub(crate) fn snapshot_producers(&self, put: &mut dyn FnMut(&[u8])) {
        let producers = self.producers.borrow();
        if !producers.is_empty() {
            let now_ms = self.shared.env.wall_clock_ms();
            let unused_ms = self.shared.config.producer_expiration_ms();
            producers.encode(now_ms, unused_ms, PRODUCERS_PIECE_BYTES, put);
        }
    }
}
