//! Consumer groups: whoever is asked finds the shard that coordinates the group and asks it.

use std::rc::Rc;

use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{PartitionIndex, ShardId, TopicName};

use super::calls::{Call, Reply, wrong_reply};
use super::{Broker, TopicEntry, shutting_down};
use crate::controller::state::{Change, Command};
use crate::coordinator::api::{GroupAnswer, GroupCall, ListedGroup};
use crate::coordinator::settings::GroupSettings;
use crate::coordinator::{GROUPS_TOPIC, GROUPS_TOPIC_CONFIGS, partition_of};

impl<E: Env> Broker<E> {
    /// Asks a group's coordinator. The answer has the form of the request. The first request of all
    /// makes the internal topic that groups are kept in.
    pub async fn group(&self, call: GroupCall) -> Result<GroupAnswer, WireError> {
        if self.is_draining() {
            return Err(shutting_down());
        }
        call.check()?;
        let (index, owner) = self.group_place(&call.group).await?;
        if owner == self.shard_id {
            return self.coordinators.handle(index, call).await;
        }
        match self.call(owner, Call::Group(index, call)).await {
            Reply::Group(answer) => Ok(answer),
            other => Err(wrong_reply(other)),
        }
    }

    /// What an operator has set of groups.
    #[must_use]
    pub fn group_settings(&self) -> &GroupSettings {
        self.coordinators.settings()
    }

    /// The shard of this node that coordinates the group.
    pub async fn group_coordinator(&self, group: &str) -> Result<ShardId, WireError> {
        let (_, owner) = self.group_place(group).await?;
        Ok(owner)
    }

    /// The partition of the internal topic that a group is kept in, and the shard that owns it.
    async fn group_place(&self, group: &str) -> Result<(PartitionIndex, ShardId), WireError> {
        let topic = self.groups_topic().await?;
        let index = partition_of(group, topic.topic.partitions);
        Ok((index, self.owner(topic.partition(index.0)?)))
    }

    async fn groups_topic(&self) -> Result<Rc<TopicEntry>, WireError> {
        if let Ok(entry) = self.topic(GROUPS_TOPIC) {
            return Ok(entry);
        }
        let configs = GROUPS_TOPIC_CONFIGS.map(|(name, value)| (name.into(), value.into()));
        let command = Command::CreateInternalTopic {
            name: groups_topic_name(),
            partitions: self.coordinators.settings().partitions,
            configs: configs.to_vec(),
        };
        self.command(command).await?;
        self.topic(GROUPS_TOPIC)
    }

    /// Every group of this node, by name.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, WireError> {
        let mut groups = Vec::new();
        for shard in (0..self.node.shard_count).map(ShardId) {
            let listed = match shard == self.shard_id {
                true => self.coordinators.list()?,
                false => match self.call(shard, Call::ListGroups).await {
                    Reply::Groups(listed) => listed,
                    other => return Err(wrong_reply(other)),
                },
            };
            groups.extend(listed);
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(groups)
    }

    pub(super) async fn answer_group(&self, index: PartitionIndex, call: GroupCall) -> Reply {
        match self.coordinators.handle(index, call).await {
            Ok(answer) => Reply::Group(answer),
            Err(error) => Reply::Failed(error),
        }
    }

    pub(super) fn answer_list(&self) -> Reply {
        match self.coordinators.list() {
            Ok(groups) => Reply::Groups(groups),
            Err(error) => Reply::Failed(error),
        }
    }

    /// Coordinates the groups of those partitions of the internal topic that this shard hosts.
    pub(super) fn coordinate(&self, entry: &TopicEntry) {
        if entry.topic.name.as_str() != GROUPS_TOPIC {
            return;
        }
        for id in entry.topic.partition_ids() {
            if let Some(partition) = self.shard.partition(id) {
                self.coordinators.host(&self.env, &partition);
            }
        }
    }

    /// A partition was taken back into service without what its disk lost: its groups are what the
    /// rest of its log says.
    pub(super) fn coordinate_anew(&self, index: PartitionIndex) {
        self.coordinators.let_go(index);
        if let Ok(entry) = self.topic(GROUPS_TOPIC) {
            self.coordinate(&entry);
        }
    }

    /// Tells the groups of this shard of a change of topics.
    pub(super) async fn tell_groups(&self, change: &Change) {
        let (name, is_deleted) = match change {
            Change::TopicDeleted { name, .. } => (name, true),
            Change::TopicCreated(topic) => (&topic.name, false),
            Change::PartitionsAdded { name, .. } => (name, false),
            Change::ConfigChanged { .. } | Change::ProducerIdsAllocated { .. } => return,
        };
        self.coordinators.topics_changed(name, is_deleted).await;
    }

    /// Forgets offsets that nobody uses, at intervals, until the broker stops.
    pub(super) fn expire_offsets(self: &Rc<Self>) {
        let broker = Rc::downgrade(self);
        let env = self.env.clone();
        let interval = self.coordinators.settings().expiration_interval;
        let task = async move {
            loop {
                env.sleep(interval).await;
                let Some(broker) = broker.upgrade().filter(|broker| !broker.is_draining()) else {
                    return;
                };
                broker.coordinators.expire_offsets().await;
            }
        };
        drop(self.env.spawn(
            Queue::Background,
            "expire offsets",
            OnPanic::StopProcess,
            task,
        ));
    }
}

fn groups_topic_name() -> TopicName {
    GROUPS_TOPIC.parse().expect("the name follows the rules")
}

/// The answer to whoever would write into an internal topic.
pub(super) fn internal_topic(name: &TopicName) -> WireError {
    WireError::new(
        ErrorCode::InvalidTopic,
        format!("topic '{name}' is Millrace's own; only the broker writes to it"),
    )
}
