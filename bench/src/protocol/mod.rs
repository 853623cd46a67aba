//! What is spoken to a broker. The load is the same whatever it is: a [`Protocol`] writes requests
//! and reads answers on the load's connections, without any I/O of its own; an [`Admin`] does the
//! little that must be done before and after (topics, places, the broker's own figures) over a
//! plain blocking socket. There are Millrace's own ([`native`]) and Kafka's ([`kafka`]), which any
//! broker of one node that speaks it can be measured by; another protocol is another module here and
//! another name in [`ProtocolName`].

pub mod kafka;
pub mod kafka_admin;
pub mod native;
pub mod native_admin;
pub mod native_groups;
mod shapes;

use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use millrace_wire::ids::{ProducerEpoch, ProducerId};

use crate::protocol::kafka::Kafka;
use crate::protocol::kafka_admin::KafkaAdmin;
use crate::protocol::native::Native;
use crate::protocol::native_admin::NativeAdmin;

/// How long the broker may take to make a batch durable, ms.
const PRODUCE_TIMEOUT_MS: i32 = 60_000;

/// How long the broker may take for one answer to an [`Admin`]. Making a topic of ten thousand
/// partitions takes seconds.
const ADMIN_PATIENCE: Duration = Duration::from_secs(120);

/// How long it may take to connect.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long the first answer may take: what speaks another protocol may never give one.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);

/// The protocols that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProtocolName {
    /// Millrace's own.
    #[default]
    Native,
    /// Kafka's, in Produce version 9 and Fetch version 12.
    Kafka,
}

impl std::fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ProtocolName::Native => "native",
            ProtocolName::Kafka => "kafka",
        })
    }
}

impl ProtocolName {
    /// The codec for one load.
    #[must_use]
    pub fn codec(self, topics: Vec<String>) -> Box<dyn Protocol> {
        match self {
            ProtocolName::Native => Box::new(Native::new(topics)),
            ProtocolName::Kafka => Box::new(Kafka::new(topics)),
        }
    }

    /// A connection for what is not load.
    pub fn admin(self, address: SocketAddr) -> Result<Box<dyn Admin>, ProtocolError> {
        match self {
            ProtocolName::Native => Ok(Box::new(NativeAdmin::connect(address)?)),
            ProtocolName::Kafka => Ok(Box::new(KafkaAdmin::connect(address)?)),
        }
    }
}

/// A blocking connection, on which the other end may take so long for its first answer.
fn connect(address: SocketAddr, patience: Duration) -> Result<TcpStream, ProtocolError> {
    let connected = TcpStream::connect_timeout(&address, CONNECT_PATIENCE).and_then(|stream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(ADMIN_PATIENCE))?;
        Ok(stream)
    });
    connected.map_err(|error| broken(address, error))
}

/// The other end has given its first answer, and may take longer for others.
fn be_patient(address: SocketAddr, stream: &TcpStream) -> Result<(), ProtocolError> {
    let set = stream.set_read_timeout(Some(ADMIN_PATIENCE));
    set.map_err(|error| broken(address, error))
}

fn broken(address: SocketAddr, error: std::io::Error) -> ProtocolError {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            ProtocolError::Silent { address }
        }
        _ => ProtocolError::Connection { address, error },
    }
}

fn topic_index(topics: &[String], name: &str) -> Option<TopicIndex> {
    let place = topics.iter().position(|topic| topic == name)?;
    TopicIndex::try_from(place).ok()
}

/// Why a broker could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// No connection, or it broke.
    #[error("{address}: {error}; is the broker running there?")]
    Connection {
        /// The broker.
        address: SocketAddr,
        /// The system's reason.
        error: std::io::Error,
    },
    /// It does not answer.
    #[error("{address} does not answer; is that a broker which speaks this protocol?")]
    Silent {
        /// The broker.
        address: SocketAddr,
    },
    /// The broker refused.
    #[error("the broker refused to {what}: {message}")]
    Refused {
        /// What was asked.
        what: String,
        /// What the broker said.
        message: String,
    },
    /// Bytes that are not this protocol.
    #[error("the broker's answer cannot be read ({0}); does it speak this protocol?")]
    Malformed(String),
}

/// A topic, by its place in the load's list.
pub type TopicIndex = u16;

/// A partition and the shard that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which topic.
    pub topic: TopicIndex,
    /// Which partition.
    pub partition: u32,
    /// The shard that a connection for it should be on; 0 where there are none.
    pub shard: u16,
}

/// A produce request with one batch.
#[derive(Clone, Copy, Debug)]
pub struct Produce {
    /// Repeated in the answer.
    pub correlation: u32,
    /// Where to.
    pub place: Place,
    /// 0, 1 or -1.
    pub acks: i8,
    /// Length of the batch.
    pub batch_bytes: usize,
}

