//! From what a journal gives back to the partitions' states: which batches are in the journal only,
//! where each log ends, and whether all that was acknowledged is there.
//!
//! A pure function of the journal's answer: it reads no file. Each partition is judged by itself.
//! Its batches must follow each other from the end of its segments to the furthest end that
//! anything readable claims. Where they do not, or where an unreadable group may have held more of
//! it and nothing later proves that it did not, the partition is damaged from that offset on: it
//! says so and waits for an operator, rather than take the offsets a second time. When the operator
//! gives up what is lost, its log goes on beyond every offset that may have been given out, and what
//! lies between is taken by batches without records: a consumer that was further than the disk is
//! now never sees other records at offsets that it has read.
//!
//! The same holds for what a partition remembers of idempotent producers: the checkpoint's snapshot
//! and every batch since. Where a batch of such a producer cannot be read, or may be among those
//! that cannot, the partition is damaged even if its segments hold the batch: whether something
//! comes again could not be told, and would be stored twice. An operator who accepts the loss
//! accepts that. (Forgetting the producer instead would store it twice without a word; reading
//! segments at a start would make it as long as they are.)
//!
//! What proves a partition whole after a group of which nothing is known: a batch later than that
//! group, at the offset where the log ends. That settles batches. A log start cannot be settled so,
//! which is why each is written to two groups (see `Partition::raise_log_start`): one damaged group
//! never brings deleted records back. Where both are lost, nothing here tells.

use std::collections::BTreeMap;

use millrace_wire::batch::{BATCH_HEADER_BYTES, BatchHeader};
use millrace_wire::ids::{LogIndex, Offset, PartitionId, ShardId, Term};

use crate::journal::planted::{self, Bug};
use crate::journal::{
    DamagedGroup, LostEntry, OwnedEntry, PartitionCheckpoint, RecoveredItem, Recovery, Sequence,
};
use crate::log::{CachedBatch, Numbered, Producers, StartState};

/// Where a group was lost of which nothing is known, so many offsets are passed over that none of
/// those it may have given out is given out again. That a shard loses so many records at once is
/// out of the question, and no consumer minds the number.
pub(crate) const PASSED_OVER: u32 = 1_000_000_000;

/// What a shard begins with.
pub(crate) struct Rebuilt {
    /// Every partition of the journal.
    pub(crate) partitions: BTreeMap<PartitionId, StartState>,
    /// A group was lost of which nothing is known: it may have held partitions that nothing else
    /// names.
    pub(crate) partitions_may_be_missing: bool,
}

/// Takes the partitions out of what a journal gave back, and tells the log what was damaged.
/// Idempotent producers count as used at `now_ms`, wall clock, where nothing says when they were.
pub(crate) fn rebuild(shard: ShardId, recovery: &mut Recovery, now_ms: i64) -> Rebuilt {
    let mut replay = Replay::new(
        std::mem::take(&mut recovery.checkpoint),
        recovery.checkpoint_through,
        now_ms,
    );
    for (partition, piece) in std::mem::take(&mut recovery.producers) {
        replay.take_in(partition, &piece);
    }
    if let Some(torn) = recovery.torn {
        let dropped = torn.whole_groups_dropped;
        tracing::info!(%shard, first = %torn.sequence, dropped, "the journal's unacknowledged end was cut off");
    }
    for item in std::mem::take(&mut recovery.items) {
        match item {
            RecoveredItem::Entry(sequence, entry) => replay.apply(sequence, entry),
            RecoveredItem::Damaged(group) => {
                tracing::error!(
                    %shard, first = %group.sequence, last = %group.last, lost = ?group.lost,
                    "the journal holds acknowledged data that cannot be read"
                );
                replay.damage(&group);
            }
        }
    }
    let mut rebuilt = replay.finish();
    if planted::is(Bug::ProducersForgotten) {
        let states = rebuilt.partitions.values_mut();
        states.for_each(|start| start.producers = Producers::default());
    }
    for (id, start) in &rebuilt.partitions {
        if let Some(from) = start.damaged {
            tracing::error!(
                %shard, partition = %id, %from, log_start = %start.log_start,
                "acknowledged records of this partition are damaged: it is out of service until it is repaired"
            );
        }
    }
    rebuilt
}

