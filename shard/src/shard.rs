//! A shard's storage, and its door: it opens the journal, hosts partitions, and closes in order.
//!
//! Runs on the shard's own core. It knows which partitions it hosts, not which it should host: that
//! is the controller's to say. Opening it costs as much as the journal's tail is long, however much
//! is stored, and reads no segment.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use hashbrown::HashMap;
use millrace_wire::ids::{PartitionId, ShardId, TopicName};

use crate::env::{Env, OnPanic, Queue};
use crate::error::StorageError;
use crate::housekeeping;
use crate::journal::{self, Checkpoint, Entry, JournalConfig, JournalMetrics, JournalOwner};
use crate::local::Event;
use crate::log::{
    FLUSH_WRITERS, Partition, PartitionSettings, Shared, StartState, drive, write_segments,
};
use crate::metrics::{Metrics, Snapshot};
use crate::missing;
use crate::recovery::{self, PASSED_OVER};

/// Where removed partitions wait for their files to be unlinked.
pub const TRASH_DIRECTORY: &str = "@trash";

/// Where files are kept, for people to look at, of partitions that a damaged journal has forgotten.
pub const SET_ASIDE_DIRECTORY: &str = "@set-aside";

/// How a shard is set up.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which shard it is.
    pub shard: ShardId,
    /// How many the node has.
    pub shard_count: u16,
    /// The node's data directory.
    pub data_directory: PathBuf,
    /// The shard's journal.
    pub journal: JournalConfig,
    /// Most bytes of batches in memory, written or not.
    pub cache_bytes: u64,
    /// Most bytes of batches that are in memory and the journal, but not in segments.
    pub unwritten_bytes: u64,
    /// Bytes of the file system that must stay free; producing is refused below.
    pub disk_reserve_bytes: u64,
    /// A partition is written to its segments when this much is pending.
    pub flush_bytes: u64,
    /// Bytes between two places in a segment's index.
    pub index_interval_bytes: u32,
    /// Most segment files that are kept open.
    pub open_files_max: usize,
    /// How long an idempotent producer is remembered that sends nothing to a partition.
    pub producer_expiration: Duration,
    /// How often retention looks.
    pub housekeeping_interval: Duration,
    /// How often free space is looked at.
    pub space_interval: Duration,
}

impl ShardConfig {
    pub(crate) fn producer_expiration_ms(&self) -> u64 {
        u64::try_from(self.producer_expiration.as_millis()).unwrap_or(u64::MAX)
    }
}

/// One shard's storage.
pub struct Shard<E: Env> {
    shared: Rc<Shared<E>>,
    registry: Rc<Registry<E>>,
    closing: Rc<Closing>,
    tasks: RefCell<Vec<E::Task<()>>>,
    /// Directories of partitions that are being removed.
    leaving: RefCell<BTreeSet<PathBuf>>,
    left: Event,
    /// The journal lost a group of which nothing is known, and not every partition that should be
    /// here has been asked for since.
    partitions_may_be_missing: Cell<bool>,
}

/// The partitions of a shard.
pub(crate) struct Registry<E: Env> {
    partitions: RefCell<HashMap<PartitionId, Rc<Partition<E>>>>,
    shared: Rc<Shared<E>>,
}

/// Tells the shard's tasks to end.
#[derive(Default)]
pub(crate) struct Closing {
    closed: Cell<bool>,
    event: Event,
}

impl Closing {
    /// Sleeps; false if the shard closes first.
    pub(crate) async fn sleep<E: Env>(&self, env: &E, duration: Duration) -> bool {
        self.wait_for(env.sleep(duration)).await
    }

    /// Waits for something; false if the shard closes first.
    pub(crate) async fn wait_for(&self, wait: impl Future<Output = ()>) -> bool {
        let closed = std::pin::pin!(self.event.wait_until(|| self.closed.get()));
        futures_util::future::select(std::pin::pin!(wait), closed).await;
        !self.closed.get()
    }

    fn close(&self) {
        self.closed.set(true);
        self.event.notify();
    }
}

impl<E: Env> Registry<E> {
    pub(crate) fn get(&self, id: PartitionId) -> Option<Rc<Partition<E>>> {
        self.partitions.borrow().get(&id).cloned()
    }

    pub(crate) fn shared(&self) -> &Shared<E> {
        &self.shared
    }

