//! One partition replica on its shard: append, watch, and the state that the journal's
//! checkpoint and the segment writer work with.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::BytesMut;
use millrace_wire::batch::{
    BATCH_HEADER_BYTES, NO_TIMESTAMP, empty_batch, set_base_offset, set_leader_epoch,
};
use millrace_wire::ids::{LogIndex, Offset, PartitionId, Term, TopicName};

use super::arena::Arena;
use super::cache::{CachedBatch, Evict, PartitionCache};
use super::flush::FlushState;
use super::producers::{Numbered, Producers};
use super::retention::RetentionState;
use super::shared::{Reserve, Shared, Token};
use super::watch::{Registration, Watchers};
use super::watermarks::{Marks, Watermarks};
use super::{Appended, Durable, PartitionSettings, PartitionStatus};
use crate::env::Env;
use crate::error::StorageError;
use crate::journal::{Entry, PartitionCheckpoint, Sequence};
use crate::local::Event;
use crate::metrics::Counter;
use crate::segment::{SegmentEnd, Segments};

/// Most offsets that one batch without records takes.
const EMPTY_OFFSETS: u32 = 1 << 31;

/// Where a partition is found by people: its topic's name, and its segments' directory.
pub(crate) struct Place<E: Env> {
    pub(crate) topic: TopicName,
    pub(crate) segments: Segments<E>,
}

/// What recovery, or creation, knows of a partition.
#[derive(Clone, Debug)]
pub(crate) struct StartState {
    pub(crate) log_start: Offset,
    pub(crate) safe: SegmentEnd,
    /// Batches that only the journal holds, in order, from `safe` on.
    pub(crate) tail: Vec<CachedBatch>,
    pub(crate) last_index: LogIndex,
    pub(crate) last_term: Term,
    /// Acknowledged records from here on are missing or unreadable.
    pub(crate) damaged: Option<Offset>,
    /// No offset from here on was ever given out; at least the log's end.
    pub(crate) claimed: Offset,
    /// Idempotent producers and their last batches.
    pub(crate) producers: Producers,
}

impl StartState {
    /// A partition with nothing in it.
    pub(crate) fn empty() -> StartState {
        StartState {
            log_start: Offset::ZERO,
            safe: SegmentEnd::empty(Offset::ZERO, LogIndex(1), Term(0)),
            tail: Vec::new(),
            last_index: LogIndex(0),
            last_term: Term(0),
            damaged: None,
            claimed: Offset::ZERO,
            producers: Producers::default(),
        }
    }

    /// Where the whole part of the log ends.
    pub(crate) fn end(&self) -> Offset {
        let tail_end = self
            .tail
            .last()
            .map_or(self.safe.next_offset, CachedBatch::next_offset);
        tail_end.max(self.log_start)
    }
}

/// One partition replica.
pub struct Partition<E: Env> {
    id: PartitionId,
    pub(super) shared: Rc<Shared<E>>,
    pub(super) place: OnceCell<Place<E>>,
    settings: Cell<PartitionSettings>,
    status: Cell<PartitionStatus>,
    pub(super) marks: Marks,
    /// The log start as the journal knows it; it becomes the watermark when it is durable there.
    pub(super) journaled_log_start: Cell<Offset>,
    last_index: Cell<LogIndex>,
    term: Cell<Term>,
    /// The damage as the journal knows it.
    journaled_damage: Cell<Option<Offset>>,
    /// Where the log goes on once the loss is accepted.
    pub(crate) claimed: Cell<Offset>,
    /// How far the segments are safe.
    pub(super) safe: Cell<SegmentEnd>,
    pub(super) cache: RefCell<PartitionCache>,
    /// Where small batches are kept for the cache.
    arena: RefCell<Arena>,
    /// Cost of the pinned batches.
    pub(super) pinned: Cell<u64>,
    needed: Cell<Option<Sequence>>,
    /// Groups of the journal that hold batches and are not durable yet, in order, each with the end
    /// of its batches.
    unsettled: RefCell<VecDeque<(Sequence, Offset)>>,
    /// Idempotent producers and their last batches, everything appended so far included.
    pub(super) producers: RefCell<Producers>,
    pub(super) flush: FlushState,
    pub(super) retention: RetentionState,
    watchers: Rc<Watchers>,
    /// How many tasks work on its files, and who waits for them to end.
    pub(super) works: Cell<u32>,
    pub(super) work_ended: Event,
}

