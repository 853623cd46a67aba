//! Reading: from memory where the batches are there, else from the segments.

use bytes::Bytes;
use millrace_wire::batch::BatchHeader;
use millrace_wire::ids::Offset;

use super::Read;
use super::partition::Partition;
use super::watermarks::Watermarks;
use crate::env::Env;
use crate::error::StorageError;
use crate::metrics::{Counter, Stage};
use crate::segment::SegmentError;

impl<E: Env> Partition<E> {
    /// Reads whole batches from the one that holds `from` on, up to `max_bytes`, or one batch of any
    /// size if `at_least_one`. Never beyond the high watermark; at it, the answer is empty.
    pub async fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Read, StorageError> {
        self.check_status()?;
        // Taken before the batches: a watch registered earlier tells of all that comes later.
        let watermarks = self.marks.get();
        if from < watermarks.log_start || from > watermarks.visible {
            return Err(self.out_of_range(from));
        }
        let batches = if from == watermarks.visible {
            Vec::new()
        } else {
            self.read_batches(from, watermarks.visible, max_bytes, at_least_one)
                .await?
        };
        let bytes = batches.iter().map(|batch| batch.len() as u64).sum();
        self.shared.metrics.add(Counter::BytesRead, bytes);
        Ok(Read {
            batches,
            watermarks,
        })
    }

    async fn read_batches(
        &self,
        from: Offset,
        end: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Vec<Bytes>, StorageError> {
        if let Some(batches) = self.cache.borrow().read(from, end, max_bytes, at_least_one) {
            self.shared.metrics.add(Counter::CacheHits, 1);
            return Ok(batches);
        }
        self.shared.metrics.add(Counter::CacheMisses, 1);
        let Some(place) = self.place.get() else {
            return Err(StorageError::UnknownPartition(self.id()));
        };
        // A removal waits until this is done with the files.
        let _work = self.begin_work();
        let started = self.shared.env.now();
        let mut batches = place
            .segments
            .read(from, max_bytes, at_least_one)
            .await
            .map_err(|error| self.read_failed(from, error))?;
        self.check_status()?;
        self.shared
            .metrics
            .record(Stage::SegmentRead, self.shared.env.now().since(started));
        // What became visible while the disk was busy belongs to the next read.
        while batches
            .last()
            .is_some_and(|batch| next_offset(batch).is_none_or(|next| next > end))
        {
            batches.pop();
        }
        if batches.is_empty() && self.safe.get().next_offset <= from {
            // Offsets may be missing where a loss was accepted: go on with what is in memory.
            let cache = self.cache.borrow();
            let start = cache.start().unwrap_or(end);
            return Ok(cache
                .read(start.max(from), end, max_bytes, at_least_one)
                .unwrap_or_default());
        }
        Ok(batches)
    }

    pub(super) fn out_of_range(&self, offset: Offset) -> StorageError {
        let Watermarks {
            log_start, visible, ..
        } = self.marks.get();
        StorageError::OffsetOutOfRange {
            offset,
            log_start,
            high_watermark: visible,
        }
    }

    pub(super) fn read_failed(&self, from: Offset, error: SegmentError) -> StorageError {
        if let Err(status) = self.check_status() {
            return status;
        }
        match error {
            // A log start is durable before any segment goes: what is retained should be there.
            SegmentError::Trimmed { first, .. } if first > self.journaled_log_start.get() => {
                self.shared.metrics.add(Counter::CorruptReads, 1);
                tracing::error!(partition = %self.id(), log_start = %self.journaled_log_start.get(), %first, "segments are missing");
                StorageError::Corrupt {
                    partition: self.id(),
                    offset: from,
                    next_readable: Some(first),
                    detail: format!(
                        "the segments before offset {first} are missing; put their files back, or delete the records before it"
                    ),
                }
            }
            SegmentError::Trimmed { .. } => self.out_of_range(from),
            SegmentError::Damaged(damage) => {
                self.shared.metrics.add(Counter::CorruptReads, 1);
                StorageError::Corrupt {
                    partition: self.id(),
                    offset: from,
                    next_readable: damage.next_readable,
                    detail: damage.to_string(),
                }
            }
            other => StorageError::Segment(other),
        }
    }
}

fn next_offset(batch: &[u8]) -> Option<Offset> {
    BatchHeader::parse(batch)
        .ok()
        .map(|header| header.next_offset())
}
