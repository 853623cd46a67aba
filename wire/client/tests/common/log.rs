//! A broker's memory, for tests: topics, partitions and batches, and what it answers to requests.
//! It does no I/O; the tests of the core and those of the tokio face share it.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use millrace_wire::batch::{BatchHeader, batch_producer, set_base_offset};
use millrace_wire::error::ErrorCode;
use millrace_wire::ids::Offset;
use millrace_wire::native::messages::*;
use millrace_wire::native::{Request, Response};

pub const CLUSTER: &str = "0123456789abcdef0123456789abcdef";

#[derive(Debug, Default)]
pub struct Partition {
    /// Base offset and bytes of each batch.
    pub batches: Vec<(i64, Bytes)>,
    pub start: i64,
    pub end: i64,
    /// What is remembered of idempotent producers, by their ids.
    pub producers: BTreeMap<i64, Remembered>,
}

/// The batches of an idempotent producer that are known again.
#[derive(Debug, Default)]
pub struct Remembered {
    epoch: i16,
    /// Sequence numbers of the first and the last record, and the base offset.
    batches: VecDeque<(i32, i32, i64)>,
}

/// As many as Kafka knows again.
const BATCHES_KNOWN_AGAIN: usize = 5;

#[derive(Debug)]
pub struct FakeLog {
    pub shards: u16,
    pub port: u16,
    pub revision: u64,
    pub topics: BTreeMap<String, Vec<Partition>>,
    /// Added to a partition's number to find its shard; changing it moves partitions about.
    pub turn: u16,
    /// Partitions named in fetch requests, and fetch requests, so far.
    pub fetched_partitions: usize,
    pub fetches: usize,
    /// Connections stay on the shard that accepted them.
    pub refuse_moves: bool,
    /// A shard does not serve partitions of another.
    pub strict: bool,
    /// The most requests that a connection may have unanswered.
    pub max_in_flight: u32,
    /// The next id for an idempotent producer.
    pub next_producer: i64,
    /// Every batch that came to a partition, stored or not.
    pub received: Vec<(u32, Bytes)>,
}

/// What to do with a request.
pub enum Answer {
    Now(Response, Vec<Bytes>),
    /// A fetch that waits for data, at most this long (ms).
    Park(FetchRequest),
    /// There is nothing to answer.
    Nothing,
}

impl FakeLog {
    pub fn new(shards: u16, port: u16) -> FakeLog {
        FakeLog {
            shards,
            port,
            revision: 1,
            topics: BTreeMap::new(),
            turn: 0,
            fetched_partitions: 0,
            fetches: 0,
            refuse_moves: false,
            strict: false,
            max_in_flight: 64,
            next_producer: 0,
            received: Vec::new(),
        }
    }

    pub fn create(&mut self, name: &str, partitions: u32) {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        self.topics.insert(name.into(), partitions);
        self.revision += 1;
    }

    pub fn owner(&self, partition: u32) -> u16 {
        ((partition + u32::from(self.turn)) % u32::from(self.shards)) as u16
    }

    fn partition(&mut self, topic: &str, partition: u32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.get_mut(partition as usize)
    }

    /// Answers as the shard `shard`.
    pub fn answer(&mut self, shard: u16, request: Request, mut attachments: BytesMut) -> Answer {
        let response = match request {
            Request::Handshake(request) => self.shake(request, shard).into(),
            Request::Ping(_) => PingResponse { time_ms: 42 }.into(),
            Request::Metadata(request) => self.metadata(request).into(),
            Request::CreateTopic(request) => self.create_topic(request).into(),
            Request::ListTopics(_) => self.list().into(),
            Request::ListOffsets(request) => self.offsets(request).into(),
            Request::InitProducer(_) => {
                self.next_producer += 1;
                InitProducerResponse {
                    status: Status::ok(),
                    producer_id: self.next_producer - 1,
                    producer_epoch: 0,
                }
                .into()
            }
            Request::Produce(request) => {
                let silent = request.acks == 0;
                let response = self.produce(shard, request, &mut attachments);
                if silent {
                    return Answer::Nothing;
                }
                response.into()
            }
            Request::Fetch(request) => {
                self.fetches += 1;
                self.fetched_partitions += request
                    .topics
                    .iter()
                    .map(|topic| topic.partitions.len())
                    .sum::<usize>();
                return match self.fetch(&request) {
                    Some((response, data)) => Answer::Now(response.into(), data),
                    None => Answer::Park(request),
                };
            }
            other => Response::Error(Status::failed(
                ErrorCode::InvalidRequest,
                format!("this broker does not know {:?}", other.kind()),
            )),
        };
        Answer::Now(response, Vec::new())
    }

