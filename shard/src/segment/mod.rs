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

use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use millrace_wire::ids::{LogIndex, Offset, PartitionId, Term, TopicName};

use crate::env::Env;

pub use error::{Damage, SegmentError};
pub use files::FileCache;

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

/// One partition's segments.
pub struct Segments<E: Env> {
    env: E,
    directory: PathBuf,
    partition: PartitionId,
    topic: TopicName,
    safe: SegmentEnd,
    files: Rc<FileCache<E>>,
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
        Segments {
            env,
            directory,
            partition,
            topic: topic.clone(),
            safe,
            files,
        }
    }

    /// How far they are safe now.
    #[must_use]
    pub fn end(&self) -> SegmentEnd {
        self.safe
    }

    /// Writes `entries` and syncs them; the end returned is safe. Only whole blocks are written, so
    /// the last entries may not be complete in the file yet: those from `next_offset` on stay with
    /// the caller, to be given again first thing in a later call. With `pad` the last block is
    /// filled up, and everything given is safe. Entries below `next_offset` are passed over.
    ///
    /// Rolls by itself, by size and by age. Calls wait for one another. On [`SegmentError::NoSpace`]
    /// nothing has changed, except that part of the entries may be safe: see [`Segments::end`].
    pub async fn write(
        &self,
        entries: &[SegmentEntry],
        pad: bool,
        settings: SegmentSettings,
    ) -> Result<SegmentEnd, SegmentError> {
        let _ = (
            entries,
            pad,
            settings,
            &self.env,
            &self.files,
            &self.partition,
            &self.topic,
        );
        Err(SegmentError::Stopped {
            path: self.directory.clone(),
        })
    }

    /// Completes the active segment, whatever its age, and begins another, so that it can be
    /// removed. Does nothing if it holds no entry. The end returned must be durable in the journal
    /// before [`Segments::remove_before`] is asked to remove the completed one.
    pub async fn roll(&self) -> Result<SegmentEnd, SegmentError> {
        Err(SegmentError::Stopped {
            path: self.directory.clone(),
        })
    }

    /// Whole batches from the one that holds `from` (or else the next one) on, up to `max_bytes` in
    /// all, or one batch of any size if `at_least_one`. Empty at or beyond the safe end. Batches
    /// before a damaged place are returned; the damage itself is told when it comes first.
    pub async fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Vec<Bytes>, SegmentError> {
        let _ = (from, max_bytes, at_least_one);
        Err(SegmentError::Stopped {
            path: self.directory.clone(),
        })
    }

    /// The first batch at or after the one that holds `from` whose largest timestamp is at least
    /// `timestamp`. Which record of it, the caller finds by decoding.
    pub async fn find_by_timestamp(
        &self,
        from: Offset,
        timestamp: i64,
    ) -> Result<Option<FoundBatch>, SegmentError> {
        let _ = (from, timestamp);
        Err(SegmentError::Stopped {
            path: self.directory.clone(),
        })
    }

    /// The first batch with the largest timestamp of all at or after the one that holds `from`.
    pub async fn max_timestamp(&self, from: Offset) -> Result<Option<FoundBatch>, SegmentError> {
        let _ = from;
        Err(SegmentError::Stopped {
            path: self.directory.clone(),
        })
    }

    /// What there is, in order. Costs one small read for each segment not asked for before.
    pub async fn summaries(&self) -> Result<Vec<SegmentSummary>, SegmentError> {
        Err(SegmentError::Stopped {
            path: self.directory.clone(),
        })
    }

    /// Removes completed segments that lie wholly before `log_start`. That, and `durable`, an end
    /// of these segments, are durable in the journal: a segment that a recovery would still
    /// go on writing stays. Reads under way go on undisturbed. Returns the bytes freed.
    pub async fn remove_before(
        &self,
        log_start: Offset,
        durable: SegmentEnd,
    ) -> Result<u64, SegmentError> {
        let _ = (log_start, durable);
        Err(SegmentError::Stopped {
            path: self.directory.clone(),
        })
    }
}
