//! What one file holds: the blocks that are on stable storage, the ones that a crash may lose, and
//! the lengths that a crash may undo. Only blocks that were written with something other than
//! zeros take memory, so a file may be large and prewritten at no cost.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::draw::{combine, hash_bytes};
use crate::env::BLOCK_BYTES;

/// What a disk writes at once whatever happens.
pub(super) const SECTOR_BYTES: usize = 512;
const BLOCK: u64 = BLOCK_BYTES as u64;
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// A block's bytes; none stands for zeros.
type Block = Option<Bytes>;

fn bytes_of(block: &Block) -> &[u8] {
    block.as_deref().unwrap_or(&ZEROS)
}

/// When something was done, in the order of one disk.
pub(super) type Moment = u64;

/// What happens to one block whose fate is open, and to each of its sectors.
pub(super) enum Fate {
    /// As on stable storage.
    Lost,
    /// As last written.
    Kept,
    /// For each sector one of the versions, by the number drawn for it.
    Torn([u64; BLOCK_BYTES / SECTOR_BYTES]),
}

#[derive(Default)]
pub(super) struct Content {
    durable: BTreeMap<u64, Bytes>,
    /// Per block, every version written since it was last made durable, oldest first.
    pending: BTreeMap<u64, Vec<(Moment, Block)>>,
    durable_len: u64,
    len: u64,
    /// Changes of the length since it was last made durable, oldest first.
    pending_lens: Vec<(Moment, u64)>,
}

impl Content {
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether anything could be lost in a crash.
    pub fn is_dirty(&self) -> bool {
        !self.pending.is_empty() || !self.pending_lens.is_empty()
    }

    fn current(&self, block: u64) -> &[u8] {
        if let Some((_, newest)) = self
            .pending
            .get(&block)
            .and_then(|versions| versions.last())
        {
            return bytes_of(newest);
        }
        self.durable_after_truncation(block)
    }

    /// What stable storage holds, if the truncations since then are seen.
    fn durable_after_truncation(&self, block: u64) -> &[u8] {
        let cut = self
            .pending_lens
            .iter()
            .any(|(_, len)| block * BLOCK >= *len);
        match self.durable.get(&block) {
            Some(bytes) if !cut => bytes,
            _ => &ZEROS,
        }
    }

    /// Up to `len` bytes from `position`, less at the end of the file.
    pub fn read(&self, position: u64, len: usize) -> Vec<u8> {
        let end = self.len.min(position.saturating_add(len as u64));
        let mut out = vec![0; end.saturating_sub(position) as usize];
        if out.is_empty() {
            return out;
        }
        let blocks = position / BLOCK..end.div_ceil(BLOCK);
        // Only the blocks that exist are visited; the rest is zero already.
        let stored = self.durable.range(blocks.clone()).map(|(block, _)| *block);
        let written = self.pending.range(blocks).map(|(block, _)| *block);
        for block in stored.chain(written) {
            let at = (block * BLOCK - position) as usize;
            let part = &mut out[at..];
            let take = part.len().min(BLOCK_BYTES);
            part[..take].copy_from_slice(&self.current(block)[..take]);
        }
        out
    }

    /// Writes whole blocks, not yet durable.
    pub fn write(&mut self, now: Moment, position: u64, bytes: &Bytes) {
        for (block, content) in split(position, bytes) {
            self.write_block(now, block, content);
        }
        self.grow(now, position + bytes.len() as u64);
    }

    fn write_block(&mut self, now: Moment, block: u64, content: Block) {
        if content.is_none()
            && !self.pending.contains_key(&block)
            && !self.durable.contains_key(&block)
        {
            return; // zeros over zeros
        }
        self.pending.entry(block).or_default().push((now, content));
    }

