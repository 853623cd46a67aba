//! The environment in production: glommio on io_uring.
//!
//! Files are opened with `O_DIRECT`. Reads, writes, syncs and reservations go through the executor's
//! rings, durable writes through the shard's own ([`ring`](crate::ring)), at once; everything that changes or lists names goes to the blocking pool, since the kernel would do it
//! on the shard's own core. A write that fails is reported, never repeated.

use std::cell::Cell;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use glommio::io::{DmaBuffer, DmaFile, ReadResult};
use glommio::{GlommioError, Latency, Shares, TaskQueueHandle};

use super::{
    BLOCK_BYTES, DirectoryEntry, Env, File, Instant, OnPanic, OpenOptions, Queue, Space, Task,
};
use crate::local::{OneshotReceiver, oneshot};
use crate::ring::{self, Ring};
use crate::runtime::{Pulse, stop_process, supervise};

/// Shares of a core, out of their sum, when all queues want it at once.
const REQUEST_SHARES: usize = 1_000;
const REPLICATION_SHARES: usize = 800;
const BACKGROUND_SHARES: usize = 200;
/// What clients and other nodes wait for should wait no longer than this for its turn.
const TURN: Duration = Duration::from_millis(1);
/// Files that Millrace makes can be read by its group.
const FILE_MODE: libc::mode_t = 0o640;
/// How long to wait, when the process has no descriptor left, before trying again.
const PAUSE_WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(100);

/// The world as a shard in production sees it.
#[derive(Clone)]
pub struct GlommioEnv {
    inner: Rc<Inner>,
}

struct Inner {
    pulse: Arc<Pulse>,
    ring: Ring,
    start: std::time::Instant,
    random: Cell<u64>,
    requests: TaskQueueHandle,
    replication: TaskQueueHandle,
    background: TaskQueueHandle,
}

impl GlommioEnv {
    /// Makes the environment of the shard whose executor runs this, once per executor.
    ///
    /// `directory` must exist and lie on the file system that will hold the shard's files: a file
    /// of one block is written and read there, because glommio finds out at the first opening
    /// whether the device can be polled, and takes an empty file for a yes. The timer is warmed up,
    /// too: its first use costs milliseconds.
    pub async fn start(pulse: Arc<Pulse>, directory: &Path) -> io::Result<GlommioEnv> {
        let queue = |shares, latency, name| {
            glommio::executor().create_task_queue(Shares::Static(shares), latency, name)
        };
        let shard = pulse.shard();
        let inner = Inner {
            pulse,
            ring: Ring::new()?,
            start: std::time::Instant::now(),
            random: Cell::new(RandomState::new().build_hasher().finish()),
            requests: queue(REQUEST_SHARES, Latency::Matters(TURN), "requests"),
            replication: queue(REPLICATION_SHARES, Latency::Matters(TURN), "replication"),
            background: queue(BACKGROUND_SHARES, Latency::NotImportant, "background"),
        };
        let env = GlommioEnv {
            inner: Rc::new(inner),
        };
        let turns = ring::serve(env.ring().clone(), Arc::clone(env.pulse()))?;
        // Supervised like any other: if the executor fell asleep over this task alone, only the
        // watchdog could wake it.
        drop(env.spawn(Queue::Requests, "ring", OnPanic::StopProcess, turns));
        let probe = directory.join(format!("@probe-{}-{shard}", std::process::id()));
        let written = probe.clone();
        blocking(move || std::fs::write(&written, [0; BLOCK_BYTES])).await?;
        let opened = env.open(&probe, OpenOptions::default()).await;
        env.remove_file(&probe).await?;
        opened?.close().await?;
        env.sleep(Duration::from_micros(1)).await;
        Ok(env)
    }

    /// The shard's own ring.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.inner.ring
    }

    /// The pulse of the shard.
    #[must_use]
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.inner.pulse
    }
}

