//! A node of brokers in the simulation: several shards on one executor, joined by a mesh that is
//! plain tasks. Requests go through a [`Session`], as they do from a socket.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_server::broker::calls::{
    Appended, Call, CheckedBatch, Local, Peers, Reply, shard_gone,
};
use millrace_server::broker::{Broker, BrokerLimits, NodeIdentity};
use millrace_server::controller::driver::Controller;
use millrace_server::controller::state::Rules;
use millrace_server::coordinator::settings::GroupSettings;
use millrace_server::native::session::{Peer, Session};
use millrace_server::session::outbox::{Outbox, Outgoing};
use millrace_server::session::{Held, SessionLimits};
use millrace_server::topic_config::TopicConfig;
use millrace_shard::env::simulated::{DiskFaults, SimulatedEnv, Simulation};
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_shard::journal::JournalConfig;
use millrace_shard::local::{Budget, oneshot};
use millrace_shard::shard::{Shard, ShardConfig};
use millrace_wire::batch::{
    BatchBuilder, Compression, DEFAULT_MAX_UNCOMPRESSED_BYTES, Records, split_batches,
};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::frame::{FRAME_HEADER_BYTES, Format, FrameHeader, MAX_FRAME_BYTES};
use millrace_wire::ids::{Offset, PartitionId, PartitionIndex, ShardId};
use millrace_wire::native::messages::*;
use millrace_wire::native::{Request, Response, decode_response, encode_request};

/// The type that everything here runs on.
pub type SimBroker = Broker<SimulatedEnv>;

/// All shards of one node.
pub struct Node {
    pub brokers: Vec<Rc<SimBroker>>,
    pub controller: Rc<Controller<SimulatedEnv>>,
}

/// A bug to plant in a node, for tests that want to know whether they would see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// What another shard appends is acknowledged before it is durable.
    AcknowledgedEarly,
    /// Now and then such an append is acknowledged and not made.
    Lost,
    /// Now and then it is made twice.
    Twice,
    /// Now and then it is made in another partition.
    Misplaced,
}

/// How often a bug that comes now and then comes.
const NOW_AND_THEN: u64 = 20;

/// The mesh of a simulated node.
struct Mesh {
    env: SimulatedEnv,
    brokers: Rc<RefCell<Vec<Weak<SimBroker>>>>,
    bug: Option<Bug>,
    appends: Cell<u64>,
    /// Where the next append of each partition will begin, for bugs that do not wait to be told.
    next: RefCell<BTreeMap<PartitionId, i64>>,
}

impl Peers for Mesh {
    fn send(&self, to: ShardId, call: Call) -> Local<Result<Local<Reply>, WireError>> {
        let broker = self
            .brokers
            .borrow()
            .get(usize::from(to.0))
            .and_then(Weak::upgrade);
        let Some(broker) = broker else {
            return Box::pin(async move { Err(shard_gone(to)) });
        };
        let reply = match (self.bug, call) {
            (Some(bug), Call::Append(batch)) => self.append_wrongly(bug, &broker, batch),
            (_, call) => self.carry_out(to, broker.answer(call)),
        };
        Box::pin(async move { Ok(reply) })
    }
}

impl Mesh {
    fn carry_out(
        &self,
        to: ShardId,
        answer: impl Future<Output = Reply> + 'static,
    ) -> Local<Reply> {
        let (sender, receiver) = oneshot();
        let task = async move {
            // Whoever asked may have gone.
            let _ = sender.send(answer.await);
        };
        drop(
            self.env
                .spawn(Queue::Requests, "mesh", OnPanic::StopProcess, task),
        );
        Box::pin(async move {
            receiver
                .await
                .unwrap_or_else(|_| Reply::Failed(shard_gone(to)))
        })
    }

