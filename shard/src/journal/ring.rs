//! The ring of files: which are in use, which are free, and the work of having one ready before it
//! is needed. Files are made, opened and removed by a background task, never by one that a write
//! waits for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::format::FileNumber;
use super::metrics::{JournalMetrics, add};
use super::recovered::{FreeFile, LiveFile};
use super::recovery::{file_name, new_file_name};
use super::{JournalConfig, JournalError, Sequence};
use crate::env::{Env, File, OpenOptions};
use crate::local::Event;

/// Zeros written at once, each piece durably.
const FILL_BYTES: u64 = 2 << 20;
/// The same beside groups: a disk that is asked to make a group durable makes everything durable
/// that it was given before, and a whole file of zeros takes it a while.
const FILL_BYTES_BESIDE_WRITES: u64 = 256 << 10;

/// How long after a failure (say, a full disk) a new file is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many times its checkpoint a file is long at least: one that a checkpoint fills would make the
/// next group begin another file, with another checkpoint, and so for ever.
const CHECKPOINTS_PER_FILE: u64 = 4;

/// How many files are held free if the limit allows: one to roll into, one in reserve.
const SPARE_FILES: usize = 2;

/// A file open for writing that holds nothing needed.
pub(super) struct ReadyFile<E: Env> {
    pub file: E::File,
    pub path: PathBuf,
    pub len: u64,
}

pub(super) struct Ring<E: Env> {
    env: E,
    config: JournalConfig,
    metrics: Rc<JournalMetrics>,
    /// The length of new files: as configured, or more if checkpoints need it.
    file_bytes: Cell<u64>,
    state: RefCell<State<E>>,
    /// A file became ready, or there is work for the background task.
    pub changed: Event,
    closed: Cell<bool>,
    /// The file being written is nearly full.
    hurry: Cell<bool>,
    /// A group was issued since this was last looked at.
    busy: Cell<bool>,
    ended: Cell<bool>,
    /// Notified when either of these becomes true.
    closing: Event,
}

struct State<E: Env> {
    /// In the ring's order; the last is the one being written.
    live: VecDeque<LiveFile>,
    free: Vec<FreeFile>,
    ready: Option<ReadyFile<E>>,
    /// Checkpoints on their way to the disk: when all groups up to the first are durable, files
    /// before the second are free.
    freeing: Vec<(Sequence, FileNumber)>,
    next_slot: u32,
    /// Files in the hands of the background task.
    in_work: usize,
}

enum Job {
    Open(FreeFile),
    Make(u32),
    Remove(FreeFile),
}

impl<E: Env> Ring<E> {
    pub fn new(
        env: E,
        config: JournalConfig,
        metrics: Rc<JournalMetrics>,
        live: Vec<LiveFile>,
        free: Vec<FreeFile>,
        next_slot: u32,
    ) -> Ring<E> {
        let state = State {
            live: live.into(),
            free,
            ready: None,
            freeing: Vec::new(),
            next_slot,
            in_work: 0,
        };
        Ring {
            env,
            file_bytes: Cell::new(config.file_bytes),
            config,
            metrics,
            state: RefCell::new(state),
            changed: Event::new(),
            closed: Cell::new(false),
            hurry: Cell::new(false),
            busy: Cell::new(false),
            ended: Cell::new(false),
            closing: Event::new(),
        }
    }

    /// The background task: has a file ready, and removes those too many or of the wrong length.
    pub async fn tend(self: Rc<Self>) {
        loop {
            let changed = self.changed.listen();
            let closing = self.closing.listen();
            if self.closed.get() {
                break;
            }
            let Some(job) = self.next_job() else {
                futures_util::future::select(changed, closing).await;
                continue;
            };
            let done = self.work(job).await;
            self.changed.notify();
            if let Err(error) = done {
                tracing::warn!(%error, "journal: cannot prepare a file, will try again");
                let sleep = std::pin::pin!(self.env.sleep(RETRY_AFTER));
                futures_util::future::select(sleep, closing).await;
            }
        }
        self.ended.set(true);
        self.closing.notify();
    }

    /// Has one file ready; for the start, when nothing else runs.
    pub async fn prepare(&self) -> Result<(), JournalError> {
        while !self.has_ready() {
            match self.next_job() {
                Some(job) => self.work(job).await?,
                None => unreachable!("without a ready file there is work"),
            }
        }
        Ok(())
    }

    /// Ends the background task.
    pub fn close(&self) {
        self.closed.set(true);
        self.closing.notify();
    }

    /// Waits until the background task has ended: nothing is in its hands any more.
    pub async fn ended(&self) {
        self.closing.wait_until(|| self.ended.get()).await;
    }

