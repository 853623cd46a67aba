//! Retention of one partition, by whole segments, and the removal of what lies below the log start.

use std::cell::Cell;
use std::rc::Rc;

use millrace_wire::ids::Offset;

use super::partition::Partition;
use super::{PartitionSettings, PartitionStatus};
use crate::env::{Env, OnPanic, Queue};
use crate::error::StorageError;
use crate::metrics::Counter;
use crate::segment::SegmentSummary;

/// When a partition has to be looked at again.
#[derive(Default)]
pub(crate) struct RetentionState {
    /// Something changed since the last look that retention may depend on.
    changed: Cell<bool>,
    /// Wall clock, ms, when something becomes too old by itself; unknown before the first look.
    next_ms: Cell<Option<i64>>,
    /// Since when, wall clock in ms, batches wait to be written to a segment.
    pending_since_ms: Cell<Option<i64>>,
    trimming: Cell<bool>,
}

impl<E: Env> Partition<E> {
    /// Retention must look again: something was written, removed or configured.
    pub(crate) fn retention_changed(&self) {
        self.retention.changed.set(true);
    }

    /// Whether retention has never looked at it.
    pub(crate) fn retention_unknown(&self) -> bool {
        self.retention.next_ms.get().is_none()
    }

    /// Whether there may be something to do.
    pub(crate) fn retention_due(&self, now_ms: i64) -> bool {
        self.retention.changed.get()
            || self
                .retention
                .next_ms
                .get()
                .is_none_or(|next| next <= now_ms)
            || self.pending_is_old(now_ms)
    }

    /// A batch is pinned that was not before.
    pub(super) fn note_pending(&self) {
        if self.retention.pending_since_ms.get().is_none() {
            self.retention
                .pending_since_ms
                .set(Some(self.shared.env.wall_clock_ms()));
        }
    }

    /// Nothing is pinned any more, or only what came just now.
    pub(super) fn note_written(&self, some_left: bool) {
        let since = some_left.then(|| self.shared.env.wall_clock_ms());
        self.retention.pending_since_ms.set(since);
        self.retention_changed();
    }

    /// Whether pinned batches are so old that they should be in a segment, where retention by time
    /// can reach them.
    fn pending_is_old(&self, now_ms: i64) -> bool {
        let PartitionSettings {
            retention_ms,
            segment_ms,
            ..
        } = self.settings();
        let Some(retention_ms) = retention_ms else {
            return false;
        };
        let since = self.retention.pending_since_ms.get();
        since.is_some_and(|since| is_past(since, retention_ms.min(segment_ms), now_ms))
    }

    /// Rolls, expires and removes segments as the settings demand.
    pub(crate) async fn apply_retention(self: &Rc<Self>, now_ms: i64) -> Result<(), StorageError> {
        let Some(place) = self.place.get() else {
            return Ok(());
        };
        let Some(_work) = self
            .begin_work()
            .filter(|_| self.status() == PartitionStatus::Serving)
        else {
            return Ok(());
        };
        if self.pending_is_old(now_ms) {
            self.request_flush(true);
        }
        self.retention.changed.set(false);
        let settings = self.settings();
        let mut summaries = place.segments.summaries().await?;
        let active_is_old = summaries.last().is_some_and(|active| {
            active.max_timestamp.is_some()
                && is_past(active.created_ms, settings.segment_ms, now_ms)
        });
        let mut expired = self.expired(&summaries, settings, now_ms);
        if active_is_old || (expired > 0 && expired == summaries.len()) {
            self.roll().await?;
            summaries = place.segments.summaries().await?;
            // Before the roll, younger records may have come to be in the segment that it
            // completed; and what another segment has gained since is not complete.
            let sealed = summaries.iter().filter(|segment| segment.sealed).count();
            expired = self.expired(&summaries, settings, now_ms).min(sealed);
        }
        if let Some(last) = expired.checked_sub(1).and_then(|last| summaries.get(last)) {
            self.raise_log_start(last.next_offset.min(self.marks.get().visible))
                .await?;
        }
        self.trim().await?;
        self.plan_next_look(&summaries[expired.min(summaries.len())..], settings);
        Ok(())
    }

