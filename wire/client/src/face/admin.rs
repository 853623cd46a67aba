//! Topics, their configuration, and questions about them.

use std::time::Duration;

use crate::messages::{DescribeTopicResponse, MetadataResponse, StatsResponse, TopicListing};
use crate::{Client, ClientError};

/// Makes, describes and removes topics. Cloning is cheap.
///
/// Questions are asked again when a connection breaks; what changes something is not, and fails
/// with [`ClientError::ConnectionLost`], since it may have taken effect.
#[derive(Clone, Debug)]
pub struct Admin {
    pub(super) _client: Client,
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
        let _ = topic;
        Err(ClientError::Closed)
    }

    /// Removes a topic and its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let _ = name;
        Err(ClientError::Closed)
    }

    /// All topics, sorted by name.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>, ClientError> {
        Err(ClientError::Closed)
    }

    /// Everything about one topic.
    pub async fn describe_topic(&self, name: &str) -> Result<DescribeTopicResponse, ClientError> {
        let _ = name;
        Err(ClientError::Closed)
    }

    /// Sets and unsets entries of a topic's configuration.
    pub async fn alter_topic_config(
        &self,
        name: &str,
        change: ConfigChange,
    ) -> Result<(), ClientError> {
        let _ = (name, change);
        Err(ClientError::Closed)
    }

    /// Grows a topic to `total` partitions. Keys may then map to other partitions than before.
    pub async fn create_partitions(
        &self,
        name: &str,
        total: u32,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let _ = (name, total, validate_only);
        Err(ClientError::Closed)
    }

    /// Deletes the records before an offset in each of these partitions; none deletes all that can
    /// be read now. One result per partition, in the order asked.
    pub async fn delete_records(
        &self,
        before: &[(&str, u32, Option<i64>)],
    ) -> Result<Vec<DeletedRecords>, ClientError> {
        let _ = before;
        Err(ClientError::Closed)
    }

    /// Asks for offsets by meaning or by time. One answer per question, in the order asked.
    pub async fn list_offsets(
        &self,
        questions: &[(&str, u32, OffsetQuery)],
    ) -> Result<Vec<ListedOffset>, ClientError> {
        let _ = questions;
        Err(ClientError::Closed)
    }

    /// Nodes and topics: of all topics, or of those named. A topic that does not exist is there
    /// with its error.
    pub async fn metadata(&self, topics: Option<&[&str]>) -> Result<MetadataResponse, ClientError> {
        let _ = topics;
        Err(ClientError::Closed)
    }

    /// Tells a damaged partition to serve again without the acknowledged records that its disk
    /// lost. Gives the next offset to be assigned, where the log was cut.
    pub async fn repair_partition(
        &self,
        topic: &str,
        partition: u32,
        accept_data_loss: bool,
    ) -> Result<i64, ClientError> {
        let _ = (topic, partition, accept_data_loss);
        Err(ClientError::Closed)
    }

    /// Counters and latency histograms of every shard.
    pub async fn stats(&self) -> Result<StatsResponse, ClientError> {
        Err(ClientError::Closed)
    }

    /// Whether the broker is there, and how far away.
    pub async fn ping(&self) -> Result<Pong, ClientError> {
        Err(ClientError::Closed)
    }
}
