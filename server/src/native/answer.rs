//! Every request but Produce and those about groups: from messages to the broker's words and back.

use std::time::Duration;

use bytes::Bytes;
use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::PartitionId;
use millrace_wire::native::messages::*;
use millrace_wire::native::{FetchView, Request, Response};

use super::session::{Answer, Session};
use crate::broker::calls::{self, Question};
use crate::broker::{FetchItem, FetchQuery, TopicEntry, wrong_answer};
use crate::controller::state::Command;

/// The longest that a fetch waits, whatever the client asks for.
const MAX_FETCH_WAIT: Duration = Duration::from_secs(300);

/// Partition answers with their numbers, by topic.
type ByTopic<T> = Vec<(String, Vec<(u32, Result<T, WireError>)>)>;

/// A fetch as the broker understands it, and the names and numbers to answer with.
pub(super) struct Fetch {
    query: FetchQuery,
    /// By topic: its name, and its partitions' numbers and the offsets wanted, in the order of the
    /// query's items.
    names: Vec<(String, Vec<(u32, i64)>)>,
}

impl<E: Env> Session<E> {
    pub(super) fn fetch_query(&self, view: &FetchView<'_>) -> Fetch {
        let mut items = Vec::new();
        let mut names = Vec::new();
        for topic in view.topics() {
            let entry = self.broker.topic(topic.name());
            let mut numbers = Vec::new();
            for wanted in topic.partitions() {
                numbers.push((wanted.partition, wanted.offset));
                items.push(FetchItem {
                    partition: partition(&entry, wanted.partition),
                    offset: wanted.offset,
                    max_bytes: wanted.max_bytes as usize,
                });
            }
            names.push((topic.name().to_owned(), numbers));
        }
        let max_wait = Duration::from_millis(u64::from(view.max_wait_ms())).min(MAX_FETCH_WAIT);
        let (min_bytes, max_bytes) = (view.min_bytes() as usize, view.max_bytes() as usize);
        Fetch {
            query: FetchQuery {
                max_wait,
                min_bytes,
                max_bytes,
                items,
            },
            names,
        }
    }

    pub(super) async fn fetch(&self, fetch: Fetch) -> Answer {
        let fetched = self.broker.fetch(fetch.query).await;
        let mut outcomes = fetched.outcomes.into_iter();
        let mut response = FetchResponse::default();
        let mut attachments = Vec::new();
        for (name, numbers) in fetch.names {
            let mut partitions = Vec::new();
            for (partition, offset) in numbers {
                if let Some(outcome) = outcomes.next()
                    && !outcome.is_no_news(offset)
                {
                    partitions.push(fetch_result(partition, outcome, &mut attachments));
                }
            }
            if !partitions.is_empty() {
                response.topics.push(FetchTopicResult { name, partitions });
            }
        }
        Answer {
            response: Response::Fetch(response),
            attachments,
            memory: fetched.memory,
        }
    }

