//! What a group holds: batches of partitions, and changes of the partitions' state. Each entry is a
//! header of 64 bytes with a checksum of its own, then a body with its own, so that a damaged group
//! still tells whose entries it held wherever they can be read.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `MLRE` |
//! | 4 | 4 | CRC-32 of the journal's salt, the group's number and bytes 8 to 64 |
//! | 8 | 1 | kind |
//! | 9 | 1 | flags: bit 0, the batch is an idempotent producer's |
//! | 10 | 2 | zero |
//! | 12 | 4 | length of the body |
//! | 16 | 4 | CRC-32 of the body |
//! | 20 | 4 | partition |
//! | 24 | 16 | topic |
//! | 40 | 8 | index |
//! | 48 | 8 | offset: a batch's base, a log's start or end |
//! | 56 | 4 | record count |
//! | 60 | 4 | term |
//!
//! The flag says, where a batch is lost, whether knowledge of its producer is lost with it.
//!
//! All numbers are little-endian. The salt and the group's number make an entry that a recycled
//! file still holds from an earlier use, or that a client wrote as the bytes of a record, fail its
//! check even where the header of the group around it is lost.

mod read;

use bytes::Bytes;
use millrace_wire::ids::{LogIndex, Offset, PartitionId, PartitionIndex, Term, TopicId};

use super::Sequence;
use super::format::{put, take_i64, take_u32, take_u64};
use crate::segment::SegmentEnd;

pub use read::{Entries, LostEntry, Seen};

/// Length of an entry's header.
pub const ENTRY_HEADER_BYTES: usize = 64;

const MAGIC: u32 = u32::from_le_bytes(*b"MLRE");
const SEGMENT_END_BYTES: usize = 36;
const IDEMPOTENT: u8 = 1;
const STATE_BYTES: usize = 8 + SEGMENT_END_BYTES + 8 + 8 + 4 + 1 + 8;

/// Everything a journal knows about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCheckpoint {
    /// The partition.
    pub partition: PartitionId,
    /// Its first retained offset.
    pub log_start: Offset,
    /// How far its segments are on stable storage.
    pub safe: SegmentEnd,
    /// The offset after its last; while some of it is lost, after the last that it may have given
    /// out.
    pub log_end: Offset,
    /// Index of its last entry.
    pub last_index: LogIndex,
    /// Term of its last entry.
    pub last_term: Term,
    /// Acknowledged data from here on is lost and nobody has accepted it yet: the partition neither
    /// reads nor writes.
    pub damaged: Option<Offset>,
}

/// One entry; `B` holds a batch. See [`Entry`] and [`OwnedEntry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryOf<B> {
    /// A batch was appended to a partition.
    Append {
        /// The partition.
        partition: PartitionId,
        /// The batch's place in the partition's Raft log.
        index: LogIndex,
        /// The leader's term.
        term: Term,
        /// Offset of its first record.
        base_offset: Offset,
        /// How many offsets it takes.
        record_count: u32,
        /// Whether it is an idempotent producer's.
        idempotent: bool,
        /// The batch itself.
        batch: B,
    },
    /// The shard hosts this partition from now on, in this state.
    PartitionCreated(PartitionCheckpoint),
    /// The shard no longer hosts the partition; nothing of it is kept.
    PartitionRemoved {
        /// The partition.
        partition: PartitionId,
    },
    /// Records below an offset are gone for good.
    LogStart {
        /// The partition.
        partition: PartitionId,
        /// Its new first offset.
        log_start: Offset,
    },
    /// The partition's segments are on stable storage up to here.
    SegmentSafe {
        /// The partition.
        partition: PartitionId,
        /// How far.
        safe: SegmentEnd,
    },
    /// An operator accepted that data was lost: the log ends here, what was beyond is dropped, and
    /// the partition serves again.
    LossAccepted {
        /// The partition.
        partition: PartitionId,
        /// The offset that the next record gets.
        log_end: Offset,
    },
    /// The partition's state at the moment of a checkpoint. Written by the journal itself; recovery
    /// hands it on only where it could be read from a damaged group.
    Checkpoint(PartitionCheckpoint),
    /// What the partition's owner remembers of idempotent producers, or a part of it: of those that
    /// it names it replaces what was known.
    Producers {
        /// The partition.
        partition: PartitionId,
        /// In the owner's form.
        snapshot: B,
    },
    /// The same at the moment of a checkpoint, which the partition's [`EntryOf::Checkpoint`] is in
    /// too. Written by the journal itself; recovery gives those of the checkpoint in force and no
    /// others, since older ones and the batches since say the same.
    ProducersCheckpoint {
        /// The partition.
        partition: PartitionId,
        /// In the owner's form.
        snapshot: B,
    },
}

