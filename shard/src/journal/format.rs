//! The journal on disk: the format, why recovery reaches one right answer, and what was traded.
//!
//! # Format
//!
//! A journal is a directory of files `<number>.journal`, a ring: each is used, let go when its bytes
//! are safe elsewhere, and used again. A name says nothing about a file's place in the ring; its
//! header does. Files are filled with zeros, really written, before they are used. A file still
//! being filled is called `<number>.new`. Everything is in blocks of 4 KiB; numbers are
//! little-endian.
//!
//! The **file header** is the first block. All of it is in the first 512 bytes, which a disk
//! writes whole or not at all; the rest is zero.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `MLRJRNL\0` |
//! | 8 | 4 | version; it and the CRC keep their places in every version to come |
//! | 12 | 4 | CRC-32 of bytes 0 to 12 and 16 to 512 |
//! | 16 | 8 | epoch: a new one at every start |
//! | 24 | 8 | salt: a random number, one for each epoch |
//! | 32 | 8 | file: its number in the ring's order, one more for each use of a file |
//! | 40 | 8 | first group: the number of the file's first group |
//! | 48 | 8 | first live file: the oldest that the checkpoint of this file needs |
//! | 56 | 8 | previous end: the last good group of all epochs before this one |
//! | 64 | 8 | checkpoint through: the last group that the checkpoint of this file includes |
//!
//! **Groups** follow, each from a block boundary, without gaps between their blocks. A group is a
//! header of 128 bytes, a payload of entries (see [`super::entry`]), and zeros up to the end of its
//! last block. Group numbers go up by one through all files and epochs.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `MLRG` |
//! | 4 | 4 | CRC-32 of bytes 8 to 128 |
//! | 8 | 2 | version |
//! | 10 | 2 | zero |
//! | 12 | 4 | length of the payload |
//! | 16 | 4 | CRC-32 of the payload |
//! | 20 | 4 | how many entries |
//! | 24 | 8 | the group's number |
//! | 32 | 8 | durable through: the last group known durable when this one was issued |
//! | 40 | 56 | bytes 16 to 72 of the header of the file, repeated |
//! | 96 | 32 | zero |
//!
//! The first group of a file ends with a **checkpoint**: an entry for each partition of the shard,
//! then what the partitions remember of idempotent producers, in pieces that are entries too.
//! It is taken when the group is issued, and may include entries of groups that were gathered by
//! then but are not yet issued: hence *checkpoint through*. Those go into the same file, which grows
//! if need be, so that a checkpoint never waits for another file. A **seal**, a group with a single
//! entry that says nothing, follows when the journal goes idle: it proves durable what came before.
//!
//! # Writing
//!
//! Up to four groups are on their way to the disk at once and complete in any order; a group is
//! durable, and its appends are acknowledged, when it and all before it are complete. A file's
//! header is written together with its first group, which is complete when both are. A file is let
//! go when a checkpoint that no longer needs it is durable: the first group of a later file, and
//! every group up to *checkpoint through*. The file before the newest is never let go, nor one with
//! a group that was not durable when the newest was begun.
//!
//! # Recovery
//!
//! *Which bytes count.* A group belongs to a file if its own header's CRC holds and it repeats that
//! file's epoch, salt and number. Bytes of an earlier use of the file, of an earlier start that did
//! not get far, or that a client put into a record to look like a group, fail that: a file's number
//! is used once in an epoch, and nobody outside knows the salt. An entry's checksum includes the
//! salt and the number of its group, so the same holds of entries whose group header is lost.
//! No length is used before the CRC over it holds and it fits the file.
//!
//! *Where the journal ends.* Walk the files from the oldest live one, group numbers in order. A
//! number whose group is missing or fails its CRC is *bad*. Let `covered` be the highest of all
//! *durable through* seen in intact group headers, and all *previous ends*. The group after an
//! acknowledged one, at the latest its seal, covers it. So a bad group up to `covered` is
//! **damage**: it was durable once, and is reported. The first bad group beyond
//! `covered` is **torn**, the journal ends before it, and everything after it is dropped, even whole
//! groups, in the same file or in the next: none of it can have been acknowledged, because groups
//! are acknowledged in order and this one never was. (Damage to the very last group, in the few
//! milliseconds before its seal is durable, looks like a torn tail. That is the price of not
//! writing every group twice.)
//!
//! *Writes in flight across a roll.* Say groups 7 and 8 go to file 3 and groups 9 and 10 to file 4,
//! and power fails with all four on their way. Any subset may be on the disk. If 7 is whole and 8 is
//! not, the walk ends at 7, whatever file 4 holds; 9 and 10 say *durable through* 6. The checkpoint
//! in group 9 includes 7 and 8, and is used only if the walk ends at or after its *checkpoint
//! through*; else the one of file 3 is. File 3's is whole, and so is every file it needs: file 4's
//! header may already name a later first live file, but no file was let go on its word, since that
//! waits until its checkpoint is durable. So at each moment one checkpoint is in force, and all it
//! needs is there. If file 4's header is on the disk and group 9 is not, or the other way round, the
//! walk ends at the same place: group 9 is bad, or (with a new, zero-filled file) is found under its
//! own repeated header.
//!
//! *The answer stays the same.* Before recovery counts anything it syncs every live file, so that
//! what it read is on stable storage and not in a disk's cache. Then a new epoch begins, in a new
//! file, whose *previous end* fixes where the old one ended: whole groups beyond it are never looked
//! at again, and a bad one up to it stays damage. If that fails or is cut off by another crash, the
//! next recovery reads the same bytes and comes to the same end, and takes a new salt.
//!
//! *Damage elsewhere.* A file header that cannot be read is replaced by the copy in the file's first
//! group, or in any group of an epoch known from another file. If the newest checkpoint is damaged,
//! the file before it is still there: its checkpoint and its entries lead to the same state. A file
//! missing from the live range is damage to all its groups. A file that says nothing about itself is
//! reported as damage to groups unknown. A read error is taken as blocks that fail their checksums.
//!
//! # What was traded
//!
//! - Repeating the file header in each group costs 56 bytes of a 4 KiB block, and saves a file whose
//!   first block is lost.
//! - One checkpoint per file, not per group: recovery reads some files instead of one, but a
//!   checkpoint of 10,000 partitions (1.4 MB) is written once in 64 MiB. Each idempotent producer
//!   of a partition adds 43 to 139 bytes.
//! - Keeping one file more than needed costs its disk space and the time to read it at a start
//!   (64 MiB: about 30 ms), and makes a single damaged block never fatal to a whole shard.
//! - Group checksums are CRC-32, 64 GB/s on a core; a batch also brings its own CRC-32C.

