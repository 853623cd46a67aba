//! CreateTopics (19), DeleteTopics (20), CreatePartitions (37): commands to the controller, one item
//! after the other, each with an answer of its own.

use std::collections::BTreeSet;

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::TopicId;
use millrace_wire::kafka::control::messages::create_partitions_request::CreatePartitionsTopic;
use millrace_wire::kafka::control::messages::create_partitions_response::CreatePartitionsTopicResult;
use millrace_wire::kafka::control::messages::create_topics_request::CreatableTopic;
use millrace_wire::kafka::control::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use millrace_wire::kafka::control::messages::delete_topics_response::DeletableTopicResult;
use millrace_wire::kafka::control::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use millrace_wire::kafka::control::{StrBytes, Uuid};

use super::errors::told;
use super::metadata::topic_name;
use super::session::Session;
use crate::controller::state::{Command, Topic};
use crate::topic_config::TopicConfig;

/// In place of a number that the broker is to choose.
const DEFAULT: i32 = -1;

impl<E: Env> Session<E> {
    pub(super) async fn create_topics(&self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let twice = named_twice(request.topics.iter().map(|topic| &topic.name));
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let made = if twice.contains(&topic.name) {
                Err(named_more_than_once())
            } else {
                self.create_topic(&topic, request.validate_only).await
            };
            results.push(self.created(topic.name, &made));
            self.broker.env.yield_now().await;
        }
        CreateTopicsResponse::default().with_topics(results)
    }

    async fn create_topic(
        &self,
        wanted: &CreatableTopic,
        validate_only: bool,
    ) -> Result<Topic, WireError> {
        let partitions = self.wanted_partitions(wanted)?;
        let mut configs = Vec::with_capacity(wanted.configs.len());
        for config in &wanted.configs {
            // Null is the default, of a key that there is.
            TopicConfig::check_name(&config.name)
                .map_err(|error| WireError::new(ErrorCode::InvalidConfig, error.to_string()))?;
            if let Some(value) = &config.value {
                configs.push((config.name.to_string(), value.to_string()));
            }
        }
        let command = Command::CreateTopic {
            name: wanted.name.to_string(),
            partitions,
            configs,
            validate_only,
        };
        self.broker.command(command).await
    }

    /// How many partitions a new topic is to have; none: as many as the broker's default.
    fn wanted_partitions(&self, wanted: &CreatableTopic) -> Result<Option<u32>, WireError> {
        let factor = i32::from(wanted.replication_factor);
        if wanted.assignments.is_empty() {
            if factor != DEFAULT && factor != 1 {
                return Err(WireError::new(
                    ErrorCode::InvalidReplicationFactor,
                    format!(
                        "replication factor {factor} is not possible: there is one broker; use 1 or -1"
                    ),
                ));
            }
            return match wanted.num_partitions {
                DEFAULT => Ok(None),
                count => Ok(Some(partition_count(count)?)),
            };
        }
        if wanted.num_partitions != DEFAULT || factor != DEFAULT {
            return Err(WireError::new(
                ErrorCode::InvalidRequest,
                "a topic has either assignments or a number of partitions and replicas; leave out one",
            ));
        }
        let numbers: BTreeSet<i32> = wanted
            .assignments
            .iter()
            .map(|assignment| assignment.partition_index)
            .collect();
        let count = wanted.assignments.len();
        if !numbers.iter().copied().eq((0..).take(count)) {
            return Err(wrong_assignment(
                "assignments are for partitions from 0 on, each once",
            ));
        }
        for assignment in &wanted.assignments {
            self.check_replicas(&assignment.broker_ids)?;
        }
        Ok(Some(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// Whether replicas can be on these nodes: each on one that exists, and no two on one.
    pub(super) fn check_replicas(&self, nodes: &[BrokerId]) -> Result<(), WireError> {
        if nodes == [self.this_node()] {
            return Ok(());
        }
        let this = self.this_node().0;
        Err(wrong_assignment(&format!(
            "there is one broker, {this}, and each partition has one replica on it"
        )))
    }

    fn created(&self, name: TopicName, made: &Result<Topic, WireError>) -> CreatableTopicResult {
        let (error_code, message) = told(made);
        let result = CreatableTopicResult::default()
            .with_name(name)
            .with_error_code(error_code)
            .with_error_message(message.map(StrBytes::from_string))
            .with_num_partitions(DEFAULT)
            .with_replication_factor(-1);
        let Ok(topic) = made else {
            return result;
        };
        let defaults = self.broker.topic_defaults();
        let in_force = topic.effective_config(&defaults);
        let configs = in_force.entries().map(|(key, value)| {
            let source = self.topic_source(&topic.configs, key);
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(key))
                .with_value(Some(StrBytes::from_string(value)))
                .with_config_source(source as i8)
        });
        result
            .with_topic_id(Uuid::from_u128(topic.id.0))
            .with_num_partitions(topic.partitions.cast_signed())
            .with_replication_factor(1)
            .with_configs(Some(configs.collect()))
    }

    pub(super) async fn delete_topics(
        &self,
        version: i16,
        request: DeleteTopicsRequest,
    ) -> DeleteTopicsResponse {
        const FIRST_WITH_IDS: i16 = 6;
        let wanted: Vec<(Option<TopicName>, Uuid)> = match version {
            FIRST_WITH_IDS.. => {
                let topics = request.topics.into_iter();
                topics.map(|topic| (topic.name, topic.topic_id)).collect()
            }
            _ => {
                let names = request.topic_names.into_iter();
                names.map(|name| (Some(name), Uuid::nil())).collect()
            }
        };
        let mut results = Vec::with_capacity(wanted.len());
        for (name, id) in wanted {
            results.push(self.delete_topic(name, id).await);
            self.broker.env.yield_now().await;
        }
        DeleteTopicsResponse::default().with_responses(results)
    }

    async fn delete_topic(&self, name: Option<TopicName>, id: Uuid) -> DeletableTopicResult {
        let ambiguous = |what| {
            let message = format!("a topic to be deleted has {what}; give one of them");
            Err(WireError::new(ErrorCode::InvalidRequest, message))
        };
        let named = match &name {
            Some(_) if !id.is_nil() => ambiguous("both a name and an id"),
            None if id.is_nil() => ambiguous("neither a name nor an id"),
            Some(name) => Ok(name.to_string()),
            None => {
                let found = self.broker.topic_with_id(TopicId(id.as_u128()));
                found.map(|entry| entry.topic.name.to_string())
            }
        };
        let deleted = match &named {
            Ok(name) => {
                let command = Command::DeleteTopic {
                    name: name.clone(),
                    id: (!id.is_nil()).then(|| TopicId(id.as_u128())),
                };
                self.broker.command(command).await
            }
            Err(error) => Err(error.clone()),
        };
        let (error_code, message) = told(&deleted);
        DeletableTopicResult::default()
            .with_name(name.or_else(|| named.ok().map(|name| topic_name(&name))))
            .with_topic_id(deleted.map_or(id, |topic| Uuid::from_u128(topic.id.0)))
            .with_error_code(error_code)
            .with_error_message(message.map(StrBytes::from_string))
    }

    pub(super) async fn create_partitions(
        &self,
        request: CreatePartitionsRequest,
    ) -> CreatePartitionsResponse {
        let twice = named_twice(request.topics.iter().map(|topic| &topic.name));
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let grown = if twice.contains(&topic.name) {
                Err(named_more_than_once())
            } else {
                self.grow(&topic, request.validate_only).await
            };
            let (error_code, message) = told(&grown);
            results.push(
                CreatePartitionsTopicResult::default()
                    .with_name(topic.name)
                    .with_error_code(error_code)
                    .with_error_message(message.map(StrBytes::from_string)),
            );
            self.broker.env.yield_now().await;
        }
        CreatePartitionsResponse::default().with_results(results)
    }

    async fn grow(
        &self,
        wanted: &CreatePartitionsTopic,
        validate_only: bool,
    ) -> Result<Topic, WireError> {
        let total = partition_count(wanted.count)?;
        if let Some(assignments) = &wanted.assignments {
            let present = self.broker.topic(&wanted.name)?.topic.partitions;
            if assignments.len() as u64 != u64::from(total.saturating_sub(present)) {
                return Err(wrong_assignment(
                    "there is one assignment for each new partition",
                ));
            }
            for assignment in assignments {
                self.check_replicas(&assignment.broker_ids)?;
            }
        }
        let command = Command::CreatePartitions {
            name: wanted.name.to_string(),
            total,
            validate_only,
        };
        self.broker.command(command).await
    }
}

fn partition_count(count: i32) -> Result<u32, WireError> {
    match u32::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(WireError::new(
            ErrorCode::InvalidPartitions,
            format!("{count} is no number of partitions; a topic has at least 1"),
        )),
    }
}

fn wrong_assignment(why: &str) -> WireError {
    WireError::new(ErrorCode::InvalidReplicaAssignment, why)
}

fn named_more_than_once() -> WireError {
    WireError::new(
        ErrorCode::InvalidRequest,
        "the request names this topic more than once; name it once",
    )
}

fn named_twice<'a>(names: impl Iterator<Item = &'a TopicName>) -> BTreeSet<TopicName> {
    let mut seen = BTreeSet::new();
    let twice = names.filter(|name| !seen.insert(*name));
    twice.cloned().collect()
}
