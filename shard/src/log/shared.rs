//! What all partitions of a shard share: the journal, the memory budgets, the state of the disk,
//! and which partitions still need the journal.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use millrace_wire::ids::PartitionId;

use super::cache::CacheBudget;
use super::flush::FlushQueue;
use super::partition::Partition;
use super::settled::Settled;
use crate::env::{Env, Instant};
use crate::error::StorageError;
use crate::journal::{Entry, Journal, Sequence};
use crate::local::{Event, OneshotReceiver, OneshotSender, oneshot};
use crate::metrics::{Counter, Metrics, Stage};
use crate::segment::{DurableWrites, FileCache};
use crate::shard::ShardConfig;

/// What the journal gives back when an entry is durable.
pub(crate) enum Token<E: Env> {
    /// A partition has batches in the group: its watermarks move.
    Appended(Rc<Partition<E>>),
    /// Anything else that somebody waits for.
    Control(OneshotSender<()>),
}

/// A shard's journal.
pub(crate) type ShardJournal<E> = Journal<E, Token<E>>;

/// Whether an append may use the disk space that is kept in reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// It may not: what users produce.
    Keep,
    /// It may: what lets them make room, such as the record that a topic is deleted.
    Use,
}

/// Why producing is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LowSpace {
    pub(crate) available: u64,
    pub(crate) reserve: u64,
}

/// One shard's common state. Partitions hold it; it holds no partition except through the journal,
/// which [`Shared::disconnect`] lets go of, so that nothing lives on in a circle.
pub(crate) struct Shared<E: Env> {
    pub(crate) env: E,
    pub(crate) config: ShardConfig,
    pub(crate) metrics: Rc<Metrics>,
    pub(crate) cache: CacheBudget,
    pub(crate) files: Rc<FileCache<E>>,
    pub(crate) flush: FlushQueue<E>,
    journal: RefCell<Option<Rc<ShardJournal<E>>>>,
    /// Cost of the batches that are not in segments yet.
    unwritten: Cell<u64>,
    /// Idempotent producers that the partitions remember together.
    producers: Cell<usize>,
    /// The most that somebody waits to append.
    wanted: Cell<u64>,
    /// Notified when `unwritten` shrinks, space comes back or the shard closes.
    room: Event,
    low_space: Cell<Option<LowSpace>>,
    /// Bytes that may be appended until free space is looked at again: this shard's part of what
    /// was above the reserve then. Without it a fast producer would be through the reserve between
    /// two looks.
    headroom: Cell<u64>,
    closed: Cell<bool>,
    /// How far appends are durable and visible.
    pub(crate) settled: Rc<Settled>,
    /// When each append that is not settled got its place, in order, with its group.
    placed: RefCell<VecDeque<(Sequence, Instant)>>,
    /// The first journal group that each partition still needs.
    needed: RefCell<BTreeSet<(Sequence, PartitionId)>>,
}

impl<E: Env> Shared<E> {
    pub(crate) fn new(env: E, config: ShardConfig, metrics: Rc<Metrics>) -> Rc<Shared<E>> {
        Rc::new(Shared {
            cache: CacheBudget::new(config.cache_bytes),
            files: FileCache::new(env.clone(), config.open_files_max),
            flush: FlushQueue::new(),
            env,
            config,
            metrics,
            journal: RefCell::default(),
            unwritten: Cell::new(0),
            producers: Cell::new(0),
            wanted: Cell::new(0),
            room: Event::new(),
            low_space: Cell::new(None),
            headroom: Cell::new(u64::MAX),
            closed: Cell::new(false),
            settled: Rc::new(Settled::new()),
            placed: RefCell::default(),
            needed: RefCell::default(),
        })
    }

    pub(crate) fn connect(&self, journal: Rc<ShardJournal<E>>) {
        let writes: Rc<dyn DurableWrites> = Rc::<ShardJournal<E>>::clone(&journal);
        self.files.set_durable_writes(Some(writes));
        *self.journal.borrow_mut() = Some(journal);
    }