    /// Makes the blocks of a finished `data_sync` write durable, and the length if it needs it.
    pub fn write_durably(&mut self, now: Moment, position: u64, bytes: &Bytes) {
        let end = position + bytes.len() as u64;
        self.grow(now, end);
        if end > self.durable_len || self.pending_lens.iter().any(|(_, len)| *len < end) {
            self.settle_lengths(now);
        }
        for (block, content) in split(position, bytes) {
            self.pending.remove(&block);
            self.set_durable(block, content);
        }
    }

    /// One write of which some sectors may not have arrived: a block at a time, `fate` decides.
    pub fn write_partly(
        &mut self,
        now: Moment,
        position: u64,
        bytes: &Bytes,
        fate: impl Fn(u64) -> Fate,
    ) {
        let mut end = 0;
        for (block, content) in split(position, bytes) {
            let result = match fate(block) {
                Fate::Lost => continue,
                Fate::Kept => content,
                Fate::Torn(draws) => choose(&[self.current(block), bytes_of(&content)], &draws),
            };
            end = (block + 1) * BLOCK;
            self.write_block(now, block, result);
        }
        self.grow(now, end);
    }

    fn grow(&mut self, now: Moment, end: u64) {
        if end > self.len {
            self.len = end;
            self.pending_lens.push((now, end));
        }
    }

    pub fn set_len(&mut self, now: Moment, len: u64) {
        if len == self.len {
            return;
        }
        for versions in self
            .pending
            .range_mut(len.div_ceil(BLOCK)..)
            .map(|(_, versions)| versions)
        {
            versions.push((now, None));
        }
        self.len = len;
        self.pending_lens.push((now, len));
    }

    /// A sync that began at `until` has finished: everything done before is durable.
    pub fn sync(&mut self, until: Moment) {
        self.settle_lengths(until);
        let mut settled = Vec::new();
        self.pending.retain(|block, versions| {
            let done = versions.partition_point(|(moment, _)| *moment <= until);
            if let Some((_, content)) = versions.drain(..done).next_back() {
                settled.push((*block, content));
            }
            !versions.is_empty()
        });
        for (block, content) in settled {
            self.set_durable(block, content);
        }
    }

    fn settle_lengths(&mut self, until: Moment) {
        let done = self
            .pending_lens
            .partition_point(|(moment, _)| *moment <= until);
        for (_, len) in self.pending_lens.drain(..done) {
            self.durable_len = len;
            self.durable.split_off(&len.div_ceil(BLOCK));
        }
    }

    fn set_durable(&mut self, block: u64, content: Block) {
        match content {
            Some(bytes) => self.durable.insert(block, bytes),
            None => self.durable.remove(&block),
        };
    }

    /// The power fails. `lengths_kept` of the open changes of length survive; `fate` decides each
    /// block that was not durable.
    pub fn crash(&mut self, lengths_kept: impl FnOnce(u64) -> u64, fate: impl Fn(u64) -> Fate) {
        let changes = self.pending_lens.len() as u64;
        if changes > 0 {
            let kept = lengths_kept(changes + 1) as usize;
            self.pending_lens.truncate(kept);
            self.settle_lengths(Moment::MAX);
        }
        self.len = self.durable_len;
        for (block, versions) in std::mem::take(&mut self.pending) {
            if block * BLOCK >= self.len {
                continue;
            }
            let result = match fate(block) {
                Fate::Lost => continue,
                Fate::Kept => versions
                    .into_iter()
                    .next_back()
                    .and_then(|(_, content)| content),
                Fate::Torn(draws) => {
                    let old = self
                        .durable
                        .get(&block)
                        .map_or(&ZEROS[..], |bytes| &bytes[..]);
                    let written = versions.iter().map(|(_, content)| bytes_of(content));
                    choose(
                        &std::iter::once(old).chain(written).collect::<Vec<_>>(),
                        &draws,
                    )
                }
            };
            self.set_durable(block, result);
        }
    }

