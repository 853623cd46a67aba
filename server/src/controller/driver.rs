//! Runs the controller's state machine on shard 0: one command at a time is decided, written to the
//! internal partition, applied once that is durable, and told to every shard; the answer goes out
//! when all of them have acted on it.
//!
//! A crash between any two steps is harmless. Before the record is durable nothing has happened;
//! afterwards the next start replays it and every shard makes up what it had not done.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use millrace_shard::env::Env;
use millrace_shard::error::StorageError;
use millrace_shard::local::Semaphore;
use millrace_shard::log::{Partition, PartitionSettings, PartitionStatus};
use millrace_wire::batch::{BatchBuilder, Compression, DEFAULT_MAX_UNCOMPRESSED_BYTES, Records};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{Offset, ShardId, TopicId, TopicName};

use super::record::{Record, RecordError, Replay, snapshot};
use super::state::{Command, Outcome, Rules, State};
use super::{CONTROLLER_PARTITION, CONTROLLER_TOPIC, orphans};
use crate::broker::Broker;
use crate::broker::calls::Call;

/// After so many records the whole state is written down anew and what is before it is removed.
const RECORDS_BEFORE_SNAPSHOT: u32 = 1000;

/// How much of the log is read at once when it is replayed.
const REPLAY_READ_BYTES: usize = 1024 * 1024;

/// The controller's own partition: nothing is removed by age or size.
const SETTINGS: PartitionSettings = PartitionSettings {
    retention_ms: None,
    retention_bytes: None,
    segment_bytes: 16 * 1024 * 1024,
    segment_ms: 7 * 24 * 60 * 60 * 1000,
};

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// Storage failed.
    #[error("the list of topics cannot be read: {0}")]
    Storage(#[from] StorageError),
    /// Its log holds what it cannot use.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Its log holds a batch that does not parse, though its checksum was right.
    #[error("the controller's log has a batch that does not parse: {0}")]
    Batch(#[from] millrace_wire::batch::BatchError),
    /// Its log lost acknowledged records.
    #[error(
        "the controller's log is damaged from offset {0} on, so which topics exist is not known; restore the data directory from a copy"
    )]
    Damaged(Offset),
    /// What deleted topics left behind cannot be moved away.
    #[error("the folders of deleted topics cannot be removed from the data directory: {0}")]
    Orphans(std::io::Error),
    /// A shard could not do its part.
    #[error("shard {shard} cannot host its partitions: {error}")]
    Shard {
        /// Which shard.
        shard: ShardId,
        /// What it said.
        error: WireError,
    },
}

/// The controller.
pub struct Controller<E: Env> {
    env: E,
    /// Which holds this.
    broker: Weak<Broker<E>>,
    partition: Rc<Partition<E>>,
    state: RefCell<State>,
    rules: Rules,
    turn: Semaphore,
    records_since_snapshot: Cell<u32>,
}

impl<E: Env> Controller<E> {
    /// Reads the controller's log on shard 0, and has every shard host what it should.
    pub async fn start(
        broker: &Rc<Broker<E>>,
        rules: Rules,
        data_directory: &Path,
    ) -> Result<Rc<Controller<E>>, ControllerError> {
        let name: TopicName = CONTROLLER_TOPIC
            .parse()
            .expect("the name follows the rules");
        let partition = broker
            .storage()
            .create_partition(CONTROLLER_PARTITION, &name, SETTINGS)
            .await?;
        if let PartitionStatus::Damaged { from } = partition.status() {
            return Err(ControllerError::Damaged(from));
        }
        let (state, records) = replay(&partition).await?;
        let controller = Rc::new(Controller {
            env: broker.env.clone(),
            broker: Rc::downgrade(broker),
            partition,
            state: RefCell::new(state),
            rules,
            turn: Semaphore::new(1),
            records_since_snapshot: Cell::new(records),
        });
        controller.converge(data_directory).await?;
        broker.set_controller(Rc::clone(&controller));
        Ok(controller)
    }

    /// Every shard removes what no topic has; when all have, every shard makes what is missing.
    async fn converge(&self, data_directory: &Path) -> Result<(), ControllerError> {
        let state = Arc::new(self.state.borrow().clone());
        self.everywhere(|| Call::RemoveStale(Arc::clone(&state)))
            .await?;
        orphans::remove(&self.env, data_directory, &state)
            .await
            .map_err(ControllerError::Orphans)?;
        self.everywhere(|| Call::Install(Arc::clone(&state))).await
    }

    async fn everywhere(&self, make: impl Fn() -> Call) -> Result<(), ControllerError> {
        for (shard, outcome) in self.tell(make).await? {
            outcome.map_err(|error| ControllerError::Shard { shard, error })?;
        }
        Ok(())
    }

