//! The batch cache. Each partition keeps its newest batches in order, from some offset to its end;
//! the shard bounds their sum. A batch that is not in a segment yet is pinned: it can only leave
//! once it has been written. What has been written leaves oldest first, whichever partition it is
//! of. Reads that begin before what is cached go to the segments.
//!
//! Memory is charged as it is held: a batch is a slice of the request that brought it, and what the
//! slice keeps allocated counts, plus the entry that points to it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use millrace_wire::ids::{LogIndex, Offset, Term};

use crate::journal::Sequence;
use crate::segment::SegmentEntry;

/// What one cached batch costs besides its bytes.
const ENTRY_BYTES: u64 = size_of::<CachedBatch>() as u64;

/// A deque that has shrunk below a quarter of its capacity gives memory back, if it has at least
/// this many places.
const SHRINK_FROM: usize = 64;

/// Batches given to be written at once: laying them out is done in one go, and small ones are many.
const PINNED_AT_ONCE: usize = 4_096;

/// Notes of batches that may leave, from which on those of partitions that are gone are looked for.
const SWEEP_FROM: usize = 1_024;

/// A batch in memory.
#[derive(Clone, Debug)]
pub(crate) struct CachedBatch {
    pub(crate) base_offset: Offset,
    pub(crate) record_count: u32,
    pub(crate) index: LogIndex,
    pub(crate) term: Term,
    pub(crate) max_timestamp: i64,
    /// The journal group that holds it.
    pub(crate) sequence: Sequence,
    /// Memory that the batch's bytes keep allocated.
    pub(crate) held_bytes: u64,
    pub(crate) batch: Bytes,
}

impl CachedBatch {
    pub(crate) fn next_offset(&self) -> Offset {
        self.base_offset.advance(self.record_count)
    }

    /// What it costs in memory.
    pub(crate) fn cost(&self) -> u64 {
        self.held_bytes + ENTRY_BYTES
    }

    fn to_segment_entry(&self) -> SegmentEntry {
        SegmentEntry {
            index: self.index,
            term: self.term,
            base_offset: self.base_offset,
            record_count: self.record_count,
            max_timestamp: self.max_timestamp,
            batch: self.batch.clone(),
        }
    }
}

/// Batches that left the pinned part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) batches: usize,
    pub(crate) cost: u64,
}

/// One partition's batches in memory, in order and without a gap: first those that are in segments
/// too, then the pinned ones.
#[derive(Default)]
pub(crate) struct PartitionCache {
    batches: VecDeque<CachedBatch>,
    /// How many, from the front, are in segments too.
    written: usize,
}

impl PartitionCache {
    /// Adds the newest batch, pinned.
    pub(crate) fn push(&mut self, batch: CachedBatch) {
        debug_assert!(
            self.batches
                .back()
                .is_none_or(|last| last.next_offset() == batch.base_offset)
        );
        self.batches.push_back(batch);
    }

    /// Offset of the first batch held.
    pub(crate) fn start(&self) -> Option<Offset> {
        self.batches.front().map(|batch| batch.base_offset)
    }

    /// The journal group of the first pinned batch.
    pub(crate) fn oldest_pinned(&self) -> Option<Sequence> {
        self.batches.get(self.written).map(|batch| batch.sequence)
    }

    /// Cost of everything held.
    pub(crate) fn cost(&self) -> u64 {
        self.batches.iter().map(CachedBatch::cost).sum()
    }

    /// Whole batches from the one that holds `from`, all of them below `end`, up to `max_bytes` or
    /// one batch of any size if `at_least_one`. None if `from` lies before what is held.
    pub(crate) fn read(
        &self,
        from: Offset,
        end: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Vec<Bytes>> {
        if self.start().is_none_or(|start| from < start) {
            return None;
        }
        let first = self
            .batches
            .partition_point(|batch| batch.next_offset() <= from);
        let mut found = Vec::new();
        let mut bytes = 0;
        for batch in self.batches.range(first..) {
            let fits = bytes + batch.batch.len() <= max_bytes || (at_least_one && found.is_empty());
            if batch.next_offset() > end || !fits {
                break;
            }
            bytes += batch.batch.len();
            found.push(batch.batch.clone());
        }
        Some(found)
    }

    /// Batches that hold an offset in `from..end`, in order, for searches by time.
    pub(crate) fn range(
        &self,
        from: Offset,
        end: Offset,
    ) -> impl DoubleEndedIterator<Item = &CachedBatch> {
        let first = self
            .batches
            .partition_point(|batch| batch.next_offset() <= from);
        let past = self
            .batches
            .partition_point(|batch| batch.base_offset < end);
        self.batches.range(first..past.max(first))
    }

    /// Pinned batches below `end`, up to about `max_bytes` and a number, but at least one, to be
    /// written.
    pub(crate) fn pinned(&self, end: Offset, max_bytes: usize) -> Vec<SegmentEntry> {
        let mut bytes = 0;
        let pinned = self.batches.range(self.written..);
        pinned
            .take(PINNED_AT_ONCE)
            .take_while(|batch| {
                let take = batch.next_offset() <= end && bytes < max_bytes;
                bytes += batch.batch.len();
                take
            })
            .map(CachedBatch::to_segment_entry)
            .collect()
    }

    /// Everything below `end` is in segments now: it is not pinned any more.
    pub(crate) fn mark_written(&mut self, end: Offset) -> Written {
        let through = self
            .batches
            .partition_point(|batch| batch.next_offset() <= end);
        let newly = self.written.min(through)..through;
        let cost = self
            .batches
            .range(newly.clone())
            .map(CachedBatch::cost)
            .sum();
        self.written = self.written.max(through);
        Written {
            batches: newly.len(),
            cost,
        }
    }

    /// Lets go of the oldest batch if it is in segments; what that frees.
    pub(crate) fn evict_one(&mut self) -> Option<u64> {
        if self.written == 0 {
            return None;
        }
        let batch = self.batches.pop_front()?;
        self.written -= 1;
        if self.batches.capacity() >= SHRINK_FROM
            && self.batches.len() < self.batches.capacity() / 4
        {
            self.batches.shrink_to(self.batches.len() * 2);
        }
        Some(batch.cost())
    }

    /// Lets go of everything; what that frees: (everything's cost, the pinned part's cost).
    pub(crate) fn clear(&mut self) -> (u64, u64) {
        let pinned = self
            .batches
            .range(self.written..)
            .map(CachedBatch::cost)
            .sum();
        let all = self.cost();
        *self = PartitionCache::default();
        (all, pinned)
    }
}

/// Something whose oldest cached batch can be let go.
pub(crate) trait Evict {
    /// Lets go of one written batch; what that frees.
    fn evict_one(&self) -> Option<u64>;
}

/// The shard's bound on cached bytes, and the order in which batches leave.
pub(crate) struct CacheBudget {
    limit: u64,
    used: Cell<u64>,
    /// Runs of written batches, oldest first.
    evictable: RefCell<VecDeque<(Weak<dyn Evict>, usize)>>,
    /// How long that may become before it is swept.
    sweep_at: Cell<usize>,
}

impl CacheBudget {
    pub(crate) fn new(limit: u64) -> CacheBudget {
        CacheBudget {
            limit,
            used: Cell::new(0),
            evictable: RefCell::default(),
            sweep_at: Cell::new(SWEEP_FROM),
        }
    }