    /// Takes nothing more; whoever waits for room is told. Segments are still written, since the
    /// journal may need files to write what it was given.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.room.notify();
    }

    /// Lets go of the journal.
    pub(crate) fn disconnect(&self) -> Option<Rc<ShardJournal<E>>> {
        self.close();
        self.files.set_durable_writes(None);
        self.journal.borrow_mut().take()
    }

    pub(crate) fn journal(&self) -> Result<Rc<ShardJournal<E>>, StorageError> {
        let journal = self.journal.borrow();
        let journal = journal.as_ref().filter(|_| !self.closed.get());
        journal.cloned().ok_or(StorageError::ShuttingDown)
    }

    /// The journal, whether or not the shard is closing.
    pub(crate) fn connected(&self) -> Option<Rc<ShardJournal<E>>> {
        self.journal.borrow().clone()
    }

    /// The oldest needed group has moved: the journal may have a file to let go.
    pub(crate) fn note_safe(&self) {
        if let Some(journal) = self.journal.borrow().as_ref() {
            journal.note_safe();
        }
    }

    /// Puts an entry other than a batch into the journal; the receiver completes when it is durable.
    pub(crate) fn note(&self, entry: Entry<'_>) -> Result<OneshotReceiver<()>, StorageError> {
        let (done, durable) = oneshot();
        let journal = self.journal()?;
        journal
            .append(entry, Token::Control(done))
            .map_err(|_| StorageError::ShuttingDown)?;
        Ok(durable)
    }

    /// A batch got its place in a group of the journal.
    pub(crate) fn note_placed(&self, group: Sequence, at: Instant) {
        self.placed.borrow_mut().push_back((group, at));
    }

    /// A group is durable: watermarks move first, then whoever waits is told.
    fn settle(&self, group: Sequence, tokens: Vec<Token<E>>) {
        for token in tokens {
            match token {
                Token::Appended(partition) => partition.became_durable(group),
                Token::Control(done) => {
                    // Nobody has to wait for it.
                    let _ = done.send(());
                }
            }
        }
        let now = self.env.now();
        let mut placed = self.placed.borrow_mut();
        while placed.front().is_some_and(|(of, _)| *of <= group) {
            let (_, at) = placed.pop_front().expect("it was looked at just now");
            self.metrics.record(Stage::Append, now.since(at));
        }
        drop(placed);
        self.settled.advance(group);
    }

    /// Moves the first journal group that a partition needs. `held` is the partition's own note of
    /// what stands here.
    pub(crate) fn set_needed(
        &self,
        id: PartitionId,
        held: &Cell<Option<Sequence>>,
        now: Option<Sequence>,
    ) {
        let before = held.replace(now);
        if before == now {
            return;
        }
        let mut needed = self.needed.borrow_mut();
        if let Some(before) = before {
            needed.remove(&(before, id));
        }
        if let Some(now) = now {
            needed.insert((now, id));
        }
    }

    /// The oldest journal group that any partition needs.
    pub(crate) fn oldest_needed(&self) -> Option<Sequence> {
        self.needed.borrow().first().map(|(sequence, _)| *sequence)
    }

    /// Partitions that need a journal group below `sequence`, the neediest first.
    pub(crate) fn needing_below(&self, sequence: Sequence) -> Vec<PartitionId> {
        let needed = self.needed.borrow();
        needed
            .iter()
            .take_while(|(first, _)| *first < sequence)
            .map(|(_, id)| *id)
            .collect()
    }

    /// Every partition that has something in the journal only.
    pub(crate) fn needing(&self) -> Vec<PartitionId> {
        self.needed.borrow().iter().map(|(_, id)| *id).collect()
    }

    pub(crate) fn unwritten(&self) -> u64 {
        self.unwritten.get()
    }

    pub(crate) fn producers(&self) -> usize {
        self.producers.get()
    }

    /// A partition remembers `now` idempotent producers, and `before` until now.
    pub(crate) fn count_producers(&self, before: usize, now: usize) {
        let others = self.producers.get().checked_sub(before);
        self.producers
            .set(others.expect("what a partition remembers was counted") + now);
    }

    pub(crate) fn grow_unwritten(&self, cost: u64) {
        self.unwritten.set(self.unwritten.get() + cost);
    }

    pub(crate) fn shrink_unwritten(&self, cost: u64) {
        if cost > 0 {
            self.unwritten.set(
                self.unwritten
                    .get()
                    .checked_sub(cost)
                    .expect("what is written was unwritten"),
            );
            // Whoever still waits says so again.
            self.wanted.set(0);
            self.room.notify();
        }
    }

    /// Whether more should be written to segments than what is due by itself.
    pub(crate) fn is_under_pressure(&self) -> bool {
        self.wanted.get() > 0 || self.unwritten.get() > self.config.unwritten_bytes / 4 * 3
    }

    /// How far `unwritten` should shrink under pressure: to half, and so that who waits has room.
    pub(crate) fn relief_target(&self) -> u64 {
        let limit = self.config.unwritten_bytes;
        limit.saturating_sub(self.wanted.get()).min(limit / 2)
    }

    pub(crate) fn low_space(&self) -> Option<LowSpace> {
        self.low_space.get()
    }

    pub(crate) fn set_low_space(&self, low: Option<LowSpace>) {
        self.low_space.set(low);
        self.room.notify();
    }

    /// Free space was looked at: `bytes` of it are above the reserve, for all shards together.
    pub(crate) fn set_headroom(&self, bytes: u64) {
        let shards = u64::from(self.config.shard_count.max(1));
        self.headroom.set(bytes / shards);
    }

    /// A batch takes its place on the disk.
    pub(crate) fn use_headroom(&self, bytes: u64) {
        self.headroom.set(self.headroom.get().saturating_sub(bytes));
    }

    /// Whether a batch of `bytes` would be refused for lack of disk space.
    pub(crate) fn check_space(&self, bytes: usize, rule: Reserve) -> Result<(), StorageError> {
        if rule == Reserve::Use {
            return Ok(());
        }
        let reserve = self.config.disk_reserve_bytes;
        match self.low_space.get() {
            Some(LowSpace { available, reserve }) => {
                Err(StorageError::DiskReserve { available, reserve })
            }
            None if bytes as u64 > self.headroom.get() => Err(StorageError::DiskReserve {
                available: reserve.saturating_add(self.headroom.get()),
                reserve,
            }),
            None => Ok(()),
        }
    }

    /// Waits until a batch of `bytes` may be appended: there is room among the batches that are not
    /// in segments yet, and in the journal. Reserves nothing; append right afterwards, without
    /// waiting in between. A batch larger than the whole budget goes when nothing else is there.
    pub(crate) async fn append_room(
        &self,
        bytes: usize,
        rule: Reserve,
    ) -> Result<(), StorageError> {
        let limit = self.config.unwritten_bytes;
        let mut delayed = false;
        loop {
            let listener = self.room.listen();
            let journal = self.journal()?;
            self.check_space(bytes, rule)?;
            let unwritten = self.unwritten.get();
            if unwritten == 0 || unwritten + bytes as u64 <= limit {
                journal.room(bytes).await;
                // Waiting for the journal may have let others in.
                let unwritten = self.unwritten.get();
                if unwritten == 0 || unwritten + bytes as u64 <= limit {
                    return self.check_space(bytes, rule);
                }
                continue;
            }
            if !std::mem::replace(&mut delayed, true) {
                self.metrics.add(Counter::AppendsDelayed, 1);
            }
            self.wanted.set(self.wanted.get().max(bytes as u64));
            self.flush.pressure();
            listener.await;
        }
    }
}

/// Takes what has become durable from the journal, in order, until the journal has closed.
pub(crate) async fn drive<E: Env>(shared: Rc<Shared<E>>, journal: Rc<ShardJournal<E>>) {
    while let Some((group, tokens)) = journal.next_durable().await {
        shared.settle(group, tokens);
    }
    shared.settled.end();
}