    fn append_wrongly(
        &self,
        bug: Bug,
        broker: &Rc<SimBroker>,
        batch: CheckedBatch,
    ) -> Local<Reply> {
        self.appends.set(self.appends.get() + 1);
        let to = broker.shard_id;
        let is_time = self.appends.get().is_multiple_of(NOW_AND_THEN);
        match bug {
            Bug::AcknowledgedEarly => {
                let early = self.foretold(broker, &batch);
                drop(self.carry_out(to, broker.answer(Call::Append(batch))));
                early
            }
            Bug::Lost if is_time => self.foretold(broker, &batch),
            Bug::Twice if is_time => {
                let again = CheckedBatch {
                    batch: batch.batch.clone(),
                    ..batch
                };
                drop(self.carry_out(to, broker.answer(Call::Append(again))));
                self.carry_out(to, broker.answer(Call::Append(batch)))
            }
            Bug::Misplaced if is_time => {
                let index = PartitionIndex(batch.partition.partition.0 ^ 2);
                let elsewhere = PartitionId {
                    partition: index,
                    ..batch.partition
                };
                let misplaced = CheckedBatch {
                    partition: elsewhere,
                    ..batch
                };
                self.carry_out(to, broker.answer(Call::Append(misplaced)))
            }
            _ => self.carry_out(to, broker.answer(Call::Append(batch))),
        }
    }

    /// The answer that an append will get if all goes well.
    fn foretold(&self, broker: &SimBroker, batch: &CheckedBatch) -> Local<Reply> {
        let partition = broker.storage().partition(batch.partition);
        let end = partition.map_or(0, |partition| partition.watermarks().appended.0);
        let mut next = self.next.borrow_mut();
        let next = next.entry(batch.partition).or_default();
        let base = end.max(*next);
        *next = base + i64::from(batch.record_count);
        let reply = Reply::Appended(Appended {
            base_offset: Offset(base),
            append_time_ms: None,
            log_start: Offset(0),
        });
        Box::pin(async move { reply })
    }
}

/// The rules of every node here.
pub fn rules() -> Rules {
    Rules {
        defaults: TopicConfig::default(),
        default_partitions: 1,
        max_partitions: 1000,
    }
}

impl Node {
    /// Starts a node over the disk of `env`.
    pub async fn start(env: &SimulatedEnv, shards: u16) -> Node {
        Node::start_with(env, shards, None, GroupSettings::default()).await
    }

    /// Starts a node with these settings, which may have a bug.
    pub async fn start_with(
        env: &SimulatedEnv,
        shards: u16,
        bug: Option<Bug>,
        groups: GroupSettings,
    ) -> Node {
        env.create_directory(Path::new("/data"))
            .await
            .expect("made");
        env.sync_directory(Path::new("/")).await.expect("synced");
        let all = Rc::new(RefCell::new(Vec::new()));
        let mut brokers = Vec::new();
        for shard_id in (0..shards).map(ShardId) {
            let shard = Shard::open(env.clone(), config(shard_id, shards))
                .await
                .expect("opens");
            let mesh = Mesh {
                env: env.clone(),
                brokers: Rc::clone(&all),
                bug,
                appends: Cell::new(0),
                next: RefCell::default(),
            };
            let limits = BrokerLimits {
                response_bytes: 8 << 20,
                fetch_bytes: 4 << 20,
                groups: groups.clone(),
            };
            let identity = NodeIdentity {
                cluster_id: 1,
                node_id: 0,
                boot_epoch: 1,
                shard_count: shards,
                port: 9092,
            };
            let broker = Broker::new(
                env.clone(),
                shard_id,
                identity,
                shard,
                Rc::new(mesh),
                &rules(),
                limits,
            );
            all.borrow_mut().push(Rc::downgrade(&broker));
            brokers.push(broker);
        }
        let controller = Controller::start(&brokers[0], rules(), Path::new("/data"))
            .await
            .expect("starts");
        Node {
            brokers,
            controller,
        }
    }

    /// Stops it in order.
    pub async fn stop(self) {
        for broker in &self.brokers {
            broker.drain().await;
        }
        for broker in &self.brokers {
            broker.storage().shutdown().await;
        }
    }

    /// A connection to one of its shards.
    pub fn connect(&self, shard: usize) -> Connection {
        Connection::new(&self.brokers[shard])
    }
}

