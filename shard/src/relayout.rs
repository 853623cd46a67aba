//! A node's journals laid out, the first time and whenever the number of shards has changed. Runs on one executor,
//! before any shard opens, and touches journals alone: segments belong to partitions, whoever owns
//! them.
//!
//! Every journal found is recovered; each partition's state and the batches that only a journal
//! holds are written to the journal of the partition's new owner, in a directory beside the old
//! one. When all of that is durable the directories change places by two renames. A crash at any
//! point leaves either the old journals whole, or the new ones, and the next start takes up where
//! this one ended:
//!
//! | found | what happened | what is done |
//! |---|---|---|
//! | `@journal`, `@journal.next` | the new journals are not complete | they are removed and made again |
//! | `@journal.next`, `@journal.old` | between the renames | the second rename |
//! | `@journal`, `@journal.old` | after the renames | the old ones are removed |

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use millrace_wire::batch::{BATCH_HEADER_BYTES, batch_producer};
use millrace_wire::ids::{Offset, PartitionId, ShardId};

use crate::env::Env;
use crate::error::StorageError;
use crate::journal::{
    self, Checkpoint, Entry, Journal, JournalConfig, JournalOwner, PartitionCheckpoint, Sequence,
};
use crate::log::{PRODUCERS_PER_SHARD, PRODUCERS_PIECE_BYTES, Producers, StartState};
use crate::{missing, recovery};

/// The directory of all journals, in the data directory.
pub const JOURNAL_DIRECTORY: &str = "@journal";
const NEXT_DIRECTORY: &str = "@journal.next";
const OLD_DIRECTORY: &str = "@journal.old";

/// Beside the journals stands an empty directory whose name tells for how many shards they were
/// made: it comes and goes with them in one rename.
const MADE_FOR: &str = "shards-";

/// A new journal may have as many files as it takes: nothing in it can be let go before the shard
/// that owns it has started.
const MAX_FILES: u32 = 1 << 20;

/// Where a shard's journal is.
#[must_use]
pub fn journal_directory(data_directory: &Path, shard: ShardId) -> PathBuf {
    shard_directory(&data_directory.join(JOURNAL_DIRECTORY), shard)
}

fn shard_directory(journals: &Path, shard: ShardId) -> PathBuf {
    journals.join(format!("{:04}", shard.0))
}

/// What [`relayout`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayouted {
    /// Journals that were read.
    pub journals: usize,
    /// Partitions that were taken over.
    pub partitions: usize,
    /// Batches that were in a journal only.
    pub batches: usize,
}

/// Makes sure that the journals in `data_directory` are laid out for `shards` shards, with each
/// partition where `owner` says. Does next to nothing if they are. Call it before any shard opens.
/// `template` is a journal's configuration, whatever its directory. A crash in the middle is
/// finished, or done again, by the next call.
pub async fn relayout<E: Env>(
    env: &E,
    data_directory: &Path,
    template: &JournalConfig,
    shards: u16,
    owner: impl Fn(PartitionId) -> ShardId,
) -> Result<Relayouted, StorageError> {
    let place = Place {
        env: env.clone(),
        data_directory: data_directory.to_owned(),
    };
    place.settle().await?;
    let found = place.layout().await?;
    if found.made_for == Some(shards) {
        return Ok(Relayouted::default());
    }
    let is_new = found.journals.is_empty();
    if !is_new {
        tracing::info!(
            journals = found.journals.len(),
            shards,
            "the number of shards has changed: journals are laid out anew"
        );
    }
    let done = place
        .write_next(template, &found.journals, shards, owner)
        .await?;
    place.swap(is_new).await?;
    if !is_new {
        tracing::info!(
            partitions = done.partitions,
            batches = done.batches,
            "journals are laid out anew"
        );
    }
    Ok(done)
}

/// What is in the directory of all journals.
struct Layout {
    /// The number of shards it was made for.
    made_for: Option<u16>,
    /// Who has a journal in it.
    journals: Vec<ShardId>,
}

/// The directories that journals are in.
struct Place<E: Env> {
    env: E,
    data_directory: PathBuf,
}

impl<E: Env> Place<E> {
    fn path(&self, name: &str) -> PathBuf {
        self.data_directory.join(name)
    }

