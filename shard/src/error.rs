//! What can go wrong in a shard's storage, and what a client is told of it.

use std::io;
use std::path::PathBuf;

use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{Offset, PartitionId, ProducerEpoch, ProducerId, ShardId};

use crate::journal::JournalError;
use crate::segment::SegmentError;

/// A storage operation failed. Each message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The partition is not on this shard.
    #[error("partition {0} is not on this shard; ask for metadata again")]
    UnknownPartition(PartitionId),
    /// The partition was removed while the request was under way.
    #[error("partition {0} was removed")]
    Removed(PartitionId),
    /// An offset outside of what the partition holds.
    #[error(
        "offset {offset} is out of range: the records of the partition begin at {log_start} and end before {high_watermark}"
    )]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// First offset it holds.
        log_start: Offset,
        /// First offset that cannot be read.
        high_watermark: Offset,
    },
    /// Acknowledged data is missing or unreadable after recovery.
    #[error(
        "acknowledged records of partition {partition} from offset {from} on are damaged on disk; \
         restore the data directory from a copy, or accept the loss with a repair request"
    )]
    Damaged {
        /// The partition.
        partition: PartitionId,
        /// First offset concerned.
        from: Offset,
    },
    /// Stored bytes fail their checksum.
    #[error(
        "stored records of partition {partition} near offset {offset} fail their checksum; they are \
         not served; read from a later offset, or restore the data directory from a copy: {detail}"
    )]
    Corrupt {
        /// The partition.
        partition: PartitionId,
        /// Where reading began.
        offset: Offset,
        /// From where reading can go on, if that is known.
        next_readable: Option<Offset>,
        /// What was found.
        detail: String,
    },
    /// Free space is below the reserve, or there is none.
    #[error(
        "free disk space ({available} bytes) is below the reserve of {reserve} bytes; reading and \
         deleting go on; free some space or lower the retention"
    )]
    DiskReserve {
        /// Bytes left.
        available: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// The batch itself cannot be taken.
    #[error("the record batch cannot be stored: {0}")]
    InvalidBatch(String),
    /// A later life of the idempotent producer has written to the partition.
    #[error(
        "producer {producer} sent a batch of epoch {epoch} to partition {partition}, where its epoch \
         {current} has taken over; close this producer, or get a new producer id and begin anew"
    )]
    InvalidProducerEpoch {
        /// The partition.
        partition: PartitionId,
        /// The producer.
        producer: ProducerId,
        /// The batch's epoch.
        epoch: ProducerEpoch,
        /// The latest.
        current: ProducerEpoch,
    },
    /// A batch of an idempotent producer is neither the next one nor among the last five.
    #[error(
        "producer {producer} sent sequence number {sequence} to partition {partition}, where \
         {expected} comes next: a batch before it is missing, or it was sent again too late to be \
         told from others; find out what of the producer's records is there, get a new producer id \
         or epoch and begin with sequence number 0"
    )]
    OutOfOrderSequence {
        /// The partition.
        partition: PartitionId,
        /// The producer.
        producer: ProducerId,
        /// The batch's first sequence number.
        sequence: i32,
        /// What it should be.
        expected: i32,
    },
    /// The shard is closing or has closed.
    #[error("the broker is shutting down; connect again when it is back")]
    ShuttingDown,
    /// A file operation failed.
    #[error("cannot {operation} {path}: {source}", path = .path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Segments cannot be read or written.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// What is found on disk contradicts itself.
    #[error("shard {shard}: {detail}")]
    Inconsistent {
        /// Whose files.
        shard: ShardId,
        /// What is wrong and what to do.
        detail: String,
    },
}

impl StorageError {
    /// For `map_err` on file operations.
    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> StorageError {
        let path = path.into();
        move |source| StorageError::Io {
            operation,
            path,
            source,
        }
    }

    /// The code a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            StorageError::UnknownPartition(_) => ErrorCode::UnknownTopicOrPartition,
            StorageError::Removed(_) => ErrorCode::TopicDeleted,
            StorageError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            StorageError::Damaged { .. } => ErrorCode::PartitionDamaged,
            StorageError::Corrupt { .. } | StorageError::InvalidBatch(_) => {
                ErrorCode::CorruptMessage
            }
            StorageError::DiskReserve { .. } => ErrorCode::DiskReserveReached,
            StorageError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            StorageError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            StorageError::ShuttingDown => ErrorCode::ShuttingDown,
            StorageError::Segment(SegmentError::TooManyOpenFiles { .. }) => ErrorCode::Overloaded,
            StorageError::Io { .. }
            | StorageError::Journal(_)
            | StorageError::Segment(_)
            | StorageError::Inconsistent { .. } => ErrorCode::StorageError,
        }
    }

    /// The error as it crosses the socket.
    #[must_use]
    pub fn to_wire(&self) -> WireError {
        WireError::new(self.code(), self.to_string())
    }
}
