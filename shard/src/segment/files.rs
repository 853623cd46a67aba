//! What the segments of one shard share: a bounded number of open files, of loaded indexes and of
//! bytes read ahead, and the counters.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use millrace_wire::ids::{Offset, PartitionId};

use super::format::Place;
use super::lru::Lru;
use super::read::FETCH_MAX_BYTES;
use crate::env::{Env, File, Instant, OpenOptions};
use crate::local::{Budget, Event, Permit, Semaphore};

/// Bytes of indexes of complete segments that a shard keeps in memory.
const INDEX_BYTES: usize = 4 << 20;
/// Bytes that a shard holds which were read before anybody asked.
const READ_AHEAD_BYTES: usize = 16 << 20;

/// How many reads ahead of a sequential reader are under way or done: disks give their best only to
/// several at once.
const READS_AHEAD: usize = 4;
/// The same, and the most that one fetches, while somebody appends: a durable write waits behind
/// every read that the disk was given before it.
const READS_AHEAD_BESIDE_APPENDS: usize = 1;
const FETCH_BYTES_BESIDE_APPENDS: usize = 128 << 10;
/// How long after an append readers still hold back.
const APPENDS_LINGER: Duration = Duration::from_millis(20);
/// Bytes on their way into segments at once, over all partitions. A disk makes everything durable
/// that it was given when it is asked to make anything durable, so a journal's write waits for as
/// much of the segments' as was let go ahead of it.
const WRITING_BYTES: u64 = 512 << 10;

/// How long a read lets durable writes go first at most: beside a producer that never pauses,
/// consumers still come forward.
const READ_PATIENCE: Duration = Duration::from_micros(500);

/// What goes before reads.
pub(crate) trait DurableWrites {
    /// Whether somebody waits for the disk.
    fn are_under_way(&self) -> bool;
    /// Notified when that may have changed.
    fn changed(&self) -> &Event;
}

/// A segment among all of the shard's.
pub(super) type SegmentKey = (PartitionId, Offset);
pub(super) type ReadBuffer<E> = <<E as Env>::File as File>::ReadBuffer;

type OpenFiles<E> = Lru<(SegmentKey, Purpose), Rc<<E as Env>::File>>;
/// By segment and where they start.
type ReadAheads<E> = Lru<(SegmentKey, u64), Rc<Ahead<E>>>;

/// Which file of a segment, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Read,
    Write,
    ReadIndex,
    WriteIndex,
}

impl Purpose {
    const ALL: [Purpose; 4] = [
        Purpose::Read,
        Purpose::Write,
        Purpose::ReadIndex,
        Purpose::WriteIndex,
    ];
}

/// A loaded index, of a complete segment or of the stored blocks of an active one.
pub(super) struct LoadedIndex {
    pub(super) places: Vec<Place>,
    /// How many blocks of the file this is.
    pub(super) blocks: u32,
}

/// What segments have done since the shard started.
#[derive(Debug, Default)]
pub struct SegmentCounters {
    /// Bytes written to segments, headers and pads included.
    pub bytes_written: Cell<u64>,
    /// Bytes read from segments.
    pub bytes_read: Cell<u64>,
    /// Reads that found their bytes read ahead.
    pub read_ahead_hits: Cell<u64>,
    /// Syncs of segment files.
    pub syncs: Cell<u64>,
    /// Segments completed.
    pub rolls: Cell<u64>,
    /// Segments removed.
    pub removed: Cell<u64>,
    /// Indexes that were rebuilt by scanning.
    pub index_rebuilds: Cell<u64>,
    /// Damaged places found.
    pub damages: Cell<u64>,
    /// Files opened.
    pub files_opened: Cell<u64>,
}

pub(super) fn count(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get() + by);
}

/// The open files of one shard's segments, at most so many, and the memory they share. One for each
/// shard.
pub struct FileCache<E: Env> {
    env: E,
    open: RefCell<OpenFiles<E>>,
    indexes: RefCell<Lru<SegmentKey, Rc<LoadedIndex>>>,
    ahead: RefCell<ReadAheads<E>>,
    /// When somebody last appended.
    appended: Cell<Option<Instant>>,
    durable_writes: RefCell<Option<Rc<dyn DurableWrites>>>,
    /// One read at a time beside appends.
    turns: Semaphore,
    /// Bytes on their way into segments.
    pub(super) writing: Budget,
    /// What was done, for metrics.
    pub counters: SegmentCounters,
}

