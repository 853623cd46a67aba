//! Searching by time.

use std::collections::VecDeque;

use bytes::Bytes;
use millrace_wire::ids::Offset;

use super::format::NO_TIMESTAMP;
use super::walk::SCAN_BYTES;
use super::{FoundBatch, SegmentError, Segments, View};
use crate::env::Env;

impl<E: Env> Segments<E> {
    /// The first batch at or after the one that holds `from` whose largest timestamp is at least
    /// `timestamp`, whatever the order of timestamps. Which record of it, the caller finds by
    /// decoding.
    pub async fn find_by_timestamp(
        &self,
        from: Offset,
        timestamp: i64,
    ) -> Result<Option<FoundBatch>, SegmentError> {
        let mut next = self.first_view(from).await?;
        while let Some(view) = next {
            if self.view_max_timestamp(&view).await? >= timestamp
                && let Some(found) = self.find_in(&view, from, timestamp).await?
            {
                return Ok(Some(found));
            }
            next = self.view_after(&view, from).await?;
        }
        Ok(None)
    }

    /// The first batch with the largest timestamp of all at or after the one that holds `from`.
    pub async fn max_timestamp(&self, from: Offset) -> Result<Option<FoundBatch>, SegmentError> {
        let first = self.first_view(from).await?;
        let mut largest = NO_TIMESTAMP;
        let mut next = match &first {
            Some(first) => self.view_after(first, from).await?,
            None => return Ok(None),
        };
        while let Some(view) = next {
            largest = largest.max(self.view_max_timestamp(&view).await?);
            next = self.view_after(&view, from).await?;
        }
        // Of the first segment only a part may count; that it is needed is rare.
        if let Some(first) = first
            && self.view_max_timestamp(&first).await? > largest
        {
            largest = largest.max(self.largest_from(&first, from).await?);
        }
        if largest == NO_TIMESTAMP {
            return Ok(None);
        }
        self.find_by_timestamp(from, largest).await
    }

    async fn first_view(&self, from: Offset) -> Result<Option<View>, SegmentError> {
        self.ensure_listed().await?;
        if from >= self.end().next_offset {
            return Ok(None);
        }
        let base = self.base_for(from).await?;
        self.view(base).await.map(Some)
    }

    async fn view_max_timestamp(&self, view: &View) -> Result<i64, SegmentError> {
        if let Some(largest) = self.with_active(view.base, |active| active.index.max_timestamp) {
            return Ok(largest);
        }
        Ok(self.facts(view.base).await?.max_timestamp)
    }

    async fn find_in(
        &self,
        view: &View,
        from: Offset,
        timestamp: i64,
    ) -> Result<Option<FoundBatch>, SegmentError> {
        // Everything before this place is older or comes too early.
        let start = self
            .place(view, |place| place.max_before < timestamp)
            .await?;
        let lowest = self.place(view, |place| place.offset <= from).await?;
        let position = start.position.max(lowest.position);
        let mut walk = self
            .walk(view, position, SCAN_BYTES, VecDeque::new())
            .await?;
        let mut reached = from.max(start.offset);
        loop {
            let Some((position, header)) = self.fault(view, reached, walk.next().await).await?
            else {
                return Ok(None);
            };
            reached = header.next_offset().max(from);
            if header.next_offset() <= from || header.max_timestamp < timestamp {
                continue;
            }
            return match walk.batch(position, &header).await {
                Ok(batch) => Ok(Some(FoundBatch {
                    base_offset: header.base_offset,
                    record_count: header.record_count,
                    max_timestamp: header.max_timestamp,
                    batch: Bytes::copy_from_slice(&batch),
                })),
                Err(fault) => Err(self.faulty(
                    view,
                    header.base_offset.max(from),
                    Some(header.next_offset()),
                    fault,
                )),
            };
        }
    }

    /// The largest timestamp in a view at or after the batch that holds `from`.
    async fn largest_from(&self, view: &View, from: Offset) -> Result<i64, SegmentError> {
        let start = self.place(view, |place| place.offset <= from).await?;
        let mut walk = self
            .walk(view, start.position, SCAN_BYTES, VecDeque::new())
            .await?;
        let (mut largest, mut reached) = (NO_TIMESTAMP, from);
        while let Some((_, header)) = self.fault(view, reached, walk.next().await).await? {
            if header.next_offset() > from {
                largest = largest.max(header.max_timestamp);
                reached = header.next_offset();
            }
        }
        Ok(largest)
    }
}
