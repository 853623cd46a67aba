//! The client as a state machine: no sockets, no clock, no runtime, no randomness of its own.
//!
//! Put in what happened (`handle_*`, and the calls of users), each with the time it happened at;
//! then take out what is to be done until there is nothing more: [`Core::poll_transmit`] gives
//! frames to write, [`Core::poll_event`] gives connections to open and close and news for users,
//! and [`Core::poll_timeout`] says when to call [`Core::handle_timeout`] even if nothing happens.
//! The same seed and the same inputs give the same outputs, so a simulator can run the very client
//! that ships. The tokio face is one driver of it; the tests drive it in virtual time.
//!
//! - `metadata`: who leads what; `connections`: one to each shard that is needed;
//!   `requests`: what an answer is for.
//! - [`producer`]: batching, order, retries. [`consumer`]: positions, prefetch, long polling.
//! - `group`: membership in a group of consumers: joining, giving up, committing.
//! - `linking`, `asking`, `identifying`, `producing`, `consuming`, `grouping`: how the [`Core`] ties
//!   them together, one concern each.

mod asking;
mod connections;
pub mod consumer;
mod consuming;
mod frames;
pub mod group;
mod grouping;
mod identifying;
mod linking;
mod metadata;
pub mod producer;
mod producing;
mod random;
mod requests;
mod time;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use millrace_wire::native::Response;

pub use connections::ConnectionId;
pub use frames::FrameReader;
pub use requests::RequestId;
pub use time::Time;

use crate::{ClientConfig, ClientError};
use connections::{Connections, Target};
use consumer::Consumer;
use group::{CommitId, Group};
use metadata::{Metadata, PartitionKey};
use producer::{BatchId, Producer};
use random::{Backoff, Random};
use requests::UserRequest;
use time::Timers;

/// A producer's number in this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub u64);

/// A consumer's number in this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u64);

/// Bytes to write to a connection, all of `parts` in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The connection.
    pub connection: ConnectionId,
    /// A frame's head, and the batches that follow it.
    pub parts: Vec<Bytes>,
}

/// Where a batch was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// Its first record's offset; none with acks 0, and where the broker only knows that it has it.
    pub base_offset: Option<i64>,
    /// The broker's time, where the topic stamps by append time.
    pub append_time_ms: Option<i64>,
}

/// What a broker said of itself in the handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerInfo {
    /// The cluster's identity.
    pub cluster_id: String,
    /// The node that answered.
    pub node_id: u32,
    /// How often it has started.
    pub boot_epoch: u32,
    /// How many shards it has.
    pub shard_count: u16,
    /// Its version.
    pub version: String,
}

/// Something to be done, or told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Open a connection, and report [`Core::handle_connected`] or [`Core::handle_disconnected`].
    Connect {
        /// Its number.
        connection: ConnectionId,
        /// `host:port`.
        address: String,
    },
    /// Close a connection; nothing about it need be reported any more.
    Close {
        /// Its number.
        connection: ConnectionId,
    },
    /// A connection is ready to be used.
    Ready,
    /// Every bootstrap address was tried in vain, or one answered that this client is not welcome.
    Unreachable(ClientError),
    /// The answer to a user's request, or why there is none.
    Reply {
        /// The request.
        request: RequestId,
        /// The answer.
        result: Result<Response, ClientError>,
    },
    /// A batch is stored, or has failed for good.
    BatchDone {
        /// Its producer.
        producer: ProducerId,
        /// The batch.
        batch: BatchId,
        /// What became of it.
        outcome: Result<BatchPlace, ClientError>,
    },
    /// The producer's buffer has room again.
    Room(ProducerId),
    /// News of topics; records that wait for their topic may be tried again.
    MetadataChanged,
    /// The consumer has a chunk or an error to take, or knows more of its positions.
    Consumer(ConsumerId),
    /// What became of a commit.
    Committed {
        /// The commit.
        commit: CommitId,
        /// Whether the group has noted it.
        result: Result<(), ClientError>,
    },
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A connection must be ready by now.
    Connect(ConnectionId),
    /// A target may be dialled again.
    Dial,
    /// The request must have been answered.
    Request(ConnectionId, u32),
    /// A user's request that waits for a connection.
    User(RequestId),
    /// Metadata may be asked for again.
    Metadata,
    /// A producer's id may be asked for again.
    Identity(ProducerId),
    /// A partition's batches need attention.
    Queue(ProducerId, PartitionKey),
    /// A consumer's partition may be tried again.
    Consumer(ConsumerId),
    /// A member of a group has something to do.
    Group(ConsumerId),
}

