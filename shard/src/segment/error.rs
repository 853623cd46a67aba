//! What can go wrong with a segment, each with what to do next.

use std::io;
use std::path::{Path, PathBuf};

use millrace_wire::ids::{Offset, PartitionIndex, TopicName};

/// Why a segment could not be read, written or removed.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file system is full. Nothing was harmed: what was safe still is, and the same call may
    /// be made again.
    #[error(
        "no space is left to write {path}: delete records, shorten the retention of a topic or enlarge the disk; writing goes on by itself once there is room"
    )]
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Bytes that were safe once are not what was written.
    #[error(transparent)]
    Damaged(Box<Damage>),
    /// The offset lies before the first segment: it has been removed by retention or by request.
    #[error(
        "offset {from} is no longer stored, the first segment begins at {first}; read from the log start"
    )]
    Trimmed {
        /// The offset asked for.
        from: Offset,
        /// Where the first segment begins.
        first: Offset,
    },
    /// A file was written by a later version of the program.
    #[error(
        "{path} has format version {found}, this program knows versions up to {known}: run the version of Millrace that wrote it, or a later one"
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// The version it says.
        found: u16,
        /// The newest version known here.
        known: u16,
    },
    /// The entries given to be written do not follow what is written already.
    #[error(
        "entry at offset {found} cannot be written after offset {expected}: entries must be in order, whole batches with at least one record"
    )]
    OutOfOrder {
        /// The lowest offset that may come next.
        expected: Offset,
        /// The offset of the entry refused.
        found: Offset,
    },
    /// Too many files are open in this process.
    #[error(
        "cannot open {path}: too many open files; raise the limit (ulimit -n) or lower the number of files a shard keeps open"
    )]
    TooManyOpenFiles {
        /// The file that was wanted.
        path: PathBuf,
    },
    /// The operating system refused an operation that has harmed nothing: it may be tried again.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A write or a sync failed, so the process is being stopped. Nothing may be acknowledged.
    #[error(
        "writing {path} failed and the process is stopping; it recovers from the journal when it starts again"
    )]
    Stopped {
        /// The file.
        path: PathBuf,
    },
}

impl SegmentError {
    /// An operation the system refused without harm.
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> SegmentError {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => SegmentError::NoSpace { path },
            Some(libc::EMFILE | libc::ENFILE) => SegmentError::TooManyOpenFiles { path },
            _ => SegmentError::Io {
                doing,
                path,
                source,
            },
        }
    }
}

/// Bytes of a segment that fail their checks.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is damaged at byte {position} ({what}): offsets {from} to {} of partition {partition} of topic '{topic}' cannot be read{}",
    last_lost(*.next_readable),
    advice(*.next_readable)
)]
pub struct Damage {
    /// The topic's name.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub position: u64,
    /// The first offset that cannot be read.
    pub from: Offset,
    /// The next offset after the damage from which reading may go on, if it is known. It is always
    /// greater than the offset asked for.
    pub next_readable: Option<Offset>,
    /// What is wrong with the bytes.
    pub what: String,
}

fn last_lost(next_readable: Option<Offset>) -> String {
    next_readable.map_or_else(
        || "the end of the file".to_owned(),
        |next| (next.0 - 1).to_string(),
    )
}

fn advice(next_readable: Option<Offset>) -> String {
    next_readable.map_or_else(String::new, |next| {
        format!("; reading can go on from offset {next}")
    })
}
