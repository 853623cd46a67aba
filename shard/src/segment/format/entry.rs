//! Entries: a header and a batch, or a pad.

use millrace_wire::batch;
use millrace_wire::ids::{LogIndex, Offset, Term};

use super::{Fields, Flaw, Identity, Put};
use crate::env::BLOCK_BYTES;

/// Bytes of an entry before its batch.
pub const ENTRY_HEADER_BYTES: usize = 44;
/// How much of a batch the entry's own CRC covers: all that lies before what the batch's CRC does.
pub const BATCH_PREFIX_BYTES: usize = 21;
/// The least bytes a batch has: its header.
pub const BATCH_MIN_BYTES: usize = 61;
/// The most bytes a batch has; a longer length is damage, whatever its CRC says.
pub const BATCH_MAX_BYTES: u32 = 128 << 20;
const ENTRY_MAGIC: [u8; 2] = *b"Me";
const KIND_BATCH: u8 = 1;
const KIND_PAD: u8 = 2;
const ENTRY_CRC_AT: usize = ENTRY_HEADER_BYTES - 4;

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
