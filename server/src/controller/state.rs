//! The controller's state machine: what a command changes, decided without I/O, a clock or
//! randomness (a new topic's id is handed in). The same changes in the same order give the same
//! state on every replica and at every start.

use std::collections::BTreeMap;

use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{
    PartitionId, PartitionIndex, ProducerId, TopicId, TopicName, TopicNameError,
};

use super::alike::check_alike;
use crate::topic_config::{TopicConfig, TopicConfigError};

/// A topic as the controller knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has.
    pub partitions: u32,
    /// What was set on it; the rest is the broker's default.
    pub configs: BTreeMap<String, String>,
}

impl Topic {
    /// Whether it is one of Millrace's own.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.name.is_reserved()
    }

    /// Its partitions' ids, in order.
    pub fn partition_ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        let topic = self.id;
        (0..self.partitions).map(move |n| PartitionId {
            topic,
            partition: PartitionIndex(n),
        })
    }

    /// What is in force: `defaults` with what was set on the topic over them. A stored value that
    /// is no longer allowed (an older version took it) falls back to the default.
    #[must_use]
    pub fn effective_config(&self, defaults: &TopicConfig) -> TopicConfig {
        let mut config = defaults.clone();
        for (name, value) in &self.configs {
            if let Err(error) = config.set(name, value) {
                tracing::warn!(topic = %self.name, %error, "a stored topic setting is ignored");
            }
        }
        config
    }
}

/// How many producer ids a shard gets at a time. Those that it has not given out when it ends are
/// never given out; of 2^63 there are enough.
pub const PRODUCER_IDS_AT_A_TIME: i64 = 1000;

/// Producer ids that belong to whoever asked for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdRange {
    /// The first.
    pub first: ProducerId,
    /// The first behind them.
    pub end: ProducerId,
}

/// What someone wants changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make a topic.
    CreateTopic {
        /// Its name, unchecked.
        name: String,
        /// How many partitions; the broker's default when absent.
        partitions: Option<u32>,
        /// Settings, unchecked.
        configs: Vec<(String, String)>,
        /// Only check.
        validate_only: bool,
    },
    /// Make one of Millrace's own topics, if it is not there yet.
    CreateInternalTopic {
        /// Its name.
        name: TopicName,
        /// How many partitions.
        partitions: u32,
        /// Settings.
        configs: Vec<(String, String)>,
    },
    /// Remove a topic and its data.
    DeleteTopic {
        /// Its name.
        name: String,
        /// The identity that it must have, if that was asked for: another topic may have the name by
        /// the time that this is carried out.
        id: Option<TopicId>,
    },
    /// Set and unset settings.
    AlterConfig {
        /// The topic.
        name: String,
        /// Settings to set.
        set: Vec<(String, String)>,
        /// Settings to return to their default.
        unset: Vec<String>,
        /// Only check.
        validate_only: bool,
    },
    /// Add partitions.
    CreatePartitions {
        /// The topic.
        name: String,
        /// How many there are afterwards.
        total: u32,
        /// Only check.
        validate_only: bool,
    },
    /// Hand out producer ids that nobody has had.
    AllocateProducerIds,
}

/// One change of the state, as it is written down and as shards hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The topic is new.
    TopicCreated(Topic),
    /// The topic is gone.
    TopicDeleted {
        /// Which topic.
        id: TopicId,
        /// Its name.
        name: TopicName,
    },
    /// The topic's settings are now exactly these.
    ConfigChanged {
        /// Which topic.
        id: TopicId,
        /// Its name.
        name: TopicName,
        /// Everything that is set on it.
        configs: BTreeMap<String, String>,
    },
    /// The topic has this many partitions now.
    PartitionsAdded {
        /// Which topic.
        id: TopicId,
        /// Its name.
        name: TopicName,
        /// How many there are.
        total: u32,
    },
    /// Producer ids were handed out.
    ProducerIdsAllocated {
        /// The first that nobody has.
        next: ProducerId,
    },
}

/// What a command was for, as it is after the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The topic that the command is about.
    Topic(Topic),
    /// To [`Command::AllocateProducerIds`].
    ProducerIds(ProducerIdRange),
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The change to write down; none if the command only asked whether it would be allowed, or
    /// changes nothing.
    pub change: Option<Change>,
    /// What the command was for.
    pub outcome: Outcome,
}

impl Decision {
    fn about_topic(change: Option<Change>, topic: Topic) -> Decision {
        Decision {
            change,
            outcome: Outcome::Topic(topic),
        }
    }
}

