//! Topics, their configuration, and questions about them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_wire::native::messages::*;
use millrace_wire::native::{Request, Response};
use tokio::sync::oneshot;

use super::shared::Shared;
use crate::core::RequestId;
use crate::{Client, ClientError};

/// Awaits an answer and takes the expected kind out of it.
macro_rules! answer {
    ($call:expr, $kind:ident) => {
        match $call.await {
            Ok(Response::$kind(answer)) => Ok(answer),
            Ok(_) => Err(ClientError::invalid(
                "the broker does not answer what was asked",
            )),
            Err(error) => Err(error),
        }
    };
}

/// Makes, describes and removes topics, and looks after groups. Cloning is cheap.
///
/// Questions are asked again when a connection breaks; what changes something is not, and fails
/// with [`ClientError::ConnectionLost`], since it may have taken effect.
#[derive(Clone, Debug)]
pub struct Admin {
    pub(super) client: Client,
}

/// A topic to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; 0 takes the broker's default.
    pub partitions: u32,
    /// Configuration, in Kafka's names.
    pub configs: Vec<(String, String)>,
    /// Check only, change nothing.
    pub validate_only: bool,
}

impl NewTopic {
    /// A topic with this many partitions (0: the broker's default).
    pub fn new(name: impl Into<String>, partitions: u32) -> NewTopic {
        NewTopic {
            name: name.into(),
            partitions,
            ..NewTopic::default()
        }
    }

    /// With this configuration entry.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> NewTopic {
        self.configs.push((name.into(), value.into()));
        self
    }
}

/// A topic that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id, 32 hex digits.
    pub topic_id: String,
    /// How many partitions it has.
    pub partitions: u32,
}

/// A change of a topic's configuration; what it does not name stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChange {
    /// Entries to set.
    pub set: Vec<(String, String)>,
    /// Names to return to their default.
    pub unset: Vec<String>,
    /// Check only, change nothing.
    pub validate_only: bool,
}

/// A question about offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The oldest retained offset.
    Earliest,
    /// The first offset that cannot be read yet.
    Latest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record at or after this time, ms since 1970.
    AtTimestamp(i64),
}

/// An answer about offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset, none where no record is that young; or why there is no answer.
    pub offset: Result<Option<i64>, ClientError>,
    /// The record's timestamp, for questions by time.
    pub timestamp: Option<i64>,
}

/// What became of a deletion in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedRecords {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The oldest retained offset now, or why nothing was deleted.
    pub log_start: Result<i64, ClientError>,
}

/// The answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// How long the answer took.
    pub round_trip: Duration,
    /// The broker's wall clock, ms since 1970.
    pub broker_time_ms: i64,
}

