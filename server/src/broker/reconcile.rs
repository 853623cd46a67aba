//! A shard hosts what the controller says it should: this compares the two and makes up the
//! difference. Every step may be done again, so what fails (a full disk, say) is tried again later,
//! and what a crash cut off is finished at the next start.

use std::rc::Rc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_wire::error::WireError;
use millrace_wire::ids::PartitionId;

use super::{Broker, TopicEntry};
use crate::controller::CONTROLLER_PARTITION;
use crate::controller::state::{Change, State, Topic};

/// How long after a failure the first new attempt comes; each one after it waits twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait between attempts.
const LAST_RETRY: Duration = Duration::from_secs(60);

impl<E: Env> Broker<E> {
    /// At start, first step: removes partitions that belong to no topic. Every shard does this
    /// before any does [`Broker::install`], because a topic that was deleted and made again has the
    /// same folder, maybe on another shard.
    pub(super) async fn remove_stale(&self, state: &State) -> Result<(), WireError> {
        let wanted: HashSet<PartitionId> = state
            .topics()
            .flat_map(Topic::partition_ids)
            .chain([CONTROLLER_PARTITION])
            .collect();
        for id in self.shard.hosted() {
            if !wanted.contains(&id) {
                tracing::info!(partition = %id, "removing a partition whose topic is gone");
                self.shard
                    .remove_partition(id)
                    .await
                    .map_err(|error| error.to_wire())?;
            }
        }
        Ok(())
    }

    /// At start, second step: takes over the controller's state and makes the partitions that are
    /// missing.
    pub(super) async fn install(&self, state: &State) -> Result<(), WireError> {
        self.catalog.borrow_mut().install(state);
        self.host_all().await
    }

    /// Takes over one change, and acts on it.
    pub(super) async fn change(
        self: &Rc<Self>,
        revision: u64,
        change: &Change,
    ) -> Result<(), WireError> {
        let entry = self.catalog.borrow_mut().apply(revision, change);
        let Some(entry) = entry else { return Ok(()) };
        let outcome = match change {
            Change::TopicDeleted { .. } => self.drop_topic(&entry).await,
            _ => self.host_topic(&entry).await,
        };
        if let Err(error) = &outcome {
            tracing::warn!(topic = %entry.topic.name, %error, "a change of a topic is not yet done");
            self.retry_later();
        }
        self.tell_groups(change).await;
        outcome
    }

    /// Removes what should not be here and makes what should.
    async fn reconcile(&self) -> Result<(), WireError> {
        let wanted: HashMap<PartitionId, Rc<TopicEntry>> = self
            .catalog
            .borrow()
            .all()
            .into_iter()
            .flat_map(|entry| {
                entry
                    .topic
                    .partition_ids()
                    .map(move |id| (id, Rc::clone(&entry)))
            })
            .collect();
        for id in self.shard.hosted() {
            if id != CONTROLLER_PARTITION && !wanted.contains_key(&id) {
                self.shard
                    .remove_partition(id)
                    .await
                    .map_err(|error| error.to_wire())?;
            }
        }
        self.host_all().await
    }

    async fn host_all(&self) -> Result<(), WireError> {
        let topics = self.catalog.borrow().all();
        for entry in topics {
            self.host_topic(&entry).await?;
            self.env.yield_now().await;
        }
        self.shard
            .all_asked_for()
            .await
            .map_err(|error| error.to_wire())
    }

    /// Makes the topic's partitions that belong here, and gives all of them its settings.
    async fn host_topic(&self, entry: &TopicEntry) -> Result<(), WireError> {
        let settings = entry.partition_settings();
        for id in entry
            .topic
            .partition_ids()
            .filter(|id| self.owner(*id) == self.shard_id)
        {
            let made = self
                .shard
                .create_partition(id, &entry.topic.name, settings)
                .await;
            made.map_err(|error| error.to_wire())?;
        }
        self.coordinate(entry);
        Ok(())
    }

    async fn drop_topic(&self, entry: &TopicEntry) -> Result<(), WireError> {
        for id in entry
            .topic
            .partition_ids()
            .filter(|id| self.owner(*id) == self.shard_id)
        {
            if self.shard.partition(id).is_some() {
                self.shard
                    .remove_partition(id)
                    .await
                    .map_err(|error| error.to_wire())?;
            }
        }
        Ok(())
    }

    /// Starts one task that tries until this shard hosts what it should.
    fn retry_later(self: &Rc<Self>) {
        if self.reconciling.replace(true) {
            return;
        }
        let broker = Rc::clone(self);
        let task = async move {
            let mut pause = FIRST_RETRY;
            while !broker.is_draining() {
                broker.env.sleep(pause).await;
                match broker.reconcile().await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::warn!(%error, "partitions are not yet as they should be")
                    }
                }
                pause = (pause * 2).min(LAST_RETRY);
            }
            broker.reconciling.set(false);
        };
        drop(
            self.env
                .spawn(Queue::Background, "reconcile", OnPanic::StopProcess, task),
        );
    }
}