    pub fn has_ready(&self) -> bool {
        self.state.borrow().ready.is_some()
    }

    /// Whether a file may be taken that is the last one free: only if it lets others go. Else the
    /// ring could come to stand with every file in use and none to write the checkpoint to that
    /// would free them.
    pub fn has_more_than_reserve(&self) -> bool {
        self.state.borrow().spare() >= SPARE_FILES
    }

    /// Whether a checkpoint that needs files from `first_live` on would let any go.
    pub fn would_free(&self, first_live: FileNumber) -> bool {
        self.state
            .borrow()
            .live
            .front()
            .is_some_and(|oldest| oldest.file < first_live)
    }

    /// The file that holds a group, or the oldest there is.
    pub fn file_of(&self, sequence: Sequence) -> Option<FileNumber> {
        let state = self.state.borrow();
        let holds = state
            .live
            .iter()
            .rev()
            .find(|file| file.first_sequence <= sequence);
        holds.or(state.live.front()).map(|file| file.file)
    }

    /// The file being written.
    pub fn newest(&self) -> Option<FileNumber> {
        self.state.borrow().live.back().map(|file| file.file)
    }

    /// Where the newest half of the ring begins, when there are older files than that: at least the
    /// file before the newest. Less would be written again after a crash; but what is kept longer
    /// goes into segments in larger pieces.
    pub fn flush_below(&self) -> Option<Sequence> {
        let state = self.state.borrow();
        let keep = (self.config.max_files as usize / 2).max(2);
        let first = state
            .live
            .len()
            .checked_sub(keep)
            .filter(|place| *place > 0)?;
        Some(state.live[first].first_sequence)
    }

    /// Takes the ready file as the next of the ring, with a checkpoint that needs files from
    /// `first_live` on once all groups up to `through` are durable.
    pub fn roll(
        &self,
        file: FileNumber,
        first_sequence: Sequence,
        first_live: FileNumber,
        through: Sequence,
    ) -> Option<ReadyFile<E>> {
        let mut state = self.state.borrow_mut();
        let ready = state.ready.take()?;
        state.live.push_back(LiveFile {
            path: ready.path.clone(),
            file,
            first_sequence,
            len: ready.len,
        });
        state.freeing.push((through, first_live));
        self.metrics.live_files.set(state.live.len() as u64);
        add(&self.metrics.rolls, 1);
        drop(state);
        self.changed.notify();
        Some(ready)
    }

    /// Learns how long a checkpoint has become. Files long enough for it replace the others one by
    /// one, as those come free.
    pub fn fit_checkpoint(&self, checkpoint_bytes: u64) {
        let wanted = checkpoint_bytes
            .saturating_mul(CHECKPOINTS_PER_FILE)
            .next_multiple_of(self.config.file_bytes);
        if wanted > self.file_bytes.get() {
            tracing::info!(
                checkpoint_bytes,
                file_bytes = wanted,
                "journal: files become longer, so that a checkpoint of so many partitions is a small part of one (journal.file_bytes sets their least length)"
            );
            self.file_bytes.set(wanted);
            self.changed.notify();
        }
    }

    /// The file being written has become longer than it was.
    pub fn grew(&self, file: FileNumber, len: u64) {
        let mut state = self.state.borrow_mut();
        if let Some(live) = state.live.iter_mut().find(|live| live.file == file) {
            live.len = live.len.max(len);
        }
    }

