//! The journal: the only place where durability is bought. One per shard, it takes the appends of
//! all the shard's partitions in groups, writes them with `O_DIRECT | O_DSYNC` into a ring of
//! prewritten files, and tells in order what has become durable. After a crash it gives back
//! everything that it ever called durable, cuts off the rest, and tells damage from a torn tail.
//!
//! Everything here runs on the shard's own core. It never reads a batch's contents, never decides
//! what is committed or visible (that is the log's), never writes again to a page that holds
//! acknowledged bytes, and never goes on after a failed write: the process stops and recovers.
//!
//! The way in is [`recover`], which reads what an earlier run left; [`Recovery::start`] turns it
//! into a [`Journal`]. The format on disk, and why recovery reaches one right answer, are in
//! [`mod@format`].
//!
//! | module | what it is |
//! |---|---|
//! | [`entry`] | what a group holds: appends and changes of state of partitions |
//! | [`mod@format`] | the bytes on disk: file header, group header; parsers that trust nothing |
//! | [`scan`] | finding the groups of a file, without I/O |
//! | `walk` | which groups count, which are damaged, where the journal ends; without I/O |
//! | `recovery`, `read`, `replay` | recovery: files in, checkpoint and entries out |
//! | `handle` | [`Journal`], as the rest of the shard sees it |
//! | `writer`, `group`, `roll` | gathering, writing, releasing in order; where a group goes |
//! | `ring` | the files: in use, free, being made |
//! | [`planted`] | bugs on request, for tests of the tests |

mod config;
pub mod entry;
pub mod format;
mod group;
mod handle;
mod metrics;
pub mod planted;
mod read;
mod recovered;
mod recovery;
mod replay;
mod ring;
mod roll;
pub mod scan;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

pub use config::{JournalConfig, JournalError};
pub use entry::{Entry, LostEntry, OwnedEntry, PartitionCheckpoint};
pub use handle::Journal;
pub use metrics::JournalMetrics;
pub use recovered::{DamagedGroup, RecoveredItem, Recovery, Torn};
pub use recovery::recover;
pub use writer::JournalClosed;

use millrace_wire::ids::PartitionId;

pub use crate::segment::SegmentEnd;

/// The number of a group: 1 for the first that the journal ever wrote, and one more for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The group after this one.
    #[must_use]
    pub fn next(self) -> Sequence {
        Sequence(self.0 + 1)
    }

    /// The group before this one; of 0, 0.
    #[must_use]
    pub fn previous(self) -> Sequence {
        Sequence(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for Sequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of everything a shard hosts, as its owner knows it at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Every partition that the shard hosts.
    pub partitions: Vec<PartitionCheckpoint>,
    /// The oldest group with bytes that are not yet safe in segments; nothing if all are.
    pub oldest_needed: Option<Sequence>,
}

/// Who appends to a journal. The journal asks it for a checkpoint at the start of each file.
pub trait JournalOwner {
    /// The state with every entry applied that was handed to [`Journal::append`] so far, and none
    /// beyond. Called between the owner's own turns, never from within an append: nothing may be
    /// half done, and no `RefCell` may be borrowed over an await.
    fn checkpoint(&self) -> Checkpoint;

    /// What partitions of the checkpoint remember of idempotent producers, of the same moment: each
    /// piece is handed to `put` and becomes an entry. Called in the same turn as
    /// [`JournalOwner::checkpoint`], if the journal begins a file indeed.
    fn producers(&self, put: &mut dyn FnMut(PartitionId, &[u8]));
}
