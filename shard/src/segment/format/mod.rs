//! The bytes of a segment. Pure functions: nothing here does I/O, and no input makes it panic.
//!
//! # Files
//!
//! `<base offset, 20 digits>.log`, numbers little-endian, in blocks of 4 KiB:
//!
//! ```text
//! 0      header block   who this file is: topic id, partition, base offset, when it was made,
//!                       and which segment came before it and where that ended
//! 4096   entries        one after another, not aligned:
//!                         header, 44 bytes: magic, kind, flags, length, index, base offset,
//!                         largest timestamp, term, record count, CRC-32
//!                         then the batch, `length` bytes, as the producer's client made it
//!                       or a pad: a header of kind 2, then zeros up to the end of a block
//! end    seal block     only in a complete segment, on the block boundary at or after the last
//!                       entry, the last block of the file: where the entries end, the next
//!                       offset and index, the largest timestamp
//! ```
//!
//! `<base offset>.index` is made of blocks of up to 170 places `(offset, position, largest
//! timestamp before it)`, one for each so many bytes of entries. The last block of a complete
//! segment's index says that it is the last.
//!
//! Every block of these kinds ends with a CRC-32 over the whole of it. An entry's CRC covers its
//! header and the first 21 bytes of its batch (base offset, length, leader epoch, magic and the
//! batch's own CRC-32C), which covers the rest: no byte that is used is without a checksum. All
//! these sums begin from the *identity* of the file, and an entry's also includes its position, so
//! that bytes which a disk brought from elsewhere do not pass.
//!
//! # Why it recovers
//!
//! The journal remembers a [`SegmentEnd`](super::SegmentEnd) per partition: this file, up to this
//! position, is on stable storage. Everything below is finished; everything beyond is ignored and
//! written again from the journal, which still holds it. So nothing is looked for at the end of a
//! file, and a torn write there needs no telling apart from anything.
//!
//! Writes are of whole blocks, and a block is never written again once it holds safe bytes. The
//! last entry of a write therefore usually ends beyond the last whole block: the block then ends
//! with the *head* of an entry that is not complete. The safe end is where that entry begins, it
//! stays with the caller, and since a committed batch never changes, the next write (of this run or
//! of the one after a crash) lays out the same bytes from the same position and writes only those
//! after the block boundary. A run that finds another head than it would have written (the journal
//! lost the entry and the loss was accepted) begins a new segment instead. Where an idle partition
//! must let go of the journal, a pad fills the block. Zeros are never skipped: a hole left by a
//! write that the disk lost is damage, not padding.
//!
//! A segment is sealed (its seal and its whole index synced, the unused reservation cut off) before
//! any end names a later one. So after a crash every segment before the one that the journal names
//! is complete, any after it is a stray, and how one segment ends is known without the index, which
//! holds nothing that a scan of the entries' headers cannot find again. Index blocks are written
//! only for entries that are safe.
//!
//! # Trade-offs
//!
//! - Entries are not aligned, so that no space is lost, at the price of one copy when reading.
//! - The largest timestamp is repeated in the entry's header, so that a scan for the time index
//!   reads headers alone.
//! - A place in the index holds the largest timestamp *before* it. A search by time goes to the
//!   last place before which everything is older and reads on: however clients order their times,
//!   the first batch that is late enough is not missed.
//! - After a damaged entry header the next one cannot be found by its length. Reading goes on at the
//!   next place in the index: a damaged header costs at most one interval.

use crc32fast::Hasher;
use millrace_wire::ids::{LogIndex, Offset, PartitionId, Term};

use crate::env::BLOCK_BYTES;

mod entry;
mod places;

pub use entry::{
    BATCH_MAX_BYTES, BATCH_MIN_BYTES, BATCH_PREFIX_BYTES, ENTRY_HEADER_BYTES, EntryHeader,
    PARSE_BYTES, Parsed, encode_pad, pad_bytes, parse_entry,
};
pub use places::{IndexBlock, PLACES_PER_BLOCK, Place, decode_places, encode_places};

/// The version of the format written, and the newest one read.
pub const VERSION: u16 = 1;
/// Where the first entry of a segment begins.
pub const FIRST_ENTRY: u64 = BLOCK_BYTES as u64;
/// Stands for the largest timestamp of nothing.
pub const NO_TIMESTAMP: i64 = i64::MIN;

const HEADER_MAGIC: [u8; 8] = *b"MLR-SEGM";
const SEAL_MAGIC: [u8; 8] = *b"MLR-SEAL";
const CRC_AT: usize = BLOCK_BYTES - 4;

