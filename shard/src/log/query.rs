//! Offsets by what they stand for: the ends of the log, and records by their timestamps. The batch
//! is found by the segments' index or in memory; the exact record by decoding that one batch.

use bytes::Bytes;
use millrace_wire::batch::{DEFAULT_MAX_UNCOMPRESSED_BYTES, Record, Records};
use millrace_wire::ids::Offset;

use super::partition::Partition;
use super::{FoundOffset, OffsetQuery};
use crate::env::Env;
use crate::error::StorageError;

impl<E: Env> Partition<E> {
    /// The offset that `query` stands for; none if no record fits. Only what is visible counts.
    pub async fn find_offset(
        &self,
        query: OffsetQuery,
    ) -> Result<Option<FoundOffset>, StorageError> {
        self.check_status()?;
        // A removal waits until this is done with the files.
        let _work = self.begin_work();
        let marks = self.marks.get();
        let found = match query {
            OffsetQuery::Earliest => Ok(Some(FoundOffset {
                offset: marks.log_start,
                timestamp: None,
            })),
            OffsetQuery::Latest => Ok(Some(FoundOffset {
                offset: marks.visible,
                timestamp: None,
            })),
            OffsetQuery::AtTimestamp(timestamp) => self.find_at(timestamp).await,
            OffsetQuery::MaxTimestamp => self.find_newest().await,
        };
        // Removed in the meantime, it has nothing in memory any more: not to have found something
        // there means nothing.
        self.check_status()?;
        found
    }

    async fn find_at(&self, timestamp: i64) -> Result<Option<FoundOffset>, StorageError> {
        let marks = self.marks.get();
        let mut from = marks.log_start;
        let fits =
            |record: &Record| record.offset >= marks.log_start && record.timestamp >= timestamp;
        while from < marks.visible {
            let (batch, next) = match self.next_batch_at(from, marks.visible, timestamp).await? {
                Search::Found { batch, next } => (batch, next),
                Search::Nothing => return Ok(None),
                Search::Moved => continue,
            };
            if let Some(record) = self.records(&batch, from)?.into_iter().find(fits) {
                return Ok(Some(FoundOffset {
                    offset: record.offset,
                    timestamp: Some(record.timestamp),
                }));
            }
            // The record that makes the batch's largest timestamp lies below the log start.
            from = next;
        }
        Ok(None)
    }

    /// The first batch from `from` on whose largest timestamp is at least `timestamp`.
    async fn next_batch_at(
        &self,
        from: Offset,
        end: Offset,
        timestamp: i64,
    ) -> Result<Search, StorageError> {
        let safe = self.safe.get().next_offset;
        if let Some(place) = self.place.get().filter(|_| from < safe) {
            let found = place.segments.find_by_timestamp(from, timestamp).await;
            if let Some(found) = found.map_err(|error| self.read_failed(from, error))? {
                let next = found.base_offset.advance(found.record_count);
                return Ok(Search::Found {
                    batch: found.batch,
                    next,
                });
            }
        }
        let from = from.max(safe);
        let cache = self.cache.borrow();
        if from < self.safe.get().next_offset && cache.start().is_none_or(|start| start > from) {
            // Written to a segment, and let go, while the segments were searched: search again.
            return Ok(Search::Moved);
        }
        let found = cache
            .range(from, end)
            .find(|batch| batch.max_timestamp >= timestamp);
        Ok(found.map_or(Search::Nothing, |batch| Search::Found {
            batch: batch.batch.clone(),
            next: batch.next_offset(),
        }))
    }

    async fn find_newest(&self) -> Result<Option<FoundOffset>, StorageError> {
        let marks = self.marks.get();
        let Some(newest) = self.newest_batch(marks.log_start, marks.visible).await? else {
            return Ok(None);
        };
        let found = self.newest_record(&newest.batch, marks.log_start)?;
        if newest.base_offset >= marks.log_start {
            return Ok(found);
        }
        // What makes this batch the newest may lie below the log start.
        let Some(other) = self.newest_batch(newest.next_offset, marks.visible).await? else {
            return Ok(found);
        };
        let other = self.newest_record(&other.batch, marks.log_start)?;
        Ok(
            if other.map(|other| other.timestamp) > found.map(|found| found.timestamp) {
                other
            } else {
                found
            },
        )
    }

    /// The first batch in `from..end` with the largest timestamp of all.
    async fn newest_batch(
        &self,
        from: Offset,
        end: Offset,
    ) -> Result<Option<Newest>, StorageError> {
        let safe = self.safe.get().next_offset;
        let mut newest: Option<Newest> = None;
        // The pinned ones first: should they be written meanwhile, both searches see them.
        for batch in self.cache.borrow().range(safe.max(from), end) {
            if newest
                .as_ref()
                .is_none_or(|newest| batch.max_timestamp > newest.max_timestamp)
            {
                newest = Some(Newest {
                    base_offset: batch.base_offset,
                    next_offset: batch.next_offset(),
                    max_timestamp: batch.max_timestamp,
                    batch: batch.batch.clone(),
                });
            }
        }
        if let Some(place) = self.place.get().filter(|_| from < safe) {
            let found = place.segments.max_timestamp(from).await;
            if let Some(found) = found.map_err(|error| self.read_failed(from, error))?
                && newest
                    .as_ref()
                    .is_none_or(|newest| found.max_timestamp >= newest.max_timestamp)
            {
                newest = Some(Newest {
                    base_offset: found.base_offset,
                    next_offset: found.base_offset.advance(found.record_count),
                    max_timestamp: found.max_timestamp,
                    batch: found.batch,
                });
            }
        }
        Ok(newest)
    }

    /// The first of a batch's records, from `from` on, with the largest timestamp of these.
    fn newest_record(
        &self,
        batch: &Bytes,
        from: Offset,
    ) -> Result<Option<FoundOffset>, StorageError> {
        let records = self.records(batch, from)?;
        // Backwards, since `max_by_key` gives the last of equals.
        let newest = records
            .iter()
            .rev()
            .filter(|record| record.offset >= from)
            .max_by_key(|record| record.timestamp);
        Ok(newest.map(|record| FoundOffset {
            offset: record.offset,
            timestamp: Some(record.timestamp),
        }))
    }

    fn records(&self, batch: &Bytes, from: Offset) -> Result<Vec<Record>, StorageError> {
        let records =
            Records::decode(batch, DEFAULT_MAX_UNCOMPRESSED_BYTES).and_then(Iterator::collect);
        records.map_err(|error| StorageError::Corrupt {
            partition: self.id(),
            offset: from,
            next_readable: None,
            detail: error.to_string(),
        })
    }
}

/// A batch with the largest timestamp.
struct Newest {
    base_offset: Offset,
    next_offset: Offset,
    max_timestamp: i64,
    batch: Bytes,
}

enum Search {
    Found {
        batch: Bytes,
        next: Offset,
    },
    Nothing,
    /// What was looked for changed its place in the meantime.
    Moved,
}