impl<E: Env> FileCache<E> {
    /// A cache that keeps at most `open_files_max` files open. Files in use are let go of last, and
    /// one that is stays open until its user is done.
    #[must_use]
    pub fn new(env: E, open_files_max: usize) -> Rc<FileCache<E>> {
        Rc::new(FileCache {
            env,
            open: RefCell::new(Lru::new(open_files_max.max(1))),
            indexes: RefCell::new(Lru::new(INDEX_BYTES)),
            ahead: RefCell::new(Lru::new(READ_AHEAD_BYTES)),
            appended: Cell::new(None),
            durable_writes: RefCell::default(),
            turns: Semaphore::new(1),
            writing: Budget::new(WRITING_BYTES),
            counters: SegmentCounters::default(),
        })
    }

    /// Somebody appends, and waits for the disk.
    pub(crate) fn note_append(&self, at: Instant) {
        self.appended.set(Some(at));
    }

    /// Lets these writes go before reads; or no more.
    pub(crate) fn set_durable_writes(&self, writes: Option<Rc<dyn DurableWrites>>) {
        let before = self.durable_writes.replace(writes);
        drop(before);
    }

    /// Reads from a segment, when it is its turn.
    pub(super) async fn read(
        &self,
        file: &E::File,
        start: u64,
        len: usize,
    ) -> io::Result<ReadBuffer<E>> {
        let _turn = match self.is_beside_appends() {
            true => Some(self.turn().await),
            false => None,
        };
        let buffer = file.read_at(start, len).await?;
        count(&self.counters.bytes_read, buffer.len() as u64);
        Ok(buffer)
    }

    /// Waits until no durable write is under way, or long enough.
    async fn turn(&self) -> Permit {
        let turn = self.turns.acquire(1).await;
        let writes = self.durable_writes.borrow().clone();
        if let Some(writes) = writes.filter(|writes| writes.are_under_way()) {
            let done = pin!(writes.changed().wait_until(|| !writes.are_under_way()));
            let long_enough = pin!(self.env.sleep(READ_PATIENCE));
            select(done, long_enough).await;
        }
        turn
    }

    fn is_beside_appends(&self) -> bool {
        let now = self.env.now();
        let last = self.appended.get();
        last.is_some_and(|last| now.since(last) < APPENDS_LINGER)
    }

    /// The most that a read fetches at a time now.
    pub(super) fn fetch_bytes_max(&self) -> usize {
        match self.is_beside_appends() {
            true => FETCH_BYTES_BESIDE_APPENDS,
            false => FETCH_MAX_BYTES,
        }
    }

    /// How many fetches to be ahead of a sequential reader now.
    pub(super) fn reads_ahead(&self) -> usize {
        match self.is_beside_appends() {
            true => READS_AHEAD_BESIDE_APPENDS,
            false => READS_AHEAD,
        }
    }

