//! Which segments there are: found in the directory on first need, known from then on; what each
//! one's first and last blocks say; retention's questions and the removal of files.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use millrace_wire::ids::Offset;

use super::files::{Purpose, count};
use super::format::{
    FIRST_ENTRY, FileHeader, Flaw, Identity, NO_TIMESTAMP, Previous, Seal, VERSION,
};
use super::walk::{Fault, SCAN_BYTES, Walk};
use super::{Active, SegmentEnd, SegmentError, SegmentSummary, Segments, View};
use crate::env::{BLOCK_BYTES, Env, File, is_medium_error, round_up_to_block};

const DATA_SUFFIX: &str = ".log";
const INDEX_SUFFIX: &str = ".index";

/// A complete segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Complete {
    pub(super) base: Offset,
    /// Length of the file.
    pub(super) bytes: u64,
    /// What its own blocks say, once they have been read.
    pub(super) facts: Option<Facts>,
}

/// What the first and the last block of a complete segment say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) created_ms: i64,
    pub(super) previous: Option<Previous>,
    pub(super) end: u64,
    pub(super) next_offset: Offset,
    pub(super) max_timestamp: i64,
}

/// The offset in a file's name.
fn base_of(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    if all_digits {
        digits.parse().ok().map(Offset)
    } else {
        None
    }
}

impl<E: Env> Segments<E> {
    pub(super) fn data_path(&self, base: Offset) -> PathBuf {
        self.directory.join(format!("{:020}{DATA_SUFFIX}", base.0))
    }

    pub(super) fn index_path(&self, base: Offset) -> PathBuf {
        self.directory.join(format!("{:020}{INDEX_SUFFIX}", base.0))
    }

    pub(super) fn identity(&self, base: Offset) -> Identity {
        Identity::of(self.partition, base)
    }

    /// Finds out which segments there are, the first time, and removes strays: files that a run
    /// before this one made after the end that the journal knows.
    pub(super) async fn ensure_listed(&self) -> Result<(), SegmentError> {
        if self.state.borrow().listed {
            return Ok(());
        }
        let _turn = self.loading.acquire(1).await;
        if self.state.borrow().listed {
            return Ok(());
        }
        let found = match self.env.list_directory(&self.directory).await {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(SegmentError::io("list", &self.directory, error)),
        };
        let end = self.end();
        let is_stray = |base: Offset| {
            base > end.segment_base || (base == end.segment_base && end.position == 0)
        };
        let logs: BTreeMap<Offset, u64> = found
            .iter()
            .filter_map(|file| Some((base_of(&file.name, DATA_SUFFIX)?, file.len)))
            .collect();
        let mut strays = Vec::new();
        for file in &found {
            let log = base_of(&file.name, DATA_SUFFIX);
            let index = base_of(&file.name, INDEX_SUFFIX);
            let orphan = index.is_some_and(|base| !logs.contains_key(&base));
            if orphan || log.or(index).is_some_and(is_stray) {
                strays.push(self.directory.join(&file.name));
            }
        }
        self.remove_strays(&strays).await?;
        let complete = logs
            .range(..end.segment_base)
            .map(|(&base, &bytes)| Complete {
                base,
                bytes,
                facts: None,
            })
            .collect();
        let mut state = self.state.borrow_mut();
        state.complete = complete;
        state.listed = true;
        Ok(())
    }

    async fn remove_strays(&self, strays: &[PathBuf]) -> Result<(), SegmentError> {
        for path in strays {
            tracing::info!(path = %path.display(), "removing a segment file from beyond the end that the journal knows");
            self.remove_file(path).await?;
        }
        if strays.is_empty() {
            return Ok(());
        }
        // Else one might be back after a crash, when a segment of the same name holds other things.
        let synced = self.env.sync_directory(&self.directory).await;
        synced.map_err(|error| SegmentError::io("sync", &self.directory, error))
    }

