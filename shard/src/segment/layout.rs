//! Where the entries of one write lie in the file, and their bytes. Pure.

use crate::env::BLOCK_BYTES;

use super::SegmentEntry;
use super::format::{ENTRY_HEADER_BYTES, EntryHeader, Identity, encode_pad, pad_bytes};

type HeaderBytes = [u8; ENTRY_HEADER_BYTES];

/// Entries laid out one after another from a position on.
pub(super) struct Layout<'a> {
    entries: &'a [SegmentEntry],
    /// Position and header of each entry, and of the pad, if there is one, after them.
    headers: Vec<(u64, HeaderBytes)>,
    /// Where the last entry, or the pad, ends.
    pub(super) end: u64,
}

impl<'a> Layout<'a> {
    /// Lays out `entries` from `start` on, and with `fill` a pad up to the end of a block.
    pub(super) fn new(
        identity: Identity,
        start: u64,
        entries: &'a [SegmentEntry],
        fill: bool,
    ) -> Layout<'a> {
        let mut headers = Vec::with_capacity(entries.len() + 1);
        let mut position = start;
        for entry in entries {
            let header = entry.header();
            headers.push((position, header.encode(identity, position, &entry.batch)));
            position += header.entry_bytes();
        }
        let pad = if fill { pad_bytes(position) } else { 0 };
        if pad > 0 {
            headers.push((position, encode_pad(identity, position)));
        }
        Layout {
            entries,
            headers,
            end: position + pad,
        }
    }

    /// Up to where whole blocks can be written.
    pub(super) fn whole_blocks_end(&self) -> u64 {
        self.end - self.end % BLOCK_BYTES as u64
    }

    /// How many entries end at or before `position`.
    pub(super) fn complete_at(&self, position: u64) -> usize {
        self.entries
            .iter()
            .zip(&self.headers)
            .take_while(|(entry, (start, _))| start + entry.header().entry_bytes() <= position)
            .count()
    }

    /// Where an entry begins, or the end if there is none of that number.
    pub(super) fn position(&self, number: usize) -> u64 {
        if number < self.entries.len() {
            self.headers[number].0
        } else {
            self.end
        }
    }

    /// The bytes of an entry's header.
    pub(super) fn header(&self, number: usize) -> Option<&HeaderBytes> {
        self.headers.get(number).map(|(_, header)| header)
    }

    /// Fills `buffer` with what lies at `from` and after, and with zeros where nothing does.
    pub(super) fn copy_to(&self, from: u64, buffer: &mut [u8]) {
        let first = self
            .headers
            .partition_point(|(start, _)| *start <= from)
            .saturating_sub(1);
        let until = from + buffer.len() as u64;
        let mut filled = 0;
        for (number, (start, header)) in self.headers.iter().enumerate().skip(first) {
            if *start >= until {
                break;
            }
            copy_overlap(header, *start, from, buffer, &mut filled);
            if let Some(entry) = self.entries.get(number) {
                let at = start + ENTRY_HEADER_BYTES as u64;
                copy_overlap(&entry.batch, at, from, buffer, &mut filled);
            }
        }
        buffer[filled..].fill(0);
    }
}

/// Copies the part of `bytes`, which lie at `at`, that falls into `buffer`, which lies at `from` and
/// is `filled` so far; zeros go in between.
fn copy_overlap(bytes: &[u8], at: u64, from: u64, buffer: &mut [u8], filled: &mut usize) {
    let begin = at.max(from);
    let end = (at + bytes.len() as u64).min(from + buffer.len() as u64);
    if begin < end {
        let range = |base: u64| (begin - base) as usize..(end - base) as usize;
        let into = range(from);
        buffer[*filled..into.start].fill(0);
        *filled = into.end;
        buffer[into].copy_from_slice(&bytes[range(at)]);
    }
}

impl SegmentEntry {
    /// What stands before the batch in the file.
    pub(super) fn header(&self) -> EntryHeader {
        EntryHeader {
            // The caller's entries are checked before they get here: see `Segments::pending`.
            length: self.batch.len() as u32,
            index: self.index,
            base_offset: self.base_offset,
            max_timestamp: self.max_timestamp,
            term: self.term,
            record_count: self.record_count,
        }
    }

    /// One past its last offset.
    pub(super) fn next_offset(&self) -> millrace_wire::ids::Offset {
        self.base_offset.advance(self.record_count)
    }
}