    /// How many segments, from the oldest on, need not be kept.
    fn expired(
        &self,
        summaries: &[SegmentSummary],
        settings: PartitionSettings,
        now_ms: i64,
    ) -> usize {
        let mut kept =
            self.pinned_bytes() + summaries.iter().map(|segment| segment.bytes).sum::<u64>();
        let mut expired = 0;
        for segment in summaries {
            let Some(newest) = segment.max_timestamp else {
                break;
            };
            kept -= segment.bytes;
            let too_old = settings
                .retention_ms
                .is_some_and(|keep| is_past(newest, keep, now_ms));
            let too_much = settings.retention_bytes.is_some_and(|keep| kept >= keep);
            if !too_old && !too_much {
                break;
            }
            expired += 1;
        }
        expired
    }

    fn plan_next_look(&self, kept: &[SegmentSummary], settings: PartitionSettings) {
        let expiry = |segment: &SegmentSummary| {
            let newest = segment.max_timestamp?;
            Some(newest.saturating_add_unsigned(settings.retention_ms?))
        };
        let roll = |segment: &SegmentSummary| {
            let rolls = !segment.sealed && segment.max_timestamp.is_some();
            rolls.then(|| {
                segment
                    .created_ms
                    .saturating_add_unsigned(settings.segment_ms)
            })
        };
        let first = kept.first().and_then(expiry);
        let next = first.into_iter().chain(kept.last().and_then(roll)).min();
        self.retention.next_ms.set(Some(next.unwrap_or(i64::MAX)));
    }

    /// Completes the active segment and makes that known to the journal.
    async fn roll(self: &Rc<Self>) -> Result<(), StorageError> {
        let Some(place) = self.place.get() else {
            return Ok(());
        };
        self.became_safe(place.segments.roll().await?);
        Ok(())
    }

    /// Removes segments below the log start, in a task of its own.
    pub(super) fn trim_in_background(self: &Rc<Self>) {
        let partition = Rc::clone(self);
        let task = async move {
            if let Err(error) = partition.trim().await {
                tracing::warn!(partition = %partition.id(), "segments stay for now: {error}");
                partition.retention_changed();
            }
        };
        drop(
            self.shared
                .env
                .spawn(Queue::Background, "trim", OnPanic::EndTask, task),
        );
    }

    /// Removes segments that lie wholly below the log start, the active one too.
    async fn trim(self: &Rc<Self>) -> Result<(), StorageError> {
        let Some(place) = self.place.get() else {
            return Ok(());
        };
        let Some(_work) = self.begin_work() else {
            return Ok(());
        };
        if self.retention.trimming.replace(true) {
            self.retention_changed();
            return Ok(());
        }
        let trimmed = self.trim_segments(&place.segments).await;
        self.retention.trimming.set(false);
        trimmed
    }

    async fn trim_segments(
        self: &Rc<Self>,
        segments: &crate::segment::Segments<E>,
    ) -> Result<(), StorageError> {
        let log_start = self.marks.get().log_start;
        let summaries = segments.summaries().await?;
        let below = |segment: &&SegmentSummary| {
            segment.max_timestamp.is_some() && segment.next_offset <= log_start
        };
        let count = summaries.iter().take_while(below).count();
        if count == 0 || self.status() != PartitionStatus::Serving {
            return Ok(());
        }
        if count == summaries.len() && log_start > Offset::ZERO {
            self.roll().await?;
        }
        let safe = self.safe_is_durable().await?;
        let freed = segments.remove_before(log_start, safe).await?;
        if freed > 0 {
            tracing::info!(partition = %self.id(), %log_start, bytes = freed, "segments removed");
            self.shared.metrics.add(Counter::SegmentBytesRemoved, freed);
        }
        Ok(())
    }
}

/// Whether `after_ms` or more have passed since `since_ms`.
fn is_past(since_ms: i64, after_ms: u64, now_ms: i64) -> bool {
    since_ms.saturating_add_unsigned(after_ms) <= now_ms
}
