//! Writing to segments in the background, so that the journal may forget and memory is freed.
//!
//! A partition is written when enough of it is pending, when the journal wants a file back, when
//! pinned memory runs short, or when its oldest pending batch has grown old (retention needs it on
//! disk). A few partitions are written at once, each by one task at a time. A full disk stops
//! producing, and the writing is tried again until it succeeds; nothing needs a restart.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::PartitionStatus;
use super::partition::Partition;
use super::shared::{LowSpace, Shared};
use crate::env::Env;
use crate::error::StorageError;
use crate::journal::Entry;
use crate::local::Event;
use crate::metrics::{Counter, Stage};
use crate::segment::{SegmentEnd, SegmentError, SegmentSettings};

/// Partitions of one shard that are written at the same time. Most of that is waiting for durable
/// writes, which a file system finishes together for all who ask at the same time.
pub(crate) const FLUSH_WRITERS: usize = 16;

/// Bytes given to the segments in one call, so that no partition holds a writer for long.
const FLUSH_PIECE_BYTES: usize = 16 << 20;

/// Where a partition stands with the writers.
#[derive(Default)]
pub(crate) struct FlushState {
    queued: Cell<bool>,
    running: Cell<bool>,
    /// Write everything, filling up the last block.
    pad: Cell<bool>,
    /// It was asked for, but not everything was committed yet.
    owed: Cell<bool>,
}

/// Somebody writes, rolls or removes a partition's files: its directory must stay where it is.
pub(super) struct Work<'a> {
    works: &'a Cell<u32>,
    ended: &'a Event,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.works.set(self.works.get() - 1);
        self.ended.notify();
    }
}

/// Partitions that wait to be written, and why.
pub(crate) struct FlushQueue<E: Env> {
    due: RefCell<VecDeque<Rc<Partition<E>>>>,
    /// Could not be written for lack of space or files; tried again at intervals.
    put_off: RefCell<Vec<Rc<Partition<E>>>>,
    changed: Event,
    pressure: Cell<bool>,
    pressed: Event,
    closed: Cell<bool>,
}

impl<E: Env> FlushQueue<E> {
    pub(crate) fn new() -> FlushQueue<E> {
        FlushQueue {
            due: RefCell::default(),
            put_off: RefCell::default(),
            changed: Event::new(),
            pressure: Cell::new(false),
            pressed: Event::new(),
            closed: Cell::new(false),
        }
    }

    /// Pinned memory runs short: write what frees most.
    pub(crate) fn pressure(&self) {
        if !self.pressure.replace(true) {
            self.pressed.notify();
        }
    }

    /// Waits until there is pressure, and takes note of it; false when the shard closes.
    pub(crate) async fn next_pressure(&self) -> bool {
        self.pressed
            .wait_until(|| self.pressure.get() || self.closed.get())
            .await;
        self.pressure.set(false);
        !self.closed.get()
    }

    /// Queues what was put off.
    pub(crate) fn retry(&self) {
        let put_off = std::mem::take(&mut *self.put_off.borrow_mut());
        for partition in put_off {
            partition.request_flush(false);
        }
    }

    /// Whether something could not be written so far.
    pub(crate) fn has_put_off(&self) -> bool {
        !self.put_off.borrow().is_empty()
    }

    /// The writers end after what they are at.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.due.borrow_mut().clear();
        self.put_off.borrow_mut().clear();
        self.changed.notify();
        self.pressed.notify();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    async fn next(&self) -> Option<Rc<Partition<E>>> {
        self.changed
            .wait_until(|| !self.due.borrow().is_empty() || self.closed.get())
            .await;
        self.due.borrow_mut().pop_front()
    }
}

/// One writer: takes partitions as they become due. [`FLUSH_WRITERS`] of them run on a shard.
pub(crate) async fn write_segments<E: Env>(shared: Rc<Shared<E>>) {
    while !shared.flush.is_closed() {
        if let Some(partition) = shared.flush.next().await {
            partition.flush_now().await;
        }
    }
}

impl<E: Env> Partition<E> {
    /// Queues the partition to be written if enough of it is pending.
    pub(super) fn flush_if_due(self: &Rc<Self>) {
        if self.flush.owed.replace(false) {
            self.request_flush(true);
        } else if self.shared.is_under_pressure() {
            self.shared.flush.pressure();
        } else if self.pinned.get() >= self.shared.config.flush_bytes {
            self.request_flush(false);
        }
    }

    /// Queues the partition to be written; with `pad`, to the last batch.
    pub(crate) fn request_flush(self: &Rc<Self>, pad: bool) {
        let queue = &self.shared.flush;
        if queue.is_closed() || self.place.get().is_none() {
            return;
        }
        if pad {
            self.flush.pad.set(true);
        }
        if !self.flush.queued.replace(true) && !self.flush.running.get() {
            queue.due.borrow_mut().push_back(Rc::clone(self));
            queue.changed.notify();
        }
    }