/// What bounds the controller's decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Settings of topics that do not set them.
    pub defaults: TopicConfig,
    /// Partitions of a topic that does not say how many.
    pub default_partitions: u32,
    /// The most partitions on this node, of all topics together.
    pub max_partitions: u32,
}

/// All topics, and how far producer ids are handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    revision: u64,
    topics: BTreeMap<TopicName, Topic>,
    next_producer_id: ProducerId,
}

impl State {
    /// The state that a snapshot describes.
    #[must_use]
    pub fn from_snapshot(
        revision: u64,
        topics: impl IntoIterator<Item = Topic>,
        next_producer_id: ProducerId,
    ) -> State {
        let topics = topics
            .into_iter()
            .map(|topic| (topic.name.clone(), topic))
            .collect();
        State {
            revision,
            topics,
            next_producer_id,
        }
    }

    /// How many changes led here.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// The first producer id that nobody has.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// What `command` would change, or why it is refused. `new_id` is the identity that a new topic
    /// gets.
    pub fn decide(
        &self,
        command: &Command,
        rules: &Rules,
        new_id: TopicId,
    ) -> Result<Decision, WireError> {
        match command {
            Command::CreateTopic {
                name,
                partitions,
                configs,
                validate_only,
            } => {
                let topic = self.new_topic(name, *partitions, configs, rules, new_id)?;
                let change = (!validate_only).then(|| Change::TopicCreated(topic.clone()));
                Ok(Decision::about_topic(change, topic))
            }
            Command::CreateInternalTopic {
                name,
                partitions,
                configs,
            } => {
                if let Some(topic) = self.topics.get(name) {
                    return Ok(Decision::about_topic(None, topic.clone()));
                }
                let topic = Topic {
                    id: new_id,
                    name: name.clone(),
                    partitions: *partitions,
                    configs: configs.iter().cloned().collect(),
                };
                let change = Some(Change::TopicCreated(topic.clone()));
                Ok(Decision::about_topic(change, topic))
            }
            Command::DeleteTopic { name, id } => {
                let topic = self.find(name)?.clone();
                if let Some(id) = id.filter(|id| *id != topic.id) {
                    return Err(WireError::new(
                        ErrorCode::UnknownTopicId,
                        format!("topic '{name}' is another one than {id}, which is gone"),
                    ));
                }
                let change = Change::TopicDeleted {
                    id: topic.id,
                    name: topic.name.clone(),
                };
                Ok(Decision::about_topic(Some(change), topic))
            }
            Command::AlterConfig {
                name,
                set,
                unset,
                validate_only,
            } => {
                let before = self.find(name)?;
                let configs = altered(before, set, unset, rules).map_err(refused_config)?;
                let topic = Topic {
                    configs: configs.clone(),
                    ..before.clone()
                };
                let (id, name) = (topic.id, topic.name.clone());
                let change = (!validate_only && topic != *before)
                    .then_some(Change::ConfigChanged { id, name, configs });
                Ok(Decision::about_topic(change, topic))
            }
            Command::CreatePartitions {
                name,
                total,
                validate_only,
            } => {
                let before = self.find(name)?;
                self.check_growth(before, *total, rules)?;
                let topic = Topic {
                    partitions: *total,
                    ..before.clone()
                };
                let change = Change::PartitionsAdded {
                    id: topic.id,
                    name: topic.name.clone(),
                    total: *total,
                };
                let change = (!validate_only).then_some(change);
                Ok(Decision::about_topic(change, topic))
            }
            Command::AllocateProducerIds => {
                let range = self.next_range()?;
                Ok(Decision {
                    change: Some(Change::ProducerIdsAllocated { next: range.end }),
                    outcome: Outcome::ProducerIds(range),
                })
            }
        }
    }

    /// Makes a change that was decided, and that is the next after this state's revision. A change
    /// of a topic that is not there (any more) changes nothing but the revision.
    pub fn apply(&mut self, change: &Change) {
        self.revision += 1;
        match change {
            Change::TopicCreated(topic) => {
                self.topics.insert(topic.name.clone(), topic.clone());
            }
            Change::TopicDeleted { id, name } => {
                if self.topics.get(name).is_some_and(|topic| topic.id == *id) {
                    self.topics.remove(name);
                }
            }
            Change::ConfigChanged { id, name, configs } => {
                if let Some(topic) = self.topics.get_mut(name).filter(|topic| topic.id == *id) {
                    topic.configs.clone_from(configs);
                }
            }
            Change::PartitionsAdded { id, name, total } => {
                if let Some(topic) = self.topics.get_mut(name).filter(|topic| topic.id == *id) {
                    topic.partitions = topic.partitions.max(*total);
                }
            }
            Change::ProducerIdsAllocated { next } => {
                self.next_producer_id = self.next_producer_id.max(*next);
            }
        }
    }