    pub(super) async fn answer_request(&self, request: Request) -> Response {
        match request {
            Request::Ping(_) => PingResponse {
                time_ms: self.broker.env.wall_clock_ms(),
            }
            .into(),
            Request::Metadata(request) => self.metadata(request).into(),
            Request::CreateTopic(request) => self.create_topic(request).await.into(),
            Request::DeleteTopic(request) => {
                let outcome = self.broker.command(Command::DeleteTopic {
                    name: request.name,
                    id: None,
                });
                DeleteTopicResponse {
                    status: outcome.await.map(drop).into(),
                }
                .into()
            }
            Request::DescribeTopic(request) => self.describe_topic(&request.name).await.into(),
            Request::ListTopics(_) => self.list_topics().into(),
            Request::AlterTopicConfig(request) => {
                let outcome = self.broker.command(Command::AlterConfig {
                    name: request.name,
                    set: pairs(request.set),
                    unset: request.unset,
                    validate_only: request.validate_only,
                });
                AlterTopicConfigResponse {
                    status: outcome.await.map(drop).into(),
                }
                .into()
            }
            Request::CreatePartitions(request) => {
                let outcome = self.broker.command(Command::CreatePartitions {
                    name: request.name,
                    total: request.total_partitions,
                    validate_only: request.validate_only,
                });
                CreatePartitionsResponse {
                    status: outcome.await.map(drop).into(),
                }
                .into()
            }
            Request::ListOffsets(request) => self.list_offsets(request).await.into(),
            Request::DeleteRecords(request) => self.delete_records(request).await.into(),
            Request::RepairPartition(request) => self.repair(request).await.into(),
            Request::Stats(_) => StatsResponse {
                shards: self.broker.stats().await,
            }
            .into(),
            Request::InitProducer(_) => self.init_producer().await.into(),
            Request::JoinGroup(request) => self.join_group(request).await.into(),
            Request::SyncGroup(request) => self.sync_group(request).await.into(),
            Request::Heartbeat(request) => self.heartbeat(request).await.into(),
            Request::LeaveGroup(request) => self.leave_group(request).await.into(),
            Request::CommitOffsets(request) => self.commit_offsets(request).await.into(),
            Request::FetchOffsets(request) => self.fetch_offsets(request).await.into(),
            Request::ListGroups(_) => self.list_groups().await.into(),
            Request::DescribeGroup(request) => self.describe_group(request).await.into(),
            Request::DeleteGroup(request) => self.delete_group(request).await.into(),
            Request::DeleteOffsets(request) => self.delete_offsets(request).await.into(),
            Request::Handshake(_) | Request::Produce(_) | Request::Fetch(_) => {
                let error = WireError::new(ErrorCode::InvalidRequest, "unexpected request");
                Response::Error(error.into())
            }
        }
    }

    async fn init_producer(&self) -> InitProducerResponse {
        match self.broker.new_producer_id().await {
            Ok(id) => InitProducerResponse {
                status: Status::ok(),
                producer_id: id.0,
                producer_epoch: 0,
            },
            Err(error) => InitProducerResponse {
                status: error.into(),
                producer_id: -1,
                producer_epoch: -1,
            },
        }
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let (revision, all) = self.broker.topics();
        let node = &self.broker.node;
        let topics = match request.topics {
            None => all.iter().map(|entry| self.topic_metadata(entry)).collect(),
            Some(names) => names
                .into_iter()
                .map(|name| match self.broker.topic(&name) {
                    Ok(entry) => self.topic_metadata(&entry),
                    Err(error) => TopicMetadata {
                        status: error.into(),
                        name,
                        ..TopicMetadata::default()
                    },
                })
                .collect(),
        };
        let this = NodeInfo {
            node_id: node.node_id,
            host: String::new(),
            port: node.port,
            shard_count: node.shard_count,
        };
        MetadataResponse {
            revision,
            nodes: vec![this],
            topics,
        }
    }

    fn topic_metadata(&self, entry: &TopicEntry) -> TopicMetadata {
        let partitions = entry.topic.partition_ids().map(|id| PartitionMetadata {
            partition: id.partition.0,
            leader_node: self.broker.node.node_id,
            leader_shard: self.broker.owner(id).0,
            leader_epoch: 0,
        });
        TopicMetadata {
            status: Status::ok(),
            name: entry.topic.name.to_string(),
            topic_id: entry.topic.id.to_string(),
            partitions: partitions.collect(),
        }
    }

    async fn create_topic(&self, request: CreateTopicRequest) -> CreateTopicResponse {
        let made = self.broker.command(Command::CreateTopic {
            name: request.name,
            partitions: (request.partitions > 0).then_some(request.partitions),
            configs: pairs(request.configs),
            validate_only: request.validate_only,
        });
        match made.await {
            Ok(topic) => CreateTopicResponse {
                status: Status::ok(),
                topic_id: topic.id.to_string(),
                partitions: topic.partitions,
            },
            Err(error) => CreateTopicResponse {
                status: error.into(),
                ..CreateTopicResponse::default()
            },
        }
    }