    async fn exists(&self, name: &str) -> Result<bool, StorageError> {
        let path = self.path(name);
        match self.env.list_directory(&path).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StorageError::io("list", path)(error)),
        }
    }

    /// Finishes, or takes back, what an earlier run began.
    async fn settle(&self) -> Result<(), StorageError> {
        if self.exists(NEXT_DIRECTORY).await? {
            if self.exists(JOURNAL_DIRECTORY).await? {
                self.remove(NEXT_DIRECTORY).await?;
            } else {
                self.rename(NEXT_DIRECTORY, JOURNAL_DIRECTORY).await?;
            }
        }
        if self.exists(OLD_DIRECTORY).await? {
            if !self.exists(JOURNAL_DIRECTORY).await? {
                // Not by our hand: whoever removed the journals left these.
                return self.rename(OLD_DIRECTORY, JOURNAL_DIRECTORY).await;
            }
            self.remove(OLD_DIRECTORY).await?;
        }
        Ok(())
    }

    async fn layout(&self) -> Result<Layout, StorageError> {
        let mut layout = Layout {
            made_for: None,
            journals: Vec::new(),
        };
        if !self.exists(JOURNAL_DIRECTORY).await? {
            return Ok(layout);
        }
        let path = self.path(JOURNAL_DIRECTORY);
        let entries = self
            .env
            .list_directory(&path)
            .await
            .map_err(StorageError::io("list", path))?;
        for entry in entries.iter().filter(|entry| entry.is_directory) {
            match entry.name.strip_prefix(MADE_FOR) {
                Some(shards) => layout.made_for = shards.parse().ok(),
                None => layout.journals.extend(entry.name.parse().ok().map(ShardId)),
            }
        }
        Ok(layout)
    }

    async fn write_next(
        &self,
        template: &JournalConfig,
        found: &[ShardId],
        shards: u16,
        owner: impl Fn(PartitionId) -> ShardId,
    ) -> Result<Relayouted, StorageError> {
        let mut done = Relayouted {
            journals: found.len(),
            ..Relayouted::default()
        };
        let mut writers = Vec::new();
        for shard in (0..shards).map(ShardId) {
            writers.push(
                Writer::start(
                    &self.env,
                    shard_directory(&self.path(NEXT_DIRECTORY), shard),
                    template,
                )
                .await?,
            );
        }
        for &shard in found {
            let directory = shard_directory(&self.path(JOURNAL_DIRECTORY), shard);
            let config = JournalConfig {
                directory,
                ..template.clone()
            };
            let mut recovery = journal::recover(&self.env, &config).await?;
            let now_ms = self.env.wall_clock_ms();
            let rebuilt = recovery::rebuild(shard, &mut recovery, now_ms);
            let noted = missing::is_noted(&self.env, &config.directory).await?;
            if rebuilt.partitions_may_be_missing || noted {
                return Err(damaged_journal(shard, found.len()));
            }
            for (id, state) in rebuilt.partitions {
                done.partitions += 1;
                done.batches += state.tail.len();
                let to = owner(id).0;
                let writer = writers
                    .get(usize::from(to))
                    .ok_or_else(|| no_such_owner(shard, id, to))?;
                writer.take_over(id, state).await?;
            }
            self.env.yield_now().await;
        }
        for writer in writers {
            writer.journal.close().await;
        }
        let marker = self
            .path(NEXT_DIRECTORY)
            .join(format!("{MADE_FOR}{shards}"));
        self.env
            .create_directory(&marker)
            .await
            .map_err(StorageError::io("create", marker))?;
        for changed in [self.path(NEXT_DIRECTORY), self.data_directory.clone()] {
            self.sync(&changed).await?;
        }
        Ok(done)
    }

    async fn swap(&self, is_new: bool) -> Result<(), StorageError> {
        if is_new {
            if self.exists(JOURNAL_DIRECTORY).await? {
                self.remove(JOURNAL_DIRECTORY).await?;
            }
            return self.rename(NEXT_DIRECTORY, JOURNAL_DIRECTORY).await;
        }
        self.rename(JOURNAL_DIRECTORY, OLD_DIRECTORY).await?;
        self.rename(NEXT_DIRECTORY, JOURNAL_DIRECTORY).await?;
        self.remove(OLD_DIRECTORY).await
    }

    /// A rename that is durable when this returns, so that the next one cannot overtake it.
    async fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let (from, to) = (self.path(from), self.path(to));
        self.env
            .rename(&from, &to)
            .await
            .map_err(StorageError::io("rename", from))?;
        self.sync(&self.data_directory).await
    }

    async fn remove(&self, name: &str) -> Result<(), StorageError> {
        let path = self.path(name);
        self.env
            .remove_directory(&path)
            .await
            .map_err(StorageError::io("remove", path))?;
        self.sync(&self.data_directory).await
    }

    async fn sync(&self, directory: &Path) -> Result<(), StorageError> {
        self.env
            .sync_directory(directory)
            .await
            .map_err(StorageError::io("sync", directory))
    }
}

fn damaged_journal(shard: ShardId, shards: usize) -> StorageError {
    let detail = format!(
        "its journal holds a damaged group of which nothing is known; start once with {shards} shards as before, \
         look at the damage that is told and repair the partitions concerned, then change the number of shards"
    );
    StorageError::Inconsistent { shard, detail }
}

fn no_such_owner(shard: ShardId, partition: PartitionId, owner: u16) -> StorageError {
    let detail = format!("partition {partition} would go to shard {owner}, which does not exist");
    StorageError::Inconsistent { shard, detail }
}

fn is_idempotent(batch: &[u8]) -> bool {
    batch.len() >= BATCH_HEADER_BYTES && batch_producer(batch).is_some()
}