fn config(shard: ShardId, shard_count: u16) -> ShardConfig {
    let journal = JournalConfig {
        file_bytes: 1 << 20,
        ..JournalConfig::new(PathBuf::from(format!("/data/@journal/{:04}", shard.0)))
    };
    ShardConfig {
        shard,
        shard_count,
        data_directory: "/data".into(),
        journal,
        cache_bytes: 4 << 20,
        unwritten_bytes: 4 << 20,
        disk_reserve_bytes: 1 << 20,
        flush_bytes: 64 << 10,
        index_interval_bytes: 4096,
        open_files_max: 64,
        producer_expiration: Duration::from_secs(86_400),
        housekeeping_interval: Duration::from_secs(1),
        space_interval: Duration::from_secs(1),
    }
}

/// A client's end of a connection, without a socket.
pub struct Connection {
    session: Rc<Session<SimulatedEnv>>,
    pub outbox: Rc<Outbox>,
    received: VecDeque<(u32, Response, Bytes)>,
    budget: Budget,
    next: u32,
    pub format: Format,
}

impl Connection {
    fn new(broker: &Rc<SimBroker>) -> Connection {
        let outbox = Rc::new(Outbox::default());
        let limits = SessionLimits {
            max_frame_bytes: MAX_FRAME_BYTES,
            max_in_flight: 64,
        };
        let peer = Peer {
            client_id: "a-test".to_owned(),
            host: "/127.0.0.1".to_owned(),
        };
        Connection {
            session: Session::new(Rc::clone(broker), peer, Rc::clone(&outbox), limits),
            outbox,
            received: VecDeque::new(),
            budget: Budget::new(1 << 30),
            next: 1,
            format: Format::Rkyv,
        }
    }

    /// Sends a request and returns its correlation id; what is attached are its batches.
    pub async fn send(&mut self, request: impl Into<Request>, attached: &[Bytes]) -> u32 {
        let request = request.into();
        let correlation = self.next;
        self.next += 1;
        let mut frame = BytesMut::new();
        let bytes = attached.iter().map(Bytes::len).sum();
        encode_request(self.format, correlation, &request, &mut frame, bytes).expect("encodes");
        attached
            .iter()
            .for_each(|batch| frame.extend_from_slice(batch));
        let payload = frame.split_off(FRAME_HEADER_BYTES);
        let header = frame[..].try_into().expect("nine bytes");
        let header = FrameHeader::parse(header, MAX_FRAME_BYTES).expect("own header");
        assert!(
            self.send_raw(header, payload).await,
            "the connection goes on"
        );
        correlation
    }

    /// Sends any payload; whether the connection goes on.
    pub async fn send_raw(&mut self, header: FrameHeader, payload: BytesMut) -> bool {
        let place = self.session.place().await;
        let memory = self.budget.acquire(payload.len() as u64).await;
        self.session
            .handle(header, payload, Held { place, memory })
            .await
            .is_continue()
    }

    /// The next response to arrive, whichever it is.
    pub async fn receive(&mut self) -> (u32, Response, Bytes) {
        loop {
            if let Some(received) = self.received.pop_front() {
                return received;
            }
            let mut outgoing = Outgoing::default();
            assert!(
                self.outbox.take_all(&mut outgoing).await,
                "the connection is open"
            );
            let bytes: Vec<u8> = outgoing.pieces().iter().flatten().copied().collect();
            let mut bytes = Bytes::from(bytes);
            while !bytes.is_empty() {
                let header = bytes.split_to(FRAME_HEADER_BYTES);
                let header = header[..].try_into().expect("nine bytes");
                let header = FrameHeader::parse(header, MAX_FRAME_BYTES).expect("a header");
                let payload = bytes.split_to(header.payload_bytes());
                let (response, attached) = decode_response(header.format, payload).expect("valid");
                self.received
                    .push_back((header.correlation, response, attached));
            }
        }
    }

    /// Asks and waits for the answer, with no other request under way.
    pub async fn ask(&mut self, request: impl Into<Request>) -> (Response, Bytes) {
        let sent = self.send(request, &[]).await;
        let (correlation, response, attached) = self.receive().await;
        assert_eq!(correlation, sent);
        (response, attached)
    }

