//! A client in the simulation: the client library's own core, driven by a loop over connections
//! that have latency and can be cut, and what it saw. It produces a fixed number of records and
//! reads along.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::select;
use millrace_client::core::consumer::Chunk;
use millrace_client::core::producer::{Accepted, BatchId, Push};
use millrace_client::core::{
    ConnectionId, ConsumerId, Core, Event as News, FrameReader, ProducerId, Time,
};
use millrace_client::{ClientConfig, ConsumerConfig, ProducerConfig, Record, Start};
use millrace_server::native::handshake;
use millrace_server::native::session::{Peer, Session};
use millrace_server::session::outbox::{Outbox, Outgoing};
use millrace_server::session::{Held, SessionLimits};
use millrace_shard::env::simulated::SimulatedEnv;
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_shard::local::{Budget, Event};
use millrace_wire::frame::{MAX_FRAME_BYTES, PREAMBLE};

use crate::node::{Log, Node, SimBroker, see};

/// Partitions of the topic that is written and read.
pub const PARTITIONS: u32 = 3;
/// Records that are produced.
pub const RECORDS: u64 = 1_500;
const LIMITS: SessionLimits = SessionLimits {
    max_frame_bytes: MAX_FRAME_BYTES,
    max_in_flight: 16,
};
/// How long bytes travel, one way: less than a disk takes, so that an answer which did not wait for
/// it is there first.
const LATENCY: Duration = Duration::from_micros(20);

/// One connection: what is on its way in either direction.
#[derive(Default)]
pub struct Link {
    to_broker: RefCell<BytesMut>,
    to_client: RefCell<BytesMut>,
    broken: Cell<bool>,
    arrived: Event,
}

/// Everything that joins the two machines.
#[derive(Default)]
pub struct Network {
    links: RefCell<BTreeMap<ConnectionId, Rc<Link>>>,
    /// The broker that listens, if one does.
    pub door: RefCell<Option<Rc<Node>>>,
    /// Something arrived at the client.
    client_news: Event,
}

impl Network {
    /// The broker's machine is gone, and every connection with it.
    pub fn cut(&self) {
        self.door.borrow_mut().take();
        for link in self.links.borrow().values() {
            link.broken.set(true);
        }
        self.client_news.notify();
    }
}

/// What the client did and saw.
#[derive(Default)]
pub struct Observed {
    pub acknowledged: RefCell<Log>,
    pub consumed: RefCell<Log>,
    /// Every record was acknowledged.
    pub done: Cell<bool>,
    /// What must never be, as it was seen.
    pub violations: RefCell<Vec<String>>,
}

impl Observed {
    fn violation(&self, what: String) {
        self.violations.borrow_mut().push(what);
    }
}

/// Bytes up to `count`, as soon as they are there; nothing once the connection is broken.
async fn read(link: &Link, count: usize) -> Option<BytesMut> {
    let enough = || link.broken.get() || link.to_broker.borrow().len() >= count;
    link.arrived.wait_until(enough).await;
    (!link.broken.get()).then(|| link.to_broker.borrow_mut().split_to(count))
}

/// One connection at the broker's end: what `listen` does with a socket.
async fn serve(
    network: Rc<Network>,
    env: SimulatedEnv,
    link: Rc<Link>,
    node: Rc<Node>,
) -> Option<()> {
    let preamble = read(&link, PREAMBLE.len()).await?;
    assert_eq!(preamble, PREAMBLE[..]);
    let (header, payload) = read_frame(&link).await?;
    let (greeting, wanted) = handshake::read(header, payload).expect("a good handshake");
    let accepted = &node.brokers[(env.random_u64() % 2) as usize];
    let to = wanted.shard(accepted.shard_id, 2, |topic, partition| {
        let id = accepted.topic(topic).ok()?.partition(partition).ok()?;
        Some((id, accepted.owner(id)))
    });
    // Every request works from every shard, so that it may as well be the wrong one.
    let wrong = usize::from(env.random_u64().is_multiple_of(2));
    let broker: &Rc<SimBroker> = &node.brokers[usize::from(to.0) ^ wrong];
    let outbox = Rc::new(Outbox::default());
    let hello = handshake::accepted(&greeting, &broker.node, to, LIMITS);
    outbox.add(|out| out.splice(hello));
    let sending = send(network, env.clone(), Rc::clone(&link), Rc::clone(&outbox));
    drop(env.spawn(Queue::Requests, "send", OnPanic::StopProcess, sending));
    let session = Session::new(Rc::clone(broker), Peer::default(), outbox, LIMITS);
    let budget = Budget::new(1 << 30);
    loop {
        let place = session.place().await;
        let (header, payload) = read_frame(&link).await?;
        let memory = budget.acquire(payload.len() as u64).await;
        let goes_on = session
            .handle(header, payload, Held { place, memory })
            .await;
        assert!(goes_on.is_continue(), "the client speaks the protocol");
    }
}

