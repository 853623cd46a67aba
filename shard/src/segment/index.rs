//! The sparse index: kept in memory for the end of the active segment, stored in blocks for the
//! rest, loaded when it is asked for and rebuilt by scanning when it is missing or damaged.

use std::collections::VecDeque;
use std::rc::Rc;

use millrace_wire::ids::Offset;

use super::files::{LoadedIndex, Purpose, count};
use super::format::{
    EntryHeader, FIRST_ENTRY, Flaw, Identity, NO_TIMESTAMP, PLACES_PER_BLOCK, Place, decode_places,
    encode_places,
};
use super::walk::{Fault, SCAN_BYTES};
use super::{SegmentError, Segments, View};
use crate::env::{BLOCK_BYTES, Env, File, is_medium_error};

/// Bytes between two places where an index is rebuilt.
const REBUILD_INTERVAL: u64 = 64 << 10;
/// A block that is not full is stored when it has gained so many places: a recovery scans no
/// further than the bytes between that many.
const STORE_EVERY: usize = 16;
/// Most of an index that is read in one piece.
const LOAD_BYTES: usize = 1 << 20;

/// The index of a segment that is being written.
#[derive(Debug)]
pub(super) struct ActiveIndex {
    /// Full blocks that are stored, and of which nothing is held here.
    pub(super) stored_blocks: u32,
    /// The places after those. Never empty once the segment has an entry.
    pub(super) tail: Vec<Place>,
    /// How many of the tail are in a block, not full, that is stored too.
    stored_tail: usize,
    /// The largest timestamp of all entries.
    pub(super) max_timestamp: i64,
}

