//! One partition's segments: the files that hold its committed batches for as long as they are
//! kept, in order, with a sparse index by offset and by time beside each.
//!
//! Everything here runs on the core of the shard that owns the partition. Durability is the
//! journal's business: a batch comes here in the background, while the journal still holds it, and
//! the journal lets go of it only when [`Segments::write`] has returned an end beyond it. What is
//! here is therefore never cut at its end, and a start-up reads none of it: [`Segments::new`] is
//! told by the journal how far the segments are safe, and does no I/O until something is asked.
//!
//! This module never decides when to write, what to keep or what is committed (that is the log's),
//! never serves a byte whose checksum it has not verified, and never holds a file open for longer
//! than the shard's [`FileCache`] allows.

mod error;
mod files;
pub mod format;
mod index;
mod layout;
mod list;
mod lru;
mod read;
mod search;
#[cfg(test)]
mod tests;
mod walk;
mod write;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use millrace_wire::ids::{LogIndex, Offset, PartitionId, Term, TopicName};

use crate::env::Env;
use crate::local::Semaphore;
use files::count;
use format::Previous;
use index::ActiveIndex;
use list::Complete;
use read::Cursor;

pub use error::{Damage, SegmentError};
pub(crate) use files::DurableWrites;
pub use files::{FileCache, SegmentCounters};

/// How far a partition's segments are safe (on stable storage), and what comes next. Kept in the
/// journal; with it, and nothing else, segments are opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentEnd {
    /// Base offset of the active segment, which names its file.
    pub segment_base: Offset,
    /// Where the next entry begins in that file; 0 while the file has not been made.
    pub position: u64,
    /// The lowest offset of the next entry.
    pub next_offset: Offset,
    /// The lowest index of the next entry.
    pub next_index: LogIndex,
    /// Term of the last entry written.
    pub term: Term,
}

impl SegmentEnd {
    /// The end of a partition that has no segment yet and whose first batch will have `next_offset`
    /// and `next_index`.
    #[must_use]
    pub fn empty(next_offset: Offset, next_index: LogIndex, term: Term) -> SegmentEnd {
        SegmentEnd {
            segment_base: next_offset,
            position: 0,
            next_offset,
            next_index,
            term,
        }
    }
}

/// A committed batch, to be written.
#[derive(Clone, Debug)]
pub struct SegmentEntry {
    /// Its place in the partition's Raft log.
    pub index: LogIndex,
    /// The term it was appended in.
    pub term: Term,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// How many offsets it takes, at least 1.
    pub record_count: u32,
    /// The largest timestamp in it.
    pub max_timestamp: i64,
    /// The batch, with its offset assigned.
    pub batch: Bytes,
}

/// When a segment is full, and how finely it is indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSettings {
    /// A new segment is begun before the file grows beyond this (a single batch may).
    pub segment_bytes: u64,
    /// A new segment is begun when this has passed since the active one was made.
    pub segment_ms: u64,
    /// Bytes of entries between two places in the index.
    pub index_interval_bytes: u32,
}

/// What retention needs to know of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The segment's first offset, which names its file.
    pub base_offset: Offset,
    /// One past its last offset.
    pub next_offset: Offset,
    /// Bytes of it that are in use.
    pub bytes: u64,
    /// The largest timestamp in it; none if it holds no batch.
    pub max_timestamp: Option<i64>,
    /// When it was made, wall clock in ms since 1970.
    pub created_ms: i64,
    /// Whether it is complete. The last segment is not; [`Segments::roll`] completes it.
    pub sealed: bool,
}

/// A batch that a search by time found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBatch {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// How many offsets it takes.
    pub record_count: u32,
    /// The largest timestamp in it.
    pub max_timestamp: i64,
    /// The batch, verified.
    pub batch: Bytes,
}

/// Damaged places of one partition that are logged; the counter goes on counting.
const TOLD_MAX: usize = 32;