impl<E: Env> Partition<E> {
    pub(crate) fn new(
        shared: Rc<Shared<E>>,
        id: PartitionId,
        settings: PartitionSettings,
        mut start: StartState,
    ) -> Rc<Partition<E>> {
        let end = start.end();
        if start
            .tail
            .last()
            .is_some_and(|last| last.next_offset() < end)
        {
            // All of it lies below the log start, and the next batch would not follow it.
            start.tail.clear();
        }
        let status = match start.damaged {
            Some(from) => PartitionStatus::Damaged { from },
            None => PartitionStatus::Serving,
        };
        let mut cache = PartitionCache::default();
        let needed = start.tail.first().map(|batch| batch.sequence);
        start.tail.into_iter().for_each(|batch| cache.push(batch));
        let cost = cache.cost();
        let partition = Rc::new(Partition {
            id,
            place: OnceCell::new(),
            settings: Cell::new(settings),
            status: Cell::new(status),
            marks: Marks::new(Watermarks::settled(start.log_start, end)),
            journaled_log_start: Cell::new(start.log_start),
            last_index: Cell::new(start.last_index),
            // On one node nobody is elected: the first leader stays, across restarts too.
            term: Cell::new(start.last_term.max(Term(1))),
            journaled_damage: Cell::new(start.damaged),
            claimed: Cell::new(start.claimed),
            safe: Cell::new(start.safe),
            cache: RefCell::new(cache),
            arena: RefCell::default(),
            pinned: Cell::new(cost),
            needed: Cell::new(None),
            unsettled: RefCell::default(),
            producers: RefCell::new(start.producers),
            flush: FlushState::default(),
            retention: RetentionState::default(),
            watchers: Rc::default(),
            works: Cell::new(0),
            work_ended: Event::new(),
            shared,
        });
        partition.shared.count_producers(0, partition.producers());
        partition.shared.grow_unwritten(cost);
        partition.count_evictions(partition.shared.cache.grow(cost));
        partition.set_needed(needed);
        if cost > 0 {
            partition.note_pending();
        }
        partition
    }

    /// Gives a recovered or new partition its name and its place. Again: nothing happens.
    pub(crate) fn attach(self: &Rc<Self>, topic: &TopicName, directory: PathBuf) {
        self.place.get_or_init(|| {
            let (env, files) = (self.shared.env.clone(), Rc::clone(&self.shared.files));
            let segments = Segments::new(env, directory, self.id, topic, self.safe.get(), files);
            Place {
                topic: topic.clone(),
                segments,
            }
        });
        // What the journal wanted back so far was asked for in vain.
        let wanted = self
            .shared
            .connected()
            .and_then(|journal| journal.flush_below());
        if wanted.is_some_and(|below| self.needed.get().is_some_and(|needed| needed < below)) {
            self.request_flush(true);
        }
    }

    /// The partition's identity.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Its topic's name, once it is attached.
    #[must_use]
    pub fn topic(&self) -> Option<&TopicName> {
        self.place.get().map(|place| &place.topic)
    }

    /// How it is kept.
    #[must_use]
    pub fn settings(&self) -> PartitionSettings {
        self.settings.get()
    }

    pub(crate) fn set_settings(&self, settings: PartitionSettings) {
        self.settings.set(settings);
        self.retention_changed();
    }