/// What is wrong with some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// There are fewer bytes than the thing has.
    #[error("it is cut short")]
    Short,
    /// It does not begin as such a thing does.
    #[error("the magic number is wrong")]
    Magic,
    /// Its checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The version is a later one.
    #[error("it has format version {0}")]
    Newer(u16),
    /// The checksum matches but what it says cannot be.
    #[error("{0}")]
    Impossible(&'static str),
    /// The disk says that it cannot give the bytes.
    #[error("the disk cannot read it")]
    Unreadable,
    /// The batch in an entry fails its checks.
    #[error("the batch fails its checks")]
    Batch,
}

/// The seed of every checksum in one segment's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u32);

impl Identity {
    /// The identity of the segment of `partition` that begins at `base`.
    #[must_use]
    pub fn of(partition: PartitionId, base: Offset) -> Identity {
        let mut sum = Hasher::new();
        sum.update(&partition.topic.0.to_le_bytes());
        sum.update(&partition.partition.0.to_le_bytes());
        sum.update(&base.0.to_le_bytes());
        Identity(sum.finalize())
    }

    fn sum(self) -> Hasher {
        Hasher::new_with_initial(self.0)
    }
}

// --- blocks with a checksum at their end ---------------------------------------------------------

fn seal_block(block: &mut [u8], identity: Identity) {
    let mut sum = identity.sum();
    sum.update(&block[..CRC_AT]);
    let sum = sum.finalize();
    block[CRC_AT..BLOCK_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// The block's bytes, if magic, checksum and version are right. Every version keeps those three in
/// their places, so that a newer one is told from damage.
fn open_block<'a>(bytes: &'a [u8], magic: &[u8], identity: Identity) -> Result<Fields<'a>, Flaw> {
    let block = bytes.get(..BLOCK_BYTES).ok_or(Flaw::Short)?;
    if !block.starts_with(magic) {
        return Err(Flaw::Magic);
    }
    let mut sum = identity.sum();
    sum.update(&block[..CRC_AT]);
    if sum.finalize().to_le_bytes() != block[CRC_AT..] {
        return Err(Flaw::Checksum);
    }
    let mut fields = Fields(&block[magic.len()..CRC_AT]);
    match fields.u16() {
        VERSION => Ok(fields),
        version if version > VERSION => Err(Flaw::Newer(version)),
        _ => Err(Flaw::Impossible("there is no such format version")),
    }
}

/// Fixed fields, taken from the front. Callers have checked that there are enough bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .expect("a fixed layout shorter than its block");
        self.0 = rest;
        *field
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.take())
    }
}

/// Fixed fields, put one after another.
struct Put<'a> {
    block: &'a mut [u8],
    at: usize,
}

impl Put<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.block[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }
}

// --- the header block ----------------------------------------------------------------------------

/// Where the segment before one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its base offset.
    pub base: Offset,
    /// The next offset after it.
    pub next_offset: Offset,
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Whose it is.
    pub partition: PartitionId,
    /// Its first offset, as in its name.
    pub base: Offset,
    /// When it was made, wall clock in ms since 1970.
    pub created_ms: i64,
    /// The segment before it, unless this is the first.
    pub previous: Option<Previous>,
}

impl FileHeader {
    /// Writes it into a zeroed block.
    pub fn encode(&self, block: &mut [u8]) {
        let mut put = Put { block, at: 0 };
        put.bytes(&HEADER_MAGIC)
            .bytes(&VERSION.to_le_bytes())
            .bytes(&u16::from(self.previous.is_some()).to_le_bytes())
            .bytes(&self.partition.topic.0.to_le_bytes())
            .bytes(&self.partition.partition.0.to_le_bytes())
            .bytes(&self.base.0.to_le_bytes())
            .bytes(&self.created_ms.to_le_bytes());
        let previous = self.previous.unwrap_or(Previous {
            base: Offset(0),
            next_offset: Offset(0),
        });
        put.bytes(&previous.base.0.to_le_bytes())
            .bytes(&previous.next_offset.0.to_le_bytes());
        seal_block(block, Identity::of(self.partition, self.base));
    }

    /// Reads the header of the segment of `partition` that begins at `base`: any other's is a flaw.
    pub fn decode(bytes: &[u8], partition: PartitionId, base: Offset) -> Result<FileHeader, Flaw> {
        let mut fields = open_block(bytes, &HEADER_MAGIC, Identity::of(partition, base))?;
        let has_previous = fields.u16() != 0;
        let topic = u128::from_le_bytes(fields.take());
        if topic != partition.topic.0
            || fields.u32() != partition.partition.0
            || fields.i64() != base.0
        {
            return Err(Flaw::Impossible(
                "it belongs to another partition or offset",
            ));
        }
        let created_ms = fields.i64();
        let previous = Previous {
            base: Offset(fields.i64()),
            next_offset: Offset(fields.i64()),
        };
        if has_previous
            && (previous.base.0 < 0 || previous.base >= base || previous.next_offset > base)
        {
            return Err(Flaw::Impossible(
                "the segment before it does not lie before it",
            ));
        }
        Ok(FileHeader {
            partition,
            base,
            created_ms,
            previous: has_previous.then_some(previous),
        })
    }
}