/// One partition while the journal is gone through.
struct Replayed {
    state: StartState,
    /// Where the contiguous part ends.
    end: Offset,
    /// Batches after a gap. If segments turn out to hold what is missing, the log goes on with them.
    later: Vec<CachedBatch>,
    /// The furthest end that any entry claims.
    claimed: Offset,
    /// The end that the checkpoint claims.
    claimed_by_checkpoint: Offset,
    /// The highest index that anything gives, also to what is lost.
    highest_index: LogIndex,
    /// A group was lost that may have held more of it, and nothing since has proved otherwise.
    suspect: bool,
    /// Nothing since such a group says how far the log had come.
    end_unknown: bool,
    window: Window,
}

/// How what is known of idempotent producers came about.
#[derive(Default)]
struct Window {
    /// Every batch before this is in it, but those that are known to be of no such producer.
    end: Offset,
    /// A group was lost that may have held batches from there on.
    unsure: bool,
    /// Something that belongs in it is lost.
    lost: bool,
}

impl Replayed {
    fn of(checkpoint: PartitionCheckpoint) -> Replayed {
        let state = StartState {
            log_start: checkpoint.log_start,
            safe: checkpoint.safe,
            tail: Vec::new(),
            last_index: LogIndex(checkpoint.safe.next_index.0.saturating_sub(1)),
            last_term: checkpoint.safe.term,
            damaged: checkpoint.damaged,
            claimed: checkpoint.log_end,
            producers: Producers::default(),
        };
        let end = state.safe.next_offset;
        let mut replayed = Replayed {
            state,
            end,
            later: Vec::new(),
            claimed: end,
            claimed_by_checkpoint: checkpoint.log_end,
            highest_index: checkpoint.last_index,
            suspect: false,
            end_unknown: false,
            window: Window {
                end: checkpoint.log_end,
                ..Window::default()
            },
        };
        if end >= checkpoint.log_end {
            // With every batch in segments, what came last is known from the checkpoint alone.
            replayed.state.last_index = checkpoint.last_index.max(replayed.state.last_index);
            replayed.state.last_term = checkpoint.last_term.max(replayed.state.last_term);
        }
        replayed
    }

    fn append(&mut self, batch: CachedBatch) {
        let next = batch.next_offset();
        self.claimed = self.claimed.max(next);
        self.highest_index = self.highest_index.max(batch.index);
        // All that was lost before it lies before it.
        self.end_unknown = false;
        if (self.state.safe.next_offset..self.end).contains(&batch.base_offset) {
            // A start found less than there is here and let the loss be accepted: what came after
            // it is what counts.
            self.cut_tail(batch.base_offset);
        }
        let only_deleted_missing =
            self.end < batch.base_offset && batch.base_offset <= self.state.log_start;
        if only_deleted_missing {
            self.state.tail.clear();
        } else if batch.base_offset > self.end {
            self.later.push(batch);
            return;
        } else if batch.base_offset < self.end {
            return; // in segments already
        }
        self.suspect = false;
        self.push(batch);
    }

    /// Takes note of a batch's producer, if it has one. The batch came after the checkpoint.
    fn remember(&mut self, batch: &CachedBatch, now_ms: i64) {
        let (window, producers) = (&mut self.window, &mut self.state.producers);
        if batch.base_offset < window.end {
            // What was here before was given up, or never got here.
            producers.cut(batch.base_offset);
        }
        window.lost |= window.unsure && batch.base_offset > window.end;
        window.unsure = false;
        window.end = batch.next_offset();
        if batch.batch.len() < BATCH_HEADER_BYTES {
            return;
        }
        // Numbers that no producer gives are not taken in the first place.
        if let Ok(Some(numbered)) = Numbered::of(&batch.batch, batch.record_count) {
            producers.replay(numbered, batch.base_offset, batch.max_timestamp, now_ms);
        }
    }

    fn take_in(&mut self, piece: &[u8], now_ms: i64) {
        self.window.lost |= self.state.producers.take_in(piece, now_ms).is_err();
    }

    /// The next batch of the contiguous part.
    fn push(&mut self, batch: CachedBatch) {
        self.end = batch.next_offset();
        self.state.last_index = batch.index;
        self.state.last_term = batch.term;
        self.state.tail.push(batch);
    }

    /// Drops batches of the tail that reach beyond `end`; the contiguous part ends with what is left.
    fn cut_tail(&mut self, end: Offset) {
        let tail = &mut self.state.tail;
        tail.truncate(tail.partition_point(|batch| batch.next_offset() <= end));
        let safe = self.state.safe.next_offset;
        self.end = tail
            .last()
            .map_or(safe, |last| safe.max(last.next_offset()));
        if let Some(last) = tail.last() {
            (self.state.last_index, self.state.last_term) = (last.index, last.term);
        }
    }

