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
        let marks = self.marks.get();
        match query {
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
        }
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
        let mut newest = None;
        let safe = self.safe.get().next_offset;
        // The pinned ones first: once they are written, the segments have them.
        for batch in self
            .cache
            .borrow()
            .range(safe.max(marks.log_start), marks.visible)
        {
            if newest
                .as_ref()
                .is_none_or(|(timestamp, _)| batch.max_timestamp > *timestamp)
            {
                newest = Some((batch.max_timestamp, batch.batch.clone()));
            }
        }
        if let Some(place) = self.place.get().filter(|_| marks.log_start < safe) {
            let found = place.segments.max_timestamp(marks.log_start).await;
            if let Some(found) = found.map_err(|error| self.read_failed(marks.log_start, error))?
                && newest
                    .as_ref()
                    .is_none_or(|(timestamp, _)| found.max_timestamp >= *timestamp)
            {
                newest = Some((found.max_timestamp, found.batch));
            }
        }
        let Some((_, batch)) = newest else {
            return Ok(None);
        };
        let records = self.records(&batch, marks.log_start)?;
        // The first of those with the largest timestamp: `max_by_key` would give the last.
        let newest = records
            .into_iter()
            .filter(|record| record.offset >= marks.log_start)
            .rev();
        let newest = newest.max_by_key(|record| record.timestamp);
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

enum Search {
    Found {
        batch: Bytes,
        next: Offset,
    },
    Nothing,
    /// What was looked for changed its place in the meantime.
    Moved,
}