/// An entry to be appended; the batch is borrowed.
pub type Entry<'a> = EntryOf<&'a [u8]>;

/// A recovered entry.
pub type OwnedEntry = EntryOf<Bytes>;

impl<B> EntryOf<B> {
    /// The partition it is about.
    pub fn partition(&self) -> PartitionId {
        match self {
            EntryOf::Append { partition, .. }
            | EntryOf::PartitionRemoved { partition }
            | EntryOf::LogStart { partition, .. }
            | EntryOf::SegmentSafe { partition, .. }
            | EntryOf::LossAccepted { partition, .. }
            | EntryOf::Producers { partition, .. }
            | EntryOf::ProducersCheckpoint { partition, .. } => *partition,
            EntryOf::PartitionCreated(state) | EntryOf::Checkpoint(state) => state.partition,
        }
    }
}

/// What an entry's body is: bytes as they are, or a few made for it.
pub(super) enum Body<'a> {
    Given(&'a [u8]),
    Made([u8; STATE_BYTES], usize),
}

impl Body<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Body::Given(bytes) => bytes,
            Body::Made(bytes, len) => &bytes[..*len],
        }
    }
}

impl<'a> Entry<'a> {
    /// How many bytes it takes in a group.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        ENTRY_HEADER_BYTES
            + match self {
                EntryOf::Append { batch: given, .. }
                | EntryOf::Producers {
                    snapshot: given, ..
                }
                | EntryOf::ProducersCheckpoint {
                    snapshot: given, ..
                } => given.len(),
                EntryOf::PartitionCreated(_) | EntryOf::Checkpoint(_) => STATE_BYTES,
                EntryOf::SegmentSafe { .. } => SEGMENT_END_BYTES,
                EntryOf::PartitionRemoved { .. }
                | EntryOf::LogStart { .. }
                | EntryOf::LossAccepted { .. } => 0,
            }
    }

    /// A copy that owns its batch.
    #[must_use]
    pub fn to_owned(&self) -> OwnedEntry {
        match *self {
            EntryOf::Append {
                partition,
                index,
                term,
                base_offset,
                record_count,
                idempotent,
                batch,
            } => EntryOf::Append {
                partition,
                index,
                term,
                base_offset,
                record_count,
                idempotent,
                batch: Bytes::copy_from_slice(batch),
            },
            EntryOf::PartitionCreated(state) => EntryOf::PartitionCreated(state),
            EntryOf::PartitionRemoved { partition } => EntryOf::PartitionRemoved { partition },
            EntryOf::LogStart {
                partition,
                log_start,
            } => EntryOf::LogStart {
                partition,
                log_start,
            },
            EntryOf::SegmentSafe { partition, safe } => EntryOf::SegmentSafe { partition, safe },
            EntryOf::LossAccepted { partition, log_end } => {
                EntryOf::LossAccepted { partition, log_end }
            }
            EntryOf::Checkpoint(state) => EntryOf::Checkpoint(state),
            EntryOf::Producers {
                partition,
                snapshot,
            } => EntryOf::Producers {
                partition,
                snapshot: Bytes::copy_from_slice(snapshot),
            },
            EntryOf::ProducersCheckpoint {
                partition,
                snapshot,
            } => EntryOf::ProducersCheckpoint {
                partition,
                snapshot: Bytes::copy_from_slice(snapshot),
            },
        }
    }

    /// The header and the body, for the group that `seed` belongs to.
    pub(super) fn encode(&self, seed: EntrySeed) -> ([u8; ENTRY_HEADER_BYTES], Body<'a>) {
        let mut head = EntryHead {
            kind: self.kind(),
            partition: self.partition(),
            ..EntryHead::default()
        };
        let body = match *self {
            EntryOf::Append {
                index,
                term,
                base_offset,
                record_count,
                idempotent,
                batch,
                ..
            } => {
                (head.index, head.term) = (index, term);
                (head.offset, head.record_count) = (base_offset, record_count);
                head.idempotent = idempotent;
                Body::Given(batch)
            }
            EntryOf::Producers { snapshot, .. } | EntryOf::ProducersCheckpoint { snapshot, .. } => {
                Body::Given(snapshot)
            }
            EntryOf::PartitionCreated(state) | EntryOf::Checkpoint(state) => encode_state(&state),
            EntryOf::SegmentSafe { safe, .. } => {
                let mut bytes = [0; STATE_BYTES];
                encode_segment_end(&safe, &mut bytes);
                Body::Made(bytes, SEGMENT_END_BYTES)
            }
            EntryOf::LogStart {
                log_start: offset, ..
            }
            | EntryOf::LossAccepted {
                log_end: offset, ..
            } => {
                head.offset = offset;
                Body::Made([0; STATE_BYTES], 0)
            }
            EntryOf::PartitionRemoved { .. } => Body::Made([0; STATE_BYTES], 0),
        };
        head.body_len = u32::try_from(body.bytes().len()).expect("an entry is far below 4 GiB");
        head.body_crc = crc32fast::hash(body.bytes());
        (head.encode(seed), body)
    }

    fn kind(&self) -> Kind {
        match self {
            EntryOf::Append { .. } => Kind::Append,
            EntryOf::PartitionCreated(_) => Kind::PartitionCreated,
            EntryOf::PartitionRemoved { .. } => Kind::PartitionRemoved,
            EntryOf::LogStart { .. } => Kind::LogStart,
            EntryOf::SegmentSafe { .. } => Kind::SegmentSafe,
            EntryOf::LossAccepted { .. } => Kind::LossAccepted,
            EntryOf::Checkpoint(_) => Kind::Checkpoint,
            EntryOf::Producers { .. } => Kind::Producers,
            EntryOf::ProducersCheckpoint { .. } => Kind::ProducersCheckpoint,
        }
    }
}

