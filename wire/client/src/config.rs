//! What a user may set, with defaults that are right for most.

use std::str::FromStr;
use std::time::Duration;

use crate::ClientError;

/// How to reach the broker, and how patient to be with it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Addresses to begin with, `host:port`, tried in order. The broker tells of the others.
    pub bootstrap: Vec<String>,
    /// A name for this client in the broker's logs and metrics.
    pub client_id: String,
    /// How long one address may take to accept a connection and answer the handshake.
    pub connect_timeout: Duration,
    /// How long a request may stay unanswered, beyond the waiting that it asks for itself. A
    /// connection on which one does is closed: nothing is known of the requests behind it.
    pub request_timeout: Duration,
    /// The shortest and the longest pause before trying again. Pauses double from the first to the
    /// second and are drawn at random from the upper half, so that many clients do not come at once.
    pub backoff: (Duration, Duration),
    /// Metadata older than this is asked for again even if nothing speaks against it.
    pub metadata_max_age: Duration,
    /// How long a topic that the broker does not know may take to appear before using it is an
    /// error. It covers the moment between creating a topic and every shard knowing of it.
    pub unknown_topic_patience: Duration,
}

impl ClientConfig {
    /// The defaults, with these bootstrap addresses.
    pub fn new<A: Into<String>>(bootstrap: impl IntoIterator<Item = A>) -> ClientConfig {
        ClientConfig {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            ..ClientConfig::default()
        }
    }
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            bootstrap: vec!["127.0.0.1:9092".into()],
            client_id: "millrace-client".into(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            backoff: (Duration::from_millis(20), Duration::from_secs(1)),
            metadata_max_age: Duration::from_secs(300),
            unknown_topic_patience: Duration::from_secs(1),
        }
    }
}

/// When the broker acknowledges a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// Never: the record counts as delivered once it is written to the socket, and has no offset.
    /// It may be lost without anyone noticing.
    None,
    /// When it is on the leader's disk.
    Leader,
    /// When it is on the disks of a quorum.
    #[default]
    All,
}

impl Acks {
    /// The number that stands for it in a request.
    #[must_use]
    pub fn number(self) -> i8 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

impl FromStr for Acks {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Acks, ClientError> {
        match text {
            "0" | "none" => Ok(Acks::None),
            "1" | "leader" => Ok(Acks::Leader),
            "-1" | "all" => Ok(Acks::All),
            _ => Err(ClientError::invalid(format!(
                "acks is one of 0, 1 and all, not '{text}'"
            ))),
        }
    }
}

/// The codecs a producer can compress with. Consumers read gzip and snappy besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Records as they are.
    None,
    /// lz4 frames: cheap on both sides.
    #[default]
    Lz4,
    /// zstd: smaller, at several times the work.
    Zstd,
}

impl FromStr for Compression {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Compression, ClientError> {
        match text {
            "none" => Ok(Compression::None),
            "lz4" => Ok(Compression::Lz4),
            "zstd" => Ok(Compression::Zstd),
            _ => Err(ClientError::invalid(format!(
                "compression is one of none, lz4 and zstd, not '{text}'"
            ))),
        }
    }
}

/// What a producer that is not idempotent does with a batch of which it cannot know whether it was
/// stored: the connection broke, or the answer did not come in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownOutcome {
    /// Send it again: at least once. The records may then be stored twice.
    #[default]
    Retry,
    /// Fail its deliveries: at most once. [`ClientError::is_retriable`] holds for the error, and
    /// the records may nevertheless have been stored.
    Fail,
}

/// How a producer gathers, sends and retries.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// Whether the broker knows this producer's batches again, so that a record is stored once and in
    /// order however often it is sent. It needs `acks` all, at least one retry, and `unknown_outcome`
    /// Retry.
    ///
    /// Promised: of the records that one producer accepts for a partition, none is stored twice and none
    /// before one that was accepted earlier, whatever happens to connections and to the broker, for as
    /// long as the broker remembers the producer (a day after its last record, if nothing else is set).
    /// Not promised: that a record whose delivery failed is not stored (where the failure is
    /// [`retriable`](ClientError::is_retriable) it may have been), or that a program which sends such a
    /// record again, or is started anew and sends what it sent before, is recognised: those are other
    /// records to the broker.
    pub idempotent: bool,
    /// When a batch counts as stored.
    pub acks: Acks,
    /// How long a record may wait for others to share its batch. With zero a batch leaves at once
    /// when nothing of its partition is under way, and otherwise gathers what arrives meanwhile.
    pub linger: Duration,
    /// A batch is closed when its records reach this many bytes before compression. A larger
    /// record gets a batch of its own.
    pub batch_bytes: usize,
    /// The codec of batches.
    pub compression: Compression,
    /// Produce requests that may be unanswered on one connection. Each carries at most one batch of
    /// a partition. Of an idempotent producer a partition has at most five batches under way, of
    /// another one at most one unless `retries` is 0 (see [`crate::core::producer`] for the reasons).
    pub max_in_flight: usize,
    /// Bytes of records accepted and not yet answered; at the bound, `send` waits. A record larger
    /// than the bound waits for an empty buffer and then takes all of it.
    pub buffer_bytes: usize,
    /// How often a batch is sent again after a failure that another attempt may mend.
    pub retries: u32,
    /// Whether batches of unknown fate are among those.
    pub unknown_outcome: UnknownOutcome,
    /// How long a batch may take from its first record's acceptance to its answer, retries included.
    /// An attempt that is under way when the time ends is still waited for, at most for the client's
    /// `request_timeout`, since its outcome is worth more than the time.
    pub delivery_timeout: Duration,
}