    fn shake(&self, request: HandshakeRequest, shard: u16) -> HandshakeResponse {
        HandshakeResponse {
            status: Status::ok(),
            version: 1,
            cluster_id: CLUSTER.into(),
            node_id: 1,
            boot_epoch: 1,
            shard: request
                .wanted_shard
                .filter(|wanted| *wanted < self.shards && !self.refuse_moves)
                .unwrap_or(shard),
            shard_count: self.shards,
            max_frame_bytes: 100 << 20,
            max_in_flight: self.max_in_flight,
            broker_version: "test".into(),
        }
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let names = request
            .topics
            .unwrap_or_else(|| self.topics.keys().cloned().collect());
        let topics = names
            .into_iter()
            .map(|name| self.topic_metadata(name))
            .collect();
        let (host, shard_count) = (String::new(), self.shards);
        let nodes = vec![NodeInfo {
            node_id: 1,
            host,
            port: self.port,
            shard_count,
        }];
        MetadataResponse {
            revision: self.revision,
            nodes,
            topics,
        }
    }

    fn topic_metadata(&self, name: String) -> TopicMetadata {
        let Some(partitions) = self.topics.get(&name) else {
            return TopicMetadata {
                status: unknown(),
                name,
                ..TopicMetadata::default()
            };
        };
        let partitions = (0..partitions.len() as u32).map(|partition| PartitionMetadata {
            partition,
            leader_node: 1,
            leader_shard: self.owner(partition),
            leader_epoch: 1,
        });
        TopicMetadata {
            name,
            partitions: partitions.collect(),
            ..TopicMetadata::default()
        }
    }

    fn create_topic(&mut self, request: CreateTopicRequest) -> CreateTopicResponse {
        if self.topics.contains_key(&request.name) {
            let message = format!("topic '{}' exists", request.name);
            let status = Status::failed(ErrorCode::TopicAlreadyExists, message);
            return CreateTopicResponse {
                status,
                ..CreateTopicResponse::default()
            };
        }
        let partitions = request.partitions.max(1);
        self.create(&request.name, partitions);
        CreateTopicResponse {
            partitions,
            ..CreateTopicResponse::default()
        }
    }

    fn list(&self) -> ListTopicsResponse {
        let topics = self.topics.iter().map(|(name, partitions)| TopicListing {
            name: name.clone(),
            topic_id: String::new(),
            partitions: partitions.len() as u32,
        });
        ListTopicsResponse {
            status: Status::ok(),
            topics: topics.collect(),
        }
    }

    fn offsets(&mut self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let mut topics = Vec::new();
        for topic in request.topics {
            let mut partitions = Vec::new();
            for asked in topic.partitions {
                let found = self.partition(&topic.name, asked.partition);
                let (status, offset) = match found {
                    None => (unknown(), -1),
                    Some(partition) => (
                        Status::ok(),
                        match asked.timestamp {
                            -1 => partition.end,
                            -2 => partition.start,
                            at => partition.first_since(at),
                        },
                    ),
                };
                partitions.push(ListOffsetsPartitionResult {
                    partition: asked.partition,
                    status,
                    offset,
                    timestamp: -1,
                });
            }
            topics.push(ListOffsetsTopicResult {
                name: topic.name,
                partitions,
            });
        }
        ListOffsetsResponse { topics }
    }

    pub fn produce(
        &mut self,
        shard: u16,
        request: ProduceRequest,
        attachments: &mut BytesMut,
    ) -> ProduceResponse {
        let mut topics = Vec::new();
        for topic in request.topics {
            let mut partitions = Vec::new();
            for asked in topic.partitions {
                let twice = partitions
                    .iter()
                    .any(|p: &ProducePartitionResult| p.partition == asked.partition);
                assert!(!twice, "a request carries one batch of a partition");
                let batch = attachments.split_to(asked.batch_bytes as usize);
                self.received
                    .push((asked.partition, Bytes::copy_from_slice(&batch)));
                let elsewhere = self.strict && self.owner(asked.partition) != shard;
                let (status, base_offset) = match self.partition(&topic.name, asked.partition) {
                    Some(_) if elsewhere => (Status::failed(ErrorCode::NotLeader, "moved"), -1),
                    None => (unknown(), -1),
                    Some(partition) => match partition.append(batch) {
                        Ok(base) => (Status::ok(), base),
                        Err(code) => (Status::failed(code, "as Kafka does it"), -1),
                    },
                };
                partitions.push(ProducePartitionResult {
                    partition: asked.partition,
                    status,
                    base_offset,
                    append_time_ms: -1,
                    log_start: 0,
                });
            }
            topics.push(ProduceTopicResult {
                name: topic.name,
                partitions,
            });
        }
        ProduceResponse { topics }
    }