    fn became_safe(&mut self, safe: crate::segment::SegmentEnd) {
        if safe.next_offset < self.state.safe.next_offset {
            return;
        }
        self.state.safe = safe;
        let safe_index = LogIndex(safe.next_index.0.saturating_sub(1));
        self.highest_index = self.highest_index.max(safe_index);
        self.state
            .tail
            .retain(|batch| batch.next_offset() > safe.next_offset);
        if self.end < safe.next_offset {
            self.end = safe.next_offset;
            self.state.last_index = safe_index;
            self.state.last_term = safe.term;
        }
        self.claimed = self.claimed.max(safe.next_offset);
        for batch in std::mem::take(&mut self.later) {
            if batch.base_offset == self.end {
                self.push(batch);
            } else if batch.base_offset > self.end {
                self.later.push(batch);
            }
        }
    }

    fn accept_loss(&mut self, log_end: Offset, is_in_checkpoint: bool) {
        self.later.clear();
        self.cut_tail(log_end);
        if self.end < log_end && log_end <= self.state.log_start {
            // The log goes on at its start, and all of these lie below it.
            self.state.tail.clear();
            self.end = log_end;
        }
        // Entries before this one no longer count; the checkpoint still does if it came later.
        self.claimed = self.end.max(log_end);
        if !is_in_checkpoint {
            self.claimed_by_checkpoint = self.claimed;
            (self.suspect, self.end_unknown) = (false, false);
            (self.window.unsure, self.window.lost) = (false, false);
            self.window.end = log_end;
            self.state.producers.cut(log_end);
            self.state.damaged = None;
        }
    }

    fn finish(mut self) -> StartState {
        // What is missing below the log start is missed by nobody.
        let mut claimed = self.claimed.max(self.claimed_by_checkpoint);
        let missing = self.end < claimed && claimed > self.state.log_start;
        if missing || self.suspect || self.window.lost {
            let from = self.end.max(self.state.log_start);
            self.state.damaged = Some(self.state.damaged.map_or(from, |known| known.min(from)));
        }
        if self.end_unknown {
            claimed = claimed.advance(PASSED_OVER);
            self.highest_index.0 += u64::from(PASSED_OVER);
        }
        self.state.claimed = claimed.max(self.state.end());
        // What is lost here may be in segments: where its loss is accepted, the log must not give
        // its indices again, or those that a segment holds would go back.
        self.state.last_index = self.state.last_index.max(self.highest_index);
        self.state
    }
}

/// Goes through the journal's items in order.
struct Replay {
    partitions: BTreeMap<PartitionId, Replayed>,
    checkpoint_through: Sequence,
    partitions_may_be_missing: bool,
    now_ms: i64,
}

impl Replay {
    fn new(
        checkpoint: Vec<PartitionCheckpoint>,
        checkpoint_through: Sequence,
        now_ms: i64,
    ) -> Replay {
        let partitions = checkpoint
            .into_iter()
            .map(|state| (state.partition, Replayed::of(state)))
            .collect();
        Replay {
            partitions,
            checkpoint_through,
            partitions_may_be_missing: false,
            now_ms,
        }
    }