/// The client's decisions.
#[derive(Debug)]
pub struct Core {
    config: ClientConfig,
    random: Random,
    backoff: Backoff,
    timers: Timers<Timer>,
    metadata: Metadata,
    /// The connection that metadata was asked on, while the answer is out.
    metadata_asked: Option<ConnectionId>,
    metadata_not_before: Time,
    connections: Connections,
    broker: Option<BrokerInfo>,
    /// Users' requests without a connection.
    waiting: VecDeque<UserRequest>,
    next_request: u64,
    producers: BTreeMap<ProducerId, Producer>,
    next_producer: u64,
    next_batch: u64,
    consumers: BTreeMap<ConsumerId, Consumer>,
    next_consumer: u64,
    /// Those of the consumers that are members of a group, and members that are leaving.
    groups: BTreeMap<ConsumerId, Group>,
    next_commit: u64,
    /// Connections or metadata changed: what had no way may have one now.
    routes_changed: bool,
    /// The first connection is wanted though nothing is to be sent.
    connect_wanted: bool,
    outbox: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

/// How a partition's requests travel.
enum Route {
    To(ConnectionId),
    Wait,
    Missing(ClientError),
}

impl Core {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(config: ClientConfig, seed: u64) -> Core {
        let backoff = Backoff {
            first: config.backoff.0,
            most: config.backoff.1,
        };
        Core {
            random: Random::new(seed),
            backoff,
            timers: Timers::new(),
            metadata: Metadata::new(config.unknown_topic_patience, config.metadata_max_age),
            metadata_asked: None,
            metadata_not_before: Time::default(),
            connections: Connections::new(config.bootstrap.clone(), backoff),
            broker: None,
            waiting: VecDeque::new(),
            next_request: 0,
            producers: BTreeMap::new(),
            next_producer: 0,
            next_batch: 0,
            consumers: BTreeMap::new(),
            next_consumer: 0,
            groups: BTreeMap::new(),
            next_commit: 0,
            routes_changed: false,
            connect_wanted: false,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            config,
        }
    }

    /// Connects even though nothing is to be sent yet. [`Event::Ready`] or [`Event::Unreachable`]
    /// tells how it went.
    pub fn connect(&mut self) {
        self.connect_wanted = true;
    }

    /// What the broker said of itself when it was last connected to.
    #[must_use]
    pub fn broker(&self) -> Option<&BrokerInfo> {
        self.broker.as_ref()
    }

    /// Why connecting failed last, if nothing has connected since.
    #[must_use]
    pub fn last_failure(&self) -> Option<&ClientError> {
        self.connections.last_failure.as_ref()
    }

    /// The next frame to write. Call until there is none after every input.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        if self.outbox.is_empty() {
            self.schedule(now);
        }
        self.outbox.pop_front()
    }

    /// The next thing to do or to tell. Take these after the frames: making frames makes some.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Core::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Connect(id) => self.connect_timed_out(now, id),
                Timer::Dial => self.routes_changed = true,
                Timer::Request(id, _) => self.request_timed_out(now, id),
                Timer::User(id) => self.user_timed_out(id),
                Timer::Metadata | Timer::Identity(_) => {}
                Timer::Queue(producer, key) => self.queue_due(now, producer, key),
                Timer::Consumer(id) => {
                    if let Some(consumer) = self.consumers.get_mut(&id) {
                        consumer.dirty = true;
                    }
                }
                Timer::Group(id) => {
                    if let Some(group) = self.groups.get_mut(&id) {
                        group.dirty = true;
                    }
                }
            }
        }
    }

    /// Makes frames of everything that can leave now.
    fn schedule(&mut self, now: Time) {
        if std::mem::take(&mut self.routes_changed) {
            self.producers.values_mut().for_each(Producer::unstall);
            self.consumers
                .values_mut()
                .for_each(|consumer| consumer.dirty = true);
            self.groups
                .values_mut()
                .for_each(|group| group.dirty = true);
        }
        self.schedule_groups(now);
        self.schedule_waiting(now);
        self.schedule_produce(now);
        self.schedule_identities(now);
        self.schedule_consumers(now);
        self.schedule_metadata(now);
        if self.connect_wanted && self.connections.any().is_none() {
            self.dial(now, Target::Any);
        }
    }
}
