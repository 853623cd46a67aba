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
use millrace_wire::batch;
use millrace_wire::ids::{LogIndex, Offset, PartitionId, Term};

use crate::env::BLOCK_BYTES;

/// The version of the format written, and the newest one read.
pub const VERSION: u16 = 1;
/// Where the first entry of a segment begins.
pub const FIRST_ENTRY: u64 = BLOCK_BYTES as u64;
/// Bytes of an entry before its batch.
pub const ENTRY_HEADER_BYTES: usize = 44;
/// How much of a batch the entry's own CRC covers: all that lies before what the batch's CRC does.
pub const BATCH_PREFIX_BYTES: usize = 21;
/// The least bytes a batch has: its header.
pub const BATCH_MIN_BYTES: usize = 61;
/// The most bytes a batch has; a longer length is damage, whatever its CRC says.
pub const BATCH_MAX_BYTES: u32 = 128 << 20;
/// Places in one index block.
pub const PLACES_PER_BLOCK: usize = 170;
/// Stands for the largest timestamp of nothing.
pub const NO_TIMESTAMP: i64 = i64::MIN;

const HEADER_MAGIC: [u8; 8] = *b"MLR-SEGM";
const SEAL_MAGIC: [u8; 8] = *b"MLR-SEAL";
const INDEX_MAGIC: [u8; 4] = *b"MLRI";
const ENTRY_MAGIC: [u8; 2] = *b"Me";
const KIND_BATCH: u8 = 1;
const KIND_PAD: u8 = 2;
const CRC_AT: usize = BLOCK_BYTES - 4;
const ENTRY_CRC_AT: usize = ENTRY_HEADER_BYTES - 4;
const PLACES_AT: usize = 12;
const PLACE_BYTES: usize = 24;
/// Set in the count of an index's last block.
const LAST_BLOCK: u16 = 1 << 15;
const _: () = assert!(PLACES_AT + PLACES_PER_BLOCK * PLACE_BYTES == CRC_AT);

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

// --- entries -------------------------------------------------------------------------------------

/// What stands before a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Bytes of the batch.
    pub length: u32,
    /// The batch's place in the Raft log.
    pub index: LogIndex,
    /// Its first offset.
    pub base_offset: Offset,
    /// The largest timestamp in it.
    pub max_timestamp: i64,
    /// The term it was appended in.
    pub term: Term,
    /// How many offsets it takes.
    pub record_count: u32,
}

