//! The seam between a shard and the world: time, randomness, spawning and the disk. Everything in
//! this crate that touches any of them does so through [`Env`], which has two implementations:
//! [`glommio`] for production and [`simulated`] (seeded, virtual time, a disk with faults). Code
//! that runs in a simulation is the code that ships.
//!
//! Runs on a shard's own thread; nothing here is `Send`. No method blocks: slow file operations
//! (create, rename, remove, list) run off the shard in production.

pub mod glommio;
pub mod simulated;

#[cfg(test)]
mod conformance;

use std::future::Future;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

/// The unit of `O_DIRECT`: positions, lengths and addresses are multiples of it, in bytes.
pub const BLOCK_BYTES: usize = 4096;

/// A monotonic instant: nanoseconds since an arbitrary start of this environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Time passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `after` from this one.
    #[must_use]
    pub fn plus(self, after: Duration) -> Instant {
        Instant(
            self.0
                .saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// Which share of the core a task belongs to (DESIGN section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// What a client waits for: requests, the journal.
    Requests,
    /// What another node waits for.
    Replication,
    /// Segment writing, retention, recovery.
    Background,
}

/// What a panic in a task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnPanic {
    /// The task held state that others rely on (journal, partition): the process stops.
    StopProcess,
    /// The task served one request or connection: it alone ends, and the panic is logged and counted.
    EndTask,
}

/// A spawned task. Dropping the handle lets the task go on; awaiting it gives its result, or
/// nothing if it panicked.
pub trait Task<T>: Future<Output = Option<T>> {}

/// How a file is opened. `O_DIRECT` always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Open for writing (else read only).
    pub write: bool,
    /// Create it if it does not exist.
    pub create: bool,
    /// A write is on stable storage when it completes (`O_DSYNC`).
    pub data_sync: bool,
}

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// File name, without its directory.
    pub name: String,
    /// Whether it is itself a directory.
    pub is_directory: bool,
    /// Length in bytes, 0 for a directory.
    pub len: u64,
}

/// A file system's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that may still be used.
    pub available: u64,
}

/// An open file. Every position and length is a multiple of [`BLOCK_BYTES`], in bytes.
///
/// A future of this trait must be awaited to its end: dropping an I/O in flight cancels it.
#[expect(
    clippy::len_without_is_empty,
    reason = "asking costs I/O; nobody asks for emptiness alone"
)]
pub trait File: 'static {
    /// Aligned memory to write from, obtained from [`Env::allocate`].
    type Buffer: DerefMut<Target = [u8]> + 'static;
    /// Memory that a read filled.
    type ReadBuffer: Deref<Target = [u8]> + 'static;

    /// Keeps the first `len` bytes of a buffer, a multiple of [`BLOCK_BYTES`], without copying them:
    /// for one that turned out larger than needed.
    fn shorten(buffer: &mut Self::Buffer, len: usize);
    /// Writes the whole buffer at `position`. Errors are reported, never retried.
    fn write_at(&self, buffer: Self::Buffer, position: u64)
    -> impl Future<Output = io::Result<()>>;
    /// Reads up to `len` bytes; short only at the end of the file.
    fn read_at(
        &self,
        position: u64,
        len: usize,
    ) -> impl Future<Output = io::Result<Self::ReadBuffer>>;
    /// Makes everything written so far durable, and the length (`fdatasync`).
    fn sync(&self) -> impl Future<Output = io::Result<()>>;
    /// Sets the length; bytes gained read as zero.
    fn set_len(&self, len: u64) -> impl Future<Output = io::Result<()>>;
    /// Reserves disk space up to `len` and extends the file to it (`fallocate`, not `KEEP_SIZE`).
    /// `ENOSPC` here has harmed nothing.
    fn reserve(&self, len: u64) -> impl Future<Output = io::Result<()>>;
    /// The length in bytes.
    fn len(&self) -> impl Future<Output = io::Result<u64>>;
    /// Closes it. Dropping without closing is allowed and closes in the background.
    fn close(self) -> impl Future<Output = io::Result<()>>;
}

/// The world as a shard sees it. Cheap to clone.
pub trait Env: Clone + 'static {
    /// Open files.
    type File: File;
    /// Spawned tasks.
    type Task<T: 'static>: Task<T>;

    /// Monotonic time.
    fn now(&self) -> Instant;
    /// Wall clock, ms since 1970.
    fn wall_clock_ms(&self) -> i64;
    /// A random number.
    fn random_u64(&self) -> u64;
    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;
    /// Gives other tasks a turn if this one has used up its time; call it in every long loop.
    fn yield_now(&self) -> impl Future<Output = ()>;
    /// Starts a task on this shard. The task may begin to run before this returns: hold no borrow.
    fn spawn<T: 'static>(
        &self,
        queue: Queue,
        name: &'static str,
        on_panic: OnPanic,
        future: impl Future<Output = T> + 'static,
    ) -> Self::Task<T>;
    /// Runs a long computation in a thread beside the shards, while this one goes on. None if it
    /// panicked, which is logged.
    fn offload<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + 'static;
    /// Tasks of this shard that have panicked so far.
    fn panics(&self) -> u64;
    /// Other shards may send messages from now on.
    fn expect_peers(&self) {}
    /// Storage can no longer be trusted (a write or sync failed): log `why` and stop the process at
    /// once, so that a restart recovers. In a simulation the node stops; the call returns there, and
    /// the caller must not acknowledge anything afterwards.
    fn fatal(&self, why: &str);

    /// Aligned memory of `len` bytes, a multiple of [`BLOCK_BYTES`] and not 0, that holds whatever it
    /// held before: each byte is written before it goes anywhere.
    fn allocate_unset(&self, len: usize) -> <Self::File as File>::Buffer;
    /// The same, zeroed. For large pieces that are written all over, zeroing is a quarter of the work.
    fn allocate(&self, len: usize) -> <Self::File as File>::Buffer {
        let mut buffer = self.allocate_unset(len);
        buffer.fill(0);
        buffer
    }
    /// Opens a file.
    fn open(
        &self,
        path: &Path,
        options: OpenOptions,
    ) -> impl Future<Output = io::Result<Self::File>>;
    /// Makes a directory and its parents; no error if it is there.
    fn create_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// What a directory holds, sorted by name.
    fn list_directory(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirectoryEntry>>>;
    /// Makes created, renamed and removed names of a directory durable.
    fn sync_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// Renames a file or directory, replacing a file that is there.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// Removes a directory and all below it.
    fn remove_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// Free space of the file system that holds `path`.
    fn space(&self, path: &Path) -> impl Future<Output = io::Result<Space>>;
}

/// Rounds up to whole blocks.
#[must_use]
pub const fn round_up_to_block(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}

/// Whether an error says that the disk lost the bytes, not that the read could not be tried.
pub(crate) fn is_medium_error(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::ENODATA | libc::EILSEQ | libc::EBADMSG)
    )
}
