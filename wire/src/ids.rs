//! The names of things that cross a socket, each with a type of its own so that none is taken for
//! another.

use std::fmt;
use std::str::FromStr;

/// A record's place in its partition: dense from 0, data records only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of a partition.
    pub const ZERO: Offset = Offset(0);

    /// The offset `records` after this one.
    #[must_use]
    pub fn advance(self, records: u32) -> Offset {
        Offset(
            self.0
                .checked_add(i64::from(records))
                .expect("an offset fits in 63 bits"),
        )
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A batch's place in its partition's Raft log. The first batch has index 1; 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

/// A leader's term, which is also Kafka's leader epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u32);

/// A partition's number within its topic, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionIndex(pub u32);

impl fmt::Display for PartitionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A topic's identity: a new one each time a topic of some name is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u128);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic.
    pub topic: TopicId,
    /// The partition within it.
    pub partition: PartitionIndex,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// An idempotent producer's identity, given out by the broker; never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which life of a producer: a higher one fences those below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A shard of a node, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// How often this node has started; with the node id it names one run of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootEpoch(pub u32);

/// The longest topic name, in bytes, as in Kafka.
pub const TOPIC_NAME_MAX_BYTES: usize = 249;

/// Names that Millrace keeps for itself: internal partitions live under them.
pub const RESERVED_TOPIC_NAMES: [&str; 6] = [
    "__controller",
    "__groups",
    "__transactions",
    "__consumer_offsets",
    "__transaction_state",
    "__cluster_metadata",
];

/// A topic name that follows Kafka's rules: 1 to 249 of `A-Z a-z 0-9 . _ -`, neither `.` nor `..`.
/// Such a name is safe as a folder's, and can never be that of an internal folder, since those
/// begin with `@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Box<str>);

/// Why a topic name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// The name has no characters.
    #[error("a topic name cannot be empty")]
    Empty,
    /// The name is longer than [`TOPIC_NAME_MAX_BYTES`].
    #[error("a topic name has at most {TOPIC_NAME_MAX_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// The name is `.` or `..`.
    #[error("a topic cannot be named '.' or '..'")]
    Dots,
    /// A character other than the allowed ones.
    #[error("a topic name is made of letters, digits, '.', '_' and '-'; {0:?} is none of these")]
    Character(char),
    /// The name belongs to Millrace.
    #[error("the topic name '{0}' is reserved for Millrace itself; choose another")]
    Reserved(Box<str>),
}

impl TopicName {
    /// Checks a name that a user gave: the syntax, and that it is not reserved.
    pub fn user(name: &str) -> Result<TopicName, TopicNameError> {
        let name: TopicName = name.parse()?;
        if name.is_reserved() {
            return Err(TopicNameError::Reserved(name.0));
        }
        Ok(name)
    }

    /// Whether the name belongs to Millrace itself.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        // All of them begin like this, and hardly any other name does: this is asked of every batch.
        self.0.starts_with("__") && RESERVED_TOPIC_NAMES.contains(&self.as_str())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;

    fn from_str(name: &str) -> Result<TopicName, TopicNameError> {
        if name.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if name.len() > TOPIC_NAME_MAX_BYTES {
            return Err(TopicNameError::TooLong(name.len()));
        }
        if name == "." || name == ".." {
            return Err(TopicNameError::Dots);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(c) = name.chars().find(|c| !allowed(*c)) {
            return Err(TopicNameError::Character(c));
        }
        Ok(TopicName(name.into()))
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