    /// How many files are kept open now.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.open.borrow().len()
    }

    /// The file, open. It may be used for as long as the caller likes: the cache letting go of it
    /// does not close it.
    pub(super) async fn file(
        &self,
        segment: SegmentKey,
        purpose: Purpose,
        path: &Path,
        create: bool,
    ) -> io::Result<Rc<E::File>> {
        let key = (segment, purpose);
        if let Some(file) = self.open.borrow_mut().get(&key) {
            return Ok(file);
        }
        let write = matches!(purpose, Purpose::Write | Purpose::WriteIndex);
        let options = OpenOptions {
            write,
            create,
            data_sync: purpose == Purpose::Write,
        };
        let file = match self.env.open(path, options).await {
            Err(error) if is_too_many(&error) => {
                // The limit may be lower than it was said to be: make room and try once more.
                let idle = self
                    .open
                    .borrow_mut()
                    .remove_all(|_, file| Rc::strong_count(file) == 1);
                for file in idle {
                    if let Ok(file) = Rc::try_unwrap(file) {
                        // Whether closing a file that was only read fails changes nothing.
                        let _ = file.close().await;
                    }
                }
                self.env.open(path, options).await?
            }
            other => other?,
        };
        count(&self.counters.files_opened, 1);
        let file = Rc::new(file);
        let mut open = self.open.borrow_mut();
        if let Some(opened_meanwhile) = open.get(&key) {
            return Ok(opened_meanwhile);
        }
        let out = open.insert(key, file.clone(), 1, |file| Rc::strong_count(file) == 1);
        drop(open);
        drop(out);
        Ok(file)
    }

    /// Lets go of a segment's files that are open for writing: it will not be written again.
    pub(super) fn forget_writers(&self, segment: SegmentKey) {
        for purpose in [Purpose::Write, Purpose::WriteIndex] {
            let file = self.open.borrow_mut().remove(&(segment, purpose));
            drop(file);
        }
    }

    /// Lets go of everything of a segment.
    pub(super) fn forget(&self, segment: SegmentKey) {
        for purpose in Purpose::ALL {
            let file = self.open.borrow_mut().remove(&(segment, purpose));
            drop(file);
        }
        let index = self.indexes.borrow_mut().remove(&segment);
        drop(index);
    }

    /// Lets go of everything of a partition that is gone: its files' space comes back only when
    /// they are closed.
    pub fn forget_partition(&self, partition: PartitionId) {
        let files = self
            .open
            .borrow_mut()
            .remove_all(|((of, _), _), _| *of == partition);
        drop(files);
        let indexes = self
            .indexes
            .borrow_mut()
            .remove_all(|(of, _), _| *of == partition);
        drop(indexes);
        let ahead = self
            .ahead
            .borrow_mut()
            .remove_all(|((of, _), _), _| *of == partition);
        drop(ahead);
    }

    pub(super) fn index(&self, segment: SegmentKey) -> Option<Rc<LoadedIndex>> {
        self.indexes.borrow_mut().get(&segment)
    }

    pub(super) fn keep_index(&self, segment: SegmentKey, index: Rc<LoadedIndex>) {
        let weight = index.places.len() * size_of::<Place>() + size_of::<LoadedIndex>();
        let out = self
            .indexes
            .borrow_mut()
            .insert(segment, index, weight, |_| true);
        drop(out);
    }

    pub(super) fn forget_index(&self, segment: SegmentKey) {
        let index = self.indexes.borrow_mut().remove(&segment);
        drop(index);
    }

    /// Keeps what is being read ahead until it is used or other such reads push it out.
    pub(super) fn keep_ahead(&self, segment: SegmentKey, ahead: Rc<Ahead<E>>) {
        let (key, weight) = ((segment, ahead.start), ahead.len);
        let out = self.ahead.borrow_mut().insert(key, ahead, weight, |_| true);
        drop(out);
    }

    /// What is being, or was, read ahead from `start`.
    pub(super) fn ahead(&self, segment: SegmentKey, start: u64) -> Option<Rc<Ahead<E>>> {
        self.ahead.borrow_mut().get(&(segment, start))
    }
}

fn is_too_many(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// A piece of a segment, read or being read.
pub(super) struct Ahead<E: Env> {
    pub(super) start: u64,
    pub(super) len: usize,
    read: OnceCell<Option<ReadBuffer<E>>>,
    done: Event,
}

impl<E: Env> Ahead<E> {
    /// A read under way of `len` bytes from `start`.
    pub(super) fn begun(start: u64, len: usize) -> Rc<Ahead<E>> {
        Rc::new(Ahead {
            start,
            len,
            read: OnceCell::new(),
            done: Event::new(),
        })
    }

    /// A read that is done.
    pub(super) fn done(start: u64, buffer: ReadBuffer<E>) -> Rc<Ahead<E>> {
        let ahead = Ahead {
            start,
            len: buffer.len(),
            read: OnceCell::new(),
            done: Event::new(),
        };
        let _ = ahead.read.set(Some(buffer));
        Rc::new(ahead)
    }

    /// What came of it; `None` if it failed.
    pub(super) fn finish(&self, buffer: Option<ReadBuffer<E>>) {
        let _ = self.read.set(buffer);
        self.done.notify();
    }

    /// Waits until the read is done.
    pub(super) async fn wait(&self) {
        self.done.wait_until(|| self.read.get().is_some()).await;
    }

    /// The bytes from `position` on, if they were read and there are at least `len` of them.
    pub(super) fn bytes(&self, position: u64, len: usize) -> Option<&[u8]> {
        let buffer = self.read.get()?.as_ref()?;
        let from = usize::try_from(position.checked_sub(self.start)?).ok()?;
        let bytes = buffer.get(from..)?;
        (bytes.len() >= len).then_some(bytes)
    }

    /// Where that ends which was read; its start as long as that is nothing.
    pub(super) fn read_end(&self) -> u64 {
        let read = self.read.get().and_then(Option::as_ref);
        self.start + read.map_or(0, |buffer| buffer.len() as u64)
    }

    /// Whether less was read than was to be.
    pub(super) fn is_short(&self) -> bool {
        self.read_end() < self.start + self.len as u64
    }
}