    async fn flush_now(self: &Rc<Self>) {
        self.flush.running.set(true);
        if let Some(_work) = self.begin_work() {
            while self.flush.queued.replace(false) && self.flush_once().await {}
        }
        // Where it was put off, whoever tries again later queues it anew.
        self.flush.queued.set(false);
        self.flush.running.set(false);
    }

    /// Announces work on the partition's files; not possible once it has been removed.
    pub(super) fn begin_work(&self) -> Option<Work<'_>> {
        if self.status() == PartitionStatus::Removed {
            return None;
        }
        self.works.set(self.works.get() + 1);
        Some(Work {
            works: &self.works,
            ended: &self.work_ended,
        })
    }

    /// Waits until nobody works on its files.
    pub(crate) async fn until_quiet(&self) {
        self.work_ended.wait_until(|| self.works.get() == 0).await;
    }

    /// Writes what is pending; false if the writing has to be put off.
    async fn flush_once(self: &Rc<Self>) -> bool {
        let Some(place) = self.place.get() else {
            return true;
        };
        let pad = self.flush.pad.replace(false);
        loop {
            if self.status() == PartitionStatus::Removed {
                return true;
            }
            let committed = self.marks.get().committed;
            let entries = self.cache.borrow().pinned(committed, FLUSH_PIECE_BYTES);
            if entries.is_empty() {
                self.flush.owed.set(pad && self.pinned.get() > 0);
                return true;
            }
            let before = self.safe.get();
            let started = self.shared.env.now();
            let written = place
                .segments
                .write(&entries, pad, self.segment_settings())
                .await;
            self.shared
                .metrics
                .record(Stage::SegmentWrite, self.shared.env.now().since(started));
            self.became_safe(place.segments.end());
            match written {
                // Without padding the last batches may stay: more of them have to come first.
                Ok(end) if end == before => return true,
                Ok(_) if !pad && self.pinned.get() < self.shared.config.flush_bytes => return true,
                Ok(_) => {}
                Err(error) => return self.flush_failed(error, pad),
            }
        }
    }

    pub(crate) fn segment_settings(&self) -> SegmentSettings {
        let settings = self.settings();
        SegmentSettings {
            segment_bytes: settings.segment_bytes,
            segment_ms: settings.segment_ms,
            index_interval_bytes: self.shared.config.index_interval_bytes,
        }
    }

    /// Segments hold everything before `end`: lets go of memory, and tells the journal.
    pub(crate) fn became_safe(self: &Rc<Self>, end: SegmentEnd) {
        let before = self.safe.replace(end);
        assert!(
            end.next_offset >= before.next_offset,
            "segments only grow: {before:?} to {end:?}"
        );
        if end == before || self.status() == PartitionStatus::Removed {
            return;
        }
        let written = self.cache.borrow_mut().mark_written(end.next_offset);
        self.pinned.set(self.pinned.get() - written.cost);
        self.shared.shrink_unwritten(written.cost);
        self.count_evictions(self.shared.cache.release(self, written.batches));
        self.shared.metrics.add(Counter::Flushes, 1);
        self.shared.metrics.add(Counter::BytesFlushed, written.cost);
        let needed = self.cache.borrow().oldest_pinned();
        self.note_written(needed.is_some());
        // The journal lets go of a file only when a checkpoint is durable that has this end, so
        // nothing need be waited for. The entry spares a restart from writing the batches again.
        self.set_needed(needed);
        self.shared.note_safe();
        let _ = self.shared.note(Entry::SegmentSafe {
            partition: self.id(),
            safe: end,
        });
    }

    /// Waits until the journal has the end of the segments; gives that end.
    pub(super) async fn safe_is_durable(&self) -> Result<SegmentEnd, StorageError> {
        let safe = self.safe.get();
        let durable = self.shared.note(Entry::SegmentSafe {
            partition: self.id(),
            safe,
        })?;
        durable.await.map_err(|_| StorageError::ShuttingDown)?;
        Ok(safe)
    }

    fn flush_failed(self: &Rc<Self>, error: SegmentError, pad: bool) -> bool {
        match &error {
            // The environment is stopping the process.
            SegmentError::Stopped { .. } => return false,
            SegmentError::NoSpace { .. } => {
                self.shared.metrics.add(Counter::DiskFull, 1);
                if self.shared.low_space().is_none() {
                    tracing::error!(partition = %self.id(), "{error}");
                    let reserve = self.shared.config.disk_reserve_bytes;
                    self.shared.set_low_space(Some(LowSpace {
                        available: 0,
                        reserve,
                    }));
                }
            }
            _ => {
                tracing::error!(partition = %self.id(), "batches stay in the journal for now: {error}")
            }
        }
        self.flush.pad.set(self.flush.pad.get() || pad);
        self.shared.flush.put_off.borrow_mut().push(Rc::clone(self));
        false
    }
}
