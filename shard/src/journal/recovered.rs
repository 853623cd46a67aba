//! What recovery found: the answer of [`super::recover`].

use std::path::PathBuf;

use bytes::Bytes;
use millrace_wire::ids::PartitionId;

use super::entry::{LostEntry, OwnedEntry, PartitionCheckpoint};
use super::format::FileNumber;
use super::{JournalConfig, Sequence};

/// What an earlier run left in a journal.
///
/// The owner begins with `checkpoint` and `producers` and applies `items` in order. Entries of groups
/// up to `checkpoint_through` are already in the checkpoint's state: of these only the batches that
/// are not yet safe in segments are given, and [`OwnedEntry::LossAccepted`], which says which of them
/// no longer count. Entries of later groups are all given.
///
/// Damage concerns the partitions it names, or any partition if it names none. One of these is
/// whole all the same if its batches follow each other without a gap from the end of its segments
/// to an end that is known: that of the checkpoint for damage up to `checkpoint_through`, else one
/// that a later entry proves.
#[derive(Debug)]
pub struct Recovery {
    /// Every partition at the last checkpoint.
    pub checkpoint: Vec<PartitionCheckpoint>,
    /// What partitions remembered of idempotent producers at the last checkpoint, in pieces.
    pub producers: Vec<(PartitionId, Bytes)>,
    /// The last group whose entries the checkpoint includes; 0 if there was none.
    pub checkpoint_through: Sequence,
    /// What happened since, and what the checkpoint still needs, oldest first.
    pub items: Vec<RecoveredItem>,
    /// The last group that counts; 0 if there is none.
    pub end: Sequence,
    /// The groups beyond `end` that were cut off, if any: written but never acknowledged.
    pub torn: Option<Torn>,
    pub(super) resume: Resume,
}

/// One thing that recovery found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveredItem {
    /// An entry, from the group with this number.
    Entry(Sequence, OwnedEntry),
    /// Acknowledged data that cannot be read. Whatever could be saved from the same groups comes
    /// before it.
    Damaged(DamagedGroup),
}

/// Groups that were durable once and cannot be read in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedGroup {
    /// The first group concerned.
    pub sequence: Sequence,
    /// The last group concerned.
    pub last: Sequence,
    /// What was lost, where everything that the group held is known; nothing if it is not, and any
    /// partition may have lost something. An empty list: everything could be saved.
    pub lost: Option<Vec<LostEntry>>,
}

/// Groups cut off at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The first that is not whole.
    pub sequence: Sequence,
    /// How many whole groups after it were dropped.
    pub whole_groups_dropped: u64,
}

/// What a journal needs to go on after recovery.
#[derive(Debug)]
pub(super) struct Resume {
    pub config: JournalConfig,
    pub next_epoch: u64,
    pub next_file: FileNumber,
    /// Files that hold what the next checkpoint may need, oldest first.
    pub live: Vec<LiveFile>,
    /// Files that may be used.
    pub free: Vec<FreeFile>,
    /// Files in which nothing can be read. They are kept, under another name, for who wants to look.
    pub set_aside: Vec<PathBuf>,
    /// The lowest number that no file has in its name.
    pub next_slot: u32,
}

/// A file that holds groups which may be needed.
#[derive(Clone, Debug)]
pub(super) struct LiveFile {
    pub path: PathBuf,
    pub file: FileNumber,
    pub first_sequence: Sequence,
    pub len: u64,
}

/// A file that holds nothing needed.
#[derive(Clone, Debug)]
pub(super) struct FreeFile {
    pub path: PathBuf,
    pub len: u64,
}