/// The only entry of a group that has nothing to say.
pub(super) fn encode_seal(seed: EntrySeed) -> [u8; ENTRY_HEADER_BYTES] {
    EntryHead {
        kind: Kind::Seal,
        ..EntryHead::default()
    }
    .encode(seed)
}

/// What binds an entry's checksum to one group of one journal.
#[derive(Clone, Copy, Debug)]
pub struct EntrySeed(u32);

impl EntrySeed {
    /// The seed of the entries of group `sequence` of the epoch with this salt.
    #[must_use]
    pub fn new(salt: u64, sequence: Sequence) -> EntrySeed {
        let mut bytes = [0; 16];
        put(&mut bytes, 0, &salt.to_le_bytes());
        put(&mut bytes, 8, &sequence.0.to_le_bytes());
        EntrySeed(crc32fast::hash(&bytes))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Append = 1,
    PartitionCreated = 2,
    PartitionRemoved = 3,
    LogStart = 4,
    SegmentSafe = 5,
    LossAccepted = 6,
    Checkpoint = 7,
    /// Says nothing but that the group is all there: what an empty group holds, so that one whose
    /// header is lost is not taken for one that held something.
    Seal = 8,
    Producers = 9,
    ProducersCheckpoint = 10,
}

impl Kind {
    fn parse(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Append,
            2 => Kind::PartitionCreated,
            3 => Kind::PartitionRemoved,
            4 => Kind::LogStart,
            5 => Kind::SegmentSafe,
            6 => Kind::LossAccepted,
            7 => Kind::Checkpoint,
            8 => Kind::Seal,
            9 => Kind::Producers,
            10 => Kind::ProducersCheckpoint,
            _ => return None,
        })
    }
}

/// An entry's header, read.
#[derive(Clone, Copy, Debug)]
struct EntryHead {
    kind: Kind,
    idempotent: bool,
    body_len: u32,
    body_crc: u32,
    partition: PartitionId,
    index: LogIndex,
    offset: Offset,
    record_count: u32,
    term: Term,
}

impl Default for EntryHead {
    fn default() -> EntryHead {
        EntryHead {
            kind: Kind::Append,
            idempotent: false,
            body_len: 0,
            body_crc: 0,
            partition: PartitionId {
                topic: TopicId(0),
                partition: PartitionIndex(0),
            },
            index: LogIndex(0),
            offset: Offset::ZERO,
            record_count: 0,
            term: Term(0),
        }
    }
}

