//! What shards ask of one another, and how. The types cross threads: they are plain data and
//! reference-counted buffers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{Offset, PartitionId, PartitionIndex, ShardId};
use millrace_wire::native::messages::ShardStats;

use crate::controller::state::{Change, Command, Outcome, State};
use crate::coordinator::api::{GroupAnswer, GroupCall, ListedGroup};
use crate::native::handoff::MovedConnection;

/// A request to another shard.
#[derive(Debug)]
pub enum Call {
    /// Append a batch that was checked.
    Append(CheckedBatch),
    /// Read batches, without waiting.
    Read {
        /// The partitions, with where to begin and how many bytes each.
        items: Vec<ReadItem>,
        /// Most bytes altogether.
        max_bytes: usize,
        /// Whether the first batch comes even if it is larger than that.
        at_least_one: bool,
    },
    /// Send [`Call::Wake`] once any of these partitions has more than this to read.
    Watch {
        /// Names the wait.
        id: WatchId,
        /// Partitions, and the high watermark that is known already.
        items: Vec<(PartitionId, Offset)>,
    },
    /// Forget a wait.
    Unwatch(WatchId),
    /// What [`Call::Watch`] asked for has come.
    Wake(WatchId),
    /// Questions to single partitions.
    Ask(Vec<(PartitionId, Question)>),
    /// A request to a group of this partition of the internal topic.
    Group(PartitionIndex, GroupCall),
    /// The groups that this shard coordinates.
    ListGroups,
    /// This shard's counters and latencies.
    Stats,
    /// A command to the controller, which is on shard 0.
    Command(Command),
    /// A change of the controller's state: hold it and act on it.
    Changed {
        /// The revision after it.
        revision: u64,
        /// What changed.
        change: Change,
    },
    /// The first step at start: remove partitions that no topic has.
    RemoveStale(Arc<State>),
    /// The second, when every shard has done the first: make those that are missing.
    Install(Arc<State>),
    /// A connection that wants to be here.
    Adopt(MovedConnection),
    /// Open for business: the listeners may accept.
    Open,
    /// Stop taking new work, answer what waits, and say when nothing is under way.
    Drain,
    /// Every shard is done with requests: close the storage and end.
    Finish,
}

/// The answer to a [`Call`].
#[derive(Debug)]
pub enum Reply {
    /// Done; nothing to say.
    Done,
    /// To [`Call::Append`].
    Appended(Appended),
    /// To [`Call::Read`], one for each item.
    Read(Vec<ReadOutcome>),
    /// To [`Call::Ask`], one for each question.
    Answers(Vec<Result<Answer, WireError>>),
    /// To [`Call::Group`].
    Group(GroupAnswer),
    /// To [`Call::ListGroups`].
    Groups(Vec<ListedGroup>),
    /// To [`Call::Stats`].
    Stats(ShardStats),
    /// To [`Call::Command`]: what it was for.
    Commanded(Outcome),
    /// It did not work.
    Failed(WireError),
}

/// Names a fetch that waits: which shard it came to, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId {
    /// The shard that waits.
    pub home: ShardId,
    /// Its number there.
    pub number: u64,
}

/// A batch that was validated and may be appended as it is.
#[derive(Debug)]
pub struct CheckedBatch {
    /// Where to.
    pub partition: PartitionId,
    /// The batch, in memory that nobody else holds.
    pub batch: BytesMut,
    /// How many records.
    pub record_count: u32,
    /// Their largest timestamp.
    pub max_timestamp: i64,
    /// Whether the broker's clock replaces their timestamps.
    pub stamp: bool,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The time it was given, if the broker's clock counts.
    pub append_time_ms: Option<i64>,
    /// First retained offset of the partition.
    pub log_start: Offset,
}

/// What to read of a partition.
#[derive(Clone, Copy, Debug)]
pub struct ReadItem {
    /// Which.
    pub partition: PartitionId,
    /// First offset wanted.
    pub offset: Offset,
    /// Most bytes.
    pub max_bytes: usize,
}

/// What was read of a partition.
#[derive(Clone, Debug)]
pub struct ReadOutcome {
    /// Whole batches, or why there are none.
    pub batches: Result<Vec<Bytes>, WireError>,
    /// First offset that cannot be read yet; read before the batches were.
    pub high_watermark: Offset,
    /// First retained offset.
    pub log_start: Offset,
}

impl ReadOutcome {
    /// Nothing could be read, not even the watermarks.
    #[must_use]
    pub fn failed(error: WireError) -> ReadOutcome {
        ReadOutcome {
            batches: Err(error),
            high_watermark: Offset(-1),
            log_start: Offset(-1),
        }
    }

    /// Whether there is nothing to tell somebody who asked for `offset`: the partition ends there and
    /// nothing is wrong.
    #[must_use]
    pub fn is_no_news(&self, offset: i64) -> bool {
        self.batches.as_ref().is_ok_and(Vec::is_empty) && self.high_watermark.0 == offset
    }

    /// Bytes of the batches.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.batches
            .as_ref()
            .map_or(0, |batches| batches.iter().map(Bytes::len).sum())
    }
}

/// A question to one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The offset of a time, or of one of Kafka's special numbers (-1 latest, -2 earliest, -3
    /// largest timestamp).
    Offset(i64),
    /// Remove what is before this offset; -1: everything.
    DeleteBefore(i64),
    /// Its state.
    Describe,
    /// Serve again without what the disk lost.
    AcceptDataLoss,
}

/// An answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Offset`]: the offset and its record's timestamp, -1 where there is none.
    Offset {
        /// The offset.
        offset: i64,
        /// The timestamp.
        timestamp: i64,
    },
    /// To [`Question::DeleteBefore`].
    LogStart(Offset),
    /// To [`Question::Describe`].
    Description(Description),
    /// To [`Question::AcceptDataLoss`].
    LogEnd(Offset),
}

/// A partition's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Why it does not serve, if it does not.
    pub trouble: Option<WireError>,
    /// First retained offset.
    pub log_start: Offset,
    /// First offset that cannot be read yet.
    pub high_watermark: Offset,
    /// Next offset to be assigned.
    pub log_end: Offset,
    /// Bytes retained.
    pub size_bytes: u64,
}

/// A future of this shard.
pub type Local<T> = Pin<Box<dyn Future<Output = T>>>;

/// How a shard reaches the others. Calls to one shard arrive there in the order in which they were
/// sent.
pub trait Peers {
    /// Sends a call. The outer future is ready when the call is on its way (a full queue makes it
    /// wait), the inner one when the answer is here.
    fn send(&self, to: ShardId, call: Call) -> Local<Result<Local<Reply>, WireError>>;
}

/// The answer when another shard does not answer any more.
#[must_use]
pub fn shard_gone(shard: ShardId) -> WireError {
    WireError::new(
        ErrorCode::ShuttingDown,
        format!("shard {shard} does not answer; the broker is stopping"),
    )
}

/// The answer when a shard answers something else than what was asked.
#[must_use]
pub fn wrong_reply(reply: Reply) -> WireError {
    match reply {
        Reply::Failed(error) => error,
        other => {
            tracing::error!(?other, "a shard answered another question than was asked");
            WireError::new(
                ErrorCode::Unknown,
                "the broker contradicts itself; see its log",
            )
        }
    }
}