// --- the seal ------------------------------------------------------------------------------------

/// The last block of a complete segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Where its entries end.
    pub end: u64,
    /// One past its last offset.
    pub next_offset: Offset,
    /// One past its last index.
    pub next_index: LogIndex,
    /// The term of its last entry.
    pub term: Term,
    /// The largest timestamp in it, or [`NO_TIMESTAMP`].
    pub max_timestamp: i64,
}

impl Seal {
    /// Writes it into a zeroed block.
    pub fn encode(&self, identity: Identity, block: &mut [u8]) {
        Put { block, at: 0 }
            .bytes(&SEAL_MAGIC)
            .bytes(&VERSION.to_le_bytes())
            .bytes(&self.end.to_le_bytes())
            .bytes(&self.next_offset.0.to_le_bytes())
            .bytes(&self.next_index.0.to_le_bytes())
            .bytes(&self.term.0.to_le_bytes())
            .bytes(&self.max_timestamp.to_le_bytes());
        seal_block(block, identity);
    }

    /// Reads the seal of the segment that begins at `base` from the block at `position`.
    pub fn decode(
        bytes: &[u8],
        identity: Identity,
        base: Offset,
        position: u64,
    ) -> Result<Seal, Flaw> {
        let mut fields = open_block(bytes, &SEAL_MAGIC, identity)?;
        let seal = Seal {
            end: fields.u64(),
            next_offset: Offset(fields.i64()),
            next_index: LogIndex(fields.u64()),
            term: Term(fields.u32()),
            max_timestamp: fields.i64(),
        };
        if seal.end < FIRST_ENTRY
            || seal.end.checked_next_multiple_of(BLOCK_BYTES as u64) != Some(position)
        {
            return Err(Flaw::Impossible("the seal is not where the entries end"));
        }
        if seal.next_offset < base {
            return Err(Flaw::Impossible("the segment ends before it begins"));
        }
        Ok(seal)
    }
}

#[cfg(test)]
mod tests {
    use millrace_wire::ids::{PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let partition = PartitionId {
            topic: TopicId(1),
            partition: PartitionIndex(2),
        };
        let header = FileHeader {
            partition,
            base: Offset(3),
            created_ms: 4,
            previous: None,
        };
        let mut block = vec![0; BLOCK_BYTES];
        header.encode(&mut block);
        block[HEADER_MAGIC.len()] = 9;
        let damaged = FileHeader::decode(&block, partition, Offset(3));
        assert_eq!(damaged, Err(Flaw::Checksum));
        seal_block(&mut block, Identity::of(partition, Offset(3)));
        assert_eq!(
            FileHeader::decode(&block, partition, Offset(3)),
            Err(Flaw::Newer(9))
        );
        block[HEADER_MAGIC.len()] = 0;
        seal_block(&mut block, Identity::of(partition, Offset(3)));
        assert!(matches!(
            FileHeader::decode(&block, partition, Offset(3)),
            Err(Flaw::Impossible(_))
        ));
    }

    proptest::proptest! {
        #[test]
        fn blocks_with_a_good_sum_and_any_fields_are_taken_or_refused(
            magic in 0..3_usize,
            mut fields in proptest::collection::vec(proptest::num::u8::ANY, 100..CRC_AT),
            position: u64,
        ) {
            let partition = PartitionId { topic: TopicId(1), partition: PartitionIndex(2) };
            let identity = Identity::of(partition, Offset(3));
            let magic = [&HEADER_MAGIC[..], &SEAL_MAGIC, places::INDEX_MAGIC.as_slice()][magic];
            fields[..magic.len()].copy_from_slice(magic);
            fields[magic.len()..magic.len() + 2].copy_from_slice(&VERSION.to_le_bytes());
            let mut block = vec![0; BLOCK_BYTES];
            block[..fields.len()].copy_from_slice(&fields);
            seal_block(&mut block, identity);
            let _ = FileHeader::decode(&block, partition, Offset(3));
            let _ = Seal::decode(&block, identity, Offset(3), position);
            let _ = decode_places(&block, identity, 0, None);
        }
    }
}