    /// What the checkpoint says of a partition's producers.
    fn take_in(&mut self, id: PartitionId, piece: &[u8]) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.take_in(piece, self.now_ms);
        }
    }

    fn apply(&mut self, sequence: Sequence, entry: OwnedEntry) {
        let is_in_checkpoint = sequence <= self.checkpoint_through;
        let now_ms = self.now_ms;
        let id = entry.partition();
        let Some(partition) = self.find_or_make(id, is_in_checkpoint, &entry) else {
            return;
        };
        match entry {
            OwnedEntry::Append {
                index,
                term,
                base_offset,
                record_count,
                batch,
                ..
            } => {
                let max_timestamp =
                    BatchHeader::parse(&batch).map_or(-1, |header| header.max_timestamp);
                let held_bytes = batch.len() as u64;
                let batch = CachedBatch {
                    base_offset,
                    record_count,
                    index,
                    term,
                    max_timestamp,
                    sequence,
                    held_bytes,
                    batch,
                };
                if !is_in_checkpoint {
                    partition.remember(&batch, now_ms);
                }
                partition.append(batch);
            }
            OwnedEntry::Producers { snapshot, .. } if !is_in_checkpoint => {
                partition.take_in(&snapshot, now_ms);
            }
            OwnedEntry::PartitionRemoved { .. } if !is_in_checkpoint => {
                self.partitions.remove(&id);
            }
            OwnedEntry::LogStart { log_start, .. } => {
                partition.state.log_start = partition.state.log_start.max(log_start);
            }
            OwnedEntry::SegmentSafe { safe, .. } => partition.became_safe(safe),
            OwnedEntry::LossAccepted { log_end, .. } => {
                partition.accept_loss(log_end, is_in_checkpoint)
            }
            OwnedEntry::Checkpoint(state) => {
                partition.state.log_start = partition.state.log_start.max(state.log_start);
                partition.became_safe(state.safe);
                partition.claimed = partition.claimed.max(state.log_end);
                partition.highest_index = partition.highest_index.max(state.last_index);
                partition.state.damaged = partition.state.damaged.or(state.damaged);
            }
            // Before the checkpoint, which says the same; the last is for the checkpoint alone.
            OwnedEntry::PartitionCreated(_)
            | OwnedEntry::PartitionRemoved { .. }
            | OwnedEntry::Producers { .. }
            | OwnedEntry::ProducersCheckpoint { .. } => {}
        }
    }

    /// The partition of an entry. One that the checkpoint does not know was removed before it, or
    /// begins here.
    fn find_or_make(
        &mut self,
        id: PartitionId,
        is_in_checkpoint: bool,
        entry: &OwnedEntry,
    ) -> Option<&mut Replayed> {
        if !is_in_checkpoint {
            match entry {
                OwnedEntry::PartitionCreated(state) => {
                    self.partitions.insert(id, Replayed::of(*state));
                }
                // Saved from a damaged group. What it remembered of producers is not known.
                OwnedEntry::Checkpoint(state) => {
                    self.partitions.entry(id).or_insert_with(|| {
                        let mut partition = Replayed::of(*state);
                        partition.window.lost = state.log_end > Offset::ZERO;
                        partition
                    });
                }
                // Its creation was in a group that cannot be read. Unless it is whole from its very
                // first batch on, the claim of this one will show that something is missing.
                OwnedEntry::Append { .. } => {
                    self.partitions
                        .entry(id)
                        .or_insert_with(|| Replayed::of(nothing(id)));
                }
                // These prove that it is there, not how far it had come.
                OwnedEntry::SegmentSafe { .. }
                | OwnedEntry::LogStart { .. }
                | OwnedEntry::Producers { .. }
                    if self.partitions_may_be_missing =>
                {
                    self.partitions.entry(id).or_insert_with(|| Replayed {
                        suspect: true,
                        end_unknown: true,
                        ..Replayed::of(nothing(id))
                    });
                }
                _ => {}
            }
        }
        self.partitions.get_mut(&id)
    }

    fn damage(&mut self, group: &DamagedGroup) {
        // What the checkpoint includes is judged by the ends it gives.
        if group.last <= self.checkpoint_through {
            return;
        }
        match &group.lost {
            Some(lost) => lost.iter().for_each(|entry| self.lose(*entry)),
            None => {
                self.partitions_may_be_missing = true;
                self.partitions.values_mut().for_each(|partition| {
                    (partition.suspect, partition.end_unknown) = (true, true);
                    partition.window.unsure = true;
                });
            }
        }
    }

    fn lose(&mut self, entry: LostEntry) {
        let partition = self
            .partitions
            .entry(entry.partition)
            .or_insert_with(|| Replayed::of(nothing(entry.partition)));
        partition.claimed = partition.claimed.max(entry.log_end);
        partition.highest_index = partition.highest_index.max(entry.index);
        // Not a batch: what changed is unknown until something later settles it.
        partition.suspect |= entry.index == LogIndex(0) && !entry.of_producers;
        partition.window.lost |= entry.of_producers;
    }

    fn finish(self) -> Rebuilt {
        let finished = self.partitions.into_iter().map(|(id, replayed)| {
            if replayed.window.lost {
                tracing::error!(
                    partition = %id,
                    "the journal lost something of an idempotent producer's batches: whether one of them comes again could not be told"
                );
            }
            (id, replayed.finish())
        });
        let partitions = finished.collect();
        Rebuilt {
            partitions,
            partitions_may_be_missing: self.partitions_may_be_missing,
        }
    }
}

/// A partition of which nothing is known but that it exists.
fn nothing(partition: PartitionId) -> PartitionCheckpoint {
    let StartState {
        log_start, safe, ..
    } = StartState::empty();
    PartitionCheckpoint {
        partition,
        log_start,
        safe,
        log_end: Offset::ZERO,
        last_index: LogIndex(0),
        last_term: Term(0),
        damaged: None,
    }
}

#[cfg(test)]
mod tests;
