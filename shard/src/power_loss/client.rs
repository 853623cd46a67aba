//! Clients of the storage: they append, read, search, delete, make and remove partitions, and hold
//! every answer against the model.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use millrace_wire::batch::{BatchBuilder, Compression, set_base_offset, set_leader_epoch};
use millrace_wire::ids::{Offset, PartitionId, PartitionIndex, TopicId, TopicName};

use super::draws::Draws;
use super::model::{Life, Model, ModelBatch, ModelPartition, Violation, ensure};
use super::producer::{Became, Sent};
use crate::env::simulated::SimulatedEnv;
use crate::env::{Env, OnPanic, Queue};
use crate::error::StorageError;
use crate::local::Event;
use crate::log::{Appended, OffsetQuery, Partition, PartitionSettings, PartitionStatus};
use crate::shard::Shard;

/// Reads are at most this long.
const READ_BYTES: u64 = 12_000;

/// How long a wait may take before it counts as for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// One life of the node, as its clients see it.
pub struct Broker {
    pub env: SimulatedEnv,
    pub shards: Vec<Rc<Shard<SimulatedEnv>>>,
    pub model: Rc<RefCell<Model>>,
    /// The first broken promise.
    pub violation: Rc<RefCell<Option<Violation>>>,
}

pub fn owner(id: PartitionId, shards: u16) -> u16 {
    ((id.topic.0 ^ u128::from(id.partition.0)) % u128::from(shards)) as u16
}

/// Errors that a fault, a crash in progress or a race with a removal explains.
fn is_expected(error: &StorageError, model: &Model) -> bool {
    match error {
        StorageError::Removed(_)
        | StorageError::ShuttingDown
        | StorageError::UnknownPartition(_) => true,
        StorageError::DiskReserve { .. } => model.full || model.faults,
        _ => model.faults,
    }
}

impl Broker {
    pub fn shard(&self, id: PartitionId) -> &Rc<Shard<SimulatedEnv>> {
        let shards = u16::try_from(self.shards.len()).expect("few shards");
        &self.shards[usize::from(owner(id, shards))]
    }

    pub fn fail(&self, what: Violation) {
        self.violation.borrow_mut().get_or_insert(what);
    }

    fn partition(&self, draws: &Draws) -> Option<(PartitionId, Rc<Partition<SimulatedEnv>>)> {
        let ids: Vec<_> = {
            let model = self.model.borrow();
            model
                .partitions
                .iter()
                .filter(|(_, known)| known.life == Life::Created)
                .map(|(id, _)| *id)
                .collect()
        };
        let id = *draws.pick(&ids)?;
        Some((id, self.shard(id).partition(id)?))
    }

    /// One client: a number of operations, one after the other.
    pub async fn run_client(self: Rc<Self>, draws: Draws, operations: u64) {
        for _ in 0..operations {
            if let Err(violation) = self.operate(&draws).await {
                self.fail(violation);
                return;
            }
        }
    }

    async fn operate(self: &Rc<Self>, draws: &Draws) -> Result<(), Violation> {
        match draws.below(100) {
            0..=54 => self.append(draws).await,
            55..=69 => self.read(draws).await,
            70..=74 => self.find(draws).await,
            75..=78 => self.delete_records(draws).await,
            79..=81 => self.create(draws).await,
            82..=83 => self.remove(draws).await,
            84..=86 => self.watch(draws).await,
            _ => {
                self.env
                    .sleep(Duration::from_micros(draws.between(10, 8_000)))
                    .await;
                Ok(())
            }
        }
    }

    async fn append(self: &Rc<Self>, draws: &Draws) -> Result<(), Violation> {
        let Some((id, partition)) = self.partition(draws) else {
            return Ok(());
        };
        let Sent {
            mut batch,
            timestamps,
        } = self.next_batch(draws, id);
        let room = self
            .patiently("room for an append", partition.append_room(batch.len()))
            .await?;
        let count = u32::try_from(timestamps.len()).expect("few records");
        let newest = timestamps.iter().copied().max().expect("some records");
        let expected = self.expect(id, &batch, timestamps.len());
        let appended = match room {
            Ok(()) => partition.append(batch.clone(), count, newest),
            Err(error) => Err(error),
        };
        let appended = match self.judge(id, &batch, expected, &appended)? {
            Became::Refused => None,
            Became::Again => appended.ok(),
            Became::New => {
                set_leader_epoch(&mut batch, partition.term());
                self.note_append(id, appended, batch, timestamps)?
            }
        };
        let Some(appended) = appended else {
            return Ok(());
        };
        let next = appended.base_offset.advance(count);
        let broker = Rc::clone(self);
        let answer = async move {
            if appended.durable.wait().await.is_ok() {
                let mut model = broker.model.borrow_mut();
                model.count("acknowledged");
                if let Some(known) = model.partitions.get_mut(&id) {
                    known.acknowledged(next);
                }
            }
        };
        if draws.chance(50) {
            self.patiently("an acknowledgement", answer).await
        } else {
            drop(
                self.env
                    .spawn(Queue::Requests, "answer", OnPanic::StopProcess, answer),
            );
            Ok(())
        }
    }