impl Env for GlommioEnv {
    type File = GlommioFile;
    type Task<T: 'static> = GlommioTask<T>;

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.inner.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall_clock_ms(&self) -> i64 {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since_1970.map_or(0, |passed| {
            i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)
        })
    }

    fn random_u64(&self) -> u64 {
        // SplitMix64: spreads identities and jitter; nothing secret depends on it.
        let state = self.inner.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.inner.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn panics(&self) -> u64 {
        self.inner.pulse.panics()
    }

    fn expect_peers(&self) {
        self.inner.ring.expect_peers();
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        glommio::timer::sleep(duration).map(drop)
    }

    async fn yield_now(&self) {
        self.inner.ring.turn();
        glommio::yield_if_needed().await;
    }

    fn offload<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + 'static {
        let caught = move || catch_unwind(AssertUnwindSafe(work));
        let result = glommio::executor().spawn_blocking(caught);
        async move {
            let result = result.await;
            if result.is_err() {
                tracing::error!(name, "a computation beside the shards panicked");
            }
            result.ok()
        }
    }

    fn spawn<T: 'static>(
        &self,
        queue: Queue,
        name: &'static str,
        on_panic: OnPanic,
        future: impl Future<Output = T> + 'static,
    ) -> GlommioTask<T> {
        let (sender, receiver) = oneshot();
        let supervised = supervise(Arc::clone(&self.inner.pulse), name, on_panic, future);
        let whole = async move {
            if let Some(result) = supervised.await {
                // Nobody has to wait for it.
                let _ = sender.send(result);
            }
        };
        let queue = match queue {
            Queue::Requests => self.inner.requests,
            Queue::Replication => self.inner.replication,
            Queue::Background => self.inner.background,
        };
        match glommio::spawn_local_into(whole, queue) {
            Ok(task) => drop(task.detach()),
            Err(error) => unreachable!("the queues live as long as the executor: {error}"),
        }
        GlommioTask { receiver }
    }

    fn fatal(&self, why: &str) {
        stop_process(why);
    }

    fn allocate_unset(&self, len: usize) -> GlommioBuffer {
        assert!(
            len > 0 && len.is_multiple_of(BLOCK_BYTES),
            "{len} bytes are not whole blocks"
        );
        GlommioBuffer(glommio::allocate_dma_buffer(len))
    }

    async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<GlommioFile> {
        let mut glommio_options = glommio::io::OpenOptions::new();
        glommio_options
            .read(true)
            .write(options.write)
            .create(options.create)
            .mode(FILE_MODE);
        if options.data_sync {
            glommio_options.custom_flags(libc::O_DSYNC);
        }
        // glommio looks at the path again after opening it and panics if it is gone by then.
        let opened = AssertUnwindSafe(glommio_options.dma_open(path))
            .catch_unwind()
            .await;
        let opened = opened.map_err(|_| io::Error::from_raw_os_error(libc::ENOENT))?;
        Ok(GlommioFile {
            file: opened.map_err(io_error)?,
            ring: self.inner.ring.clone(),
            is_urgent: options.data_sync,
        })
    }

    async fn create_directory(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || std::fs::create_dir_all(path)).await
    }

    async fn list_directory(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let path = path.to_owned();
        blocking(move || list(&path)).await
    }

    async fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let directory = loop {
            let path = path.to_owned();
            match blocking(move || std::fs::File::open(path)).await {
                // Callers take a failure to mean that the disk cannot be trusted; this one says
                // nothing of the disk, and passes.
                Err(error) if is_too_many_files(&error) => {
                    tracing::warn!(%error, "waiting for a file descriptor to sync a directory");
                    self.sleep(PAUSE_WITHOUT_DESCRIPTORS).await;
                }
                opened => break opened?,
            }
        };
        blocking(move || directory.sync_all()).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || std::fs::rename(from, to)).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || std::fs::remove_file(path)).await
    }

    async fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || std::fs::remove_dir_all(path)).await
    }

    async fn space(&self, path: &Path) -> io::Result<Space> {
        let path = path.to_owned();
        let space = blocking(move || Ok(rustix::fs::statvfs(&path)?)).await?;
        Ok(Space {
            total: space.f_blocks * space.f_frsize,
            available: space.f_bavail * space.f_frsize,
        })
    }
}

fn is_too_many_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn list(path: &Path) -> io::Result<Vec<DirectoryEntry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Removed while we were looking.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let is_directory = metadata.is_dir();
        entries.push(DirectoryEntry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_directory,
            len: if is_directory { 0 } else { metadata.len() },
        });
    }
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// Runs `work` on the blocking pool. A panic there would hang the pool and its caller, so it is
/// caught and becomes an error.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let caught = move || catch_unwind(AssertUnwindSafe(work));
    let result = glommio::executor().spawn_blocking(caught).await;
    result.unwrap_or_else(|_| Err(io::Error::other("a file operation panicked")))
}

/// The system's error, with its number.
fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}

/// A spawned task.
pub struct GlommioTask<T> {
    receiver: OneshotReceiver<T>,
}

impl<T> Future for GlommioTask<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.receiver).poll(context).map(Result::ok)
    }
}

impl<T: 'static> Task<T> for GlommioTask<T> {}

/// Aligned memory to write from.
pub struct GlommioBuffer(DmaBuffer);

impl Deref for GlommioBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl DerefMut for GlommioBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