impl Admin {
    /// Makes a topic.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<CreatedTopic, ClientError> {
        let request = CreateTopicRequest {
            name: topic.name.clone(),
            partitions: topic.partitions,
            configs: entries(topic.configs),
            validate_only: topic.validate_only,
        };
        let answer = answer!(self.change(request), CreateTopic)?;
        ClientError::check(&answer.status)?;
        let CreateTopicResponse {
            topic_id,
            partitions,
            ..
        } = answer;
        Ok(CreatedTopic {
            name: topic.name,
            topic_id,
            partitions,
        })
    }

    /// Removes a topic and its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = DeleteTopicRequest { name: name.into() };
        ClientError::check(&answer!(self.change(request), DeleteTopic)?.status)
    }

    /// All topics, sorted by name.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>, ClientError> {
        let answer = answer!(self.ask(ListTopicsRequest {}), ListTopics)?;
        ClientError::check(&answer.status)?;
        Ok(answer.topics)
    }

    /// Everything about one topic.
    pub async fn describe_topic(&self, name: &str) -> Result<DescribeTopicResponse, ClientError> {
        let request = DescribeTopicRequest { name: name.into() };
        let answer = answer!(self.ask(request), DescribeTopic)?;
        ClientError::check(&answer.status)?;
        Ok(answer)
    }

    /// Sets and unsets entries of a topic's configuration.
    pub async fn alter_topic_config(
        &self,
        name: &str,
        change: ConfigChange,
    ) -> Result<(), ClientError> {
        let request = AlterTopicConfigRequest {
            name: name.into(),
            set: entries(change.set),
            unset: change.unset,
            validate_only: change.validate_only,
        };
        ClientError::check(&answer!(self.change(request), AlterTopicConfig)?.status)
    }

    /// Grows a topic to `total` partitions. Keys may then map to other partitions than before.
    pub async fn create_partitions(
        &self,
        name: &str,
        total: u32,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            name: name.into(),
            total_partitions: total,
            validate_only,
        };
        ClientError::check(&answer!(self.change(request), CreatePartitions)?.status)
    }

    /// Deletes the records before an offset in each of these partitions; none deletes all that can
    /// be read now. One result per partition, in the order asked.
    pub async fn delete_records(
        &self,
        before: &[(&str, u32, Option<i64>)],
    ) -> Result<Vec<DeletedRecords>, ClientError> {
        let mut topics: Vec<DeleteRecordsTopic> = Vec::new();
        for (name, partition, offset) in before {
            if topics.last().is_none_or(|topic| topic.name != *name) {
                topics.push(DeleteRecordsTopic {
                    name: (*name).into(),
                    partitions: Vec::new(),
                });
            }
            if let Some(topic) = topics.last_mut() {
                let before_offset = offset.unwrap_or(-1);
                let partition = *partition;
                topic.partitions.push(DeleteRecordsPartition {
                    partition,
                    before_offset,
                });
            }
        }
        // Repeatable: what is gone stays gone.
        let answer = answer!(self.ask(DeleteRecordsRequest { topics }), DeleteRecords)?;
        let results = answer.topics.into_iter().flat_map(|topic| {
            let name = topic.name;
            topic
                .partitions
                .into_iter()
                .map(move |result| DeletedRecords {
                    topic: name.clone(),
                    partition: result.partition,
                    log_start: ClientError::check(&result.status).map(|()| result.log_start),
                })
        });
        Ok(results.collect())
    }

    /// Asks for offsets by meaning or by time. One answer per question, in the order asked.
    pub async fn list_offsets(
        &self,
        questions: &[(&str, u32, OffsetQuery)],
    ) -> Result<Vec<ListedOffset>, ClientError> {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        for (name, partition, query) in questions {
            if topics.last().is_none_or(|topic| topic.name != *name) {
                topics.push(ListOffsetsTopic {
                    name: (*name).into(),
                    partitions: Vec::new(),
                });
            }
            if let Some(topic) = topics.last_mut() {
                let (partition, timestamp) = (*partition, query.timestamp());
                topic.partitions.push(ListOffsetsPartition {
                    partition,
                    timestamp,
                });
            }
        }
        let answer = answer!(self.ask(ListOffsetsRequest { topics }), ListOffsets)?;
        let results = answer.topics.into_iter().flat_map(|topic| {
            let name = topic.name;
            topic
                .partitions
                .into_iter()
                .map(move |result| ListedOffset {
                    topic: name.clone(),
                    partition: result.partition,
                    offset: ClientError::check(&result.status)
                        .map(|()| Some(result.offset).filter(|offset| *offset >= 0)),
                    timestamp: Some(result.timestamp).filter(|ms| *ms >= 0),
                })
        });
        Ok(results.collect())
    }

    /// Nodes and topics: of all topics, or of those named. A topic that does not exist is there
    /// with its error.
    pub async fn metadata(&self, topics: Option<&[&str]>) -> Result<MetadataResponse, ClientError> {
        let topics = topics.map(|names| names.iter().map(|name| (*name).to_string()).collect());
        answer!(self.ask(MetadataRequest { topics }), Metadata)
    }

    /// Tells a damaged partition to serve again without the acknowledged records that its disk
    /// lost. Gives the next offset to be assigned, where the log was cut.
    pub async fn repair_partition(
        &self,
        topic: &str,
        partition: u32,
        accept_data_loss: bool,
    ) -> Result<i64, ClientError> {
        let request = RepairPartitionRequest {
            topic: topic.into(),
            partition,
            accept_data_loss,
        };
        let answer = answer!(self.change(request), RepairPartition)?;
        ClientError::check(&answer.status)?;
        Ok(answer.log_end)
    }

    /// Counters and latency histograms of every shard.
    pub async fn stats(&self) -> Result<StatsResponse, ClientError> {
        answer!(self.ask(StatsRequest {}), Stats)
    }

    /// Whether the broker is there, and how far away.
    pub async fn ping(&self) -> Result<Pong, ClientError> {
        let begun = Instant::now();
        let answer = answer!(self.ask(PingRequest {}), Ping)?;
        Ok(Pong {
            round_trip: begun.elapsed(),
            broker_time_ms: answer.time_ms,
        })
    }

    /// A question: asked again if the connection breaks.
    pub(super) async fn ask(&self, request: impl Into<Request>) -> Result<Response, ClientError> {
        self.call(request.into(), true).await
    }

    /// Something that must not be done twice without being asked.
    pub(super) async fn change(
        &self,
        request: impl Into<Request>,
    ) -> Result<Response, ClientError> {
        self.call(request.into(), false).await
    }

    async fn call(&self, request: Request, repeatable: bool) -> Result<Response, ClientError> {
        let shared = &self.client.0.shared;
        let (sender, reply) = oneshot::channel();
        let id = shared.with(|inner, now| {
            let id = inner.core.request(now, request, repeatable);
            inner.replies.insert(id, sender);
            id
        });
        let _cancel = Cancel { shared, id };
        reply.await.map_err(|_| ClientError::Closed)?
    }
}

/// Forgets a request when nobody waits for it any more.
struct Cancel<'a> {
    shared: &'a Arc<Shared>,
    id: RequestId,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        if inner.replies.remove(&self.id).is_some() {
            inner.core.cancel(self.id);
        }
    }
}

impl OffsetQuery {
    /// How it is asked on the wire.
    fn timestamp(self) -> i64 {
        match self {
            OffsetQuery::Latest => -1,
            OffsetQuery::Earliest => -2,
            OffsetQuery::MaxTimestamp => -3,
            OffsetQuery::AtTimestamp(ms) => ms.max(0),
        }
    }
}

fn entries(configs: Vec<(String, String)>) -> Vec<ConfigEntry> {
    let entry = |(name, value)| ConfigEntry {
        name,
        value,
        is_set: true,
    };
    configs.into_iter().map(entry).collect()
}