    /// Every group up to `durable` is durable: lets go of files that no checkpoint needs.
    pub fn durable(&self, durable: Sequence) {
        let mut state = self.state.borrow_mut();
        let State {
            live,
            free,
            freeing,
            ..
        } = &mut *state;
        let mut first_live = FileNumber(0);
        freeing.retain(|(through, needs)| {
            let due = *through <= durable;
            if due {
                first_live = first_live.max(*needs);
            }
            !due
        });
        let before = live.len();
        while live.front().is_some_and(|oldest| oldest.file < first_live) {
            free.extend(live.pop_front().map(|file| FreeFile {
                path: file.path,
                len: file.len,
            }));
        }
        let freed = before - live.len();
        self.metrics.live_files.set(live.len() as u64);
        drop(state);
        if freed > 0 {
            self.changed.notify();
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut state = self.state.borrow_mut();
        let (total, spare) = (state.total(), state.spare());
        let wrong = state
            .free
            .iter()
            .position(|file| file.len != self.file_bytes.get());
        let job = if let Some(wrong) = wrong {
            Job::Remove(state.free.swap_remove(wrong))
        } else if total > self.config.max_files as usize
            && spare > SPARE_FILES
            && !state.free.is_empty()
        {
            Job::Remove(state.free.pop()?)
        } else if state.ready.is_none() && !state.free.is_empty() {
            Job::Open(state.free.pop()?)
        } else if self.wants_new(&state) {
            state.next_slot += 1;
            Job::Make(state.next_slot - 1)
        } else {
            return None;
        };
        state.in_work = 1;
        Some(job)
    }

    fn wants_new(&self, state: &State<E>) -> bool {
        let (total, spare) = (state.total(), state.spare());
        let limit = self.config.max_files as usize;
        // Without a single file to roll into the ring would stand: then, and then only, the limit
        // is passed. It happens after a start that found all files in use.
        total < self.config.initial_files as usize
            || (spare < SPARE_FILES && total < limit)
            || (spare == 0 && state.freeing.is_empty())
    }

    async fn work(&self, job: Job) -> Result<(), JournalError> {
        let result = match job {
            Job::Open(free) => self
                .open(&free)
                .await
                .inspect_err(|_| self.state.borrow_mut().free.push(free)),
            Job::Make(slot) => self.make(slot).await,
            Job::Remove(free) => {
                let removed = self.env.remove_file(&free.path).await;
                removed.map_err(JournalError::io("remove", &free.path))
            }
        };
        self.state.borrow_mut().in_work = 0;
        result
    }

    async fn open(&self, free: &FreeFile) -> Result<(), JournalError> {
        let options = OpenOptions {
            write: true,
            create: false,
            data_sync: true,
        };
        let file = self
            .env
            .open(&free.path, options)
            .await
            .map_err(JournalError::io("open", &free.path))?;
        let ready = ReadyFile {
            file,
            path: free.path.clone(),
            len: free.len,
        };
        self.state.borrow_mut().ready = Some(ready);
        Ok(())
    }

    /// Makes a file of zeros, really written if there is time, so that a write to it changes no
    /// metadata.
    async fn make(&self, slot: u32) -> Result<(), JournalError> {
        let directory = &self.config.directory;
        let (new, path) = (
            directory.join(new_file_name(slot)),
            directory.join(file_name(slot)),
        );
        let len = self.file_bytes.get();
        let filled = self.fill(&new, len).await;
        if !matches!(filled, Ok(true)) {
            // Best effort: what stays is removed at the next start.
            if let Err(error) = self.env.remove_file(&new).await {
                tracing::debug!(%error, file = %new.display(), "journal: unfinished file stays until the next start");
            }
            return filled.map(drop);
        }
        self.env
            .rename(&new, &path)
            .await
            .map_err(JournalError::io("rename", &new))?;
        self.env
            .sync_directory(directory)
            .await
            .map_err(JournalError::io("sync", directory))?;
        add(&self.metrics.files_made, 1);
        self.state.borrow_mut().free.push(FreeFile { path, len });
        Ok(())
    }

    /// Tells of a group that was issued, and how far the file being written is full.
    pub fn issued(&self, position: u64, len: u64) {
        self.busy.set(true);
        self.hurry.set(position > len / 8 * 7);
    }

    /// Writes zeros, as long as the journal can wait for the file: what is then left is reserved, and
    /// the first writes to that change metadata, too. Gives up halfway, and says so, when the journal
    /// closes.
    async fn fill(&self, path: &Path, file_bytes: u64) -> Result<bool, JournalError> {
        let options = OpenOptions {
            write: true,
            create: true,
            data_sync: true,
        };
        let file = self
            .env
            .open(path, options)
            .await
            .map_err(JournalError::io("create", path))?;
        let mut position = 0;
        while position < file_bytes && !self.closed.get() {
            if self.hurry.get() {
                let reserved = file.reserve(file_bytes).await;
                reserved.map_err(JournalError::io("reserve", path))?;
                position = file_bytes;
                break;
            }
            let piece = match self.busy.take() {
                true => FILL_BYTES_BESIDE_WRITES,
                false => FILL_BYTES,
            };
            let len = piece.min(file_bytes - position);
            let written = file
                .write_at(self.env.allocate(len as usize), position)
                .await;
            written.map_err(JournalError::io("fill", path))?;
            position += len;
            self.env.yield_now().await;
        }
        file.sync().await.map_err(JournalError::io("sync", path))?;
        file.close()
            .await
            .map_err(JournalError::io("close", path))?;
        Ok(position >= file_bytes)
    }
}

impl<E: Env> State<E> {
    fn spare(&self) -> usize {
        self.free.len() + usize::from(self.ready.is_some())
    }

    fn total(&self) -> usize {
        self.live.len() + self.spare() + self.in_work
    }
}