async fn read_frame(link: &Link) -> Option<(millrace_wire::frame::FrameHeader, BytesMut)> {
    let header = read(link, millrace_wire::frame::FRAME_HEADER_BYTES).await?;
    let header = header[..].try_into().expect("nine bytes");
    let header = millrace_wire::frame::FrameHeader::parse(header, MAX_FRAME_BYTES).expect("good");
    Some((header, read(link, header.payload_bytes()).await?))
}

async fn send(network: Rc<Network>, env: SimulatedEnv, link: Rc<Link>, outbox: Rc<Outbox>) {
    let mut responses = Outgoing::default();
    while outbox.take_all(&mut responses).await {
        env.sleep(LATENCY).await;
        let mut bytes = link.to_client.borrow_mut();
        let pieces = responses.pieces().iter();
        pieces.for_each(|piece| bytes.extend_from_slice(piece));
        drop(bytes);
        network.client_news.notify();
    }
}

/// The client's machine: the core, and a loop that does what it says.
pub struct Driver {
    env: SimulatedEnv,
    network: Rc<Network>,
    observed: Rc<Observed>,
    core: Core,
    readers: BTreeMap<ConnectionId, (FrameReader, u64)>,
    producer: ProducerId,
    consumer: ConsumerId,
    /// Values of each batch that is not done, in order, with its partition.
    batches: BTreeMap<BatchId, (u32, Vec<String>)>,
    pushed: u64,
}

impl Driver {
    pub fn new(
        env: SimulatedEnv,
        network: Rc<Network>,
        observed: Rc<Observed>,
        idempotent: bool,
        seed: u64,
    ) -> Driver {
        let config = ClientConfig {
            request_timeout: Duration::from_secs(5),
            unknown_topic_patience: Duration::from_secs(3600),
            ..ClientConfig::new(["broker:9092"])
        };
        let mut core = Core::new(config, seed);
        let producer = core.open_producer(ProducerConfig {
            idempotent,
            batch_bytes: 200,
            delivery_timeout: Duration::from_secs(3600),
            ..ProducerConfig::default()
        });
        let consumer = core.open_consumer(ConsumerConfig::default());
        let all: Vec<_> = (0..PARTITIONS).map(|p| ("t", p, Start::Earliest)).collect();
        core.assign(consumer, &all);
        Driver {
            env,
            network,
            observed,
            core,
            readers: BTreeMap::new(),
            producer,
            consumer,
            batches: BTreeMap::new(),
            pushed: 0,
        }
    }

    fn now(&self) -> Time {
        Time(Duration::from_nanos(self.env.now().0))
    }

    pub async fn run(mut self) {
        loop {
            let heard = self.network.client_news.listen();
            self.core.handle_timeout(self.now());
            self.receive();
            self.push();
            self.carry_out();
            self.consume();
            let next = self
                .core
                .poll_timeout()
                .map_or(Duration::from_secs(1), |at| at.since(self.now()));
            // A record now and then, rather than all at once.
            let pause = next
                .min(Duration::from_millis(2))
                .max(Duration::from_micros(1));
            select(heard, std::pin::pin!(self.env.sleep(pause))).await;
        }
    }

    /// Hands the core what came in.
    fn receive(&mut self) {
        let links: Vec<_> = self
            .network
            .links
            .borrow()
            .iter()
            .map(|(id, link)| (*id, Rc::clone(link)))
            .collect();
        for (id, link) in links {
            let Some((reader, _)) = self.readers.get_mut(&id) else {
                continue;
            };
            let bytes = link.to_client.borrow_mut().split();
            reader.buffer().extend_from_slice(&bytes);
            let mut frames = Vec::new();
            while let Some(frame) = reader.next_frame().expect("the broker speaks the protocol") {
                frames.push(frame);
            }
            for (header, payload) in frames {
                self.core.handle_frame(self.now(), id, header, payload);
            }
            if link.broken.get() {
                self.forget(id);
                self.core.handle_disconnected(self.now(), id, "reset");
            }
        }
    }