    fn next_range(&self) -> Result<ProducerIdRange, WireError> {
        let first = self.next_producer_id;
        let end = first
            .0
            .checked_add(PRODUCER_IDS_AT_A_TIME)
            .map(ProducerId)
            .ok_or_else(|| {
                WireError::new(
                    ErrorCode::Unknown,
                    "there are no producer ids left; produce without idempotence",
                )
            })?;
        Ok(ProducerIdRange { first, end })
    }

    fn find(&self, name: &str) -> Result<&Topic, WireError> {
        // A name that breaks the rules names no topic; saying so helps more than "unknown".
        let name = TopicName::user(name).map_err(refused_name)?;
        self.topics
            .get(&name)
            .ok_or_else(|| unknown_topic(name.as_str()))
    }

    fn new_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        configs: &[(String, String)],
        rules: &Rules,
        id: TopicId,
    ) -> Result<Topic, WireError> {
        let name = TopicName::user(name).map_err(refused_name)?;
        if self.topics.contains_key(&name) {
            return Err(WireError::new(
                ErrorCode::TopicAlreadyExists,
                format!("a topic named '{name}' exists already"),
            ));
        }
        check_alike(&name, self.topics.keys())?;
        rules
            .defaults
            .with(as_strs(configs))
            .map_err(refused_config)?;
        let partitions = partitions.unwrap_or(rules.default_partitions);
        if partitions == 0 {
            return Err(WireError::new(
                ErrorCode::InvalidPartitions,
                "a topic has at least 1 partition",
            ));
        }
        self.check_room(partitions, rules)?;
        let configs = configs
            .iter()
            .map(|(name, value)| (name.clone(), value.trim().to_owned()))
            .collect();
        Ok(Topic {
            id,
            name,
            partitions,
            configs,
        })
    }

    fn check_growth(&self, topic: &Topic, total: u32, rules: &Rules) -> Result<(), WireError> {
        if total <= topic.partitions {
            return Err(WireError::new(
                ErrorCode::InvalidPartitions,
                format!(
                    "topic '{}' has {} partitions; partitions can only be added, so ask for more than that, not {total}",
                    topic.name, topic.partitions
                ),
            ));
        }
        self.check_room(total - topic.partitions, rules)
    }

    fn check_room(&self, more: u32, rules: &Rules) -> Result<(), WireError> {
        let have: u64 = self
            .topics
            .values()
            .filter(|topic| !topic.is_internal())
            .map(|topic| u64::from(topic.partitions))
            .sum();
        if have + u64::from(more) > u64::from(rules.max_partitions) {
            return Err(WireError::new(
                ErrorCode::InvalidPartitions,
                format!(
                    "{more} more partitions are more than this broker takes: it has {have} of at most {}",
                    rules.max_partitions
                ),
            ));
        }
        Ok(())
    }
}

/// The topic's settings after `set` and `unset`.
fn altered(
    topic: &Topic,
    set: &[(String, String)],
    unset: &[String],
    rules: &Rules,
) -> Result<BTreeMap<String, String>, TopicConfigError> {
    rules.defaults.with(as_strs(set))?;
    let mut configs = topic.configs.clone();
    for name in unset {
        TopicConfig::check_name(name)?;
        if set.iter().any(|(other, _)| other == name) {
            return Err(TopicConfigError::Twice(name.clone()));
        }
        configs.remove(name);
    }
    for (name, value) in set {
        configs.insert(name.clone(), value.trim().to_owned());
    }
    Ok(configs)
}

fn as_strs(entries: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    entries
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

fn refused_name(error: TopicNameError) -> WireError {
    WireError::new(ErrorCode::InvalidTopic, error.to_string())
}

fn refused_config(error: TopicConfigError) -> WireError {
    WireError::new(ErrorCode::InvalidConfig, error.to_string())
}

/// The answer where there is no topic of this name.
#[must_use]
pub fn unknown_topic(name: &str) -> WireError {
    WireError::new(
        ErrorCode::UnknownTopicOrPartition,
        format!("there is no topic '{}'; create it first", shown(name)),
    )
}

/// A name from outside as it may stand in a message or a log line: without control characters, and
/// not endless.
#[must_use]
pub fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