/// One new journal.
struct Writer<E: Env> {
    journal: Rc<Journal<E, ()>>,
    state: Rc<States>,
}

/// What a new journal holds so far.
#[derive(Default)]
struct States {
    partitions: RefCell<BTreeMap<PartitionId, PartitionCheckpoint>>,
    /// Snapshots of idempotent producers, in pieces.
    producers: RefCell<BTreeMap<PartitionId, Vec<Vec<u8>>>>,
    /// How many producers these are.
    remembered: Cell<usize>,
    oldest_needed: Cell<Option<Sequence>>,
}

impl JournalOwner for States {
    fn checkpoint(&self) -> Checkpoint {
        let partitions = self.partitions.borrow().values().copied().collect();
        Checkpoint {
            partitions,
            oldest_needed: self.oldest_needed.get(),
        }
    }

    fn producers(&self, put: &mut dyn FnMut(PartitionId, &[u8])) {
        for (id, pieces) in &*self.producers.borrow() {
            pieces.iter().for_each(|piece| put(*id, piece));
        }
    }
}

impl<E: Env> Writer<E> {
    async fn start(
        env: &E,
        directory: PathBuf,
        template: &JournalConfig,
    ) -> Result<Writer<E>, StorageError> {
        env.create_directory(&directory)
            .await
            .map_err(StorageError::io("create", &directory))?;
        let config = JournalConfig {
            directory,
            max_files: MAX_FILES,
            ..template.clone()
        };
        let state = Rc::<States>::default();
        let owner = Rc::clone(&state);
        let recovery = journal::recover(env, &config).await?;
        let journal = recovery.start(env.clone(), owner, Rc::default()).await?;
        Ok(Writer { journal, state })
    }

    /// Writes a partition's state and its producers, then the batches that are not in its segments.
    /// Those are in the state of the producers already, which changes nothing: see
    /// [`crate::log::Producers::replay`].
    async fn take_over(&self, id: PartitionId, mut start: StartState) -> Result<(), StorageError> {
        self.make_room(id, &mut start.producers);
        let empty = start.tail.is_empty();
        // Of a damaged partition the journal keeps how far it had come, as the old one did.
        let claimed = start.damaged.map_or(Offset::ZERO, |_| start.claimed);
        let mut state = PartitionCheckpoint {
            partition: id,
            log_start: start.log_start,
            safe: start.safe,
            log_end: if empty {
                start.end().max(claimed)
            } else {
                start.safe.next_offset.max(claimed)
            },
            // Of a damaged partition this is more than its last batch has.
            last_index: start.last_index,
            last_term: if empty {
                start.last_term
            } else {
                start.safe.term
            },
            damaged: start.damaged,
        };
        self.put(Entry::PartitionCreated(state), state).await?;
        let mut pieces = Vec::new();
        // Which have expired is for the shard to say.
        let keep = |piece: &[u8]| pieces.push(piece.to_vec());
        start
            .producers
            .encode(i64::MIN, u64::MAX, PRODUCERS_PIECE_BYTES, keep);
        if !pieces.is_empty() {
            let mut all = self.state.producers.borrow_mut();
            all.insert(id, pieces.clone());
        }
        for snapshot in &pieces {
            let entry = Entry::Producers {
                partition: id,
                snapshot,
            };
            self.put(entry, state).await?;
        }
        for batch in &start.tail {
            state.log_end = batch.next_offset().max(claimed);
            state.last_term = batch.term;
            let entry = Entry::Append {
                partition: id,
                index: batch.index,
                term: batch.term,
                base_offset: batch.base_offset,
                record_count: batch.record_count,
                idempotent: is_idempotent(&batch.batch),
                batch: &batch.batch,
            };
            self.put(entry, state).await?;
        }
        Ok(())
    }

    /// Where many shards become few, one may come to remember more producers than it may.
    fn make_room(&self, id: PartitionId, producers: &mut Producers) {
        let room = PRODUCERS_PER_SHARD.saturating_sub(self.state.remembered.get());
        let over = producers.len().saturating_sub(room);
        if over > 0 {
            tracing::warn!(
                partition = %id, forgotten = over,
                "the new shard would remember too many idempotent producers: those longest unused are forgotten"
            );
            producers.forget_oldest(over);
        }
        let remembered = self.state.remembered.get() + producers.len();
        self.state.remembered.set(remembered);
    }

    async fn put(&self, entry: Entry<'_>, state: PartitionCheckpoint) -> Result<(), StorageError> {
        self.journal.room(entry.encoded_len()).await;
        let sequence = self
            .journal
            .append(entry, ())
            .map_err(|_| StorageError::ShuttingDown)?;
        if self.state.oldest_needed.get().is_none() {
            self.state.oldest_needed.set(Some(sequence));
        }
        self.state
            .partitions
            .borrow_mut()
            .insert(state.partition, state);
        Ok(())
    }
}