    /// Flips one bit, on stable storage and in whatever is newer.
    pub fn flip(&mut self, position: u64, bit: u8) {
        let block = position / BLOCK;
        let flipped = |bytes: &[u8]| {
            let mut bytes = BytesMut::from(bytes);
            bytes[(position % BLOCK) as usize] ^= 1 << (bit % 8);
            bytes.freeze()
        };
        let durable = flipped(
            self.durable
                .get(&block)
                .map_or(&ZEROS[..], |bytes| &bytes[..]),
        );
        self.durable.insert(block, durable);
        for (_, content) in self.pending.get_mut(&block).into_iter().flatten() {
            *content = Some(flipped(bytes_of(content)));
        }
    }

    /// The ranges, in blocks, that hold something other than zeros on stable storage.
    pub fn stored_blocks(&self) -> Vec<u64> {
        self.durable.keys().copied().collect()
    }

    /// A hash of what a reader would see.
    pub fn hash(&self) -> u64 {
        let mut hash = combine(self.len, self.durable_len);
        let mut blocks: Vec<u64> = self
            .durable
            .keys()
            .chain(self.pending.keys())
            .copied()
            .collect();
        blocks.sort_unstable();
        blocks.dedup();
        for block in blocks {
            hash = combine(combine(hash, block), hash_bytes(self.current(block)));
        }
        hash
    }
}

/// A write's blocks, each a piece of the same memory.
fn split(position: u64, bytes: &Bytes) -> impl Iterator<Item = (u64, Block)> {
    let first = position / BLOCK;
    (0..bytes.len() / BLOCK_BYTES).map(move |number| {
        let piece = number * BLOCK_BYTES..(number + 1) * BLOCK_BYTES;
        let zero = bytes[piece.clone()] == ZEROS;
        (first + number as u64, (!zero).then(|| bytes.slice(piece)))
    })
}

/// Builds a block whose every sector comes from the version that was drawn for it.
fn choose(versions: &[&[u8]], draws: &[u64; BLOCK_BYTES / SECTOR_BYTES]) -> Block {
    let mut out = BytesMut::zeroed(BLOCK_BYTES);
    for (sector, draw) in draws.iter().enumerate() {
        let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        let version = versions[(draw % versions.len() as u64) as usize];
        out[range.clone()].copy_from_slice(&version[range]);
    }
    Some(out.freeze())
}

/// Which bytes of a file have space on the disk: ranges in blocks, apart from each other.
#[derive(Default)]
pub(super) struct Extents {
    ranges: BTreeMap<u64, u64>,
    blocks: u64,
}

impl Extents {
    pub fn bytes(&self) -> u64 {
        self.blocks * BLOCK
    }

    fn count(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// Bytes that allocating `range` would add.
    pub fn missing(&self, range: &Range<u64>) -> u64 {
        let wanted = range.start / BLOCK..range.end.div_ceil(BLOCK);
        let overlap = |(start, end): (&u64, &u64)| {
            (*end)
                .min(wanted.end)
                .saturating_sub((*start).max(wanted.start))
        };
        let before = self.ranges.range(..wanted.end).rev();
        let held: u64 = before
            .take_while(|(_, end)| **end > wanted.start)
            .map(overlap)
            .sum();
        (wanted.end.saturating_sub(wanted.start) - held) * BLOCK
    }

    pub fn insert(&mut self, range: &Range<u64>) {
        let (mut start, mut end) = (range.start / BLOCK, range.end.div_ceil(BLOCK));
        if start >= end {
            return;
        }
        let touching: Vec<(u64, u64)> = self
            .ranges
            .range(..=end)
            .rev()
            .take_while(|(_, until)| **until >= start)
            .map(|(from, until)| (*from, *until))
            .collect();
        for (from, until) in touching {
            self.ranges.remove(&from);
            start = start.min(from);
            end = end.max(until);
        }
        self.ranges.insert(start, end);
        self.blocks = self.count();
    }

    pub fn truncate(&mut self, len: u64) {
        let end = len.div_ceil(BLOCK);
        self.ranges.split_off(&end);
        if let Some((_, last)) = self.ranges.iter_mut().next_back() {
            *last = (*last).min(end);
        }
        self.blocks = self.count();
    }
}