    fn forget(&mut self, id: ConnectionId) {
        self.readers.remove(&id);
        let link = self.network.links.borrow_mut().remove(&id);
        if let Some(link) = link {
            link.broken.set(true);
            link.arrived.notify();
        }
    }

    /// Produces a few more records.
    fn push(&mut self) {
        for _ in 0..3 {
            if self.pushed == RECORDS {
                return;
            }
            let partition = (self.pushed % u64::from(PARTITIONS)) as u32;
            let value = format!("{partition}:{:04}", self.pushed);
            let record = Record::new("t", value.clone()).partition(partition);
            let wall = self.env.wall_clock_ms();
            match self.core.push(self.now(), self.producer, &record, wall) {
                Push::Accepted(Accepted {
                    batch,
                    index,
                    partition,
                    ..
                }) => {
                    let (_, values) = self.batches.entry(batch).or_insert((partition, Vec::new()));
                    assert_eq!(values.len(), index as usize);
                    values.push(value);
                    self.pushed += 1;
                }
                Push::Full | Push::Wait => return,
                Push::Refused(error) => panic!("refused: {error}"),
            }
        }
        self.core.flush(self.now(), self.producer);
    }

    /// Does what the core wants done.
    fn carry_out(&mut self) {
        loop {
            while let Some(transmit) = self.core.poll_transmit(self.now()) {
                self.transmit(transmit.connection, &transmit.parts);
            }
            match self.core.poll_event() {
                None => return,
                Some(News::Connect { connection, .. }) => self.connect(connection),
                Some(News::Close { connection }) => self.forget(connection),
                Some(News::BatchDone { batch, outcome, .. }) => {
                    let place = outcome.expect("the producer has patience");
                    let base = place.base_offset.expect("acks all tells the offset");
                    let (partition, values) = self.batches.remove(&batch).expect("done once");
                    let mut acknowledged = self.observed.acknowledged.borrow_mut();
                    for (offset, value) in (base..).zip(values) {
                        let other = acknowledged.insert((partition, offset), value);
                        if let Some(other) = other {
                            let place = (partition, offset);
                            let what = format!("two records acknowledged at {place:?}: {other}");
                            self.observed.violation(what);
                        }
                    }
                    if self.pushed == RECORDS && self.batches.is_empty() {
                        self.observed.done.set(true);
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn connect(&mut self, id: ConnectionId) {
        let Some(node) = self.network.door.borrow().clone() else {
            return self
                .core
                .handle_disconnected(self.now(), id, "connection refused");
        };
        let link = Rc::new(Link::default());
        self.network.links.borrow_mut().insert(id, Rc::clone(&link));
        self.readers.insert(id, (FrameReader::new(), 0));
        let env = node.brokers[0].env.clone();
        let serving = serve(Rc::clone(&self.network), env.clone(), link, node);
        drop(env.spawn(Queue::Requests, "connection", OnPanic::StopProcess, serving));
        self.core.handle_connected(self.now(), id);
    }

    fn transmit(&mut self, id: ConnectionId, parts: &[Bytes]) {
        let Some((_, frames)) = self.readers.get_mut(&id) else {
            return;
        };
        *frames += 1;
        let written = *frames;
        if let Some(link) = self.network.links.borrow().get(&id) {
            let mut bytes = link.to_broker.borrow_mut();
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            drop(bytes);
            link.arrived.notify();
        }
        self.core.handle_written(self.now(), id, written);
    }

    fn consume(&mut self) {
        while let Some(Chunk {
            partition,
            offset,
            data,
            ..
        }) = self.core.take_chunk(self.consumer)
        {
            let seen = see(
                &mut self.observed.consumed.borrow_mut(),
                partition,
                offset,
                data,
            );
            if let Err(what) = seen {
                self.observed.violation(what);
            }
        }
        // The consumer's offsets are always there.
        if let Some(error) = self.core.take_consumer_error(self.consumer) {
            self.observed.violation(format!("reading failed: {error}"));
        }
    }
}