    /// The answer to a fetch, if there is anything to tell.
    pub fn fetch(&mut self, request: &FetchRequest) -> Option<(FetchResponse, Vec<Bytes>)> {
        let (mut topics, mut attachments) = (Vec::new(), Vec::new());
        let mut left = request.max_bytes as usize;
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for asked in &topic.partitions {
                let first = attachments.is_empty();
                let found = self.partition(&topic.name, asked.partition);
                let Some(result) = fetch_one(found, asked, left, first) else {
                    continue;
                };
                left = left.saturating_sub(result.1.len());
                attachments.push(result.1);
                partitions.push(result.0);
            }
            if !partitions.is_empty() {
                topics.push(FetchTopicResult {
                    name: topic.name.clone(),
                    partitions,
                });
            }
        }
        (!topics.is_empty()).then_some((FetchResponse { topics }, attachments))
    }
}

fn fetch_one(
    found: Option<&mut Partition>,
    asked: &FetchPartition,
    left: usize,
    first: bool,
) -> Option<(FetchPartitionResult, Bytes)> {
    let mut result = FetchPartitionResult {
        partition: asked.partition,
        high_watermark: -1,
        ..FetchPartitionResult::default()
    };
    let Some(partition) = found else {
        result.status = unknown();
        return Some((result, Bytes::new()));
    };
    result.high_watermark = partition.end;
    result.log_start = partition.start;
    if asked.offset < partition.start || asked.offset > partition.end {
        result.status = Status::failed(ErrorCode::OffsetOutOfRange, "not there");
        return Some((result, Bytes::new()));
    }
    let most = left.min(asked.max_bytes as usize);
    let mut data = BytesMut::new();
    for (_, batch) in partition
        .batches
        .iter()
        .filter(|(_, batch)| end(batch) > asked.offset)
    {
        let fits = data.len() + batch.len() <= most || (first && data.is_empty());
        if !fits {
            break;
        }
        data.extend_from_slice(batch);
    }
    result.records_bytes = data.len() as u32;
    (!data.is_empty()).then(|| (result, data.freeze()))
}

impl Partition {
    /// Appends a batch, unless its producer is known and the batch is not its next.
    fn append(&mut self, mut batch: BytesMut) -> Result<i64, ErrorCode> {
        let base = self.end;
        if let Some(known) = self.remember(&batch)? {
            return Ok(known);
        }
        set_base_offset(&mut batch, Offset(base));
        let batch = batch.freeze();
        self.end = end(&batch);
        self.batches.push((base, batch));
        Ok(base)
    }

    /// Notes a batch of an idempotent producer, which is then to be appended; the place of one that is
    /// there already.
    fn remember(&mut self, batch: &[u8]) -> Result<Option<i64>, ErrorCode> {
        let Some(producer) = batch_producer(batch) else {
            return Ok(None);
        };
        let header = BatchHeader::parse(batch).expect("a batch was sent");
        let after = |sequence: i32, records: u32| {
            ((i64::from(sequence) + i64::from(records)) % (1 << 31)) as i32
        };
        let first = producer.base_sequence;
        let last = after(first, header.record_count - 1);
        let is_new = !self.producers.contains_key(&producer.id.0);
        let known = self.producers.entry(producer.id.0).or_default();
        if !is_new && producer.epoch.0 < known.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if producer.epoch.0 > known.epoch {
            if !is_new && first != 0 {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
            *known = Remembered::default();
        }
        let is_it = |(a, b, _): &&(i32, i32, i64)| (*a, *b) == (first, last);
        if let Some((_, _, base)) = known.batches.iter().find(is_it) {
            return Ok(Some(*base));
        }
        let newest = known.batches.back();
        if newest.is_some_and(|(_, newest, _)| after(*newest, 1) != first) {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        known.epoch = producer.epoch.0;
        known.batches.push_back((first, last, self.end));
        if known.batches.len() > BATCHES_KNOWN_AGAIN {
            known.batches.pop_front();
        }
        Ok(None)
    }

    fn first_since(&self, at: i64) -> i64 {
        let header = |batch: &Bytes| BatchHeader::parse(batch).expect("it was produced");
        let found = self
            .batches
            .iter()
            .find(|(_, batch)| header(batch).max_timestamp >= at);
        found.map_or(-1, |(base, _)| *base)
    }

    /// Drops batches before `offset`.
    #[allow(
        dead_code,
        reason = "not every test that includes this file deletes records"
    )]
    pub fn trim(&mut self, offset: i64) {
        self.batches.retain(|(_, batch)| end(batch) > offset);
        self.start = offset;
    }
}

fn end(batch: &Bytes) -> i64 {
    BatchHeader::parse(batch)
        .expect("it was produced")
        .next_offset()
        .0
}

fn unknown() -> Status {
    Status::failed(ErrorCode::UnknownTopicOrPartition, "no such partition")
}
