//! What a run asks of a broker beside its load in Kafka's protocol, over a blocking socket. A load
//! goes to one broker, so all partitions must be led by one. What only Millrace tells of itself is
//! asked in its own protocol if the broker speaks that, too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use millrace_wire::ids::{ProducerEpoch, ProducerId};
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig,
};
use millrace_wire::kafka::control::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsTopic,
};
use millrace_wire::kafka::control::messages::metadata_request::MetadataRequestTopic;
use millrace_wire::kafka::control::messages::metadata_response::MetadataResponseTopic;
use millrace_wire::kafka::control::messages::{
    ApiVersionsRequest, BrokerId, CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, TopicName,
};
use millrace_wire::kafka::control::{
    RequestKind, ResponseError, ResponseKind, StrBytes, read_response, write_request,
};

use super::kafka::{CLIENT_ID, error_name};
use super::native_admin::NativeAdmin;
use super::{
    ADMIN_PATIENCE, Admin, GREETING_PATIENCE, Place, ProducerIdentity, ProtocolError, Stage,
    TopicIndex, TopicSpec, be_patient, broken, connect,
};

/// How long a broker may take to say whether it speaks Millrace's own protocol.
const NATIVE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a new topic may be without leaders.
const LEADER_PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer that is read. Metadata of ten thousand partitions has less than one.
const MOST_ANSWER_BYTES: usize = 64 << 20;

/// As the broker sees fit.
const DEFAULT_REPLICATION: i16 = -1;

/// A connection of Kafka's kind.
pub struct KafkaAdmin {
    address: SocketAddr,
    stream: TcpStream,
    /// The same broker in Millrace's own protocol.
    native: Option<NativeAdmin>,
}

impl KafkaAdmin {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Result<KafkaAdmin, ProtocolError> {
        let mut admin = KafkaAdmin {
            address,
            stream: connect(address, GREETING_PATIENCE)?,
            native: None,
        };
        // Any broker answers this, and so it is seen whether there is one.
        admin.ask(ApiKey::ApiVersions, 0, ApiVersionsRequest::default())?;
        be_patient(address, &admin.stream)?;
        admin.native = NativeAdmin::connect_within(address, NATIVE_PATIENCE).ok();
        Ok(admin)
    }

    fn ask(
        &mut self,
        key: ApiKey,
        version: i16,
        request: impl Into<RequestKind>,
    ) -> Result<ResponseKind, ProtocolError> {
        let malformed = |error: &dyn std::fmt::Display| ProtocolError::Malformed(error.to_string());
        let mut frame = BytesMut::new();
        write_request(key, version, 1, CLIENT_ID, &request.into(), &mut frame)
            .map_err(|error| malformed(&error))?;
        let asked = self.stream.write_all(&frame);
        asked.map_err(|error| broken(self.address, error))?;
        let mut length = [0; 4];
        let read = self.stream.read_exact(&mut length);
        read.map_err(|error| broken(self.address, error))?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MOST_ANSWER_BYTES {
            let text = format!("an answer of {length} bytes");
            return Err(ProtocolError::Malformed(text));
        }
        let mut payload = vec![0; length];
        let read = self.stream.read_exact(&mut payload);
        read.map_err(|error| broken(self.address, error))?;
        let answer = read_response(key, version, Bytes::from(payload));
        let (_, response) = answer.map_err(|error| malformed(&error))?;
        Ok(response)
    }

    /// A topic's metadata, once all of its partitions have a leader.
    fn topic(&mut self, name: &str) -> Result<MetadataResponseTopic, ProtocolError> {
        const VERSION: i16 = 8;
        let patience = Instant::now() + LEADER_PATIENCE;
        loop {
            let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            let request = MetadataRequest::default()
                .with_topics(Some(vec![wanted]))
                .with_allow_auto_topic_creation(false);
            let ResponseKind::Metadata(mut metadata) =
                self.ask(ApiKey::Metadata, VERSION, request)?
            else {
                return Err(unexpected(ApiKey::Metadata));
            };
            let Some(topic) = metadata.topics.pop() else {
                return Err(ProtocolError::Malformed("no topic in it".to_owned()));
            };
            let partitions = topic
                .partitions
                .iter()
                .map(|partition| partition.error_code);
            let errors = [topic.error_code].into_iter().chain(partitions);
            let error = errors.filter_map(ResponseError::try_from_code).next();
            match error {
                None => return Ok(topic),
                // A cluster that was just told of a topic needs a moment.
                Some(error) if error.is_retriable() && Instant::now() < patience => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Some(error) => {
                    return Err(ProtocolError::Refused {
                        what: format!("tell about the topic '{name}'"),
                        message: error.to_string(),
                    });
                }
            }
        }
    }
}

impl Admin for KafkaAdmin {
    fn broker_version(&self) -> String {
        match &self.native {
            Some(native) => format!("{}, through Kafka's protocol", native.broker_version()),
            None => "one that speaks Kafka's protocol".to_owned(),
        }
    }