    async fn describe_topic(&self, name: &str) -> DescribeTopicResponse {
        let description = match self.broker.describe(name).await {
            Ok(description) => description,
            Err(error) => {
                let name = name.to_owned();
                return DescribeTopicResponse {
                    status: error.into(),
                    name,
                    ..DescribeTopicResponse::default()
                };
            }
        };
        let entry = &description.entry;
        let configs = entry.config.entries().map(|(name, value)| ConfigEntry {
            is_set: entry.topic.configs.contains_key(name),
            name: name.to_owned(),
            value,
        });
        let partitions = (0..)
            .zip(entry.topic.partition_ids())
            .zip(description.partitions);
        let partitions = partitions.map(|((partition, id), state)| PartitionDescription {
            partition,
            leader_node: self.broker.node.node_id,
            leader_shard: self.broker.owner(id).0,
            ..partition_state(state)
        });
        DescribeTopicResponse {
            status: Status::ok(),
            name: entry.topic.name.to_string(),
            topic_id: entry.topic.id.to_string(),
            configs: configs.collect(),
            partitions: partitions.collect(),
        }
    }

    fn list_topics(&self) -> ListTopicsResponse {
        let (_, topics) = self.broker.topics();
        let topics = topics.iter().map(|entry| TopicListing {
            name: entry.topic.name.to_string(),
            topic_id: entry.topic.id.to_string(),
            partitions: entry.topic.partitions,
        });
        ListTopicsResponse {
            status: Status::ok(),
            topics: topics.collect(),
        }
    }

    async fn list_offsets(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let questions = request.topics.into_iter().map(|topic| {
            let asked = topic.partitions.into_iter();
            let asked = asked.map(|asked| (asked.partition, Question::Offset(asked.timestamp)));
            (topic.name, asked.collect())
        });
        let answers = self
            .ask(questions.collect(), |answer| match answer {
                calls::Answer::Offset { offset, timestamp } => Ok((offset, timestamp)),
                other => Err(wrong_answer(&other)),
            })
            .await;
        let topics = answers.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, outcome)| {
                let (status, (offset, timestamp)) = settle(outcome, (-1, -1));
                ListOffsetsPartitionResult {
                    partition,
                    status,
                    offset,
                    timestamp,
                }
            });
            ListOffsetsTopicResult {
                name,
                partitions: partitions.collect(),
            }
        });
        ListOffsetsResponse {
            topics: topics.collect(),
        }
    }

    async fn delete_records(&self, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
        let questions = request.topics.into_iter().map(|topic| {
            let asked = topic.partitions.into_iter();
            let asked =
                asked.map(|asked| (asked.partition, Question::DeleteBefore(asked.before_offset)));
            (topic.name, asked.collect())
        });
        let answers = self
            .ask(questions.collect(), |answer| match answer {
                calls::Answer::LogStart(offset) => Ok(offset.0),
                other => Err(wrong_answer(&other)),
            })
            .await;
        let topics = answers.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, outcome)| {
                let (status, log_start) = settle(outcome, -1);
                DeleteRecordsPartitionResult {
                    partition,
                    status,
                    log_start,
                }
            });
            DeleteRecordsTopicResult {
                name,
                partitions: partitions.collect(),
            }
        });
        DeleteRecordsResponse {
            topics: topics.collect(),
        }
    }

    async fn repair(&self, request: RepairPartitionRequest) -> RepairPartitionResponse {
        if !request.accept_data_loss {
            let status = Status::failed(
                ErrorCode::InvalidRequest,
                "a repair drops acknowledged records that the disk lost; say that you accept this",
            );
            return RepairPartitionResponse {
                status,
                log_end: -1,
            };
        }
        let question = vec![(
            request.topic,
            vec![(request.partition, Question::AcceptDataLoss)],
        )];
        let answers = self
            .ask(question, |answer| match answer {
                calls::Answer::LogEnd(offset) => Ok(offset.0),
                other => Err(wrong_answer(&other)),
            })
            .await;
        let outcome = answers
            .into_iter()
            .flat_map(|(_, partitions)| partitions)
            .next();
        let (status, log_end) = match outcome {
            Some((_, outcome)) => settle(outcome, -1),
            None => settle(Err(wrong_answer_missing()), -1),
        };
        RepairPartitionResponse { status, log_end }
    }

    /// Asks about partitions by name; topics and partitions that are not known are answered here.
    async fn ask<T>(
        &self,
        topics: Vec<(String, Vec<(u32, Question)>)>,
        read: impl Fn(calls::Answer) -> Result<T, WireError>,
    ) -> ByTopic<T> {
        let mut questions = Vec::new();
        let mut resolved = Vec::new();
        for (name, asked) in topics {
            let entry = self.broker.topic(&name);
            let asked = asked.into_iter().map(|(number, question)| {
                let id = partition(&entry, number);
                (number, id.map(|id| questions.push((id, question))))
            });
            let asked: Vec<_> = asked.collect();
            resolved.push((name, asked));
        }
        let mut answers = self.broker.ask(questions).await.into_iter();
        let mut next = || {
            answers
                .next()
                .unwrap_or_else(|| Err(wrong_answer_missing()))
        };
        let mut result = Vec::with_capacity(resolved.len());
        for (name, asked) in resolved {
            let answered = asked
                .into_iter()
                .map(|(number, known)| (number, known.and_then(|()| next()).and_then(&read)));
            result.push((name, answered.collect()));
        }
        result
    }
}