impl EntryHeader {
    /// One past the batch's last offset.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset.advance(self.record_count)
    }

    /// Bytes of the entry, header and batch.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        ENTRY_HEADER_BYTES as u64 + u64::from(self.length)
    }

    /// Verifies the batch that stands after this header.
    pub fn check_batch(&self, batch: &[u8]) -> Result<(), Flaw> {
        let limits = batch::Limits {
            max_batch_bytes: BATCH_MAX_BYTES as usize,
        };
        let parsed = batch::verify(batch, limits).map_err(|_| Flaw::Batch)?;
        if parsed.base_offset != self.base_offset {
            return Err(Flaw::Impossible(
                "the batch has another offset than its entry",
            ));
        }
        Ok(())
    }

    /// The header's bytes for an entry at `position` whose batch begins with `batch`.
    #[must_use]
    pub fn encode(
        &self,
        identity: Identity,
        position: u64,
        batch: &[u8],
    ) -> [u8; ENTRY_HEADER_BYTES] {
        let mut bytes = [0; ENTRY_HEADER_BYTES];
        Put {
            block: &mut bytes,
            at: 0,
        }
        .bytes(&ENTRY_MAGIC)
        .bytes(&[KIND_BATCH, 0])
        .bytes(&self.length.to_le_bytes())
        .bytes(&self.index.0.to_le_bytes())
        .bytes(&self.base_offset.0.to_le_bytes())
        .bytes(&self.max_timestamp.to_le_bytes())
        .bytes(&self.term.0.to_le_bytes())
        .bytes(&self.record_count.to_le_bytes());
        let sum = entry_sum(
            identity,
            position,
            &bytes,
            &batch[..batch.len().min(BATCH_PREFIX_BYTES)],
        );
        bytes[ENTRY_CRC_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

fn entry_sum(identity: Identity, position: u64, header: &[u8], prefix: &[u8]) -> u32 {
    let mut sum = identity.sum();
    sum.update(&position.to_le_bytes());
    sum.update(&header[..ENTRY_CRC_AT]);
    sum.update(prefix);
    sum.finalize()
}

/// Bytes of the pad that fills the block from `position` on: to the next boundary, or the one after
/// where no header fits before it. 0 on a boundary.
#[must_use]
pub fn pad_bytes(position: u64) -> u64 {
    let block = BLOCK_BYTES as u64;
    let rest = position.next_multiple_of(block) - position;
    if rest != 0 && rest < ENTRY_HEADER_BYTES as u64 {
        rest + block
    } else {
        rest
    }
}

/// The header of the pad at `position`; zeros follow it.
#[must_use]
pub fn encode_pad(identity: Identity, position: u64) -> [u8; ENTRY_HEADER_BYTES] {
    let length =
        u32::try_from(pad_bytes(position) - ENTRY_HEADER_BYTES as u64).expect("at most a block");
    let mut bytes = [0; ENTRY_HEADER_BYTES];
    Put {
        block: &mut bytes,
        at: 0,
    }
    .bytes(&ENTRY_MAGIC)
    .bytes(&[KIND_PAD, 0])
    .bytes(&length.to_le_bytes());
    let sum = entry_sum(identity, position, &bytes, &[]);
    bytes[ENTRY_CRC_AT..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// What stands at a place among the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A batch's entry. Its header is verified, its batch not.
    Batch(EntryHeader),
    /// A pad of so many bytes in all.
    Pad(u64),
}

/// How many bytes [`parse_entry`] looks at.
pub const PARSE_BYTES: usize = ENTRY_HEADER_BYTES + BATCH_PREFIX_BYTES;

/// Reads the entry header at `position`, where `bytes` begin, in a segment whose entries end at
/// `end`. `bytes` should be at least [`PARSE_BYTES`] long, or reach to the end.
pub fn parse_entry(
    bytes: &[u8],
    identity: Identity,
    position: u64,
    end: u64,
) -> Result<Parsed, Flaw> {
    let header = bytes.get(..ENTRY_HEADER_BYTES).ok_or(Flaw::Short)?;
    if !header.starts_with(&ENTRY_MAGIC) {
        return Err(Flaw::Magic);
    }
    let is_pad = header[2] == KIND_PAD;
    let prefix = if is_pad {
        &[][..]
    } else {
        bytes
            .get(ENTRY_HEADER_BYTES..PARSE_BYTES)
            .ok_or(Flaw::Short)?
    };
    let mut fields = Fields(&header[2..]);
    let [kind, flags] = fields.take();
    let length = fields.u32();
    let parsed = EntryHeader {
        length,
        index: LogIndex(fields.u64()),
        base_offset: Offset(fields.i64()),
        max_timestamp: fields.i64(),
        term: Term(fields.u32()),
        record_count: fields.u32(),
    };
    if entry_sum(identity, position, header, prefix) != fields.u32() {
        return Err(Flaw::Checksum);
    }
    if flags != 0 || !matches!(kind, KIND_BATCH | KIND_PAD) {
        return Err(Flaw::Impossible("the entry is of an unknown kind"));
    }
    if position
        .checked_add(parsed.entry_bytes())
        .is_none_or(|next| next > end)
    {
        return Err(Flaw::Impossible("the entry reaches beyond the end"));
    }
    if is_pad {
        return if parsed.entry_bytes() == pad_bytes(position) {
            Ok(Parsed::Pad(parsed.entry_bytes()))
        } else {
            Err(Flaw::Impossible("the pad does not end with its block"))
        };
    }
    if length < BATCH_MIN_BYTES as u32 || length > BATCH_MAX_BYTES {
        return Err(Flaw::Impossible("no batch has such a length"));
    }
    let in_range = parsed
        .base_offset
        .0
        .checked_add(i64::from(parsed.record_count))
        .is_some();
    if parsed.base_offset.0 < 0 || parsed.record_count == 0 || !in_range {
        return Err(Flaw::Impossible("no batch has such offsets"));
    }
    Ok(Parsed::Batch(parsed))
}

// --- the index -----------------------------------------------------------------------------------

/// A place in a segment that a search can begin from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The base offset of the entry there.
    pub offset: Offset,
    /// Where it begins.
    pub position: u64,
    /// The largest timestamp of all entries before it, or [`NO_TIMESTAMP`].
    pub max_before: i64,
}

impl Place {
    /// Whether `next` may follow this in an index.
    #[must_use]
    pub fn precedes(&self, next: &Place) -> bool {
        self.offset < next.offset
            && self.position < next.position
            && self.max_before <= next.max_before
    }
}

/// One block of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexBlock {
    /// Its places, in order.
    pub places: Vec<Place>,
    /// Whether it is the last of a complete segment.
    pub last: bool,
}

/// Writes up to [`PLACES_PER_BLOCK`] places into a zeroed block, the `number`th of its file.
pub fn encode_places(
    places: &[Place],
    last: bool,
    identity: Identity,
    number: u32,
    block: &mut [u8],
) {
    let count = u16::try_from(places.len().min(PLACES_PER_BLOCK)).expect("few fit in a block");
    let mut put = Put { block, at: 0 };
    put.bytes(&INDEX_MAGIC)
        .bytes(&VERSION.to_le_bytes())
        .bytes(&(count | if last { LAST_BLOCK } else { 0 }).to_le_bytes())
        .bytes(&number.to_le_bytes());
    for place in &places[..usize::from(count)] {
        put.bytes(&place.offset.0.to_le_bytes())
            .bytes(&place.position.to_le_bytes())
            .bytes(&place.max_before.to_le_bytes());
    }
    seal_block(block, identity);
}

/// Reads the `number`th block of an index, whose places come after `before`.
pub fn decode_places(
    bytes: &[u8],
    identity: Identity,
    number: u32,
    before: Option<Place>,
) -> Result<IndexBlock, Flaw> {
    let mut fields = open_block(bytes, &INDEX_MAGIC, identity)?;
    let count = fields.u16();
    let last = count & LAST_BLOCK != 0;
    let count = usize::from(count & !LAST_BLOCK);
    if fields.u32() != number || count == 0 || count > PLACES_PER_BLOCK {
        return Err(Flaw::Impossible("the block belongs elsewhere"));
    }
    let mut places = Vec::with_capacity(count);
    let mut before = before;
    for _ in 0..count {
        let place = Place {
            offset: Offset(fields.i64()),
            position: fields.u64(),
            max_before: fields.i64(),
        };
        let in_range = place.position >= FIRST_ENTRY && place.offset.0 >= 0;
        if !in_range || before.is_some_and(|before| !before.precedes(&place)) {
            return Err(Flaw::Impossible("the places are not in order"));
        }
        before = Some(place);
        places.push(place);
    }
    Ok(IndexBlock { places, last })
}