    /// Holds an append's place against the model, and enters the batch there. Nothing if it was
    /// refused for a good reason.
    fn note_append(
        &self,
        id: PartitionId,
        appended: Result<Appended, StorageError>,
        mut batch: BytesMut,
        timestamps: Vec<i64>,
    ) -> Result<Option<Appended>, Violation> {
        let mut model = self.model.borrow_mut();
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) if is_expected(&error, &model) => {
                if matches!(error, StorageError::DiskReserve { .. }) {
                    model.count("refusals for a full disk");
                }
                return Ok(None);
            }
            Err(error) => return Err(format!("an append to {id} was refused: {error}")),
        };
        model.count("appends");
        let base = appended.base_offset;
        set_base_offset(&mut batch, base);
        let next = Offset(base.0 + i64::try_from(timestamps.len()).expect("few records"));
        let known = model
            .partitions
            .get_mut(&id)
            .expect("it was there a moment ago");
        let end = known.batches.last().map_or(Offset::ZERO, |last| last.next);
        let follows = base == end || (base > end && end <= known.log_start_asked);
        ensure!(follows, "an append to {id} got offset {base}, after {end}");
        let bytes = batch.freeze();
        known.batches.push(ModelBatch {
            base,
            next,
            bytes,
            timestamps,
            safe: false,
            is_new: true,
        });
        Ok(Some(appended))
    }

    /// Awaits something that must come to an end.
    pub async fn patiently<T>(
        &self,
        what: &str,
        wait: impl Future<Output = T>,
    ) -> Result<T, Violation> {
        let timeout = std::pin::pin!(self.env.sleep(PATIENCE));
        match futures_util::future::select(std::pin::pin!(wait), timeout).await {
            futures_util::future::Either::Left((done, _)) => Ok(done),
            futures_util::future::Either::Right(_) => {
                self.tell_state();
                Err(format!("{what} did not come within {PATIENCE:?}"))
            }
        }
    }

    /// For a person who looks into one seed.
    fn tell_state(&self) {
        if !super::is_alone() {
            return;
        }
        for shard in &self.shards {
            println!("shard {}: {:?}", shard.id(), shard.snapshot().counters);
            for partition in shard.hosted().iter().filter_map(|id| shard.partition(*id)) {
                let (marks, pinned) = (partition.watermarks(), partition.pinned_bytes());
                println!(
                    "{}: {:?}, {marks:?}, {pinned} bytes pinned",
                    partition.id(),
                    partition.status()
                );
            }
        }
    }

    async fn read(&self, draws: &Draws) -> Result<(), Violation> {
        let Some((id, partition)) = self.partition(draws) else {
            return Ok(());
        };
        let marks = partition.watermarks();
        self.check_marks(id, &partition)?;
        let span = u64::try_from(marks.visible.0 - marks.log_start.0).expect("in order");
        let from = Offset(marks.log_start.0 + i64::try_from(draws.below(span + 1)).expect("small"));
        let max_bytes = usize::try_from(draws.between(1, READ_BYTES)).expect("small");
        let one = draws.chance(80);
        let read = self
            .patiently("a read", partition.read(from, max_bytes, one))
            .await?;
        let mut model = self.model.borrow_mut();
        model.count("reads");
        let faults = model.faults;
        let start_may_be_lost = model.journal_flips > 1;
        let Some(known) = model.partitions.get_mut(&id) else {
            return Ok(());
        };
        match read {
            Ok(read) => {
                let fits = |bytes: usize| bytes <= max_bytes || (one && read.batches.len() == 1);
                ensure!(
                    fits(read.batches.iter().map(|batch| batch.len()).sum()),
                    "{id}: a read is too long"
                );
                let visible = read.watermarks.visible;
                ensure!(
                    !(read.batches.is_empty() && one && from < visible),
                    "{id}: a read from {from} gave nothing below the high watermark {visible}"
                );
                known
                    .check_read(from, &read.batches, visible, false)
                    .map_err(|what| format!("{id}: {what}"))?;
                Ok(())
            }
            Err(StorageError::Corrupt { .. }) if known.segments_flipped || start_may_be_lost => {
                model.count("corruption told");
                Ok(())
            }
            // Retention may have been faster.
            Err(StorageError::OffsetOutOfRange { log_start, .. }) if from < log_start => Ok(()),
            Err(error) if faults || is_expected(&error, &model) => Ok(()),
            Err(error) => Err(format!("{id}: a read from {from} failed: {error}")),
        }
    }

    pub fn check_marks(
        &self,
        id: PartitionId,
        partition: &Partition<SimulatedEnv>,
    ) -> Result<(), Violation> {
        let mut model = self.model.borrow_mut();
        let Some(known) = model.partitions.get_mut(&id) else {
            return Ok(());
        };
        let marks = partition.watermarks();
        known
            .check_marks(marks)
            .map_err(|what| format!("{id}: {what}"))?;
        known
            .check_retention(marks.log_start, self.env.wall_clock_ms())
            .map_err(|what| format!("{id}: {what}"))
    }

    async fn find(&self, draws: &Draws) -> Result<(), Violation> {
        let Some((id, partition)) = self.partition(draws) else {
            return Ok(());
        };
        let before = partition.watermarks();
        let timestamp = self.env.wall_clock_ms() - i64::try_from(draws.below(500)).expect("small");
        let query = if draws.chance(70) {
            OffsetQuery::AtTimestamp(timestamp)
        } else {
            OffsetQuery::MaxTimestamp
        };
        let found = self
            .patiently("a search", partition.find_offset(query))
            .await?;
        let after = partition.watermarks();
        let mut model = self.model.borrow_mut();
        model.count("searches");
        let Some(known) = model.partitions.get(&id) else {
            return Ok(());
        };
        // Where something cannot be read, the answer is the best of the rest.
        if known.segments_flipped || model.faults || model.journal_flips > 1 {
            return Ok(());
        }
        let found = match found {
            Ok(found) => found,
            Err(error) if is_expected(&error, &model) => return Ok(()),
            // Retention was faster.
            Err(StorageError::OffsetOutOfRange { .. }) if after.log_start > before.log_start => {
                return Ok(());
            }
            Err(error) => return Err(format!("{id}: {query:?} failed: {error}")),
        };
        let Some(found) = found else {
            let missed = known.first_at(timestamp, after.log_start, before.visible);
            let missed = missed
                .filter(|_| query != OffsetQuery::MaxTimestamp || before.visible > after.log_start);
            ensure!(
                missed.is_none(),
                "{id}: {query:?} found nothing, but {missed:?} fits"
            );
            return Ok(());
        };
        let stored = known.timestamp_of(found.offset);
        ensure!(
            stored.is_some() && stored == found.timestamp,
            "{id}: {query:?} found {found:?}, stored is {stored:?}"
        );
        let limit = match query {
            OffsetQuery::AtTimestamp(timestamp) => timestamp,
            _ => found.timestamp.unwrap_or(i64::MIN).saturating_add(1),
        };
        let better = known.first_at(limit, after.log_start, before.visible);
        let better = better
            .filter(|(offset, _)| query == OffsetQuery::MaxTimestamp || *offset < found.offset);
        ensure!(
            better.is_none(),
            "{id}: {query:?} found {found:?}, but {better:?} fits better"
        );
        ensure!(
            found.timestamp >= Some(timestamp) || query == OffsetQuery::MaxTimestamp,
            "{id}: {found:?} is too old"
        );
        Ok(())
    }

    async fn delete_records(&self, draws: &Draws) -> Result<(), Violation> {
        let Some((id, partition)) = self.partition(draws) else {
            return Ok(());
        };
        let marks = partition.watermarks();
        let span = u64::try_from(marks.visible.0 - marks.log_start.0).expect("in order");
        let before =
            Offset(marks.log_start.0 + i64::try_from(draws.below(span + 1)).expect("small"));
        if let Some(known) = self.model.borrow_mut().partitions.get_mut(&id) {
            known.log_start_asked = known.log_start_asked.max(before);
        }
        let deleted = self
            .patiently("a deletion", partition.delete_records(before))
            .await?;
        let mut model = self.model.borrow_mut();
        model.count("deletions");
        match deleted {
            Ok(log_start) => {
                ensure!(
                    log_start >= before,
                    "{id}: {before} was asked for, the log start is {log_start}"
                );
                if let Some(known) = model.partitions.get_mut(&id) {
                    known.log_start_answered = known.log_start_answered.max(before);
                }
                Ok(())
            }
            Err(error) if is_expected(&error, &model) => Ok(()),
            Err(error) => Err(format!("{id}: deleting before {before} failed: {error}")),
        }
    }

    pub async fn create(&self, draws: &Draws) -> Result<(), Violation> {
        // A few names, used again and again by new topics.
        let (number, partition) = (draws.below(3), draws.below(2));
        let name: TopicName = format!("topic-{number}").parse().expect("a good name");
        let id = PartitionId {
            topic: TopicId(u128::from(draws.next()) << 64 | u128::from(number)),
            partition: PartitionIndex(u32::try_from(partition).expect("small")),
        };
        {
            let mut model = self.model.borrow_mut();
            let taken = |known: &ModelPartition, other: &PartitionId| {
                known.name == name && other.partition == id.partition
            };
            if model
                .partitions
                .iter()
                .any(|(other, known)| taken(known, other))
            {
                return Ok(());
            }
            model
                .partitions
                .insert(id, ModelPartition::new(name.clone(), settings(draws)));
        }
        let settings = self.model.borrow().partitions[&id].settings;
        let create = self.shard(id).create_partition(id, &name, settings);
        let created = self.patiently("a creation", create).await?;
        if let Ok(created) = &created
            && self.model.borrow().journal_was_flipped
            && created.status() == (PartitionStatus::Damaged { from: Offset::ZERO })
        {
            // The journal cannot tell whether it lost this one: a fault kept the shard from being
            // told that all have been asked for.
            ensure!(
                self.model.borrow().faults,
                "{id} is new, and needs a repair"
            );
            let mut model = self.model.borrow_mut();
            let known = model.partitions.get_mut(&id);
            known.expect("it is being made").may_be_damaged = true;
            return Ok(());
        }
        let mut model = self.model.borrow_mut();
        model.count("creations");
        match created {
            Ok(created) => {
                let whole = created.status() == PartitionStatus::Serving
                    && created.watermarks().appended == Offset::ZERO;
                ensure!(
                    whole,
                    "{id} was made, and is {:?} {:?}",
                    created.status(),
                    created.watermarks()
                );
                model
                    .partitions
                    .get_mut(&id)
                    .expect("nobody removes what is not there")
                    .life = Life::Created;
                Ok(())
            }
            Err(error) if is_expected(&error, &model) => Ok(()),
            Err(error) => Err(format!("{id} could not be made: {error}")),
        }
    }

    async fn remove(&self, draws: &Draws) -> Result<(), Violation> {
        let Some((id, _)) = self.partition(draws) else {
            return Ok(());
        };
        self.model
            .borrow_mut()
            .partitions
            .get_mut(&id)
            .expect("it was picked")
            .life = Life::Removing;
        let removed = self
            .patiently("a removal", self.shard(id).remove_partition(id))
            .await?;
        let mut model = self.model.borrow_mut();
        model.count("removals");
        match removed {
            Ok(()) => {
                model.partitions.remove(&id);
                Ok(())
            }
            Err(error) if is_expected(&error, &model) => Ok(()),
            Err(error) => Err(format!("{id} could not be removed: {error}")),
        }
    }

    /// Waits at the tail; an append must wake it.
    async fn watch(self: &Rc<Self>, draws: &Draws) -> Result<(), Violation> {
        let Some((id, partition)) = self.partition(draws) else {
            return Ok(());
        };
        if self.model.borrow().faults {
            return Ok(());
        }
        let beyond = partition.watermarks().visible;
        let event = Rc::new(Event::new());
        let listener = event.listen();
        let registration = partition.watch(beyond, &event);
        self.append(draws).await?;
        if partition.watermarks().appended > beyond {
            self.patiently("a wake-up", listener).await?;
            let awake = partition.watermarks().visible > beyond
                || partition.status() != PartitionStatus::Serving;
            ensure!(awake, "{id}: a watch beyond {beyond} was woken too early");
            self.model.borrow_mut().count("wake-ups");
        }
        drop(registration);
        Ok(())
    }
}