/// One partition's segments. Its futures must be awaited to their end: dropped before, they drop an
/// I/O in flight.
pub struct Segments<E: Env> {
    env: E,
    directory: PathBuf,
    partition: PartitionId,
    topic: TopicName,
    files: Rc<FileCache<E>>,
    state: RefCell<State<E>>,
    /// Held by whoever writes, so that writers take turns.
    writing: Semaphore,
    /// Held by whoever lists the directory or loads an index, so that it is done once.
    loading: Semaphore,
}

struct State<E: Env> {
    end: SegmentEnd,
    /// Whether `complete` is known.
    listed: bool,
    directory_made: bool,
    /// The complete segments, by base.
    complete: Vec<Complete>,
    /// The one being written, once something was asked of it.
    active: Option<Active>,
    cursors: Vec<Cursor<E>>,
    /// Damage that is in the log already, at most [`TOLD_MAX`] places of it.
    told: Vec<(Offset, u64)>,
}

/// What is in memory of the segment being written.
struct Active {
    created_ms: i64,
    previous: Option<Previous>,
    index: ActiveIndex,
    /// The CRC of the entry header that begins at the safe end, in the block that holds the end;
    /// unknown after a restart.
    head: Option<u32>,
    /// Up to where the file has space; 0 while that is unknown.
    reserved: u64,
}

/// What can be read of a segment: nothing of it will change.
struct View {
    base: Offset,
    path: PathBuf,
    /// Where its entries end.
    end: u64,
    next_offset: Offset,
    previous: Option<Previous>,
}

impl<E: Env> Segments<E> {
    /// The segments in `directory` (which need not exist), safe up to `safe`. Does no I/O.
    pub fn new(
        env: E,
        directory: PathBuf,
        partition: PartitionId,
        topic: &TopicName,
        safe: SegmentEnd,
        files: Rc<FileCache<E>>,
    ) -> Segments<E> {
        let state = State {
            end: safe,
            listed: false,
            directory_made: safe.position > 0,
            complete: Vec::new(),
            active: None,
            cursors: Vec::new(),
            told: Vec::new(),
        };
        Segments {
            env,
            directory,
            partition,
            topic: topic.clone(),
            files,
            state: RefCell::new(state),
            writing: Semaphore::new(1),
            loading: Semaphore::new(1),
        }
    }

    /// How far they are safe now.
    #[must_use]
    pub fn end(&self) -> SegmentEnd {
        self.state.borrow().end
    }

    /// What `look` finds in the active segment, if it is the one with this base and loaded.
    fn with_active<T>(&self, base: Offset, look: impl FnOnce(&Active) -> T) -> Option<T> {
        let state = self.state.borrow();
        state
            .active
            .as_ref()
            .filter(|_| state.end.segment_base == base)
            .map(look)
    }

    fn with_active_mut(&self, base: Offset, change: impl FnOnce(&mut Active)) {
        let mut state = self.state.borrow_mut();
        if state.end.segment_base == base
            && let Some(active) = &mut state.active
        {
            change(active);
        }
    }

    fn damaged(
        &self,
        path: &Path,
        position: u64,
        from: Offset,
        next_readable: Option<Offset>,
        what: String,
    ) -> SegmentError {
        count(&self.files.counters.damages, 1);
        let damage = Damage {
            topic: self.topic.clone(),
            partition: self.partition.partition,
            path: path.to_owned(),
            position,
            from,
            next_readable,
            what,
        };
        if self.is_news(from, position) {
            tracing::error!(%damage, "damage on the disk");
        }
        SegmentError::Damaged(Box::new(damage))
    }

    /// Whether damage at this place has not been logged yet: readers that try again and again would
    /// fill the log with it.
    fn is_news(&self, from: Offset, position: u64) -> bool {
        let told = &mut self.state.borrow_mut().told;
        let news = told.len() < TOLD_MAX && !told.contains(&(from, position));
        if news {
            told.push((from, position));
        }
        news
    }
}
