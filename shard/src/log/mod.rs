//! The partition log: it gives batches their offsets, tells those that come again from new ones,
//! hands them to the journal, moves the watermarks when they are durable, keeps the newest in
//! memory, reads from memory or segments, wakes whoever waits for new data, and writes to the
//! segments in the background.
//!
//! Runs on the core of the shard that owns the partition. It never shows a record before it is
//! durable, never writes a record to a segment before it is committed, never lets the journal
//! forget a record before a segment holds it safely, and never waits for a disk while it holds a
//! borrow. It knows neither sockets nor configuration files.

mod arena;
mod cache;
mod flush;
mod partition;
mod producers;
mod query;
mod read;
mod retention;
mod settled;
mod shared;
#[cfg(test)]
mod tests;
mod watch;
mod watermarks;
mod window;

use bytes::Bytes;
use millrace_wire::ids::Offset;

pub(crate) use cache::CachedBatch;
pub(crate) use flush::{FLUSH_WRITERS, write_segments};
pub use partition::Partition;
pub(crate) use partition::StartState;
pub(crate) use producers::{Numbered, Producers};
pub use settled::Durable;
pub(crate) use shared::{LowSpace, ShardJournal, Shared, drive};
pub use watch::Registration;
pub use watermarks::Watermarks;
pub(crate) use window::{PRODUCERS_PER_SHARD, PRODUCERS_PIECE_BYTES};

/// What a topic's configuration says of how a partition is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSettings {
    /// How long records are kept (`retention.ms`); for ever when absent.
    pub retention_ms: Option<u64>,
    /// How many bytes are kept (`retention.bytes`); no limit when absent.
    pub retention_bytes: Option<u64>,
    /// A new segment is begun before a file grows beyond this (`segment.bytes`).
    pub segment_bytes: u64,
    /// A new segment is begun when the active one is this old (`segment.ms`).
    pub segment_ms: u64,
}

impl PartitionSettings {
    /// What holds for a recovered partition until it is attached: nothing is removed.
    pub(crate) const UNKNOWN: PartitionSettings = PartitionSettings {
        retention_ms: None,
        retention_bytes: None,
        segment_bytes: 1 << 30,
        segment_ms: u64::MAX,
    };
}

/// Whether a partition can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionStatus {
    /// It takes and gives records.
    Serving,
    /// Acknowledged records are missing or unreadable from this offset on. It neither takes nor
    /// gives records until the loss is accepted.
    Damaged {
        /// First offset concerned.
        from: Offset,
    },
    /// It has been removed.
    Removed,
}

/// An offset asked for by what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The log start.
    Earliest,
    /// The high watermark.
    Latest,
    /// The first record with the largest timestamp.
    MaxTimestamp,
    /// The first record whose timestamp is at least this, ms since 1970.
    AtTimestamp(i64),
}

/// What an [`OffsetQuery`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: Offset,
    /// The record's timestamp, ms since 1970; none for the log start and the high watermark.
    pub timestamp: Option<i64>,
}

/// Whole batches, in order.
#[derive(Clone, Debug)]
pub struct Read {
    /// The batches; the first may begin before the offset asked for.
    pub batches: Vec<Bytes>,
    /// The watermarks, taken before the batches were looked for: whatever becomes visible later
    /// lies beyond them.
    pub watermarks: Watermarks,
}

/// An append that has its place but is not safe yet.
#[must_use = "the records are not safe until `durable` says so"]
pub struct Appended {
    /// Offset of the batch's first record.
    pub base_offset: Offset,
    /// Tells when the batch is durable and visible.
    pub durable: Durable,
    /// The batch was here already, and nothing was appended: this is the one that was, with its
    /// largest timestamp, ms since 1970 (when it was appended, where the broker's clock counts).
    pub duplicate_of: Option<i64>,
}