    pub async fn create_topic(
        &mut self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> CreateTopicResponse {
        let configs = configs.iter().map(|(name, value)| ConfigEntry {
            name: (*name).into(),
            value: (*value).into(),
            is_set: true,
        });
        let request = CreateTopicRequest {
            name: name.into(),
            partitions,
            configs: configs.collect(),
            validate_only: false,
        };
        match self.ask(request).await.0 {
            Response::CreateTopic(response) => response,
            other => panic!("{other:?}"),
        }
    }

    pub async fn delete_topic(&mut self, name: &str) -> Status {
        match self.ask(DeleteTopicRequest { name: name.into() }).await.0 {
            Response::DeleteTopic(response) => response.status,
            other => panic!("{other:?}"),
        }
    }

    /// Produces one batch and waits for where it went.
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: u32,
        batch: Bytes,
    ) -> ProducePartitionResult {
        let request = produce_request(topic, partition, &batch, -1);
        let sent = self.send(request, &[batch]).await;
        let (correlation, response, _) = self.receive().await;
        assert_eq!(correlation, sent);
        one_result(response)
    }

    pub async fn fetch(&mut self, request: FetchRequest) -> (FetchResponse, Bytes) {
        match self.ask(request).await {
            (Response::Fetch(response), attached) => (response, attached),
            other => panic!("{other:?}"),
        }
    }
}

pub fn produce_request(topic: &str, partition: u32, batch: &[u8], acks: i8) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 0,
        topics: vec![ProduceTopic {
            name: topic.into(),
            partitions: vec![ProducePartition {
                partition,
                batch_bytes: batch.len() as u32,
            }],
        }],
    }
}

pub fn one_result(response: Response) -> ProducePartitionResult {
    match response {
        Response::Produce(response) => response.topics[0].partitions[0].clone(),
        other => panic!("{other:?}"),
    }
}

/// A request for several partitions of one topic, from the same offset.
pub fn fetch_request(topic: &str, partitions: &[u32], offset: i64, wait_ms: u32) -> FetchRequest {
    let partitions = partitions.iter().map(|&partition| FetchPartition {
        partition,
        offset,
        max_bytes: 1 << 20,
    });
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            name: topic.into(),
            partitions: partitions.collect(),
        }],
    }
}

/// A batch of one record for each value.
pub fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder
            .push(1_000, None, Some(value.as_bytes()), &[])
            .expect("fits");
    }
    builder.build().expect("has records").into()
}

/// A disk on which power is likely to fail while something slow is under way.
pub fn often_slow() -> DiskFaults {
    DiskFaults {
        slow: 0.05,
        slow_factor: 30,
        ..DiskFaults::default()
    }
}

/// Runs a test on a node of two shards.
pub fn run_two_shards<F: Future<Output = ()> + 'static>(
    test: impl FnOnce(SimulatedEnv, Node) -> F + 'static,
) {
    Simulation::new(1).run(|env| async move {
        let node = Node::start(&env, 2).await;
        test(env, node).await;
    });
}

/// The values of all records of these batches.
pub fn values(attached: Bytes) -> Vec<String> {
    let mut values = Vec::new();
    for batch in split_batches(attached) {
        let batch = batch.expect("a batch");
        for record in Records::decode(&batch, DEFAULT_MAX_UNCOMPRESSED_BYTES).expect("decodes") {
            let value = record.expect("a record").value.expect("has a value");
            values.push(String::from_utf8(value.to_vec()).expect("text"));
        }
    }
    values
}

/// What is known of a record, by partition and offset.
pub type Log = BTreeMap<(u32, i64), String>;

/// Notes what was read from `offset` on; what was read before at the same place must be the same.
pub fn see(log: &mut Log, partition: u32, offset: i64, data: Bytes) -> Result<(), String> {
    for batch in split_batches(data) {
        let batch = batch.expect("a batch");
        for record in Records::decode(&batch, DEFAULT_MAX_UNCOMPRESSED_BYTES).expect("decodes") {
            let record = record.expect("a record");
            if record.offset.0 < offset {
                continue;
            }
            let value = String::from_utf8(record.value.expect("has one").to_vec()).expect("text");
            let place = (partition, record.offset.0);
            match log.insert(place, value.clone()) {
                Some(before) if before != value => {
                    return Err(format!("read at {place:?}: {before}, later {value}"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// What a status says, if it is a failure.
pub fn code(status: &Status) -> Option<ErrorCode> {
    ErrorCode::from_number(status.code)
}