    /// Bytes held at the moment.
    pub(crate) fn used(&self) -> u64 {
        self.used.get()
    }

    /// A batch came in. Returns how many had to leave.
    pub(crate) fn grow(&self, cost: u64) -> u64 {
        self.used.set(self.used.get() + cost);
        self.trim()
    }

    /// Memory was given back other than by eviction.
    pub(crate) fn shrink(&self, cost: u64) {
        self.used.set(
            self.used
                .get()
                .checked_sub(cost)
                .expect("what is given back was taken"),
        );
    }

    /// `batches` of `owner` are not pinned any more. Returns how many had to leave.
    pub(crate) fn release<O: Evict + 'static>(&self, owner: &Rc<O>, batches: usize) -> u64 {
        if batches == 0 {
            return 0;
        }
        let owner: Rc<dyn Evict> = Rc::<O>::clone(owner);
        self.evictable
            .borrow_mut()
            .push_back((Rc::downgrade(&owner), batches));
        self.sweep();
        self.trim()
    }

    /// Forgets partitions that are gone: while there is room nothing else would, and each holds its
    /// memory.
    fn sweep(&self) {
        let mut evictable = self.evictable.borrow_mut();
        if evictable.len() >= self.sweep_at.get() {
            evictable.retain(|(owner, _)| owner.strong_count() > 0);
            self.sweep_at.set((evictable.len() * 2).max(SWEEP_FROM));
        }
    }

    fn trim(&self) -> u64 {
        let mut evicted = 0;
        let mut evictable = self.evictable.borrow_mut();
        while self.used.get() > self.limit {
            let Some((owner, batches)) = evictable.front_mut() else {
                break;
            };
            let freed = owner.upgrade().and_then(|owner| owner.evict_one());
            match freed {
                Some(freed) => {
                    self.shrink(freed);
                    evicted += 1;
                    *batches -= 1;
                    if *batches == 0 {
                        evictable.pop_front();
                    }
                }
                // The partition went away, and its batches with it.
                None => {
                    evictable.pop_front();
                }
            }
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(offset: i64) -> CachedBatch {
        CachedBatch {
            base_offset: Offset(offset),
            record_count: 1,
            index: LogIndex(offset as u64 + 1),
            term: Term(1),
            max_timestamp: 0,
            sequence: Sequence(1),
            held_bytes: 100,
            batch: Bytes::from_static(&[0; 100]),
        }
    }

    #[test]
    fn many_small_batches_are_written_a_few_at_a_time() {
        let mut cache = PartitionCache::default();
        (0..10_000).for_each(|offset| cache.push(batch(offset)));
        let first = cache.pinned(Offset(10_000), 8 << 20);
        assert_eq!(first.len(), PINNED_AT_ONCE);
        cache.mark_written(Offset(PINNED_AT_ONCE as i64));
        let second = cache.pinned(Offset(10_000), 8 << 20);
        assert_eq!(second[0].base_offset, Offset(PINNED_AT_ONCE as i64));
    }

    struct Held(Cell<usize>);

    impl Evict for Held {
        fn evict_one(&self) -> Option<u64> {
            let left = self.0.get().checked_sub(1)?;
            self.0.set(left);
            Some(100)
        }
    }

    #[test]
    fn partitions_that_come_and_go_leave_nothing_behind() {
        let budget = CacheBudget::new(1_000_000);
        let stays = Rc::new(Held(Cell::new(1)));
        budget.grow(100);
        budget.release(&stays, 1);
        for _ in 0..100_000 {
            let goes = Rc::new(Held(Cell::new(1)));
            budget.grow(100);
            budget.release(&goes, 1);
            budget.shrink(100);
        }
        assert!(budget.evictable.borrow().len() <= 2 * SWEEP_FROM);
        budget.grow(1_000_000);
        assert_eq!(stays.0.get(), 0, "what stays can still be let go");
    }
}