    async fn remove_file(&self, path: &Path) -> Result<(), SegmentError> {
        match self.env.remove_file(path).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(SegmentError::io("remove", path, error))
            }
            _ => Ok(()),
        }
    }

    /// Whether a segment of this base is among those that there are.
    pub(super) fn is_stored(&self, base: Offset) -> bool {
        let state = self.state.borrow();
        let is_active = state.end.segment_base == base && state.end.position > 0;
        is_active
            || state
                .complete
                .binary_search_by_key(&base, |complete| complete.base)
                .is_ok()
    }

    /// The base of the segment that holds `offset`, or would; the first one's if there is a gap
    /// before that and `offset` lies in it.
    pub(super) async fn base_for(&self, offset: Offset) -> Result<Offset, SegmentError> {
        let first = match self.base_at(offset) {
            Ok(base) => return Ok(base),
            Err(first) => first,
        };
        let trimmed = SegmentError::Trimmed {
            from: offset,
            first,
        };
        if !self.is_stored(first) {
            return Err(trimmed);
        }
        let begins_with_gap = |previous: Previous| previous.next_offset <= offset;
        match self.view(first).await?.previous.is_none_or(begins_with_gap) {
            true => Ok(first),
            false => Err(trimmed),
        }
    }

    /// The base of the last segment that begins at or before `offset`, or else where the first does.
    fn base_at(&self, offset: Offset) -> Result<Offset, Offset> {
        let state = self.state.borrow();
        let active = (state.end.position > 0).then_some(state.end.segment_base);
        if let Some(active) = active.filter(|active| *active <= offset) {
            return Ok(active);
        }
        let before = state
            .complete
            .partition_point(|complete| complete.base <= offset);
        match before.checked_sub(1) {
            Some(at) => Ok(state.complete[at].base),
            None => {
                let first = state
                    .complete
                    .first()
                    .map(|complete| complete.base)
                    .or(active);
                Err(first.unwrap_or(state.end.next_offset))
            }
        }
    }

    /// The base of the segment after the one with this base.
    pub(super) fn base_after(&self, base: Offset) -> Option<Offset> {
        let state = self.state.borrow();
        let after = state
            .complete
            .partition_point(|complete| complete.base <= base);
        let active = (state.end.position > 0 && state.end.segment_base > base)
            .then_some(state.end.segment_base);
        state
            .complete
            .get(after)
            .map(|complete| complete.base)
            .or(active)
    }

    /// What can be read of a segment now.
    pub(super) async fn view(&self, base: Offset) -> Result<View, SegmentError> {
        loop {
            let end = self.end();
            if base == end.segment_base && end.position > 0 {
                let Some(previous) = self.active(base).await? else {
                    continue;
                };
                let (end, next_offset) = (end.position, end.next_offset);
                return Ok(View {
                    base,
                    path: self.data_path(base),
                    end,
                    next_offset,
                    previous,
                });
            }
            let facts = self.facts(base).await?;
            let Facts {
                previous,
                end,
                next_offset,
                ..
            } = facts;
            return Ok(View {
                base,
                path: self.data_path(base),
                end,
                next_offset,
                previous,
            });
        }
    }

    /// Sees to it that the active segment's index is in memory, and returns which segment came
    /// before it; `None` if it is no longer the active one.
    async fn active(&self, base: Offset) -> Result<Option<Option<Previous>>, SegmentError> {
        if let Some(previous) = self.with_active(base, |active| active.previous) {
            return Ok(Some(previous));
        }
        let _turn = self.loading.acquire(1).await;
        let end = self.end();
        if end.segment_base != base || end.position == 0 {
            return Ok(None);
        }
        if let Some(previous) = self.with_active(base, |active| active.previous) {
            return Ok(Some(previous));
        }
        let (header, _) = self.read_header(base).await?;
        let path = self.data_path(base);
        let view = View {
            base,
            path,
            end: end.position,
            next_offset: end.next_offset,
            previous: header.previous,
        };
        let index = self.recover_active_index(&view).await?;
        let active = Active {
            created_ms: header.created_ms,
            previous: header.previous,
            index,
            head: None,
            reserved: 0,
        };
        self.state.borrow_mut().active = Some(active);
        Ok(Some(header.previous))
    }

    /// As [`Segments::view`] for the active segment, for the writer.
    pub(super) async fn load_active(&self, end: SegmentEnd) -> Result<(), SegmentError> {
        self.active(end.segment_base).await.map(|_| ())
    }

    /// What the blocks of a complete segment say.
    pub(super) async fn facts(&self, base: Offset) -> Result<Facts, SegmentError> {
        let Some(complete) = self.complete(base) else {
            return Err(self.gone(base));
        };
        if let Some(facts) = complete.facts {
            return Ok(facts);
        }
        let (header, mut lasting) = self.read_header(base).await?;
        let seal = match self.read_seal(&complete).await? {
            Ok(seal) => seal,
            Err(flaw) => {
                let (seal, reached_all) = self.rebuild_seal(&complete, flaw).await?;
                lasting &= reached_all;
                seal
            }
        };
        let facts = Facts {
            created_ms: header.created_ms,
            previous: header.previous,
            end: seal.end,
            next_offset: seal.next_offset,
            max_timestamp: seal.max_timestamp,
        };
        if !lasting {
            return Ok(facts);
        }
        let mut state = self.state.borrow_mut();
        if let Ok(at) = state
            .complete
            .binary_search_by_key(&base, |complete| complete.base)
        {
            state.complete[at].facts = Some(facts);
        }
        Ok(facts)
    }

    pub(super) fn complete(&self, base: Offset) -> Option<Complete> {
        let state = self.state.borrow();
        let at = state
            .complete
            .binary_search_by_key(&base, |complete| complete.base)
            .ok()?;
        Some(state.complete[at])
    }

    /// The segment's file, open for reading.
    pub(super) async fn reader(&self, base: Offset) -> Result<Rc<E::File>, SegmentError> {
        let path = self.data_path(base);
        match self
            .files
            .file((self.partition, base), Purpose::Read, &path, false)
            .await
        {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == ErrorKind::NotFound && !self.is_stored(base) => {
                Err(self.gone(base))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let next = self.base_after(base);
                Err(self.damaged(&path, 0, base, next, "the file is missing".to_owned()))
            }
            Err(error) => Err(SegmentError::io("open", &path, error)),
        }
    }

    /// The error for a segment that was removed while something was asked of it.
    fn gone(&self, base: Offset) -> SegmentError {
        let first = self.base_at(base).unwrap_or_else(|first| first);
        SegmentError::Trimmed { from: base, first }
    }

    /// The header block. It holds nothing that a reader needs to be sure of the entries, so that a
    /// damaged one is told and done without. False if the disk may give it the next time.
    async fn read_header(&self, base: Offset) -> Result<(FileHeader, bool), SegmentError> {
        let path = self.data_path(base);
        let file = self.reader(base).await?;
        let read = match file.read_at(0, BLOCK_BYTES).await {
            Ok(block) => FileHeader::decode(&block, self.partition, base),
            Err(error) if is_medium_error(&error) => Err(Flaw::Unreadable),
            Err(error) => return Err(SegmentError::io("read", &path, error)),
        };
        match read {
            Ok(header) => Ok((header, true)),
            Err(Flaw::Newer(found)) => Err(SegmentError::NewerVersion {
                path,
                found,
                known: VERSION,
            }),
            Err(flaw) => {
                count(&self.files.counters.damages, 1);
                tracing::error!(path = %path.display(), %flaw, "the first block of a segment is damaged; its batches are still verified one by one");
                let created_ms = self.env.wall_clock_ms();
                let header = FileHeader {
                    partition: self.partition,
                    base,
                    created_ms,
                    previous: None,
                };
                Ok((header, flaw != Flaw::Unreadable))
            }
        }
    }

    async fn read_seal(&self, complete: &Complete) -> Result<Result<Seal, Flaw>, SegmentError> {
        let path = self.data_path(complete.base);
        let Some(position) = complete
            .bytes
            .checked_sub(BLOCK_BYTES as u64)
            .filter(|at| *at >= FIRST_ENTRY)
        else {
            return Ok(Err(Flaw::Short));
        };
        if position % BLOCK_BYTES as u64 != 0 {
            return Ok(Err(Flaw::Short));
        }
        let file = self.reader(complete.base).await?;
        let block = match file.read_at(position, BLOCK_BYTES).await {
            Ok(block) => block,
            Err(error) if is_medium_error(&error) => return Ok(Err(Flaw::Unreadable)),
            Err(error) => return Err(SegmentError::io("read", &path, error)),
        };
        match Seal::decode(
            &block,
            self.identity(complete.base),
            complete.base,
            position,
        ) {
            Err(Flaw::Newer(found)) => Err(SegmentError::NewerVersion {
                path,
                found,
                known: VERSION,
            }),
            seal => Ok(seal),
        }
    }

    /// Finds where a complete segment ends although its seal is damaged: after the last batch below
    /// the next segment's base that a scan reaches. If it does not reach the last one, the next
    /// segment, which says where this one ended, gives that away to whoever reads or searches
    /// across. How young the batches are that it did not reach is not known, only that they came
    /// before the next segment: retention must not take them for older. False if the disk may let a
    /// scan get further the next time.
    async fn rebuild_seal(
        &self,
        complete: &Complete,
        flaw: Flaw,
    ) -> Result<(Seal, bool), SegmentError> {
        let (base, path) = (complete.base, self.data_path(complete.base));
        tracing::error!(path = %path.display(), %flaw, "the last block of a segment is damaged; scanning for the end of its batches");
        count(&self.files.counters.damages, 1);
        let next = self.base_after(base);
        let next_base = next.unwrap_or_else(|| self.end().next_offset);
        let file = self.reader(base).await?;
        let range = (
            FIRST_ENTRY,
            complete.bytes.saturating_sub(BLOCK_BYTES as u64),
        );
        let key = (self.partition, base);
        let mut walk = Walk::new(
            &self.env,
            &self.files,
            file,
            key,
            range,
            SCAN_BYTES,
            VecDeque::new(),
        );
        let mut seal = Seal {
            end: FIRST_ENTRY,
            next_offset: base,
            next_index: Default::default(),
            term: Default::default(),
            max_timestamp: NO_TIMESTAMP,
        };
        loop {
            match walk.next().await {
                Ok(Some((_, header))) if header.next_offset() <= next_base => {
                    seal.end = walk.position;
                    seal.next_offset = header.next_offset();
                    seal.next_index.0 = header.index.0.saturating_add(1);
                    seal.term = header.term;
                    seal.max_timestamp = seal.max_timestamp.max(header.max_timestamp);
                }
                Err(Fault::Io(error)) => return Err(SegmentError::io("read", &path, error)),
                Err(fault) => {
                    let latest_ms = match next {
                        Some(next) => self.read_header(next).await?.0.created_ms,
                        None => self.env.wall_clock_ms(),
                    };
                    seal.max_timestamp = seal.max_timestamp.max(latest_ms);
                    return Ok((seal, !matches!(fault, Fault::Unreadable(..))));
                }
                Ok(_) => return Ok((seal, true)),
            }
        }
    }

    /// What there is, in order. Costs two small reads for each segment not asked for before, and
    /// for the active one, once, what a read of it costs.
    pub async fn summaries(&self) -> Result<Vec<SegmentSummary>, SegmentError> {
        self.ensure_listed().await?;
        let bases: Vec<Offset> = self
            .state
            .borrow()
            .complete
            .iter()
            .map(|complete| complete.base)
            .collect();
        let mut summaries = Vec::with_capacity(bases.len() + 1);
        for base in bases {
            // A segment may be removed, but none comes to be, while this goes through them.
            let Some(complete) = self.complete(base) else {
                continue;
            };
            let facts = self.facts(base).await?;
            summaries.push(SegmentSummary {
                base_offset: base,
                next_offset: facts.next_offset,
                bytes: complete.bytes,
                max_timestamp: some_timestamp(facts.max_timestamp),
                created_ms: facts.created_ms,
                sealed: true,
            });
        }
        let end = self.end();
        if end.position > 0 && self.active(end.segment_base).await?.is_some() {
            let summary = self.with_active(end.segment_base, |active| SegmentSummary {
                base_offset: end.segment_base,
                next_offset: end.next_offset,
                bytes: round_up_to_block(end.position),
                max_timestamp: some_timestamp(active.index.max_timestamp),
                created_ms: active.created_ms,
                sealed: false,
            });
            summaries.extend(summary);
        }
        Ok(summaries)
    }

    /// Removes complete segments that lie wholly before `log_start`. That, and `durable`, an end of
    /// these segments, are durable in the journal: a segment that a recovery would go on writing
    /// stays. Reads under way go on undisturbed. Returns the bytes freed.
    pub async fn remove_before(
        &self,
        log_start: Offset,
        durable: SegmentEnd,
    ) -> Result<u64, SegmentError> {
        self.ensure_listed().await?;
        let mut freed = 0;
        while let Some(complete) = self.take_removable(log_start, durable) {
            self.files.forget((self.partition, complete.base));
            self.remove_file(&self.data_path(complete.base)).await?;
            self.remove_file(&self.index_path(complete.base)).await?;
            count(&self.files.counters.removed, 1);
            freed += complete.bytes;
        }
        Ok(freed)
    }

    /// Takes the first segment off the list if it may go: the next one begins at or before the log
    /// start, so that this one ends there.
    fn take_removable(&self, log_start: Offset, durable: SegmentEnd) -> Option<Complete> {
        let mut state = self.state.borrow_mut();
        let next_base = state
            .complete
            .get(1)
            .map_or(state.end.segment_base, |complete| complete.base);
        let first = state.complete.first()?;
        if next_base <= log_start && first.base < durable.segment_base {
            Some(state.complete.remove(0))
        } else {
            None
        }
    }
}

pub(super) fn some_timestamp(timestamp: i64) -> Option<i64> {
    (timestamp != NO_TIMESTAMP).then_some(timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_segments_are_taken_for_segments() {
        assert_eq!(
            base_of("00000000000000000042.log", DATA_SUFFIX),
            Some(Offset(42))
        );
        for name in [
            "42.log",
            "00000000000000000042.index",
            "-0000000000000000042.log",
            "99999999999999999999.log",
            "",
        ] {
            assert_eq!(base_of(name, DATA_SUFFIX), None, "{name}");
        }
    }
}