    pub(crate) fn ids(&self) -> Vec<PartitionId> {
        let mut ids: Vec<_> = self.partitions.borrow().keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    fn insert(&self, partition: Rc<Partition<E>>) {
        self.partitions
            .borrow_mut()
            .insert(partition.id(), partition);
    }

    fn remove(&self, id: PartitionId) -> Option<Rc<Partition<E>>> {
        self.partitions.borrow_mut().remove(&id)
    }
}

impl<E: Env> JournalOwner for Registry<E> {
    fn checkpoint(&self) -> Checkpoint {
        let partitions = self.partitions.borrow();
        let mut partitions: Vec<_> = partitions
            .values()
            .map(|partition| partition.checkpoint())
            .collect();
        partitions.sort_unstable_by_key(|state| state.partition);
        Checkpoint {
            partitions,
            oldest_needed: self.shared.oldest_needed(),
        }
    }

    fn producers(&self, put: &mut dyn FnMut(PartitionId, &[u8])) {
        let partitions = self.partitions.borrow();
        let mut remembering: Vec<_> = partitions
            .values()
            .filter(|partition| partition.producers() > 0)
            .collect();
        remembering.sort_unstable_by_key(|partition| partition.id());
        for partition in remembering {
            partition.snapshot_producers(&mut |piece| put(partition.id(), piece));
        }
    }
}

impl<E: Env> Shard<E> {
    /// Recovers the journal and starts the shard's tasks. Partitions come back nameless: each is
    /// attached by [`Shard::create_partition`] with its identity, or removed.
    pub async fn open(env: E, config: ShardConfig) -> Result<Rc<Shard<E>>, StorageError> {
        let shared = Shared::new(env.clone(), config, Rc::new(Metrics::new()));
        let config = &shared.config;
        env.create_directory(&config.journal.directory)
            .await
            .map_err(StorageError::io("create", &config.journal.directory))?;
        let mut recovery = journal::recover(&env, &config.journal).await?;
        let recovered = recovery::rebuild(config.shard, &mut recovery, env.wall_clock_ms());
        let registry = Rc::new(Registry {
            partitions: RefCell::default(),
            shared: Rc::clone(&shared),
        });
        for (id, start) in recovered.partitions {
            registry.insert(Partition::new(
                Rc::clone(&shared),
                id,
                PartitionSettings::UNKNOWN,
                start,
            ));
        }
        let directory = &config.journal.directory;
        let mut may_be_missing = missing::is_noted(&env, directory).await?;
        if recovered.partitions_may_be_missing && !may_be_missing {
            missing::note(&env, directory).await?;
            may_be_missing = true;
        }
        let owner = Rc::clone(&registry);
        let journal_metrics = Rc::new(JournalMetrics::default());
        let journal = recovery.start(env.clone(), owner, journal_metrics).await?;
        shared.connect(Rc::clone(&journal));
        let shard = Rc::new(Shard {
            shared,
            registry,
            closing: Rc::default(),
            tasks: RefCell::default(),
            leaving: RefCell::default(),
            left: Event::new(),
            partitions_may_be_missing: Cell::new(may_be_missing),
        });
        shard.start_tasks();
        Ok(shard)
    }

    fn start_tasks(&self) {
        let (env, shared) = (&self.shared.env, &self.shared);
        let journal = shared
            .journal()
            .expect("the journal was connected just now");
        let mut tasks = Vec::new();
        let mut start = |queue, name, task: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
            tasks.push(env.spawn(queue, name, OnPanic::StopProcess, task));
        };
        start(
            Queue::Requests,
            "durable",
            Box::pin(drive(Rc::clone(shared), Rc::clone(&journal))),
        );
        for _ in 0..FLUSH_WRITERS {
            start(
                Queue::Background,
                "segments",
                Box::pin(write_segments(Rc::clone(shared))),
            );
        }
        let (registry, closing) = (&self.registry, &self.closing);
        start(
            Queue::Background,
            "pressure",
            Box::pin(housekeeping::relieve_pressure(
                Rc::clone(shared),
                Rc::clone(registry),
            )),
        );
        start(
            Queue::Background,
            "journal files",
            Box::pin(housekeeping::free_journal(
                Rc::clone(registry),
                journal,
                Rc::clone(closing),
            )),
        );
        start(
            Queue::Background,
            "disk space",
            Box::pin(housekeeping::watch_space(
                Rc::clone(shared),
                Rc::clone(closing),
            )),
        );
        start(
            Queue::Background,
            "retention",
            Box::pin(housekeeping::keep_house(
                Rc::clone(shared),
                Rc::clone(registry),
                Rc::clone(closing),
            )),
        );
        // One shard tidies up for all.
        if shared.config.shard == ShardId(0) {
            start(
                Queue::Background,
                "trash",
                Box::pin(housekeeping::empty_trash(env.clone(), self.trash())),
            );
        }
        self.tasks.borrow_mut().extend(tasks);
    }