/// A fetch request.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a> {
    /// Repeated in the answer.
    pub correlation: u32,
    /// Partitions and where to read on.
    pub positions: &'a [(Place, i64)],
    /// How long the broker may wait for data.
    pub max_wait: Duration,
    /// Answer when this much is there.
    pub min_bytes: u32,
    /// Most bytes of the answer.
    pub max_bytes: u32,
}

/// How long an answer is, and how much of it must be held to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the whole answer.
    pub length: u64,
    /// Bytes from its start that [`Protocol::answer`] needs; what follows them is batches.
    pub hold: usize,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// As in the request.
    pub correlation: u32,
    /// What it says.
    pub outcome: Outcome,
}

/// What an answer says.
#[derive(Debug)]
pub enum Outcome {
    /// The connection may be used.
    Greeted(Greeting),
    /// A batch was stored.
    Produced,
    /// Batches.
    Fetched(Vec<Fetched>),
    /// A group's coordinator has answered.
    Group(GroupOutcome),
    /// The request failed, for this reason.
    Failed(String),
}

impl Outcome {
    /// Why what was asked did not happen, if it did not.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match self {
            Outcome::Failed(error) => Some(error),
            Outcome::Group(GroupOutcome::Rebalancing) => Some("the group was rebalancing"),
            Outcome::Group(GroupOutcome::NotYet) => {
                Some("the group's coordinator did not serve yet")
            }
            _ => None,
        }
    }
}

/// What a group's coordinator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupOutcome {
    /// It is done: a commit, a heartbeat; or the member has its partitions.
    Done,
    /// A generation has begun.
    Joined {
        /// The member's id from now on.
        id: String,
        /// The generation.
        generation: i32,
    },
    /// The member has this id, with which it has to ask again.
    IdGiven(String),
    /// The member has to join again.
    Rebalancing,
    /// The coordinator has just been made; ask again.
    NotYet,
}

/// An idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The producer.
    pub id: ProducerId,
    /// Which life of it.
    pub epoch: ProducerEpoch,
}

/// What the broker says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Requests that it takes before the first is answered.
    pub max_in_flight: u32,
}

/// One partition of a fetch answer.
#[derive(Debug)]
pub struct Fetched {
    /// Which.
    pub topic: TopicIndex,
    /// Which.
    pub partition: u32,
    /// First offset that cannot be read yet.
    pub high_watermark: i64,
    /// Where its batches are, in bytes from the answer's start.
    pub batches: Range<u64>,
    /// Why there are none.
    pub error: Option<String>,
}

/// A codec for a load's connections. It holds no connection's state.
pub trait Protocol {
    /// The first bytes of a connection that should be served by this shard.
    fn greeting(&mut self, shard: u16, out: &mut Vec<u8>);

    /// Writes a produce request up to its batch; returns what follows the batch.
    fn produce(&mut self, request: Produce, out: &mut Vec<u8>) -> &'static [u8];

    /// Writes a fetch request.
    fn fetch(&mut self, request: Fetch<'_>, out: &mut Vec<u8>);

    /// The extent of the answer that begins with these bytes; none if they are too few to tell.
    fn extent(&self, received: &[u8]) -> Result<Option<Extent>, ProtocolError>;

    /// Reads an answer, of which this is as much as `extent` said must be held.
    fn answer(&mut self, held: &[u8]) -> Result<Answer, ProtocolError>;
}

/// A topic to be made.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    /// Name.
    pub name: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Configuration in Kafka's names.
    pub configs: Vec<(String, String)>,
}

/// Everything that is not load.
pub trait Admin {
    /// The broker's version, in its own words.
    fn broker_version(&self) -> String;

    /// Makes a topic.
    fn create_topic(&mut self, topic: &TopicSpec) -> Result<(), ProtocolError>;

    /// Removes a topic and its data.
    fn delete_topic(&mut self, name: &str) -> Result<(), ProtocolError>;

    /// Where a topic's partitions are.
    fn places(&mut self, index: TopicIndex, name: &str) -> Result<Vec<Place>, ProtocolError>;

    /// Where the next record of each partition of a topic will be.
    fn ends(&mut self, index: TopicIndex, name: &str) -> Result<Vec<(Place, i64)>, ProtocolError>;

    /// An idempotent producer that nobody has been.
    fn new_producer(&mut self) -> Result<ProducerIdentity, ProtocolError>;

    /// The broker's stages, each with its histogram since the start; empty where a broker has none.
    fn stages(&mut self) -> Result<Vec<Stage>, ProtocolError>;

    /// The broker's counters, summed over its shards; empty where a broker has none.
    fn counters(&mut self) -> Result<Vec<(String, u64)>, ProtocolError>;
}

/// A stage of the broker's work and how long it took, by shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The shard.
    pub shard: u16,
    /// The stage's name.
    pub name: String,
    /// `(at most this many ns, count)`, rising.
    pub buckets: Vec<(u64, u64)>,
}