impl ActiveIndex {
    pub(super) fn new() -> ActiveIndex {
        ActiveIndex {
            stored_blocks: 0,
            tail: Vec::new(),
            stored_tail: 0,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    /// Takes notice of the next entry.
    pub(super) fn observe(&mut self, position: u64, header: &EntryHeader, interval: u64) {
        let place = Place {
            offset: header.base_offset,
            position,
            max_before: self.max_timestamp,
        };
        if self
            .tail
            .last()
            .is_none_or(|last| position - last.position >= interval)
        {
            self.tail.push(place);
        }
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }

    /// Keeps in memory only what does not fill blocks that are stored already.
    fn from_places(mut places: Vec<Place>, stored: usize, max_timestamp: i64) -> ActiveIndex {
        let full =
            (stored / PLACES_PER_BLOCK).min(places.len().saturating_sub(1) / PLACES_PER_BLOCK);
        let tail = places.split_off(full * PLACES_PER_BLOCK);
        let stored_tail = (stored - full * PLACES_PER_BLOCK).min(tail.len());
        ActiveIndex {
            stored_blocks: full as u32,
            tail,
            stored_tail,
            max_timestamp,
        }
    }
}

/// Encodes places into whole blocks from block `number` on.
fn encode_blocks(places: &[Place], last: bool, identity: Identity, number: u32, buffer: &mut [u8]) {
    let blocks = places
        .chunks(PLACES_PER_BLOCK)
        .zip(buffer.chunks_exact_mut(BLOCK_BYTES));
    let count = places.len().div_ceil(PLACES_PER_BLOCK);
    for (at, (places, block)) in blocks.enumerate() {
        encode_places(
            places,
            last && at + 1 == count,
            identity,
            number + at as u32,
            block,
        );
    }
}

/// What a stored index was found to hold.
struct Stored {
    places: Vec<Place>,
    /// Blocks that are good, all before the first that is not.
    blocks: u32,
    /// Whether the last block of a complete index is among them.
    complete: bool,
    /// Why no more was read.
    flaw: Option<Flaw>,
}

impl<E: Env> Segments<E> {
    /// The last place that `before` holds for, or the beginning. `before` holds for all places up
    /// to some point and for none after it.
    pub(super) async fn place(
        &self,
        view: &View,
        before: impl Fn(&Place) -> bool,
    ) -> Result<Place, SegmentError> {
        let before = |place: &Place| place.position < view.end && before(place);
        let last = |places: &[Place]| places[..places.partition_point(before)].last().copied();
        let active_tail = self.with_active(view.base, |active| last(&active.index.tail));
        let found = match active_tail {
            Some(Some(place)) => Some(place),
            _ => last(&self.stored_index(view).await?.places),
        };
        let start = Place {
            offset: view.base,
            position: FIRST_ENTRY,
            max_before: NO_TIMESTAMP,
        };
        Ok(found.unwrap_or(start))
    }

    /// The first place after `position`.
    pub(super) async fn place_after(
        &self,
        view: &View,
        position: u64,
    ) -> Result<Option<Place>, SegmentError> {
        let after = |places: &[Place]| {
            places
                .get(places.partition_point(|place| place.position <= position))
                .copied()
        };
        let tail = self
            .with_active(view.base, |active| after(&active.index.tail))
            .flatten();
        let stored = after(&self.stored_index(view).await?.places);
        Ok(stored.or(tail).filter(|place| place.position < view.end))
    }

    /// All places of a complete segment, or the stored ones of the active.
    async fn stored_index(&self, view: &View) -> Result<Rc<LoadedIndex>, SegmentError> {
        let key = (self.partition, view.base);
        let usable = |index: &Rc<LoadedIndex>| {
            self.with_active(view.base, |active| {
                index.blocks >= active.index.stored_blocks
            })
            .unwrap_or(true)
        };
        if let Some(index) = self.files.index(key).filter(usable) {
            return Ok(index);
        }
        let _turn = self.loading.acquire(1).await;
        if let Some(index) = self.files.index(key).filter(usable) {
            return Ok(index);
        }
        let active_blocks = self.with_active(view.base, |active| active.index.stored_blocks);
        if active_blocks == Some(0) {
            return Ok(Rc::new(LoadedIndex {
                places: Vec::new(),
                blocks: 0,
            }));
        }
        let mut stored = self.read_stored(view.base, active_blocks).await?;
        let whole = active_blocks.map_or(stored.complete, |blocks| stored.blocks == blocks);
        let sound = stored
            .places
            .last()
            .is_none_or(|place| place.position < view.end);
        if !sound {
            stored.places.clear();
        }
        if !whole || !sound {
            stored = self.rebuild(view, stored, active_blocks).await?;
        }
        let index = Rc::new(LoadedIndex {
            places: stored.places,
            blocks: stored.blocks,
        });
        let still_active = self.with_active(view.base, |_| ()).is_some();
        if still_active == active_blocks.is_some() && self.is_stored(view.base) {
            self.files.keep_index(key, index.clone());
        }
        Ok(index)
    }

    /// Reads up to `most` blocks of an index, until one is not good.
    async fn read_stored(&self, base: Offset, most: Option<u32>) -> Result<Stored, SegmentError> {
        let mut stored = Stored {
            places: Vec::new(),
            blocks: 0,
            complete: false,
            flaw: None,
        };
        let path = self.index_path(base);
        // The segment itself is opened first: on some executors the first read of all must not be
        // of a file that may be empty.
        self.reader(base).await?;
        let file = match self
            .files
            .file((self.partition, base), Purpose::ReadIndex, &path, false)
            .await
        {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                stored.flaw = Some(Flaw::Short);
                return Ok(stored);
            }
            Err(error) => return Err(SegmentError::io("open", &path, error)),
        };
        let len = file
            .len()
            .await
            .map_err(|error| SegmentError::io("read the length of", &path, error))?;
        let end = len.min(most.map_or(u64::MAX, |most| u64::from(most) * BLOCK_BYTES as u64));
        let (identity, mut at) = (self.identity(base), 0);
        while at + BLOCK_BYTES as u64 <= end && !stored.complete && stored.flaw.is_none() {
            let piece = (end - at).min(LOAD_BYTES as u64) as usize / BLOCK_BYTES * BLOCK_BYTES;
            let buffer = match file.read_at(at, piece).await {
                Ok(buffer) => buffer,
                Err(error) if is_medium_error(&error) => {
                    stored.flaw = Some(Flaw::Unreadable);
                    break;
                }
                Err(error) => return Err(SegmentError::io("read", &path, error)),
            };
            for block in buffer.chunks_exact(BLOCK_BYTES) {
                if stored.places.len() != stored.blocks as usize * PLACES_PER_BLOCK {
                    stored.flaw = Some(Flaw::Impossible("a block follows one that is not full"));
                    break;
                }
                match decode_places(
                    block,
                    identity,
                    stored.blocks,
                    stored.places.last().copied(),
                ) {
                    Ok(block) => {
                        stored.places.extend(block.places);
                        stored.blocks += 1;
                        stored.complete = block.last;
                    }
                    Err(flaw) => {
                        stored.flaw = Some(flaw);
                        break;
                    }
                }
                if stored.complete {
                    break;
                }
            }
            at += piece as u64;
            self.env.yield_now().await;
        }
        Ok(stored)
    }

    /// Finds the places again by going through the segment, from where the stored index is good on.
    /// A complete segment's index is stored again.
    async fn rebuild(
        &self,
        view: &View,
        stored: Stored,
        active_blocks: Option<u32>,
    ) -> Result<Stored, SegmentError> {
        let path = self.index_path(view.base);
        let reason = stored
            .flaw
            .map_or_else(|| "it ends too early".to_owned(), |flaw| flaw.to_string());
        tracing::warn!(path = %path.display(), reason, "the index of a segment is not usable; rebuilding it");
        count(&self.files.counters.index_rebuilds, 1);
        let (index, fault) = self.scan(view, stored.places).await?;
        if let Some(fault) = &fault {
            // What lies beyond is found again when somebody reads there, and told then.
            tracing::error!(path = %view.path.display(), ?fault, "a segment is damaged; its index ends there");
        }
        let blocks = index.tail.len().div_ceil(PLACES_PER_BLOCK) as u32;
        // What the disk could not read this time it may read the next.
        if active_blocks.is_none() && !matches!(fault, Some(Fault::Unreadable(..))) {
            self.store_rebuilt(view, &index.tail).await;
        }
        let blocks = active_blocks.unwrap_or(blocks);
        Ok(Stored {
            places: index.tail,
            blocks,
            complete: true,
            flaw: None,
        })
    }

    /// Goes through the entries' headers from the last of `places` to the end of the view, or to the
    /// first fault.
    pub(super) async fn scan(
        &self,
        view: &View,
        mut places: Vec<Place>,
    ) -> Result<(ActiveIndex, Option<Fault>), SegmentError> {
        let mut index = ActiveIndex::new();
        let from = places.last().copied();
        if let Some(from) = from {
            index.max_timestamp = from.max_before;
        }
        index.tail.append(&mut places);
        let from = from.map_or(FIRST_ENTRY, |from| from.position);
        let mut walk = self.walk(view, from, SCAN_BYTES, VecDeque::new()).await?;
        loop {
            match walk.next().await {
                Ok(Some((position, header))) => index.observe(position, &header, REBUILD_INTERVAL),
                Ok(None) => return Ok((index, None)),
                Err(Fault::Io(error)) => return Err(SegmentError::io("read", &view.path, error)),
                Err(fault) => return Ok((index, Some(fault))),
            }
        }
    }

    /// Stores a rebuilt index. Failing to costs another scan some day, and nothing else.
    async fn store_rebuilt(&self, view: &View, places: &[Place]) {
        let stored = async {
            let path = self.index_path(view.base);
            let key = (self.partition, view.base);
            let file = self
                .files
                .file(key, Purpose::WriteIndex, &path, true)
                .await?;
            let mut buffer = self
                .env
                .allocate(places.len().div_ceil(PLACES_PER_BLOCK) * BLOCK_BYTES);
            encode_blocks(places, true, self.identity(view.base), 0, &mut buffer);
            let len = buffer.len() as u64;
            file.write_at(buffer, 0).await?;
            file.set_len(len).await?;
            file.sync().await
        };
        if !places.is_empty()
            && let Err(error) = stored.await
        {
            tracing::warn!(path = %view.path.display(), %error, "a rebuilt index could not be stored");
        }
        self.files.forget_writers((self.partition, view.base));
        if !self.is_stored(view.base) {
            // The segment was removed meanwhile: its index must not outlive it.
            let _ = self.env.remove_file(&self.index_path(view.base)).await;
        }
    }

    /// The index of the active segment after a restart: what is stored of entries before the safe
    /// end, and a scan of the rest.
    pub(super) async fn recover_active_index(
        &self,
        view: &View,
    ) -> Result<ActiveIndex, SegmentError> {
        let mut stored = self.read_stored(view.base, None).await?;
        let found = stored.places.len();
        let safe = stored
            .places
            .partition_point(|place| place.position < view.end);
        stored.places.truncate(safe);
        let mut kept = safe;
        if safe < found || stored.complete || stored.flaw.is_some() {
            // An earlier run got further than the journal knows, or a block was lost. What is not
            // good now must not be taken for good once the safe end has passed it.
            let full = (safe / PLACES_PER_BLOCK) as u32;
            let blocks = if stored.complete {
                full.min(stored.blocks - 1)
            } else {
                full
            };
            self.cut_index(view.base, blocks).await?;
            kept = blocks as usize * PLACES_PER_BLOCK;
        }
        let (mut index, fault) = self.scan(view, stored.places).await?;
        if let Some(fault) = fault {
            tracing::error!(path = %view.path.display(), ?fault, "a segment is damaged; its index ends there");
            // The batches beyond may be as young as can be: whoever searches by time has to come
            // by here, and retention must not take them for older.
            index.max_timestamp = index.max_timestamp.max(self.env.wall_clock_ms());
        }
        Ok(ActiveIndex::from_places(
            index.tail,
            kept,
            index.max_timestamp,
        ))
    }

    /// Cuts an index to so many blocks, durably.
    async fn cut_index(&self, base: Offset, blocks: u32) -> Result<(), SegmentError> {
        let (path, key) = (self.index_path(base), (self.partition, base));
        let file = match self
            .files
            .file(key, Purpose::WriteIndex, &path, false)
            .await
        {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(SegmentError::io("open", &path, error)),
        };
        let cut = file.set_len(u64::from(blocks) * BLOCK_BYTES as u64).await;
        cut.map_err(|error| self.write_failed("cut", &path, error))?;
        file.sync()
            .await
            .map_err(|error| self.sync_failed(&path, error))
    }

    /// Stores the places of the active segment that fill blocks, and now and then those that do not.
    /// When `last`, all of them. Held by the one writer.
    pub(super) async fn store_active_index(
        &self,
        base: Offset,
        last: bool,
    ) -> Result<(), SegmentError> {
        let pending = self.with_active(base, |active| {
            let index = &active.index;
            let worth_it = last
                || index.tail.len() > PLACES_PER_BLOCK
                || index.tail.len() >= index.stored_tail + STORE_EVERY;
            (worth_it && !index.tail.is_empty()).then(|| (index.stored_blocks, index.tail.clone()))
        });
        let Some((number, places)) = pending.flatten() else {
            return Ok(());
        };
        let path = self.index_path(base);
        let key = (self.partition, base);
        let opened = self.files.file(key, Purpose::WriteIndex, &path, true).await;
        let file = opened.map_err(|error| SegmentError::io("open", &path, error))?;
        let mut buffer = self
            .env
            .allocate(places.len().div_ceil(PLACES_PER_BLOCK) * BLOCK_BYTES);
        encode_blocks(&places, last, self.identity(base), number, &mut buffer);
        let end = u64::from(number) * BLOCK_BYTES as u64 + buffer.len() as u64;
        let position = u64::from(number) * BLOCK_BYTES as u64;
        file.write_at(buffer, position)
            .await
            .map_err(|error| self.write_failed("write", &path, error))?;
        if last {
            file.set_len(end)
                .await
                .map_err(|error| SegmentError::io("cut", &path, error))?;
            file.sync()
                .await
                .map_err(|error| self.sync_failed(&path, error))?;
        }
        self.with_active_mut(base, |active| {
            // A full block is let go of only when another place follows it: the last block of a
            // complete index is then never empty.
            let full = (places.len() - 1) / PLACES_PER_BLOCK;
            active.index.tail.drain(..full * PLACES_PER_BLOCK);
            active.index.stored_blocks += full as u32;
            active.index.stored_tail = places.len() - full * PLACES_PER_BLOCK;
        });
        Ok(())
    }
}