    fn create_topic(&mut self, topic: &TopicSpec) -> Result<(), ProtocolError> {
        const VERSION: i16 = 5;
        let configs = topic.configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        });
        let wanted = CreatableTopic::default()
            .with_name(topic_name(&topic.name))
            .with_num_partitions(i32::try_from(topic.partitions).unwrap_or(i32::MAX))
            .with_replication_factor(DEFAULT_REPLICATION)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(patience_ms());
        let ResponseKind::CreateTopics(made) = self.ask(ApiKey::CreateTopics, VERSION, request)?
        else {
            return Err(unexpected(ApiKey::CreateTopics));
        };
        let what = || format!("make the topic '{}'", topic.name);
        let results = made.topics.iter();
        each_well(
            what,
            results.map(|it| (it.error_code, it.error_message.as_deref())),
        )
    }

    fn delete_topic(&mut self, name: &str) -> Result<(), ProtocolError> {
        const VERSION: i16 = 5;
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(name)])
            .with_timeout_ms(patience_ms());
        let ResponseKind::DeleteTopics(gone) = self.ask(ApiKey::DeleteTopics, VERSION, request)?
        else {
            return Err(unexpected(ApiKey::DeleteTopics));
        };
        let what = || format!("delete the topic '{name}'");
        let results = gone.responses.iter();
        each_well(
            what,
            results.map(|it| (it.error_code, it.error_message.as_deref())),
        )
    }

    fn places(&mut self, index: TopicIndex, name: &str) -> Result<Vec<Place>, ProtocolError> {
        let mut partitions = self.topic(name)?.partitions;
        partitions.sort_unstable_by_key(|partition| partition.partition_index);
        let first = partitions.first().map(|partition| partition.leader_id);
        if partitions
            .iter()
            .any(|partition| Some(partition.leader_id) != first)
        {
            return Err(ProtocolError::Refused {
                what: format!("serve all of '{name}'"),
                message: "its partitions are led by several brokers, and a load goes to one: \
                    measure a cluster of one broker"
                    .to_owned(),
            });
        }
        let places = partitions.iter().map(|partition| Place {
            topic: index,
            partition: partition.partition_index.cast_unsigned(),
            shard: 0,
        });
        Ok(places.collect())
    }

    fn ends(&mut self, index: TopicIndex, name: &str) -> Result<Vec<(Place, i64)>, ProtocolError> {
        const VERSION: i16 = 5;
        const LATEST: i64 = -1;
        const CLIENT: BrokerId = BrokerId(-1);
        let places = self.places(index, name)?;
        let latest = |place: &Place| {
            ListOffsetsPartition::default()
                .with_partition_index(place.partition.cast_signed())
                .with_timestamp(LATEST)
        };
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(name))
            .with_partitions(places.iter().map(latest).collect());
        let request = ListOffsetsRequest::default()
            .with_replica_id(CLIENT)
            .with_topics(vec![topic]);
        let ResponseKind::ListOffsets(answer) = self.ask(ApiKey::ListOffsets, VERSION, request)?
        else {
            return Err(unexpected(ApiKey::ListOffsets));
        };
        let results = || answer.topics.iter().flat_map(|topic| &topic.partitions);
        let what = || format!("tell the ends of '{name}'");
        each_well(what, results().map(|result| (result.error_code, None)))?;
        let offsets: HashMap<i32, i64> = results()
            .map(|result| (result.partition_index, result.offset))
            .collect();
        let ends = places.into_iter().map(|place| {
            let offset = offsets.get(&place.partition.cast_signed());
            let missing = || format!("no end of partition {} in it", place.partition);
            let offset = offset.ok_or_else(|| ProtocolError::Malformed(missing()))?;
            Ok((place, *offset))
        });
        ends.collect()
    }

    fn new_producer(&mut self) -> Result<ProducerIdentity, ProtocolError> {
        const VERSION: i16 = 3;
        let ResponseKind::InitProducerId(given) = self.ask(
            ApiKey::InitProducerId,
            VERSION,
            InitProducerIdRequest::default().with_transactional_id(None),
        )?
        else {
            return Err(unexpected(ApiKey::InitProducerId));
        };
        let what = || "give a producer id".to_owned();
        each_well(what, [(given.error_code, None)].into_iter())?;
        Ok(ProducerIdentity {
            id: ProducerId(given.producer_id.0),
            epoch: ProducerEpoch(given.producer_epoch),
        })
    }

    fn stages(&mut self) -> Result<Vec<Stage>, ProtocolError> {
        self.native.as_mut().map_or(Ok(Vec::new()), Admin::stages)
    }

    fn counters(&mut self) -> Result<Vec<(String, u64)>, ProtocolError> {
        self.native.as_mut().map_or(Ok(Vec::new()), Admin::counters)
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn patience_ms() -> i32 {
    i32::try_from(ADMIN_PATIENCE.as_millis()).expect("minutes")
}

/// Whether every result of a request is a good one.
fn each_well<'a>(
    what: impl FnOnce() -> String,
    results: impl Iterator<Item = (i16, Option<&'a str>)>,
) -> Result<(), ProtocolError> {
    let mut failed = results.filter(|(code, _)| *code != 0);
    match failed.next() {
        None => Ok(()),
        Some((code, message)) => Err(ProtocolError::Refused {
            what: what(),
            message: message.map_or_else(|| error_name(code), str::to_owned),
        }),
    }
}

fn unexpected(key: ApiKey) -> ProtocolError {
    ProtocolError::Malformed(format!("not an answer to {}", key.name()))
}