impl ProducerConfig {
    /// Refuses what contradicts itself, in words that say what to change.
    pub fn check(&self) -> Result<(), ClientError> {
        if self.batch_bytes == 0 || self.buffer_bytes == 0 || self.max_in_flight == 0 {
            return Err(ClientError::invalid(
                "batch_bytes, buffer_bytes and max_in_flight are at least 1",
            ));
        }
        if self.linger > self.delivery_timeout {
            return Err(ClientError::invalid(
                "linger is longer than delivery_timeout",
            ));
        }
        if !self.idempotent {
            return Ok(());
        }
        let contradicts = |what: &str, change: &str| {
            Err(ClientError::invalid(format!(
                "{what} does not go with an idempotent producer; {change}, or set idempotent to false"
            )))
        };
        if self.acks != Acks::All {
            return contradicts("acks 0 or 1", "set acks to all");
        }
        if self.retries == 0 {
            return contradicts("retries 0", "allow at least one retry");
        }
        if self.unknown_outcome == UnknownOutcome::Fail {
            return contradicts(
                "unknown_outcome Fail",
                "set it to Retry, which stores nothing twice",
            );
        }
        Ok(())
    }
}

impl Default for ProducerConfig {
    fn default() -> ProducerConfig {
        ProducerConfig {
            idempotent: true,
            acks: Acks::All,
            linger: Duration::ZERO,
            batch_bytes: 64 << 10,
            compression: Compression::Lz4,
            max_in_flight: 8,
            buffer_bytes: 32 << 20,
            retries: u32::MAX,
            unknown_outcome: UnknownOutcome::Retry,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// Where to begin reading a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is retained.
    Earliest,
    /// Behind the newest record that can be read when the assignment is made.
    Latest,
    /// At this offset.
    Offset(i64),
    /// At the first record whose timestamp is this or later (ms since 1970), or behind the newest
    /// if there is none.
    Timestamp(i64),
}

/// What a consumer does when its offset is not in the log: retention or a deletion passed it, or
/// the log ends before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// Go to the oldest record.
    Earliest,
    /// Go behind the newest record.
    Latest,
    /// Let `poll` fail, once; the partition then rests until it is sought.
    #[default]
    Error,
}

/// How a consumer fetches.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// How long the broker may hold a fetch that finds nothing. It answers at once when a record
    /// arrives, so a long wait costs no latency and saves work on both sides.
    pub max_wait: Duration,
    /// The broker holds a fetch until this many bytes are there (or `max_wait` is over).
    pub min_bytes: u32,
    /// The most bytes of one answer; a larger single batch still comes.
    pub max_bytes: u32,
    /// The most bytes of one partition in one answer; a larger single batch still comes.
    pub partition_max_bytes: u32,
    /// Bytes fetched ahead of what was polled, as the broker sent them (that is, compressed).
    pub prefetch_bytes: usize,
    /// The most records of one `poll`.
    pub max_poll_records: usize,
    /// When the offset is not in the log.
    pub out_of_range: OutOfRange,
}

impl Default for ConsumerConfig {
    fn default() -> ConsumerConfig {
        ConsumerConfig {
            max_wait: Duration::from_secs(10),
            min_bytes: 1,
            max_bytes: 8 << 20,
            partition_max_bytes: 1 << 20,
            prefetch_bytes: 32 << 20,
            max_poll_records: 1000,
            out_of_range: OutOfRange::Error,
        }
    }
}

impl ConsumerConfig {
    /// Whether anything could be read with it.
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        if self.max_bytes == 0
            || self.partition_max_bytes == 0
            || self.prefetch_bytes == 0
            || self.max_poll_records == 0
        {
            return Err(ClientError::invalid(
                "max_bytes, partition_max_bytes, prefetch_bytes and max_poll_records are at \
                 least 1",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_idempotence_is_refused_in_words_that_help() {
        let good = ProducerConfig::default();
        assert_eq!(good.check(), Ok(()));
        for (wrong, what) in [
            (
                ProducerConfig {
                    acks: Acks::Leader,
                    ..good.clone()
                },
                "set acks to all",
            ),
            (
                ProducerConfig {
                    retries: 0,
                    ..good.clone()
                },
                "at least one retry",
            ),
            (
                ProducerConfig {
                    unknown_outcome: UnknownOutcome::Fail,
                    ..good.clone()
                },
                "set it to Retry",
            ),
        ] {
            let error = wrong.check().expect_err("refused").to_string();
            assert!(
                error.contains(what) && error.contains("set idempotent to false"),
                "{error}"
            );
            let plain = ProducerConfig {
                idempotent: false,
                ..wrong
            };
            assert_eq!(plain.check(), Ok(()));
        }
    }
}
