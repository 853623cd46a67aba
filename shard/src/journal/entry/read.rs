//! Walking the entries of a group, whole or damaged.

use millrace_wire::ids::{LogIndex, Offset, PartitionId};

use super::{
    ENTRY_HEADER_BYTES, Entry, EntryHead, EntrySeed, Kind, SEGMENT_END_BYTES, STATE_BYTES,
    decode_segment_end, decode_state,
};

/// An entry that a damaged group held and that cannot be read, though its header can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostEntry {
    /// Whose it was.
    pub partition: PartitionId,
    /// For a batch, its index; else 0.
    pub index: LogIndex,
    /// For a batch, the offset after its last record: the log reached at least that far. Else 0.
    pub log_end: Offset,
    /// Whether it said something of idempotent producers that nothing else says.
    pub of_producers: bool,
}

/// One step of [`Entries`].
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// An entry, header and body verified.
    Entry(Entry<'a>),
    /// The header could be read, the body not.
    Lost(LostEntry),
}

/// Walks the entries of a group's payload. Ends at the first header that cannot be read, since
/// nothing tells where the next one is.
pub struct Entries<'a> {
    payload: &'a [u8],
    position: usize,
    count: u32,
    seed: EntrySeed,
    producers_lost: bool,
}

impl<'a> Entries<'a> {
    /// The entries in `payload`, which need not be a group's whole or intact payload.
    #[must_use]
    pub fn new(payload: &'a [u8], seed: EntrySeed) -> Entries<'a> {
        Entries {
            payload,
            position: 0,
            count: 0,
            seed,
            producers_lost: false,
        }
    }

    /// How far the walk has come. After the last step it is the payload's length if all could be
    /// read, or the place of the header that could not.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many headers could be read so far, a seal's included.
    #[must_use]
    pub fn count_so_far(&self) -> u32 {
        self.count
    }

    /// Whether an [`Entry::ProducersCheckpoint`] could not be read. The walk passes over these: they
    /// matter to whoever takes the checkpoint that they are of, and to nobody else.
    #[must_use]
    pub fn are_producers_lost(&self) -> bool {
        self.producers_lost
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Seen<'a>;

    fn next(&mut self) -> Option<Seen<'a>> {
        loop {
            let rest = self.payload.get(self.position..)?;
            let head = EntryHead::parse(rest, self.seed)?;
            // The header's own checksum holds, yet the payload may be cut: never past its end.
            let body = rest[ENTRY_HEADER_BYTES..].get(..head.body_len as usize)?;
            self.position += ENTRY_HEADER_BYTES + body.len();
            self.count = self.count.saturating_add(1);
            if head.kind == Kind::Seal {
                continue;
            }
            let intact = crc32fast::hash(body) == head.body_crc;
            if !intact && head.kind == Kind::ProducersCheckpoint {
                self.producers_lost = true;
                continue;
            }
            let entry = intact.then(|| decode(&head, body)).flatten();
            return Some(entry.map_or_else(|| Seen::Lost(lost(&head)), Seen::Entry));
        }
    }
}

fn decode<'a>(head: &EntryHead, body: &'a [u8]) -> Option<Entry<'a>> {
    let partition = head.partition;
    let sized = |len: usize| (body.len() == len).then_some(());
    Some(match head.kind {
        Kind::Append => Entry::Append {
            // Whoever takes it over counts on the offset after it.
            partition: is_place(head).then_some(partition)?,
            index: head.index,
            term: head.term,
            base_offset: head.offset,
            record_count: head.record_count,
            idempotent: head.idempotent,
            batch: body,
        },
        Kind::PartitionCreated => {
            sized(STATE_BYTES)?;
            Entry::PartitionCreated(decode_state(partition, body))
        }
        Kind::Checkpoint => {
            sized(STATE_BYTES)?;
            Entry::Checkpoint(decode_state(partition, body))
        }
        Kind::SegmentSafe => {
            sized(SEGMENT_END_BYTES)?;
            Entry::SegmentSafe {
                partition,
                safe: decode_segment_end(body),
            }
        }
        Kind::PartitionRemoved => Entry::PartitionRemoved { partition },
        Kind::LogStart => Entry::LogStart {
            partition,
            log_start: head.offset,
        },
        Kind::LossAccepted => Entry::LossAccepted {
            partition,
            log_end: head.offset,
        },
        Kind::Producers => Entry::Producers {
            partition,
            snapshot: body,
        },
        Kind::ProducersCheckpoint => Entry::ProducersCheckpoint {
            partition,
            snapshot: body,
        },
        Kind::Seal => return None,
    })
}

/// Whether a batch's offsets are such as there can be.
fn is_place(head: &EntryHead) -> bool {
    let next = head.offset.0.checked_add(i64::from(head.record_count));
    head.offset.0 >= 0 && next.is_some()
}

fn lost(head: &EntryHead) -> LostEntry {
    let append = head.kind == Kind::Append;
    LostEntry {
        partition: head.partition,
        index: if append { head.index } else { LogIndex(0) },
        log_end: if append {
            Offset(head.offset.0.saturating_add(i64::from(head.record_count)))
        } else {
            Offset::ZERO
        },
        of_producers: head.kind == Kind::Producers || (append && head.idempotent),
    }
}