/// Tells in the log if an I/O is dropped before its end: whether it happened is then unknown.
struct InFlight(Option<&'static str>);

impl InFlight {
    async fn watch<T>(what: &'static str, io: impl Future<Output = T>) -> T {
        let mut in_flight = InFlight(Some(what));
        let result = io.await;
        in_flight.0 = None;
        result
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(what) = self.0 {
            tracing::error!(
                what,
                "an I/O was dropped in flight; whether it happened is unknown"
            );
        }
    }
}

/// An open file.
pub struct GlommioFile {
    file: DmaFile,
    ring: Ring,
    /// Somebody waits for its writes: they do not wait for the executor's rings.
    is_urgent: bool,
}

impl GlommioFile {
    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as `self.file`, which outlives the borrow.
        #[expect(unsafe_code, reason = "glommio gives the descriptor as a number only")]
        unsafe {
            BorrowedFd::borrow_raw(self.file.as_raw_fd())
        }
    }

    /// Awaits an operation of the executor's rings.
    async fn watch<T>(
        &self,
        what: &'static str,
        io: impl Future<Output = Result<T, GlommioError<()>>>,
    ) -> io::Result<T> {
        let _elsewhere = self.ring.elsewhere();
        InFlight::watch(what, io).await.map_err(io_error)
    }

    fn length(&self) -> io::Result<u64> {
        let descriptor = self.descriptor();
        // glommio would ask by path, which may have been renamed. This does not block: the inode
        // of an open file is in memory.
        let stat = rustix::fs::fstat(descriptor)?;
        u64::try_from(stat.st_size).map_err(io::Error::other)
    }
}

fn check_aligned(multiple: u64) -> io::Result<()> {
    match multiple.is_multiple_of(BLOCK_BYTES as u64) {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

impl File for GlommioFile {
    type Buffer = GlommioBuffer;
    type ReadBuffer = ReadResult;

    fn shorten(buffer: &mut GlommioBuffer, len: usize) {
        assert!(len.is_multiple_of(BLOCK_BYTES));
        buffer.0.trim_to_size(len);
    }

    async fn write_at(&self, buffer: GlommioBuffer, position: u64) -> io::Result<()> {
        check_aligned(position)?;
        let len = buffer.0.len();
        let written = if self.is_urgent {
            let write = self.ring.write_at(self.descriptor(), buffer.0, position);
            InFlight::watch("write", write).await?
        } else {
            self.watch("write", self.file.write_at(buffer.0, position))
                .await?
        };
        if written < len {
            // The kernel stopped in the middle; the disk is full or failing.
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                format!("only {written} of {len} bytes were written"),
            ));
        }
        Ok(())
    }

    async fn read_at(&self, position: u64, len: usize) -> io::Result<ReadResult> {
        check_aligned(position)?;
        check_aligned(len as u64)?;
        self.watch("read", self.file.read_at_aligned(position, len))
            .await
    }

    async fn sync(&self) -> io::Result<()> {
        self.watch("sync", self.file.fdatasync()).await
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        check_aligned(len)?;
        self.watch("change of length", self.file.truncate(len))
            .await
    }

    async fn reserve(&self, len: u64) -> io::Result<()> {
        check_aligned(len)?;
        self.watch("reservation", self.file.pre_allocate(len, false))
            .await
    }

    async fn len(&self) -> io::Result<u64> {
        self.length()
    }

    async fn close(self) -> io::Result<()> {
        self.file.close().await.map_err(io_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::testing::run_shard;

    #[test]
    fn a_panic_on_the_blocking_pool_is_an_error_and_the_pool_goes_on() {
        run_shard(|_env| async {
            for _ in 0..8 {
                let panicked = blocking::<()>(|| panic!("on purpose")).await;
                assert!(panicked.unwrap_err().to_string().contains("panicked"));
            }
            assert_eq!(blocking(|| Ok(7)).await.unwrap(), 7);
        });
    }

    #[test]
    fn errors_of_the_system_keep_their_number() {
        run_shard(|env| async move {
            let missing = Path::new("/nonexistent/file");
            let errors = [
                env.open(missing, OpenOptions::default()).await.err(),
                env.list_directory(missing).await.err(),
                env.space(missing).await.err(),
                env.rename(missing, missing).await.err(),
            ];
            for error in errors {
                assert_eq!(error.unwrap().raw_os_error(), Some(libc::ENOENT));
            }
        });
    }

    #[test]
    fn a_task_may_have_any_number_of_wakers() {
        run_shard(|_env| async {
            // glommio counts its own wakers of one task in 15 bits, and panics.
            let waker = std::future::poll_fn(|context| Poll::Ready(context.waker().clone())).await;
            let clones: Vec<_> = (0..100_000).map(|_| waker.clone()).collect();
            drop(clones);
        });
    }
}