use super::Sequence;
use crate::env::BLOCK_BYTES;

/// The format's version, of files and of groups. Version 1 knew nothing of producers: neither their
/// entries nor the flag of theirs in a batch's; the rest is the same, and it is read as it is.
pub const VERSION: u32 = 2;

const OLDEST_VERSION: u32 = 1;

/// Length of a group's header.
pub const GROUP_HEADER_BYTES: usize = 128;

/// The part of a file's first block that is written whole or not at all.
const SECTOR_BYTES: usize = 512;

const FILE_MAGIC: [u8; 8] = *b"MLRJRNL\0";
const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"MLRG");

/// The number of a use of a file: 1 for the first file that the journal ever wrote to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNumber(pub u64);

/// What a file says about itself, in its header and again in each of its groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileHeader {
    /// The start of the journal that wrote it.
    pub epoch: u64,
    /// That epoch's random number.
    pub salt: u64,
    /// The file's place in the ring's order.
    pub file: FileNumber,
    /// Its first group.
    pub first_sequence: Sequence,
    /// The oldest file that its checkpoint needs.
    pub first_live_file: FileNumber,
    /// The last good group of all earlier epochs.
    pub previous_end: Sequence,
    /// The last group that its checkpoint includes.
    pub checkpoint_through: Sequence,
}

/// What the first block of a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderRead {
    /// All zero: the file has not been used.
    Blank,
    /// A header.
    Valid(FileHeader),
    /// A whole header of a version that this program does not know.
    Newer(u32),
    /// Anything else.
    Unreadable,
}

impl FileHeader {
    const FIELDS_BYTES: usize = 56;

    fn encode_fields(&self, out: &mut [u8]) {
        let fields = [
            self.epoch,
            self.salt,
            self.file.0,
            self.first_sequence.0,
            self.first_live_file.0,
            self.previous_end.0,
            self.checkpoint_through.0,
        ];
        for (i, field) in fields.into_iter().enumerate() {
            put(out, i * 8, &field.to_le_bytes());
        }
    }

    fn decode_fields(bytes: &[u8]) -> FileHeader {
        let field = |i: usize| take_u64(bytes, i * 8);
        FileHeader {
            epoch: field(0),
            salt: field(1),
            file: FileNumber(field(2)),
            first_sequence: Sequence(field(3)),
            first_live_file: FileNumber(field(4)),
            previous_end: Sequence(field(5)),
            checkpoint_through: Sequence(field(6)),
        }
    }

    /// Whether the fields agree with each other.
    fn is_sound(&self) -> bool {
        self.epoch > 0
            && self.file.0 > 0
            && self.first_live_file <= self.file
            && self.first_sequence.0 > self.previous_end.0
            && self.checkpoint_through >= self.first_sequence
            // Numbers only grow by one: a number near the end of its range is nonsense.
            && self.checkpoint_through.0 < u64::MAX / 2
            && self.file.0 < u64::MAX / 2
            && self.epoch < u64::MAX / 2
    }

