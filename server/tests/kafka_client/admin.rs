//! A Kafka client that administers a broker of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use millrace_wire::batch::Compression;
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::messages::create_topics_request::CreatableTopic;
use millrace_wire::kafka::control::messages::create_topics_response::CreatableTopicResult;
use millrace_wire::kafka::control::messages::metadata_response::MetadataResponseTopic;
use millrace_wire::kafka::control::messages::{self as m, BrokerId};
use millrace_wire::kafka::control::{ResponseKind, Uuid};

use super::{KafkaClient, batch, produce, topic_name};
use crate::process::Broker;

/// The answer, which is of this kind.
#[macro_export]
macro_rules! expect {
    ($response:expr, $kind:ident) => {
        match $response {
            ResponseKind::$kind(response) => response,
            other => panic!("{other:?}"),
        }
    };
}

// Kafka's errors.
pub const NONE: i16 = 0;
pub const OFFSET_OUT_OF_RANGE: i16 = 1;
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub const INVALID_TOPIC: i16 = 17;
pub const TOPIC_ALREADY_EXISTS: i16 = 36;
pub const INVALID_PARTITIONS: i16 = 37;
pub const INVALID_REPLICATION_FACTOR: i16 = 38;
pub const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
pub const INVALID_CONFIG: i16 = 40;
pub const INVALID_REQUEST: i16 = 42;
pub const ELECTION_NOT_NEEDED: i16 = 84;
pub const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
pub const UNKNOWN_TOPIC_ID: i16 = 100;

/// A node that is not there.
pub const NOBODY: BrokerId = BrokerId(7_777);

/// The lowest and the highest version that is served.
pub fn ends(key: ApiKey) -> [i16; 2] {
    let versions = key.versions().expect("it is served");
    [versions.min, versions.max]
}

/// A broker, and a client that administers it.
pub struct Admin {
    pub client: KafkaClient,
    broker: Broker,
    _data: tempfile::TempDir,
}

impl Admin {
    pub fn start() -> Admin {
        Admin::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Admin {
        let data = tempfile::tempdir().expect("a directory");
        let broker = Broker::start(data.path(), &[&["--shards", "2"], arguments].concat());
        Admin {
            client: KafkaClient::connect(broker.address),
            broker,
            _data: data,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.broker.address
    }

    /// All topics, by name.
    pub fn topics(&mut self) -> BTreeMap<String, MetadataResponseTopic> {
        let all = m::MetadataRequest::default().with_topics(None);
        let metadata = expect!(self.client.ask(ApiKey::Metadata, 12, all), Metadata);
        let named = metadata.topics.into_iter().map(|topic| {
            let name = topic.name.as_ref().expect("a name").to_string();
            (name, topic)
        });
        named.collect()
    }

    pub fn names(&mut self) -> Vec<String> {
        self.topics().into_keys().collect()
    }

    pub fn partitions(&mut self, topic: &str) -> usize {
        self.topics()[topic].partitions.len()
    }

    pub fn id(&mut self, topic: &str) -> Uuid {
        self.topics()[topic].topic_id
    }

    pub fn this_node(&mut self) -> BrokerId {
        let request = m::DescribeClusterRequest::default();
        let answer = self.client.ask(ApiKey::DescribeCluster, 0, request);
        expect!(answer, DescribeCluster).brokers[0].broker_id
    }

    pub fn create(
        &mut self,
        version: i16,
        topics: Vec<CreatableTopic>,
        validate_only: bool,
    ) -> Vec<CreatableTopicResult> {
        let request = m::CreateTopicsRequest::default()
            .with_topics(topics)
            .with_validate_only(validate_only)
            .with_timeout_ms(10_000);
        let answer = self.client.ask(ApiKey::CreateTopics, version, request);
        expect!(answer, CreateTopics).topics
    }

    #[track_caller]
    pub fn must_create(&mut self, name: &str, partitions: i32) {
        let made = self.create(7, vec![topic(name, partitions, 1)], false);
        assert_eq!(made[0].error_code, NONE, "{made:?}");
    }

    /// Appends records to a partition, one batch.
    pub fn produce(&mut self, topic: &str, partition: i32, values: &[&str]) {
        let records = batch(values, Compression::None);
        let request = produce(topic, partition, -1, records);
        let answer = expect!(self.client.ask(ApiKey::Produce, 9, request), Produce);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, NONE);
    }
}

pub fn topic(name: &str, partitions: i32, factor: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(factor)
}
