//! What a journal is told, and what can go wrong with it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::env::BLOCK_BYTES;

/// The fewest files that a ring can turn with: the file being written, the one before it (whose
/// checkpoint stands in should the newer one's be damaged), one whose bytes are on their way into
/// segments, and one free to roll into.
pub const MIN_FILES: u32 = 4;

/// The smallest journal file: room for a header and some groups.
pub const MIN_FILE_BYTES: u64 = 16 * BLOCK_BYTES as u64;

/// How a journal behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Where its files are; the journal's alone.
    pub directory: PathBuf,
    /// Length of a file. A group that is longer makes its file longer, until that is recycled.
    pub file_bytes: u64,
    /// How many files are made in the background at the start.
    pub initial_files: u32,
    /// How many there may be, at least 4. When all are in use and nothing can be let
    /// go, appends wait for room.
    pub max_files: u32,
    /// How long the first entry of a group waits for company. Zero: batching comes from load alone.
    pub linger: Duration,
    /// A group takes no further entry beyond this many bytes (a single longer entry is a group of
    /// its own). At most a quarter of a file is used.
    pub max_group_bytes: usize,
    /// A group takes no more entries than this.
    pub max_group_writes: u32,
    /// How many groups are on their way to the disk at once.
    pub max_writes_in_flight: u32,
    /// How long after the last group an idle journal writes the empty one that proves it durable.
    pub seal_after: Duration,
}

impl JournalConfig {
    /// The defaults, for a journal in `directory`.
    #[must_use]
    pub fn new(directory: PathBuf) -> JournalConfig {
        JournalConfig {
            directory,
            file_bytes: 64 << 20,
            initial_files: 4,
            max_files: 16,
            linger: Duration::ZERO,
            max_group_bytes: 4 << 20,
            max_group_writes: 1_000,
            max_writes_in_flight: 4,
            seal_after: Duration::from_millis(10),
        }
    }

    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), JournalError> {
        let refuse = |what: String| Err(JournalError::Config(what));
        if self.file_bytes < MIN_FILE_BYTES || !self.file_bytes.is_multiple_of(BLOCK_BYTES as u64) {
            return refuse(format!(
                "the length of a file must be a multiple of {BLOCK_BYTES} and at least {MIN_FILE_BYTES}, not {}",
                self.file_bytes
            ));
        }
        if self.max_files < MIN_FILES {
            return refuse(format!(
                "a ring turns with {MIN_FILES} files or more, not with {}",
                self.max_files
            ));
        }
        if self.initial_files > self.max_files {
            return refuse(format!(
                "{} files to begin with are more than the most allowed, {}",
                self.initial_files, self.max_files
            ));
        }
        if self.max_group_bytes == 0 || self.max_group_writes == 0 || self.max_writes_in_flight == 0
        {
            return refuse(
                "a group's bytes, its entries and the writes in flight must each be at least 1"
                    .into(),
            );
        }
        Ok(())
    }
}

/// Why a journal cannot be recovered or started. Damage to what it holds is not among these: that
/// is reported with what could be read, see `RecoveredItem::Damaged`.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The configuration cannot work.
    #[error("journal configuration: {0}")]
    Config(String),
    /// The disk refused.
    #[error("journal: cannot {what} {}: {source}; check the disk and the directory's permissions, then start again", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file was written by a newer program.
    #[error("journal file {} has format version {found}, this program knows versions up to {known}: run the newer program again, or one at least as new", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Neither the newest checkpoint nor any that could stand in for it can be read.
    #[error("journal {}: no checkpoint can be read ({unreadable} unreadable files), so nothing tells which partitions it held; bring the directory back from a copy, or move it away to start without what only it held", directory.display())]
    CheckpointLost {
        /// The journal's directory.
        directory: PathBuf,
        /// How many files say nothing about themselves.
        unreadable: usize,
    },
}

impl JournalError {
    /// Makes an [`JournalError::Io`] of a system error.
    pub(crate) fn io(
        what: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> JournalError {
        let path = path.to_path_buf();
        move |source| JournalError::Io { what, path, source }
    }
}