    /// The shard's counters and histograms.
    #[must_use]
    pub fn metrics(&self) -> &Rc<Metrics> {
        &self.shared.metrics
    }

    /// Everything that is counted and timed on this shard, as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let shared = &self.shared;
        let mut snapshot = shared.metrics.snapshot();
        snapshot.counters.extend([
            ("partitions", self.registry.partitions.borrow().len() as u64),
            ("cached_bytes", shared.cache.used()),
            ("unwritten_bytes", shared.unwritten()),
            ("producers", shared.producers() as u64),
            ("open_segment_files", shared.files.open_files() as u64),
            ("disk_space_low", u64::from(shared.low_space().is_some())),
            ("panics", shared.env.panics()),
        ]);
        snapshot.add_segments(&shared.files.counters);
        if let Some(journal) = shared.connected() {
            snapshot.add_journal(journal.metrics());
        }
        snapshot
    }

    /// The environment it runs in.
    #[must_use]
    pub fn env(&self) -> &E {
        &self.shared.env
    }

    /// Which shard it is.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.shared.config.shard
    }

    /// Every partition it hosts, attached or not, in order.
    #[must_use]
    pub fn hosted(&self) -> Vec<PartitionId> {
        self.registry.ids()
    }

    /// A partition, if it is here and attached.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<Rc<Partition<E>>> {
        self.registry
            .get(id)
            .filter(|partition| partition.topic().is_some())
    }

    /// Bytes of batches in memory.
    #[must_use]
    pub fn cached_bytes(&self) -> u64 {
        self.shared.cache.used()
    }

    /// Bytes of batches that are not in segments yet.
    #[must_use]
    pub fn unwritten_bytes(&self) -> u64 {
        self.shared.unwritten()
    }

    /// Hosts a partition: makes it, or attaches its topic's name and its settings to one that was
    /// recovered. Doing so again changes nothing but the settings. Durable when this completes.
    pub async fn create_partition(
        &self,
        id: PartitionId,
        topic: &TopicName,
        settings: PartitionSettings,
    ) -> Result<Rc<Partition<E>>, StorageError> {
        let directory = self.directory(id, topic);
        if let Some(partition) = self.attach(id, topic, &directory, settings) {
            return Ok(partition);
        }
        self.left
            .wait_until(|| !self.leaving.borrow().contains(&directory))
            .await;
        if self.partitions_may_be_missing.get() {
            self.set_aside(id, &directory).await?;
        } else {
            self.move_to_trash(id, &directory).await?;
        }
        // Somebody else may have made it in the meantime.
        if let Some(partition) = self.attach(id, topic, &directory, settings) {
            return Ok(partition);
        }
        let mut start = StartState::empty();
        if self.partitions_may_be_missing.get() {
            // It may have been here, with records, in what the journal lost. Nothing tells a new
            // partition from such a one, so an operator has to.
            tracing::error!(partition = %id, "the journal lost a group that may have held this partition: it needs a repair");
            start.damaged = Some(start.log_start);
            start.claimed = start.log_start.advance(PASSED_OVER);
        }
        let partition = Partition::new(Rc::clone(&self.shared), id, settings, start);
        let durable = self
            .shared
            .note(Entry::PartitionCreated(partition.checkpoint()))?;
        self.registry.insert(Rc::clone(&partition));
        partition.attach(topic, directory);
        durable.await.map_err(|_| StorageError::ShuttingDown)?;
        Ok(partition)
    }

    /// Every partition that should be here after a start has been asked for by
    /// [`Shard::create_partition`]: from now on one that is not here is a new one, whatever the
    /// journal may have lost.
    pub async fn all_asked_for(&self) -> Result<(), StorageError> {
        if self.partitions_may_be_missing.get() {
            missing::forget(&self.shared.env, &self.shared.config.journal.directory).await?;
            self.partitions_may_be_missing.set(false);
        }
        Ok(())
    }

    /// Whether one that is asked for and is not here may have been, before the journal was damaged.
    #[must_use]
    pub fn partitions_may_be_missing(&self) -> bool {
        self.partitions_may_be_missing.get()
    }

    fn attach(
        &self,
        id: PartitionId,
        topic: &TopicName,
        directory: &Path,
        settings: PartitionSettings,
    ) -> Option<Rc<Partition<E>>> {
        let partition = self.registry.get(id)?;
        partition.set_settings(settings);
        partition.attach(topic, directory.to_owned());
        Some(partition)
    }

    /// Changes how a partition is kept.
    pub fn update_settings(
        &self,
        id: PartitionId,
        settings: PartitionSettings,
    ) -> Result<(), StorageError> {
        let partition = self
            .registry
            .get(id)
            .ok_or(StorageError::UnknownPartition(id))?;
        partition.set_settings(settings);
        Ok(())
    }

    /// Removes a partition for good; whoever waits on it is told. Durable when this completes; the
    /// files are unlinked in the background. Nothing happens if it is not here.
    pub async fn remove_partition(&self, id: PartitionId) -> Result<(), StorageError> {
        let Some(partition) = self.registry.get(id) else {
            return Ok(());
        };
        // From here to the first await: no append may follow the entry, no checkpoint may lack it.
        let durable = self
            .shared
            .note(Entry::PartitionRemoved { partition: id })?;
        self.registry.remove(id);
        partition.mark_removed();
        let directory = partition.topic().map(|topic| self.directory(id, topic));
        if let Some(directory) = &directory {
            self.leaving.borrow_mut().insert(directory.clone());
        }
        let removed = self
            .finish_removal(&partition, durable, directory.as_deref())
            .await;
        if let Some(directory) = &directory {
            self.leaving.borrow_mut().remove(directory);
            self.left.notify();
        }
        removed
    }

    async fn finish_removal(
        &self,
        partition: &Partition<E>,
        durable: crate::local::OneshotReceiver<()>,
        directory: Option<&Path>,
    ) -> Result<(), StorageError> {
        durable.await.map_err(|_| StorageError::ShuttingDown)?;
        partition.until_quiet().await;
        self.shared.files.forget_partition(partition.id());
        match directory {
            Some(directory) => self.move_to_trash(partition.id(), directory).await,
            None => Ok(()),
        }
    }

    /// The directory that holds everything stored.
    #[must_use]
    pub fn data_directory(&self) -> &Path {
        &self.shared.config.data_directory
    }

    /// Renames a directory out of the way, if it is there, and unlinks it in the background.
    async fn move_to_trash(&self, id: PartitionId, directory: &Path) -> Result<(), StorageError> {
        let (env, trash) = (&self.shared.env, self.trash());
        if self.move_away(id, directory, &trash).await?.is_some() {
            let task = housekeeping::empty_trash(env.clone(), trash);
            drop(env.spawn(Queue::Background, "unlink", OnPanic::EndTask, task));
        }
        Ok(())
    }

    /// Renames a directory out of the way, if it is there, and keeps it.
    async fn set_aside(&self, id: PartitionId, directory: &Path) -> Result<(), StorageError> {
        let to = self.shared.config.data_directory.join(SET_ASIDE_DIRECTORY);
        if let Some(place) = self.move_away(id, directory, &to).await? {
            tracing::error!(
                partition = %id, kept_in = %place.display(),
                "the journal lost what it knew of this partition: its files are kept for who wants to look, and can be removed"
            );
        }
        Ok(())
    }

    /// Renames a directory, if it is there, into another; gives its new path.
    async fn move_away(
        &self,
        id: PartitionId,
        directory: &Path,
        to: &Path,
    ) -> Result<Option<PathBuf>, StorageError> {
        let env = &self.shared.env;
        match env.list_directory(directory).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(StorageError::io("list", directory))?,
        };
        env.create_directory(to)
            .await
            .map_err(StorageError::io("create", to))?;
        let place = to.join(format!(
            "{:032x}-{}-{:016x}",
            id.topic.0,
            id.partition,
            env.random_u64()
        ));
        env.rename(directory, &place)
            .await
            .map_err(StorageError::io("rename", directory))?;
        for changed in [Some(to), directory.parent()].into_iter().flatten() {
            env.sync_directory(changed)
                .await
                .map_err(StorageError::io("sync", changed))?;
        }
        Ok(Some(place))
    }

    fn trash(&self) -> PathBuf {
        self.shared.config.data_directory.join(TRASH_DIRECTORY)
    }

    fn directory(&self, id: PartitionId, topic: &TopicName) -> PathBuf {
        self.shared
            .config
            .data_directory
            .join(topic.as_str())
            .join(id.partition.to_string())
    }

    /// Ends in order: what was handed to the journal becomes durable and is answered, nothing new
    /// is taken. Segments need not be written: the next start finds the rest in the journal.
    pub async fn shutdown(&self) {
        self.shared.close();
        if let Some(journal) = self.shared.connected() {
            journal.close().await;
        }
        self.closing.close();
        self.shared.flush.close();
        self.shared.disconnect();
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        for task in tasks {
            task.await;
        }
    }
}

impl<E: Env> Drop for Shard<E> {
    fn drop(&mut self) {
        // Partitions hold the journal, the journal its owner, the owner the partitions: let go.
        self.closing.close();
        self.shared.flush.close();
        self.shared.disconnect();
    }
}