fn settings(draws: &Draws) -> PartitionSettings {
    PartitionSettings {
        retention_ms: draws.chance(25).then(|| draws.between(50, 2_000)),
        retention_bytes: draws.chance(25).then(|| draws.between(0, 60_000)),
        segment_bytes: draws.between(9_000, 60_000),
        segment_ms: draws.between(100, 20_000),
    }
}

/// A batch of a few records, and their timestamps.
pub fn make_batch(draws: &Draws, now_ms: i64) -> (BytesMut, Vec<i64>) {
    let compression = if draws.chance(20) {
        Compression::Lz4
    } else {
        Compression::None
    };
    let mut builder = BatchBuilder::new(compression);
    let records = draws.between(1, 4);
    let largest = if draws.chance(5) { 9_000 } else { 700 };
    let mut timestamps = Vec::new();
    for _ in 0..records {
        let len = usize::try_from(draws.between(1, largest)).expect("small");
        let filler = draws.next().to_le_bytes();
        let value: Vec<u8> = filler.iter().copied().cycle().take(len).collect();
        let timestamp = now_ms - i64::try_from(draws.below(40)).expect("small");
        builder
            .push(timestamp, None, Some(&value), &[])
            .expect("a small record");
        timestamps.push(timestamp);
    }
    (builder.build().expect("a small batch"), timestamps)
}