    /// Asks every shard, and gives what each said. The broker holds the controller, so that without one
    /// the node is on its way out.
    async fn tell(
        &self,
        make: impl Fn() -> Call,
    ) -> Result<Vec<(ShardId, Result<(), WireError>)>, StorageError> {
        let broker = self.broker.upgrade().ok_or(StorageError::ShuttingDown)?;
        Ok(broker.everywhere(make).await)
    }

    /// How many topics and partitions there are.
    #[must_use]
    pub fn totals(&self) -> (usize, u64) {
        let state = self.state.borrow();
        let partitions = state
            .topics()
            .map(|topic| u64::from(topic.partitions))
            .sum();
        (state.topics().count(), partitions)
    }

    /// Carries out a command, after those that came before it.
    pub async fn submit(&self, command: Command) -> Result<Outcome, WireError> {
        let _turn = self.turn.acquire(1).await;
        let new_id = self.new_topic_id();
        let decision = self.state.borrow().decide(&command, &self.rules, new_id)?;
        let Some(change) = decision.change else {
            return Ok(decision.outcome);
        };
        let revision = self.state.borrow().revision() + 1;
        self.append(&[Record::Change {
            revision,
            change: change.clone(),
        }])
        .await?;
        self.state.borrow_mut().apply(&change);
        let changed = || Call::Changed {
            revision,
            change: change.clone(),
        };
        let told = self.tell(changed).await;
        let told = told.map_err(|error| error.to_wire())?;
        self.snapshot_if_due().await;
        for (shard, outcome) in told {
            outcome.map_err(|error| not_everywhere(shard, &error))?;
        }
        Ok(decision.outcome)
    }

    /// A new identity. That two are the same is not to be feared; that one is the controller's own
    /// is ruled out.
    fn new_topic_id(&self) -> TopicId {
        loop {
            let high = u128::from(self.env.random_u64()) << 64;
            let id = TopicId(high | u128::from(self.env.random_u64()));
            if id != CONTROLLER_PARTITION.topic {
                return id;
            }
        }
    }

    /// Appends records as one batch and waits until it is durable.
    async fn append(&self, records: &[Record]) -> Result<(), WireError> {
        let now = self.env.wall_clock_ms();
        let mut builder = BatchBuilder::new(Compression::None);
        for record in records {
            let value = record.encode();
            builder
                .push(now, None, Some(&value), &[])
                .map_err(internal)?;
        }
        let batch = builder.build().map_err(internal)?;
        let count = u32::try_from(records.len()).map_err(internal)?;
        // Deleting a topic must work on a full disk: it is how space is made. And a producer that
        // cannot produce is to hear of the disk, not of ids.
        let appended = self
            .partition
            .append_from_reserve(batch, count, now)
            .await
            .map_err(|e| e.to_wire())?;
        appended
            .durable
            .wait()
            .await
            .map_err(|error| error.to_wire())?;
        self.records_since_snapshot
            .set(self.records_since_snapshot.get() + count);
        Ok(())
    }

    /// Writes the whole state down when enough has changed, and lets go of what is before. A failure
    /// only puts it off.
    async fn snapshot_if_due(&self) {
        if self.records_since_snapshot.get() < RECORDS_BEFORE_SNAPSHOT {
            return;
        }
        let parts = snapshot(&self.state.borrow());
        let begin = self.partition.watermarks().appended;
        for part in parts {
            if let Err(error) = self.append(&[part]).await {
                tracing::warn!(%error, "the controller's state could not be written down anew");
                return;
            }
        }
        self.records_since_snapshot.set(0);
        if let Err(error) = self.partition.delete_records(begin).await {
            tracing::warn!(%error, "the controller's old records could not be removed");
        }
    }
}

/// Reads the whole log; the state, and how many records led to it.
async fn replay<E: Env>(partition: &Rc<Partition<E>>) -> Result<(State, u32), ControllerError> {
    let mut replay = Replay::default();
    let mut records = 0;
    let mut next = partition.watermarks().log_start;
    let end = partition.watermarks().visible;
    while next < end {
        let read = partition.read(next, REPLAY_READ_BYTES, true).await?;
        for batch in read.batches {
            for record in Records::decode(&batch, DEFAULT_MAX_UNCOMPRESSED_BYTES)? {
                let record = record?;
                if record.offset >= next {
                    replay.push(Record::decode(record.value.as_deref().unwrap_or_default())?)?;
                    records += 1;
                    next = Offset(record.offset.0 + 1);
                }
            }
        }
    }
    Ok((replay.finish(), records))
}

fn internal(error: impl std::fmt::Display) -> WireError {
    WireError::new(
        ErrorCode::Unknown,
        format!("the controller cannot write its record: {error}"),
    )
}

fn not_everywhere(shard: ShardId, error: &WireError) -> WireError {
    WireError::new(
        error.code,
        format!(
            "the change is made and will stay, but shard {shard} has yet to act on it: {}",
            error.message
        ),
    )
}