impl EntryHead {
    fn encode(&self, seed: EntrySeed) -> [u8; ENTRY_HEADER_BYTES] {
        let mut out = [0; ENTRY_HEADER_BYTES];
        put(&mut out, 0, &MAGIC.to_le_bytes());
        out[8] = self.kind as u8;
        out[9] = if self.idempotent { IDEMPOTENT } else { 0 };
        put(&mut out, 12, &self.body_len.to_le_bytes());
        put(&mut out, 16, &self.body_crc.to_le_bytes());
        put(&mut out, 20, &self.partition.partition.0.to_le_bytes());
        put(&mut out, 24, &self.partition.topic.0.to_le_bytes());
        put(&mut out, 40, &self.index.0.to_le_bytes());
        put(&mut out, 48, &self.offset.0.to_le_bytes());
        put(&mut out, 56, &self.record_count.to_le_bytes());
        put(&mut out, 60, &self.term.0.to_le_bytes());
        let crc = head_crc(&out, seed);
        put(&mut out, 4, &crc.to_le_bytes());
        out
    }

    fn parse(bytes: &[u8], seed: EntrySeed) -> Option<EntryHead> {
        let bytes = bytes.get(..ENTRY_HEADER_BYTES)?;
        if take_u32(bytes, 0) != MAGIC || take_u32(bytes, 4) != head_crc(bytes, seed) {
            return None;
        }
        let mut topic = [0; 16];
        topic.copy_from_slice(&bytes[24..40]);
        Some(EntryHead {
            kind: Kind::parse(bytes[8])?,
            idempotent: bytes[9] & IDEMPOTENT != 0,
            body_len: take_u32(bytes, 12),
            body_crc: take_u32(bytes, 16),
            partition: PartitionId {
                topic: TopicId(u128::from_le_bytes(topic)),
                partition: PartitionIndex(take_u32(bytes, 20)),
            },
            index: LogIndex(take_u64(bytes, 40)),
            offset: Offset(take_i64(bytes, 48)),
            record_count: take_u32(bytes, 56),
            term: Term(take_u32(bytes, 60)),
        })
    }
}

fn head_crc(header: &[u8], seed: EntrySeed) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed.0);
    hasher.update(&header[8..ENTRY_HEADER_BYTES]);
    hasher.finalize()
}

fn encode_segment_end(end: &SegmentEnd, out: &mut [u8]) {
    put(out, 0, &end.segment_base.0.to_le_bytes());
    put(out, 8, &end.position.to_le_bytes());
    put(out, 16, &end.next_offset.0.to_le_bytes());
    put(out, 24, &end.next_index.0.to_le_bytes());
    put(out, 32, &end.term.0.to_le_bytes());
}

fn decode_segment_end(bytes: &[u8]) -> SegmentEnd {
    SegmentEnd {
        segment_base: Offset(take_i64(bytes, 0)),
        position: take_u64(bytes, 8),
        next_offset: Offset(take_i64(bytes, 16)),
        next_index: LogIndex(take_u64(bytes, 24)),
        term: Term(take_u32(bytes, 32)),
    }
}

fn encode_state(state: &PartitionCheckpoint) -> Body<'static> {
    let mut out = [0; STATE_BYTES];
    put(&mut out, 0, &state.log_start.0.to_le_bytes());
    encode_segment_end(&state.safe, &mut out[8..44]);
    put(&mut out, 44, &state.log_end.0.to_le_bytes());
    put(&mut out, 52, &state.last_index.0.to_le_bytes());
    put(&mut out, 60, &state.last_term.0.to_le_bytes());
    out[64] = u8::from(state.damaged.is_some());
    put(
        &mut out,
        65,
        &state.damaged.unwrap_or_default().0.to_le_bytes(),
    );
    Body::Made(out, STATE_BYTES)
}

fn decode_state(partition: PartitionId, bytes: &[u8]) -> PartitionCheckpoint {
    PartitionCheckpoint {
        partition,
        log_start: Offset(take_i64(bytes, 0)),
        safe: decode_segment_end(&bytes[8..44]),
        log_end: Offset(take_i64(bytes, 44)),
        last_index: LogIndex(take_u64(bytes, 52)),
        last_term: Term(take_u32(bytes, 60)),
        damaged: (bytes[64] != 0).then(|| Offset(take_i64(bytes, 65))),
    }
}
