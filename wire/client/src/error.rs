//! What can go wrong, said so that a person knows what to do next.

use std::time::Duration;

use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::native::messages::Status;

/// An error of the client. It is cheap to clone: one failed batch fails many deliveries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No broker could be reached.
    #[error("cannot connect to {address}: {reason}; {hint}")]
    Connect {
        /// The address or addresses that were tried.
        address: String,
        /// What the system said.
        reason: String,
        /// What to try.
        hint: &'static str,
    },
    /// The connection broke while a request was under way, whose outcome is therefore unknown.
    #[error(
        "the connection to {address} broke before the answer came ({reason}); \
         the request may or may not have taken effect"
    )]
    ConnectionLost {
        /// The peer.
        address: String,
        /// Why.
        reason: String,
    },
    /// The broker answered with an error.
    #[error(transparent)]
    Broker(#[from] WireError),
    /// The broker answered with an error whose number this client does not know.
    #[error(
        "{message} (error {number}, which this client does not know; a newer client may say more)"
    )]
    UnknownCode {
        /// The number.
        number: i16,
        /// The broker's sentence.
        message: String,
    },
    /// The topic does not exist.
    #[error("topic '{topic}' does not exist; create it first, or check the name")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The topic has no such partition.
    #[error("topic '{topic}' has partitions 0 to {last}, and no partition {partition}", last = .partitions.saturating_sub(1))]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u32,
        /// How many it has.
        partitions: u32,
    },
    /// No answer came in time.
    #[error("{what} was not answered within {after:?}{}", .last.as_ref().map(|l| format!("; the last failure was: {l}")).unwrap_or_default())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
        /// The failure met while waiting, if any.
        last: Option<String>,
    },
    /// A record could not be stored within the producer's `delivery_timeout`.
    #[error(
        "the record for {topic}/{partition} was not stored within delivery_timeout ({after:?}){}",
        .last.as_ref().map(|l| format!("; the last failure was: {l}")).unwrap_or_default()
    )]
    DeliveryTimedOut {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The timeout.
        after: Duration,
        /// The last failure, if any.
        last: Option<String>,
    },
    /// Nobody can tell whether the records were stored: the answer was lost, and after an earlier batch
    /// of the partition failed, sending them again might store them twice.
    #[error(
        "the answer for a batch of {topic}/{partition} was lost, and the batch before it failed; the records may or may not be stored: look for them in the partition before sending them again"
    )]
    FateUnknown {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// The record cannot be sent at all.
    #[error("a record of {bytes} bytes is over the limit of {limit} bytes of a request")]
    RecordTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A batch that was fetched is not what was stored.
    #[error(
        "{topic}/{partition} at offset {offset}: the batch is damaged ({reason}); \
         fetch it again, or seek past it"
    )]
    Corrupt {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset wanted.
        offset: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// The offset is not in the log, and the consumer was told to say so.
    #[error(
        "{topic}/{partition} has no offset {offset}: its records begin at {log_start} and end \
         before {high_watermark}; seek to one that is there, or set out_of_range"
    )]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset wanted.
        offset: i64,
        /// The oldest offset there is.
        log_start: i64,
        /// The first offset that is not there yet.
        high_watermark: i64,
    },
    /// A group has no offset for a partition, and its member was told to say so.
    #[error(
        "group '{group}' has no committed offset for {topic}/{partition}; seek to one, commit one, \
         or set auto_offset_reset to earliest or latest"
    )]
    NoCommittedOffset {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// Offsets were not committed since the member no longer has the partitions.
    #[error(
        "the offsets were not committed: group '{group}' has given their partitions to other members \
         meanwhile, who read on from the offsets that were committed before"
    )]
    CommitTooLate {
        /// The group.
        group: String,
    },
    /// The partition is not assigned to the consumer.
    #[error("{topic}/{partition} is not assigned to this consumer; assign it first")]
    NotAssigned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// The peer does not speak as agreed.
    #[error(
        "{address} does not speak Millrace's protocol ({reason}); is it the address of a Millrace broker?"
    )]
    Protocol {
        /// The peer.
        address: String,
        /// What it said.
        reason: String,
    },
    /// A setting or an argument is not allowed.
    #[error("{reason}")]
    Invalid {
        /// Which, and what is.
        reason: String,
    },
    /// The client, producer or consumer was closed.
    #[error("the client is closed")]
    Closed,
}

impl ClientError {
    pub(crate) fn invalid(reason: impl Into<String>) -> ClientError {
        ClientError::Invalid {
            reason: reason.into(),
        }
    }

    /// The broker's code, where a broker's code is the cause.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Broker(error) => Some(error.code),
            ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. } => {
                Some(ErrorCode::UnknownTopicOrPartition)
            }
            ClientError::OffsetOutOfRange { .. } => Some(ErrorCode::OffsetOutOfRange),
            ClientError::Corrupt { .. } => Some(ErrorCode::CorruptMessage),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without being changed.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Broker(error) => error.code.is_retriable(),
            ClientError::Connect { .. }
            | ClientError::ConnectionLost { .. }
            | ClientError::TimedOut { .. }
            | ClientError::DeliveryTimedOut { .. }
            | ClientError::FateUnknown { .. } => true,
            _ => false,
        }
    }

    /// The error in a response's status, if it is one.
    pub fn check(status: &Status) -> Result<(), ClientError> {
        if status.code == 0 {
            return Ok(());
        }
        Err(match ErrorCode::from_number(status.code) {
            Some(code) => WireError::new(code, status.message.clone()).into(),
            None => ClientError::UnknownCode {
                number: status.code,
                message: status.message.clone(),
            },
        })
    }
}