fn partition(
    entry: &Result<std::rc::Rc<TopicEntry>, WireError>,
    number: u32,
) -> Result<PartitionId, WireError> {
    match entry {
        Ok(entry) => entry.partition(number),
        Err(error) => Err(error.clone()),
    }
}

fn fetch_result(
    partition: u32,
    outcome: calls::ReadOutcome,
    attachments: &mut Vec<Bytes>,
) -> FetchPartitionResult {
    let (high_watermark, log_start) = (outcome.high_watermark.0, outcome.log_start.0);
    let records_bytes = outcome.bytes() as u32;
    let status = match outcome.batches {
        Ok(batches) => {
            attachments.extend(batches);
            Status::ok()
        }
        Err(error) => error.into(),
    };
    FetchPartitionResult {
        partition,
        status,
        high_watermark,
        log_start,
        records_bytes,
    }
}

fn partition_state(state: Result<calls::Description, WireError>) -> PartitionDescription {
    match state {
        Ok(state) => PartitionDescription {
            status: state.trouble.map_or_else(Status::ok, Status::from),
            log_start: state.log_start.0,
            high_watermark: state.high_watermark.0,
            log_end: state.log_end.0,
            size_bytes: state.size_bytes,
            ..PartitionDescription::default()
        },
        Err(error) => PartitionDescription {
            status: error.into(),
            log_start: -1,
            high_watermark: -1,
            log_end: -1,
            ..PartitionDescription::default()
        },
    }
}

fn settle<T>(outcome: Result<T, WireError>, otherwise: T) -> (Status, T) {
    match outcome {
        Ok(value) => (Status::ok(), value),
        Err(error) => (error.into(), otherwise),
    }
}

fn pairs(entries: Vec<ConfigEntry>) -> Vec<(String, String)> {
    entries
        .into_iter()
        .map(|entry| (entry.name, entry.value))
        .collect()
}

fn wrong_answer_missing() -> WireError {
    WireError::new(
        ErrorCode::Unknown,
        "the broker gave fewer answers than there were questions",
    )
}
