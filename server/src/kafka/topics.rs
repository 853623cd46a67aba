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

use super::errors::{told, unknown_if_malformed};
use super::metadata::topic_name;
use super::repeated::{Repeated, Turn};
use super::session::Session;
use crate::controller::state::{Command, Topic, shown};

/// In place of a number that the broker is to choose.
const DEFAULT: i32 = -1;

impl<E: Env> Session<E> {
    pub(super) async fn create_topics(&self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let mut repeated = Repeated::among(request.topics.iter().map(|topic| topic.name.clone()));
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let made = match repeated.turn(&topic.name) {
                Turn::Only => self.create_topic(&topic, request.validate_only).await,
                Turn::First => Err(named_more_than_once()),
                Turn::Again => continue,
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
        let partitions = self.wanted_partitions(wanted);
        let refused = refused_settings(wanted).err();
        let refused = refused.or_else(|| partitions.as_ref().err().cloned());
        let settings = wanted.configs.iter().filter_map(|config| {
            let value = config.value.as_ref()?;
            Some((config.name.to_string(), value.to_string()))
        });
        let command = Command::CreateTopic {
            name: wanted.name.to_string(),
            partitions: partitions.unwrap_or_default(),
            configs: settings.collect(),
            // The controller sees it in any case: what is wrong with a name, and that there is such a
            // topic, is told before everything else, as Kafka does it.
            validate_only: validate_only || refused.is_some(),
        };
        let made = self.broker.command(command).await?;
        refused.map_or(Ok(made), Err)
    }

    /// How many partitions a new topic is to have; none: as many as the broker's default.
    fn wanted_partitions(&self, wanted: &CreatableTopic) -> Result<Option<u32>, WireError> {
        let factor = i32::from(wanted.replication_factor);
        if !wanted.assignments.is_empty() {
            if wanted.num_partitions != DEFAULT || factor != DEFAULT {
                return Err(WireError::new(
                    ErrorCode::InvalidRequest,
                    "a topic has either assignments or a number of partitions and replicas; leave out one",
                ));
            }
            return self.assigned_partitions(wanted).map(Some);
        }
        let impossible = |why: &str| {
            let message =
                format!("replication factor {factor} is not possible: {why}; use 1 or -1");
            Err(WireError::new(ErrorCode::InvalidReplicationFactor, message))
        };
        if factor < DEFAULT || factor == 0 {
            return impossible("a partition has at least one replica");
        }
        let partitions = match wanted.num_partitions {
            DEFAULT => None,
            count => Some(partition_count(count)?),
        };
        if factor != DEFAULT && factor != 1 {
            return impossible("there is one broker");
        }
        Ok(partitions)
    }

    fn assigned_partitions(&self, wanted: &CreatableTopic) -> Result<u32, WireError> {
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
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
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
        let mut repeated = Repeated::among(wanted.iter().cloned());
        let mut meant = Vec::with_capacity(wanted.len());
        for (name, id) in wanted {
            match repeated.turn(&(name.clone(), id)) {
                Turn::Only => meant.push((self.meant(name.as_ref(), id), name, id)),
                Turn::First => results.push(deleted(name, id, &Err(named_more_than_once()))),
                Turn::Again => {}
            }
            self.broker.env.yield_now().await;
        }
        // One topic may be named in two ways: by its name and by its id.
        let mut twice = Repeated::among(meant.iter().filter_map(|(found, ..)| found.clone().ok()));
        for (found, name, id) in meant {
            let outcome = match found {
                Ok(found) if twice.turn(&found) != Turn::Only => Err(named_more_than_once()),
                Ok(found) => self.delete_topic(&found, id).await,
                Err(error) => Err(error),
            };
            results.push(deleted(name, id, &outcome));
            self.broker.env.yield_now().await;
        }
        DeleteTopicsResponse::default().with_responses(results)
    }

    /// The name of the topic that is to be deleted.
    fn meant(&self, name: Option<&TopicName>, id: Uuid) -> Result<String, WireError> {
        let ambiguous = |what| {
            let message = format!("a topic to be deleted has {what}; give one of them");
            Err(WireError::new(ErrorCode::InvalidRequest, message))
        };
        match name {
            Some(_) if !id.is_nil() => ambiguous("both a name and an id"),
            None if id.is_nil() => ambiguous("neither a name nor an id"),
            Some(name) => Ok(name.to_string()),
            None => {
                let found = self.broker.topic_with_id(TopicId(id.as_u128()));
                found.map(|entry| entry.topic.name.to_string())
            }
        }
    }

    async fn delete_topic(&self, name: &str, id: Uuid) -> Result<Topic, WireError> {
        let command = Command::DeleteTopic {
            name: name.to_owned(),
            id: (!id.is_nil()).then(|| TopicId(id.as_u128())),
        };
        let outcome = self.broker.command(command).await;
        outcome.map_err(unknown_if_malformed)
    }

    pub(super) async fn create_partitions(
        &self,
        request: CreatePartitionsRequest,
    ) -> CreatePartitionsResponse {
        let mut repeated = Repeated::among(request.topics.iter().map(|topic| topic.name.clone()));
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let grown = match repeated.turn(&topic.name) {
                Turn::Only => self.grow(&topic, request.validate_only).await,
                Turn::First => Err(named_more_than_once()),
                Turn::Again => continue,
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
        let present = self.existing(&wanted.name)?.topic.partitions;
        let total = partition_count(wanted.count)?;
        // A count that is no increase is refused for that, whatever comes with it.
        let more = total.saturating_sub(present);
        if let Some(assignments) = wanted.assignments.as_ref().filter(|_| more > 0) {
            if assignments.len() as u64 != u64::from(more) {
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

/// Null is no value.
fn refused_settings(wanted: &CreatableTopic) -> Result<(), WireError> {
    for config in &wanted.configs {
        if config.value.is_none() {
            let name = shown(&config.name);
            return Err(WireError::new(
                ErrorCode::InvalidConfig,
                format!("'{name}' has no value; leave it out for its default"),
            ));
        }
    }
    Ok(())
}

fn deleted(
    name: Option<TopicName>,
    id: Uuid,
    outcome: &Result<Topic, WireError>,
) -> DeletableTopicResult {
    let (error_code, message) = told(outcome);
    let topic = outcome.as_ref().ok();
    DeletableTopicResult::default()
        .with_name(name.or_else(|| topic.map(|topic| topic_name(topic.name.as_str()))))
        .with_topic_id(topic.map_or(id, |topic| Uuid::from_u128(topic.id.0)))
        .with_error_code(error_code)
        .with_error_message(message.map(StrBytes::from_string))
}
