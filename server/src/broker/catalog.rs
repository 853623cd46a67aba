//! What a shard knows of topics: the controller's state as of some revision, ready to be looked up
//! by a request. Every shard has its own.

use std::rc::Rc;

use hashbrown::HashMap;
use millrace_shard::log::PartitionSettings;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{PartitionId, PartitionIndex, TopicId, TopicName};

use crate::controller::state::{Change, State, Topic, shown, unknown_topic};
use crate::topic_config::TopicConfig;

/// A topic and what is in force for it.
#[derive(Debug)]
pub struct TopicEntry {
    /// The topic.
    pub topic: Topic,
    /// Its configuration, every key filled in.
    pub config: TopicConfig,
}

impl TopicEntry {
    /// The id of the partition with this number, if the topic has it.
    pub fn partition(&self, partition: u32) -> Result<PartitionId, WireError> {
        if partition >= self.topic.partitions {
            return Err(WireError::new(
                ErrorCode::UnknownTopicOrPartition,
                format!(
                    "topic '{}' has {} partitions, numbered from 0; there is no partition {partition}",
                    self.topic.name, self.topic.partitions
                ),
            ));
        }
        Ok(PartitionId {
            topic: self.topic.id,
            partition: PartitionIndex(partition),
        })
    }

    /// Whether enough replicas are in sync for `acks=all`.
    pub fn check_in_sync(&self, in_sync: usize) -> Result<(), WireError> {
        let wanted = self.config.min_insync_replicas;
        if in_sync >= wanted as usize {
            return Ok(());
        }
        Err(WireError::new(
            ErrorCode::NotEnoughReplicas,
            format!(
                "topic '{}' wants {wanted} replicas in sync for acks=all and has {in_sync}; lower min.insync.replicas, or produce with acks=1",
                self.topic.name
            ),
        ))
    }

    /// What of the configuration concerns storage.
    #[must_use]
    pub fn partition_settings(&self) -> PartitionSettings {
        PartitionSettings {
            retention_ms: self.config.retention_ms,
            retention_bytes: self.config.retention_bytes,
            segment_bytes: self.config.segment_bytes,
            segment_ms: self.config.segment_ms,
        }
    }
}

/// All topics, by name.
#[derive(Debug)]
pub struct Catalog {
    revision: u64,
    defaults: TopicConfig,
    topics: HashMap<TopicName, Rc<TopicEntry>>,
    names: HashMap<TopicId, TopicName>,
}

impl Catalog {
    /// An empty catalog; `defaults` are in force where a topic sets nothing.
    #[must_use]
    pub fn new(defaults: TopicConfig) -> Catalog {
        Catalog {
            revision: 0,
            defaults,
            topics: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// What is in force where a topic sets nothing.
    #[must_use]
    pub fn defaults(&self) -> &TopicConfig {
        &self.defaults
    }

    /// The controller's revision that this is.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The topic of this name.
    pub fn find(&self, name: &str) -> Result<Rc<TopicEntry>, WireError> {
        let parsed: TopicName = name.parse().map_err(|error| {
            WireError::new(
                ErrorCode::InvalidTopic,
                format!("'{}': {error}", shown(name)),
            )
        })?;
        self.topics
            .get(&parsed)
            .cloned()
            .ok_or_else(|| unknown_topic(name))
    }

    /// The topic with this identity.
    pub fn find_id(&self, id: TopicId) -> Result<Rc<TopicEntry>, WireError> {
        let name = self.names.get(&id);
        let entry = name.and_then(|name| self.topics.get(name));
        entry.cloned().ok_or_else(|| {
            WireError::new(
                ErrorCode::UnknownTopicId,
                format!("no topic has the id {id}; ask for metadata again"),
            )
        })
    }

    /// All topics, sorted by name.
    #[must_use]
    pub fn all(&self) -> Vec<Rc<TopicEntry>> {
        let mut topics: Vec<_> = self.topics.values().cloned().collect();
        topics.sort_by(|a, b| a.topic.name.cmp(&b.topic.name));
        topics
    }

    /// Takes over the whole of the controller's state.
    pub fn install(&mut self, state: &State) {
        self.revision = state.revision();
        self.topics.clear();
        self.names.clear();
        for topic in state.topics() {
            self.put(topic.clone());
        }
    }

    /// Takes over one change, which led to `revision`. The entry concerned as it is afterwards (as
    /// it was, for a topic that is gone); none where no topic is concerned.
    pub fn apply(&mut self, revision: u64, change: &Change) -> Option<Rc<TopicEntry>> {
        self.revision = revision;
        match change {
            Change::TopicCreated(topic) => Some(self.put(topic.clone())),
            Change::TopicDeleted { id, name } => {
                if self
                    .topics
                    .get(name)
                    .is_some_and(|entry| entry.topic.id == *id)
                {
                    self.names.remove(id);
                    self.topics.remove(name)
                } else {
                    None
                }
            }
            Change::ConfigChanged { id, name, configs } => {
                let entry = self
                    .topics
                    .get(name)
                    .filter(|entry| entry.topic.id == *id)?;
                let topic = Topic {
                    configs: configs.clone(),
                    ..entry.topic.clone()
                };
                Some(self.put(topic))
            }
            Change::PartitionsAdded { id, name, total } => {
                let entry = self
                    .topics
                    .get(name)
                    .filter(|entry| entry.topic.id == *id)?;
                let topic = Topic {
                    partitions: *total,
                    ..entry.topic.clone()
                };
                Some(self.put(topic))
            }
            Change::ProducerIdsAllocated { .. } => None,
        }
    }

    fn put(&mut self, topic: Topic) -> Rc<TopicEntry> {
        let config = topic.effective_config(&self.defaults);
        let entry = Rc::new(TopicEntry { config, topic });
        self.names.insert(entry.topic.id, entry.topic.name.clone());
        self.topics
            .insert(entry.topic.name.clone(), Rc::clone(&entry));
        entry
    }
}