    /// Cost of what is not in segments yet.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.pinned.get()
    }

    /// Whether it can be used.
    #[must_use]
    pub fn status(&self) -> PartitionStatus {
        self.status.get()
    }

    /// How far it has come.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        self.marks.get()
    }

    /// The leader's term, which clients know as the leader epoch.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term.get()
    }

    pub(super) fn check_status(&self) -> Result<(), StorageError> {
        match self.status.get() {
            PartitionStatus::Serving => Ok(()),
            PartitionStatus::Damaged { from } => Err(StorageError::Damaged {
                partition: self.id,
                from,
            }),
            PartitionStatus::Removed => Err(StorageError::Removed(self.id)),
        }
    }

    /// Waits until a batch of `bytes` may be appended. Reserves nothing: append right afterwards,
    /// without waiting in between.
    pub async fn append_room(&self, bytes: usize) -> Result<(), StorageError> {
        self.check_status()?;
        self.shared.append_room(bytes, Reserve::Keep).await
    }

    /// [`Partition::append_room`] for records that are written on a disk that is short of space, too:
    /// those that let people make room, and those that say how far consumers have come.
    pub async fn room_from_reserve(&self, bytes: usize) -> Result<(), StorageError> {
        self.check_status()?;
        self.shared.append_room(bytes, Reserve::Use).await
    }

    /// [`Partition::append`] after [`Partition::room_from_reserve`].
    pub fn place_from_reserve(
        self: &Rc<Self>,
        batch: BytesMut,
        record_count: u32,
        max_timestamp: i64,
    ) -> Result<Appended, StorageError> {
        self.append_under(batch, record_count, max_timestamp, Reserve::Use)
    }

    /// Waits for room and appends, on a disk that is short of space too.
    pub async fn append_from_reserve(
        self: &Rc<Self>,
        batch: BytesMut,
        record_count: u32,
        max_timestamp: i64,
    ) -> Result<Appended, StorageError> {
        self.room_from_reserve(batch.len()).await?;
        self.place_from_reserve(batch, record_count, max_timestamp)
    }

    /// Appends one checked batch of `record_count` offsets: gives it its offset, index and term at
    /// once (the order of calls is the order of offsets) and hands it to the journal. The records
    /// are safe, and visible, when [`Appended::durable`] completes; if that is dropped they become
    /// so all the same. A batch of an idempotent producer that is here already is not appended
    /// again: the answer is that of the first time.
    pub fn append(
        self: &Rc<Self>,
        batch: BytesMut,
        record_count: u32,
        max_timestamp: i64,
    ) -> Result<Appended, StorageError> {
        self.append_under(batch, record_count, max_timestamp, Reserve::Keep)
    }

    fn append_under(
        self: &Rc<Self>,
        batch: BytesMut,
        record_count: u32,
        max_timestamp: i64,
        rule: Reserve,
    ) -> Result<Appended, StorageError> {
        let appended = self.try_append(batch, record_count, max_timestamp, rule);
        if appended.is_err() {
            self.shared.metrics.add(Counter::AppendsRefused, 1);
        }
        appended
    }

    fn try_append(
        self: &Rc<Self>,
        batch: BytesMut,
        record_count: u32,
        max_timestamp: i64,
        rule: Reserve,
    ) -> Result<Appended, StorageError> {
        self.check_status()?;
        if batch.len() < BATCH_HEADER_BYTES || record_count == 0 {
            let what = format!("{} bytes with {record_count} records", batch.len());
            return Err(StorageError::InvalidBatch(what));
        }
        let numbered = match self.check_producer(&batch, record_count)? {
            Ok(numbered) => numbered,
            Err(duplicate) => return Ok(duplicate),
        };
        self.shared.check_space(batch.len(), rule)?;
        self.place_at_end(batch, record_count, max_timestamp, numbered)
    }

    fn place_at_end(
        self: &Rc<Self>,
        batch: BytesMut,
        record_count: u32,
        max_timestamp: i64,
        numbered: Option<Numbered>,
    ) -> Result<Appended, StorageError> {
        let journal = self.shared.journal()?;
        let base_offset = self.marks.get().appended;
        let (index, term) = (LogIndex(self.last_index.get().0 + 1), self.term.get());
        let mut batch = batch;
        set_base_offset(&mut batch, base_offset);
        set_leader_epoch(&mut batch, term);
        let (batch, held_bytes) = self.arena.borrow_mut().keep(batch);

        let next_offset = base_offset.advance(record_count);
        let entry = Entry::Append {
            partition: self.id,
            index,
            term,
            base_offset,
            record_count,
            idempotent: numbered.is_some(),
            batch: &batch,
        };
        // Copies into the group being gathered and runs nobody else's code, so that the watermarks
        // below move before anyone can look.
        let sequence = journal
            .append_with(entry, |group| self.appended_to(group, next_offset))
            .map_err(|_| StorageError::ShuttingDown)?;
        let placed = self.shared.env.now();
        self.shared.note_placed(sequence, placed);
        self.shared.files.note_append(placed);

        if let Some(numbered) = numbered {
            self.remember(numbered, base_offset, max_timestamp, sequence);
        }
        self.last_index.set(index);
        self.marks.raise(|marks| marks.appended = next_offset);
        let bytes = batch.len() as u64;
        self.shared.use_headroom(bytes);
        self.pin(CachedBatch {
            base_offset,
            record_count,
            index,
            term,
            max_timestamp,
            sequence,
            held_bytes,
            batch,
        });
        let metrics = &self.shared.metrics;
        metrics.add(Counter::BatchesAppended, 1);
        metrics.add(Counter::RecordsAppended, u64::from(record_count));
        metrics.add(Counter::BytesAppended, bytes);
        Ok(Appended {
            base_offset,
            durable: Durable::new(Rc::clone(&self.shared.settled), sequence),
            duplicate_of: None,
        })
    }

    /// Keeps a batch in memory until it is in a segment.
    fn pin(&self, batch: CachedBatch) {
        let (cost, sequence) = (batch.cost(), batch.sequence);
        self.cache.borrow_mut().push(batch);
        self.pinned.set(self.pinned.get() + cost);
        self.shared.grow_unwritten(cost);
        if self.needed.get().is_none() {
            self.set_needed(Some(sequence));
        }
        self.note_pending();
        self.count_evictions(self.shared.cache.grow(cost));
    }

    /// A batch goes into a group of the journal. The first of them asks to be told of the group.
    fn appended_to(self: &Rc<Self>, group: Sequence, end: Offset) -> Option<Token<E>> {
        let mut unsettled = self.unsettled.borrow_mut();
        match unsettled.back_mut() {
            Some((last, last_end)) if *last == group => {
                *last_end = end;
                None
            }
            _ => {
                unsettled.push_back((group, end));
                Some(Token::Appended(Rc::clone(self)))
            }
        }
    }

    /// Every batch up to this group is on this node's disk. On one node that is a quorum, and what
    /// is committed may be seen.
    pub(crate) fn became_durable(self: &Rc<Self>, group: Sequence) {
        let (first, end) = self
            .unsettled
            .borrow_mut()
            .pop_front()
            .expect("whoever is told of a group has batches in it");
        assert_eq!(first, group, "groups become durable in order");
        self.marks.raise(|marks| {
            marks.durable = end;
            marks.committed = marks.durable;
            marks.visible = marks.committed;
        });
        let woken = self.watchers.advanced(self.marks.get().visible);
        self.shared.metrics.add(Counter::WatchersWoken, woken);
        self.flush_if_due();
    }

    /// Notifies `event` as soon as, and whenever, the high watermark is beyond `beyond`, and when
    /// the partition's status changes. Register first, then read, then wait.
    pub fn watch(&self, beyond: Offset, event: &Rc<Event>) -> Registration {
        let registration = self.watchers.add(beyond, event);
        if self.marks.get().visible > beyond || self.status.get() != PartitionStatus::Serving {
            event.notify();
        }
        registration
    }

    /// Makes `before` the log start: records below it are gone for good when this completes. Their
    /// segments are removed in the background.
    pub async fn delete_records(self: &Rc<Self>, before: Offset) -> Result<Offset, StorageError> {
        self.check_status()?;
        let Watermarks { visible, .. } = self.marks.get();
        if before > visible || before < Offset::ZERO {
            return Err(self.out_of_range(before));
        }
        self.raise_log_start(before).await?;
        self.trim_in_background();
        Ok(self.marks.get().log_start)
    }

    /// Makes the log start durable, then lets readers see it.
    pub(crate) async fn raise_log_start(&self, log_start: Offset) -> Result<(), StorageError> {
        if log_start <= self.marks.get().log_start {
            return Ok(());
        }
        // Twice, in two groups: were the only one damaged, batches that came later would prove the
        // partition whole, and deleted records would be back.
        for _ in 0..2 {
            let log_start = log_start.max(self.journaled_log_start.get());
            let durable = self.shared.note(Entry::LogStart {
                partition: self.id,
                log_start,
            })?;
            self.journaled_log_start.set(log_start);
            durable.await.map_err(|_| StorageError::ShuttingDown)?;
        }
        self.marks
            .raise(|marks| marks.log_start = marks.log_start.max(log_start));
        Ok(())
    }

    /// Takes a damaged partition back into service with what is whole; returns where it ends now.
    /// That is beyond every offset it may have given out before: what consumers have read, or
    /// noted as read, is never taken by other records. Batches without records take the offsets in
    /// between, so that readers come across.
    pub async fn accept_data_loss(self: &Rc<Self>) -> Result<Offset, StorageError> {
        match self.status.get() {
            PartitionStatus::Serving => return Ok(self.marks.get().appended),
            PartitionStatus::Removed => return Err(StorageError::Removed(self.id)),
            PartitionStatus::Damaged { .. } => {}
        }
        let whole = self.marks.get().appended;
        // What is lost may come again, and is no duplicate then.
        self.change_producers(|producers| producers.cut(whole));
        while self.marks.get().appended < self.claimed.get() {
            let lost = self.claimed.get().0 - self.marks.get().appended.0;
            let offsets = u32::try_from(lost).unwrap_or(u32::MAX).min(EMPTY_OFFSETS);
            // What it waits for comes with the entry below: groups become durable in order.
            let _ = self.place_at_end(empty_batch(offsets), offsets, NO_TIMESTAMP, None)?;
        }
        let end = self.marks.get().appended;
        let durable = self.shared.note(Entry::LossAccepted {
            partition: self.id,
            log_end: end,
        })?;
        self.journaled_damage.set(None);
        durable.await.map_err(|_| StorageError::ShuttingDown)?;
        if self.status.get() != PartitionStatus::Removed {
            tracing::warn!(partition = %self.id, lost_from = %whole, goes_on_at = %end, "the loss of acknowledged records was accepted");
            self.status.set(PartitionStatus::Serving);
            self.watchers.changed();
        }
        Ok(end)
    }

    /// Bytes stored: segments, and what is not in one yet. Of a damaged partition only the latter:
    /// its files are not touched, not even to tidy up, before somebody has decided what to do.
    pub async fn size_bytes(&self) -> Result<u64, StorageError> {
        let unwritten = self.pinned.get();
        let is_damaged = matches!(self.status(), PartitionStatus::Damaged { .. });
        let Some(place) = self.place.get().filter(|_| !is_damaged) else {
            return Ok(unwritten);
        };
        let summaries = place
            .segments
            .summaries()
            .await
            .map_err(StorageError::Segment)?;
        Ok(unwritten + summaries.iter().map(|segment| segment.bytes).sum::<u64>())
    }

    /// The partition is gone: whoever waits is told, and its memory is given back.
    pub(crate) fn mark_removed(&self) {
        self.status.set(PartitionStatus::Removed);
        let (all, pinned) = self.cache.borrow_mut().clear();
        self.pinned.set(0);
        *self.arena.borrow_mut() = Arena::default();
        self.change_producers(|producers| *producers = Producers::default());
        self.shared.cache.shrink(all);
        self.shared.shrink_unwritten(pinned);
        self.set_needed(None);
        self.watchers.changed();
    }

    pub(crate) fn set_needed(&self, needed: Option<Sequence>) {
        self.shared.set_needed(self.id, &self.needed, needed);
    }

    pub(super) fn count_evictions(&self, evicted: u64) {
        self.shared.metrics.add(Counter::CacheEvictions, evicted);
    }

    /// The partition as the journal should remember it: everything handed to the journal so far.
    pub(crate) fn checkpoint(&self) -> PartitionCheckpoint {
        PartitionCheckpoint {
            partition: self.id,
            log_start: self.journaled_log_start.get(),
            safe: self.safe.get(),
            // More than that while some of it is lost, and so a start finds it damaged again.
            log_end: self.marks.get().appended.max(self.claimed.get()),
            last_index: self.last_index.get(),
            last_term: self.term.get(),
            damaged: self.journaled_damage.get(),
        }
    }
}

impl<E: Env> Evict for Partition<E> {
    fn evict_one(&self) -> Option<u64> {
        self.cache.borrow_mut().evict_one()
    }
}