    /// Writes the header into a file's first block, which is zero so far.
    pub fn encode(&self, block: &mut [u8]) {
        put(block, 0, &FILE_MAGIC);
        put(block, 8, &VERSION.to_le_bytes());
        self.encode_fields(&mut block[16..16 + FileHeader::FIELDS_BYTES]);
        let crc = sector_crc(block);
        put(block, 12, &crc.to_le_bytes());
    }

    /// Reads a file's first block.
    #[must_use]
    pub fn parse(block: &[u8]) -> HeaderRead {
        let Some(sector) = block.get(..SECTOR_BYTES) else {
            return HeaderRead::Unreadable;
        };
        if sector.iter().all(|b| *b == 0) {
            return HeaderRead::Blank;
        }
        if sector[..8] != FILE_MAGIC || take_u32(sector, 12) != sector_crc(sector) {
            return HeaderRead::Unreadable;
        }
        match take_u32(sector, 8) {
            OLDEST_VERSION..=VERSION => {}
            newer if newer > VERSION => return HeaderRead::Newer(newer),
            _ => return HeaderRead::Unreadable,
        }
        let header = FileHeader::decode_fields(&sector[16..]);
        if header.is_sound() {
            HeaderRead::Valid(header)
        } else {
            HeaderRead::Unreadable
        }
    }
}

fn sector_crc(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..12]);
    hasher.update(&block[16..SECTOR_BYTES]);
    hasher.finalize()
}

/// A group's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// The header of the file it is in.
    pub file: FileHeader,
    /// Its number.
    pub sequence: Sequence,
    /// The last group known durable when this one was issued.
    pub durable_through: Sequence,
    /// Bytes of entries that follow.
    pub payload_len: u32,
    /// Their CRC-32.
    pub payload_crc: u32,
    /// How many entries they are.
    pub entries: u32,
}

impl GroupHeader {
    /// Writes the header into the first bytes of a group.
    pub fn encode(&self, out: &mut [u8]) {
        let out = &mut out[..GROUP_HEADER_BYTES];
        out.fill(0);
        put(out, 0, &GROUP_MAGIC.to_le_bytes());
        put(out, 8, &(VERSION as u16).to_le_bytes());
        put(out, 12, &self.payload_len.to_le_bytes());
        put(out, 16, &self.payload_crc.to_le_bytes());
        put(out, 20, &self.entries.to_le_bytes());
        put(out, 24, &self.sequence.0.to_le_bytes());
        put(out, 32, &self.durable_through.0.to_le_bytes());
        self.file
            .encode_fields(&mut out[40..40 + FileHeader::FIELDS_BYTES]);
        let crc = crc32fast::hash(&out[8..]);
        put(out, 4, &crc.to_le_bytes());
    }

    /// Reads the header that `bytes` begin with, if that is what they begin with. Does not look at
    /// the payload.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<GroupHeader> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES)?;
        if take_u32(bytes, 0) != GROUP_MAGIC || take_u32(bytes, 4) != crc32fast::hash(&bytes[8..]) {
            return None;
        }
        let header = GroupHeader {
            file: FileHeader::decode_fields(&bytes[40..]),
            sequence: Sequence(take_u64(bytes, 24)),
            durable_through: Sequence(take_u64(bytes, 32)),
            payload_len: take_u32(bytes, 12),
            payload_crc: take_u32(bytes, 16),
            entries: take_u32(bytes, 20),
        };
        let version = u32::from(take_u16(bytes, 8));
        let sound = (OLDEST_VERSION..=VERSION).contains(&version)
            && header.file.is_sound()
            && header.sequence >= header.file.first_sequence
            && header.sequence.0 < u64::MAX / 2
            && header.durable_through < header.sequence;
        sound.then_some(header)
    }

    /// Bytes that the group takes in its file: whole blocks.
    #[must_use]
    pub fn disk_len(&self) -> u64 {
        group_disk_len(u64::from(self.payload_len))
    }
}

/// Bytes that a group with a payload of this length takes in its file.
#[must_use]
pub const fn group_disk_len(payload_len: u64) -> u64 {
    (GROUP_HEADER_BYTES as u64 + payload_len).next_multiple_of(BLOCK_BYTES as u64)
}

/// Where the first group of a file is.
pub const FIRST_GROUP_POSITION: u64 = BLOCK_BYTES as u64;

pub(super) fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn take_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(take(bytes, at))
}

pub(super) fn take_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(take(bytes, at))
}

pub(super) fn take_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(take(bytes, at))
}

pub(super) fn take_i64(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(take(bytes, at))
}
