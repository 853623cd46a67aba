//! What can be wrong with a batch.

use super::compression::Compression;
use crate::error::{ErrorCode, WireError};

/// Why a batch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch ends after {have} bytes, {need} are needed")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there must be.
        need: usize,
    },
    /// The length field is less than a header's.
    #[error("the batch's length field says {0}, less than a header has")]
    Length(i32),
    /// Bytes follow the batch where exactly one was expected.
    #[error("{0} bytes follow the batch; send exactly one batch for each partition")]
    TrailingBytes(usize),
    /// The batch is over the limit.
    #[error("the batch has {bytes} bytes, at most {limit} are allowed (max.message.bytes)")]
    TooLarge {
        /// The batch's length.
        bytes: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// The format is older than, or unknown to, this one.
    #[error("record batch format {0} is not supported, only format 2 is")]
    Magic(i8),
    /// The checksum does not match.
    #[error("the batch's CRC-32C is {computed:#010x}, its header says {stored:#010x}")]
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A header field that cannot be.
    #[error("the batch's {field} is {value}, which cannot be")]
    Field {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// The codec number is not known.
    #[error("compression codec {0} is not known")]
    Codec(u8),
    /// The compressed records could not be expanded.
    #[error("the batch's {codec} data is broken: {reason}")]
    Compressed {
        /// The codec.
        codec: Compression,
        /// What the decoder said.
        reason: String,
    },
    /// The records expand to more than the limit.
    #[error("the batch expands to more than {limit} bytes; send smaller batches")]
    Expands {
        /// The most that is allowed.
        limit: usize,
    },
    /// The count and the last offset delta disagree, or the batch is empty.
    #[error("the batch says {records} records and a last offset delta of {last_offset_delta}")]
    Count {
        /// The record count field.
        records: u32,
        /// The last offset delta field.
        last_offset_delta: u32,
    },
    /// A producer sent a control batch.
    #[error("the batch is a control batch, which producers cannot send")]
    Control,
    /// A record is not framed as it must be.
    #[error("record {record} of the batch is broken: {reason}")]
    Record {
        /// Which one, from 0.
        record: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// Bytes are left after the last record.
    #[error("{0} bytes follow the batch's last record")]
    TrailingRecords(usize),
    /// A record's key is missing on a compacted topic.
    #[error("record {record} has no key; a compacted topic needs one")]
    KeyMissing {
        /// Which one, from 0.
        record: u32,
    },
    /// A record's timestamp is out of bounds.
    #[error("record {record} has timestamp {timestamp}, outside of {earliest} to {latest}")]
    Timestamp {
        /// Which one, from 0.
        record: u32,
        /// Its timestamp, ms since 1970.
        timestamp: i64,
        /// The lowest that is allowed.
        earliest: i64,
        /// The highest that is allowed.
        latest: i64,
    },
    /// A producer stamped the batch with append time.
    #[error("the batch is stamped with append time, which only the broker may do")]
    StampedByProducer,
}

impl BatchError {
    /// The code that a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::Truncated { .. }
            | BatchError::Length(_)
            | BatchError::Crc { .. }
            | BatchError::Compressed { .. } => ErrorCode::CorruptMessage,
            BatchError::TooLarge { .. } | BatchError::Expands { .. } => ErrorCode::MessageTooLarge,
            BatchError::Magic(_) => ErrorCode::UnsupportedVersion,
            BatchError::Codec(_) => ErrorCode::UnsupportedCompressionType,
            BatchError::Timestamp { .. } | BatchError::StampedByProducer => {
                ErrorCode::InvalidTimestamp
            }
            BatchError::TrailingBytes(_)
            | BatchError::Field { .. }
            | BatchError::Count { .. }
            | BatchError::Control
            | BatchError::Record { .. }
            | BatchError::TrailingRecords(_)
            | BatchError::KeyMissing { .. } => ErrorCode::InvalidRecord,
        }
    }
}

impl From<BatchError> for WireError {
    fn from(error: BatchError) -> WireError {
        WireError::new(error.code(), error.to_string())
    }
}
