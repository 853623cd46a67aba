//! Writing: choosing the segment, reserving space, whole blocks a few pieces at a time, each durably,
//! and completing a segment.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::rc::Rc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use millrace_wire::ids::{LogIndex, Offset};

use super::files::{Purpose, count};
use super::format::{
    BATCH_MAX_BYTES, BATCH_MIN_BYTES, ENTRY_HEADER_BYTES, FIRST_ENTRY, FileHeader, Previous, Seal,
};
use super::index::ActiveIndex;
use super::layout::Layout;
use super::list::{Complete, Facts};
use super::{Active, SegmentEnd, SegmentEntry, SegmentError, SegmentSettings, Segments};
use crate::env::{BLOCK_BYTES, Env, File, round_up_to_block};

/// Bytes of one write.
const PIECE_BYTES: u64 = 256 << 10;
/// Writes of one call under way at once.
const WRITES_IN_FLIGHT: usize = 8;
/// The largest step in which space is reserved. Larger ones have fragmented and stalled elsewhere.
const RESERVE_MAX_BYTES: u64 = 4 << 20;
/// The smallest, so that a thousand small partitions do not hold gigabytes.
const RESERVE_MIN_BYTES: u64 = 64 << 10;
const BLOCK: u64 = BLOCK_BYTES as u64;

impl<E: Env> Segments<E> {
    /// Writes `entries` durably; the end returned is safe. Only whole blocks are written, so
    /// the last entries may not be complete in the file yet: those from `next_offset` on stay with
    /// the caller, to be given again first thing in a later call, unchanged. With `pad` the last
    /// block is filled up, and everything given is safe. Entries below `next_offset` are passed over.
    ///
    /// Rolls by itself, by size and by age. Calls wait for one another. After an error
    /// [`Segments::end`] is still right: part of the entries may have become safe. After
    /// [`SegmentError::NoSpace`] the same call may be made again.
    pub async fn write(
        &self,
        entries: &[SegmentEntry],
        pad: bool,
        settings: SegmentSettings,
    ) -> Result<SegmentEnd, SegmentError> {
        let _turn = self.writing.acquire(1).await;
        self.ensure_listed().await?;
        let mut rest = self.pending(entries)?;
        while let Some(first) = rest.first() {
            if self.end().position == 0 {
                self.begin_segment(first.base_offset).await?;
            }
            self.load_active(self.end()).await?;
            if self.is_full(first, settings) || !self.continues_head(first).await? {
                self.complete_active().await?;
                continue;
            }
            let fitting = self.fitting(rest, settings);
            let last = fitting == rest.len();
            self.write_run(&rest[..fitting], pad || !last, settings)
                .await?;
            rest = &rest[fitting..];
        }
        Ok(self.end())
    }

    /// Completes the active segment, whatever its age, so that it can be removed; the next write
    /// begins another. Does nothing if it holds no entry. The end returned must be durable in the
    /// journal before [`Segments::remove_before`] removes the completed one.
    pub async fn roll(&self) -> Result<SegmentEnd, SegmentError> {
        let _turn = self.writing.acquire(1).await;
        self.ensure_listed().await?;
        let end = self.end();
        if end.position > FIRST_ENTRY {
            self.load_active(end).await?;
            self.complete_active().await?;
        }
        Ok(self.end())
    }

