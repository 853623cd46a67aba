//! What a user says to a consumer that is a member of a group, and is told by it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::{ClientError, ConsumedRecord, ConsumerConfig};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: u32,
}

impl TopicPartition {
    /// This partition of this topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> TopicPartition {
        TopicPartition {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// The partition.
    pub place: TopicPartition,
    /// The next record to be read.
    pub offset: i64,
    /// A text that is kept with it, for whoever looks at the group.
    pub metadata: String,
}

impl GroupOffset {
    /// The group goes on at this offset.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32, offset: i64) -> GroupOffset {
        GroupOffset {
            place: TopicPartition::new(topic, partition),
            offset,
            metadata: String::new(),
        }
    }
}

/// What a member wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// These topics. One that does not exist is read as soon as it does.
    Topics(Vec<String>),
    /// The topics whose whole name matches this regular expression (the syntax is crate `regex`'s).
    /// They are looked for whenever [`crate::ClientConfig::metadata_max_age`] has passed. Topics of
    /// the broker's own, which begin with two underscores, never match.
    Pattern(String),
}

/// A way to share partitions out among members. The broker does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignor {
    /// Contiguous ranges of each topic: partitions of the same number go together.
    Range,
    /// All partitions of all topics in turn.
    RoundRobin,
    /// As even as can be with as little moved as can be. Only what moves stops being read during a
    /// rebalance; with the others everything does.
    CooperativeSticky,
}

impl Assignor {
    /// Kafka's name for it, which is the one on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// Whether members go on reading what stays theirs while the rest is shared out.
    pub(crate) fn is_cooperative(name: &str) -> bool {
        name == Assignor::CooperativeSticky.name()
    }
}

/// Where a group begins in a partition for which it has no offset, or one that is not in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the oldest record.
    Earliest,
    /// Behind the newest record.
    #[default]
    Latest,
    /// Nowhere: `poll` fails, once for each partition, which then rests until it is sought.
    Error,
}

impl FromStr for OffsetReset {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<OffsetReset, ClientError> {
        match text {
            "earliest" => Ok(OffsetReset::Earliest),
            "latest" => Ok(OffsetReset::Latest),
            "error" => Ok(OffsetReset::Error),
            _ => Err(ClientError::invalid(format!(
                "auto_offset_reset is one of earliest, latest and error, not '{text}'"
            ))),
        }
    }
}

/// How a member of a group behaves.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The group's name. All members under one name, native ones and Kafka's, share its partitions.
    pub group: String,
    /// What to read.
    pub subscription: Subscription,
    /// A lasting name for this member (static membership). A member that is gone for less than
    /// `session_timeout` and comes back under its name finds its partitions as they were, and no
    /// rebalance happens. Two that run at once under one name are an error.
    pub instance_id: Option<String>,
    /// Ways to share partitions out that this member can live with, the preferred one first. The
    /// group uses one that all its members name.
    pub assignors: Vec<Assignor>,
    /// The broker takes the member for dead when it has not heard of it for so long, and gives its
    /// partitions to others. Heartbeats are sent three times in this time, whether or not the
    /// application comes for records, and a few times more soon after a rebalance. A rebalance is
    /// noticed with a heartbeat, so that a shorter time makes for quicker rebalances.
    pub session_timeout: Duration,
    /// An application that does not come for records for so long is taken for stuck: the member
    /// leaves the group, and joins again when the application comes. A rebalance waits this long for
    /// an application to give partitions up.
    pub max_poll_interval: Duration,
    /// How often to commit what the application has been given and has come back for more after;
    /// also done whenever partitions are given up, and at the end. `None`: only when it is told to.
    pub auto_commit: Option<Duration>,
    /// Where to begin without a committed offset.
    pub auto_offset_reset: OffsetReset,
    /// How records are fetched. `out_of_range` is not looked at: `auto_offset_reset` says it.
    pub fetch: ConsumerConfig,
}

impl GroupConfig {
    /// A member of this group that reads these topics, with defaults that are right for most.
    pub fn new<T: Into<String>>(
        group: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
    ) -> GroupConfig {
        let topics = topics.into_iter().map(Into::into).collect();
        GroupConfig::subscribed(group, Subscription::Topics(topics))
    }

    /// A member of this group that reads the topics whose names match.
    pub fn matching(group: impl Into<String>, pattern: impl Into<String>) -> GroupConfig {
        GroupConfig::subscribed(group, Subscription::Pattern(pattern.into()))
    }

    fn subscribed(group: impl Into<String>, subscription: Subscription) -> GroupConfig {
        GroupConfig {
            group: group.into(),
            subscription,
            instance_id: None,
            assignors: vec![Assignor::CooperativeSticky, Assignor::Range],
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(300),
            auto_commit: Some(Duration::from_secs(5)),
            auto_offset_reset: OffsetReset::default(),
            fetch: ConsumerConfig::default(),
        }
    }

    /// Whether it makes sense; what does not is an error that says what would.
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        let refuse = |reason: &str| Err(ClientError::invalid(reason));
        if self.group.is_empty() {
            return refuse("a group's name cannot be empty; set group");
        }
        if self.assignors.is_empty() {
            return refuse("assignors names none; cooperative-sticky is right for most");
        }
        if self.session_timeout < LEAST_SESSION {
            return refuse(
                "session_timeout is at least 100 ms (and the broker has its own bounds)",
            );
        }
        if self.max_poll_interval < self.session_timeout {
            return refuse("max_poll_interval is shorter than session_timeout; make it longer");
        }
        if self.auto_commit == Some(Duration::ZERO) {
            return refuse(
                "auto_commit is zero; to commit all the time, use commit() after each poll",
            );
        }
        if matches!(&self.subscription, Subscription::Topics(topics) if topics.is_empty()) {
            return refuse("the subscription names no topic; name one at least, or give a pattern");
        }
        self.fetch.check()
    }
}

/// Heartbeats more often than this would be a load of their own.
const LEAST_SESSION: Duration = Duration::from_millis(100);

/// What happened to a member of a group, in the order in which it matters to the application.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupEvent {
    /// Records, in order within each partition.
    Records(Vec<ConsumedRecord>),
    /// These partitions are the member's from now on. This is the moment to
    /// [`seek`](crate::GroupConsumer::seek) or to load what goes with them.
    Assigned(Vec<TopicPartition>),
    /// These partitions are about to go to other members, and no more of their records come. This is
    /// the moment to finish work on them and to write out what goes with them; whoever commits
    /// himself commits now. They are given up when the application asks for the next event.
    Revoked(Vec<TopicPartition>),
    /// These partitions went to other members without a warning: the broker had not heard of this
    /// member for too long. Nothing can be committed for them any more, and what was worked on since
    /// the last commit will be, or has been, worked on again elsewhere.
    Lost(Vec<TopicPartition>),
}