    /// The entries that are not safe yet, checked.
    fn pending<'a>(&self, entries: &'a [SegmentEntry]) -> Result<&'a [SegmentEntry], SegmentError> {
        let end = self.end();
        let safe = entries
            .iter()
            .take_while(|entry| entry.next_offset() <= end.next_offset)
            .count();
        let (mut offset, mut index) = (end.next_offset, end.next_index);
        for entry in &entries[safe..] {
            let length_is_right =
                (BATCH_MIN_BYTES..=BATCH_MAX_BYTES as usize).contains(&entry.batch.len());
            let offset_is_its_own = entry.batch.starts_with(&entry.base_offset.0.to_be_bytes());
            if entry.base_offset < offset
                || entry.index < index
                || entry.record_count == 0
                || !length_is_right
                || !offset_is_its_own
            {
                return Err(SegmentError::OutOfOrder {
                    expected: offset,
                    found: entry.base_offset,
                });
            }
            (offset, index) = (entry.next_offset(), LogIndex(entry.index.0 + 1));
        }
        Ok(&entries[safe..])
    }

    /// Whether the active segment takes no more: this entry does not fit, or it is too old.
    fn is_full(&self, first: &SegmentEntry, settings: SegmentSettings) -> bool {
        let end = self.end();
        let created_ms = self
            .with_active(end.segment_base, |active| active.created_ms)
            .unwrap_or(0);
        let age = self.env.wall_clock_ms().saturating_sub(created_ms);
        let too_old = u64::try_from(age).is_ok_and(|age| age >= settings.segment_ms);
        let too_large = end.position + first.header().entry_bytes() > settings.segment_bytes;
        end.position > FIRST_ENTRY && (too_old || too_large)
    }

    /// How many entries go into the active segment before it is full, at least one.
    fn fitting(&self, entries: &[SegmentEntry], settings: SegmentSettings) -> usize {
        let mut position = self.end().position;
        let fitting = entries.iter().take_while(|entry| {
            position += entry.header().entry_bytes();
            position <= settings.segment_bytes
        });
        fitting.count().max(1)
    }

    /// Whether the bytes that this entry would have are those with which the last block ends, if it
    /// ends with the head of an entry. They differ only if that entry was lost with the journal and
    /// its loss accepted.
    async fn continues_head(&self, first: &SegmentEntry) -> Result<bool, SegmentError> {
        let end = self.end();
        let head_bytes = round_up_to_block(end.position) - end.position;
        if head_bytes == 0 {
            return Ok(true);
        }
        let layout = Layout::new(
            self.identity(end.segment_base),
            end.position,
            std::slice::from_ref(first),
            false,
        );
        let header_crc = layout.header(0).map(header_crc);
        let known = self
            .with_active(end.segment_base, |active| active.head)
            .flatten();
        if known.is_some() {
            return Ok(known == header_crc);
        }
        let path = self.data_path(end.segment_base);
        let file = self.reader(end.segment_base).await?;
        let block = file
            .read_at(end.position - end.position % BLOCK, BLOCK_BYTES)
            .await;
        let block = block.map_err(|error| SegmentError::io("read", &path, error))?;
        let mut expected = vec![0; head_bytes as usize];
        layout.copy_to(end.position, &mut expected);
        Ok(block.ends_with(&expected))
    }

    /// Lays out entries in the active segment and writes the whole blocks of them.
    async fn write_run(
        &self,
        entries: &[SegmentEntry],
        fill: bool,
        settings: SegmentSettings,
    ) -> Result<(), SegmentError> {
        let end = self.end();
        let base = end.segment_base;
        let layout = Layout::new(self.identity(base), end.position, entries, fill);
        let (from, to) = (round_up_to_block(end.position), layout.whole_blocks_end());
        if from >= to {
            return Ok(());
        }
        let path = self.data_path(base);
        let file = self.writer(base, &path, false).await?;
        // One block more, so that the segment can be completed on a disk that has filled up.
        self.reserve(&file, &path, to + BLOCK, settings.segment_bytes)
            .await?;
        self.write_pieces(&file, &path, &layout, from, to).await?;
        self.advance(entries, &layout, to, settings);
        match self.store_active_index(base, false).await {
            // The index stays in memory for now, and space for it is asked for again.
            Err(SegmentError::NoSpace { .. }) => Ok(()),
            other => other,
        }
    }

    /// Writes the layout's blocks between `from` and `to`, a few pieces at a time.
    async fn write_pieces(
        &self,
        file: &E::File,
        path: &Path,
        layout: &Layout<'_>,
        from: u64,
        to: u64,
    ) -> Result<(), SegmentError> {
        let mut starts: VecDeque<u64> = (from..to).step_by(PIECE_BYTES as usize).collect();
        let mut under_way = FuturesUnordered::new();
        let mut failure = None;
        loop {
            while under_way.len() < WRITES_IN_FLIGHT && failure.is_none() {
                let Some(start) = starts.pop_front() else {
                    break;
                };
                under_way.push(self.write_piece(file, layout, start, to));
                self.env.yield_now().await;
            }
            // All that was begun is awaited, whatever happens: an I/O in flight is never dropped.
            match under_way.next().await {
                Some(Err(error)) => failure = failure.or(Some(error)),
                Some(Ok(())) => {}
                None => break,
            }
        }
        if let Some(error) = failure {
            return Err(self.write_failed("write", path, error));
        }
        count(&self.files.counters.bytes_written, to - from);
        Ok(())
    }

    /// Writes one piece, when it is its turn among the shard's.
    async fn write_piece(
        &self,
        file: &E::File,
        layout: &Layout<'_>,
        start: u64,
        to: u64,
    ) -> io::Result<()> {
        let len = PIECE_BYTES.min(to - start);
        let _turn = self.files.writing.acquire(len).await;
        let mut buffer = self.env.allocate_unset(len as usize);
        layout.copy_to(start, &mut buffer);
        file.write_at(buffer, start).await
    }

    /// Takes note of what a durable write has made safe.
    fn advance(
        &self,
        entries: &[SegmentEntry],
        layout: &Layout<'_>,
        to: u64,
        settings: SegmentSettings,
    ) {
        let complete = layout.complete_at(to);
        let mut state = self.state.borrow_mut();
        state.end.position = layout.position(complete);
        if let Some(last) = entries[..complete].last() {
            state.end.next_offset = last.next_offset();
            state.end.next_index = LogIndex(last.index.0 + 1);
            state.end.term = last.term;
        }
        let interval = u64::from(settings.index_interval_bytes).max(BLOCK);
        if let Some(active) = &mut state.active {
            active.head = (complete < entries.len())
                .then(|| layout.header(complete).map(header_crc))
                .flatten();
            for (number, entry) in entries[..complete].iter().enumerate() {
                active
                    .index
                    .observe(layout.position(number), &entry.header(), interval);
            }
        }
    }

    /// Sees to it that the file has space up to `needed`, and if it can be had some more.
    async fn reserve(
        &self,
        file: &E::File,
        path: &Path,
        needed: u64,
        segment_bytes: u64,
    ) -> Result<(), SegmentError> {
        let base = self.end().segment_base;
        let mut reserved = self
            .with_active(base, |active| active.reserved)
            .unwrap_or(0);
        if reserved == 0 {
            reserved = file
                .len()
                .await
                .map_err(|error| SegmentError::io("read the length of", path, error))?;
        }
        if reserved < needed {
            let step = (needed / 2)
                .next_power_of_two()
                .clamp(RESERVE_MIN_BYTES, RESERVE_MAX_BYTES);
            let most = needed.max(round_up_to_block(segment_bytes.saturating_add(BLOCK)));
            let wanted = needed.next_multiple_of(step).min(most);
            reserved = match file.reserve(wanted).await {
                Ok(()) => wanted,
                Err(error) if is_full_disk(&error) && needed < wanted => {
                    let exact = file.reserve(needed).await;
                    exact.map_err(|error| SegmentError::io("reserve space for", path, error))?;
                    needed
                }
                Err(error) => return Err(SegmentError::io("reserve space for", path, error)),
            };
        }
        self.with_active_mut(base, |active| active.reserved = reserved);
        Ok(())
    }

    /// Makes the file of a new segment, with its header, durable.
    async fn begin_segment(&self, first: Offset) -> Result<(), SegmentError> {
        let end = self.end();
        let base = first.max(end.segment_base);
        let previous = self
            .state
            .borrow()
            .complete
            .last()
            .map(|complete| Previous {
                base: complete.base,
                next_offset: end.next_offset,
            });
        let path = self.data_path(base);
        self.make_directory().await?;
        let file = self.writer(base, &path, true).await?;
        let header = FileHeader {
            partition: self.partition,
            base,
            created_ms: self.env.wall_clock_ms(),
            previous,
        };
        if let Err(error) = file.reserve(RESERVE_MIN_BYTES).await {
            self.files.forget((self.partition, base));
            // It holds nothing; if it stays it is a stray.
            let _ = self.env.remove_file(&path).await;
            return Err(SegmentError::io("reserve space for", &path, error));
        }
        let mut block = self.env.allocate(BLOCK_BYTES);
        header.encode(&mut block);
        file.write_at(block, 0)
            .await
            .map_err(|error| self.write_failed("write", &path, error))?;
        self.sync(&file, &path).await?;
        let synced = self.env.sync_directory(&self.directory).await;
        synced.map_err(|error| self.sync_failed(&self.directory, error))?;
        let mut state = self.state.borrow_mut();
        state.end.segment_base = base;
        state.end.position = FIRST_ENTRY;
        state.active = Some(Active {
            created_ms: header.created_ms,
            previous,
            index: ActiveIndex::new(),
            head: None,
            reserved: RESERVE_MIN_BYTES,
        });
        Ok(())
    }

    /// Makes the partition's directory, durably, unless it holds segments already.
    async fn make_directory(&self) -> Result<(), SegmentError> {
        if self.state.borrow().directory_made {
            return Ok(());
        }
        let made = self.env.create_directory(&self.directory).await;
        made.map_err(|error| SegmentError::io("create", &self.directory, error))?;
        // The partition's name in the topic's directory, and the topic's in the data directory.
        for parent in self.directory.ancestors().skip(1).take(2) {
            if !parent.as_os_str().is_empty() {
                let synced = self.env.sync_directory(parent).await;
                synced.map_err(|error| self.sync_failed(parent, error))?;
            }
        }
        self.state.borrow_mut().directory_made = true;
        Ok(())
    }

    /// Stores the rest of the index, the seal, cuts off what was reserved and not used, and syncs
    /// all of it. The next segment has no file yet.
    async fn complete_active(&self) -> Result<(), SegmentError> {
        let end = self.end();
        let base = end.segment_base;
        let path = self.data_path(base);
        let seal_at = round_up_to_block(end.position);
        let file = self.writer(base, &path, false).await?;
        self.reserve(&file, &path, seal_at + BLOCK, 0).await?;
        match self.store_active_index(base, true).await {
            Err(SegmentError::NoSpace { .. }) => {
                tracing::warn!(path = %path.display(), "no space for the end of a segment's index; it will be rebuilt when it is needed");
            }
            other => other?,
        }
        let facts = self.with_active(base, |active| Facts {
            created_ms: active.created_ms,
            previous: active.previous,
            end: end.position,
            next_offset: end.next_offset,
            max_timestamp: active.index.max_timestamp,
        });
        let Some(facts) = facts else { return Ok(()) };
        let seal = Seal {
            end: end.position,
            next_offset: end.next_offset,
            next_index: end.next_index,
            term: end.term,
            max_timestamp: facts.max_timestamp,
        };
        let mut block = self.env.allocate(BLOCK_BYTES);
        seal.encode(self.identity(base), &mut block);
        file.write_at(block, seal_at)
            .await
            .map_err(|error| self.write_failed("write", &path, error))?;
        let cut = file.set_len(seal_at + BLOCK).await;
        cut.map_err(|error| self.write_failed("cut", &path, error))?;
        self.sync(&file, &path).await?;
        // The index's name; the segment's own is durable since it was made.
        let synced = self.env.sync_directory(&self.directory).await;
        synced.map_err(|error| self.sync_failed(&self.directory, error))?;
        let mut state = self.state.borrow_mut();
        state.complete.push(Complete {
            base,
            bytes: seal_at + BLOCK,
            facts: Some(facts),
        });
        state.active = None;
        state.end = SegmentEnd {
            segment_base: end.next_offset,
            position: 0,
            ..end
        };
        drop(state);
        self.files.forget_index((self.partition, base));
        self.files.forget_writers((self.partition, base));
        count(&self.files.counters.rolls, 1);
        Ok(())
    }

    async fn writer(
        &self,
        base: Offset,
        path: &Path,
        create: bool,
    ) -> Result<Rc<E::File>, SegmentError> {
        match self
            .files
            .file((self.partition, base), Purpose::Write, path, create)
            .await
        {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(self.damaged(path, 0, base, None, "the file is missing".to_owned()))
            }
            Err(error) => Err(SegmentError::io("open", path, error)),
        }
    }

    async fn sync(&self, file: &E::File, path: &Path) -> Result<(), SegmentError> {
        count(&self.files.counters.syncs, 1);
        file.sync()
            .await
            .map_err(|error| self.sync_failed(path, error))
    }

    /// A full disk has harmed nothing, since what was being written lies beyond the safe end. Any
    /// other failure to write means that the disk cannot be trusted.
    pub(super) fn write_failed(
        &self,
        doing: &'static str,
        path: &Path,
        error: io::Error,
    ) -> SegmentError {
        if is_full_disk(&error) {
            return SegmentError::io(doing, path, error);
        }
        self.env
            .fatal(&format!("cannot {doing} {}: {error}", path.display()));
        SegmentError::Stopped {
            path: path.to_owned(),
        }
    }

    /// After a failed sync nobody knows what is on the disk, and a second one would lie.
    pub(super) fn sync_failed(&self, path: &Path, error: io::Error) -> SegmentError {
        self.env
            .fatal(&format!("cannot sync {}: {error}", path.display()));
        SegmentError::Stopped {
            path: path.to_owned(),
        }
    }
}

fn is_full_disk(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// The checksum in an entry's header, which covers the header and what the batch's own does not,
/// that included: two entries that agree in it are the same.
fn header_crc(header: &[u8; ENTRY_HEADER_BYTES]) -> u32 {
    let crc = header.last_chunk().copied().unwrap_or_default();
    u32::from_le_bytes(crc)
}
