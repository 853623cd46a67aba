//! Reading by offset: to a place with the index or with where an earlier read ended, then entry by
//! entry, each verified; and reading ahead of whoever reads on from where they were.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
use millrace_wire::ids::Offset;

use super::files::{Ahead, Purpose, ReadBuffer, count};
use super::walk::{Fault, Walk, fetch_range};
use super::{SegmentError, Segments, View};
use crate::env::{BLOCK_BYTES, Env, OnPanic, Queue};

/// The least and the most that one read fetches at a time, unless a single batch is larger.
const FETCH_MIN_BYTES: usize = 64 << 10;
pub(super) const FETCH_MAX_BYTES: usize = 1 << 20;
/// Ends of earlier reads that a partition remembers.
const CURSORS: usize = 4;

/// Where a read ended, so that the one that follows it needs no search.
pub(super) struct Cursor<E: Env> {
    base: Offset,
    next_offset: Offset,
    position: u64,
    /// What was read beyond, or is being read, one piece behind the other.
    ahead: Vec<Weak<Ahead<E>>>,
}

/// Batches collected for an answer.
struct Gathered {
    batches: Vec<Bytes>,
    memory: BytesMut,
    bytes: usize,
    max_bytes: usize,
    at_least_one: bool,
}

impl Gathered {
    fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes + bytes <= self.max_bytes || (self.at_least_one && self.batches.is_empty())
    }

    fn push(&mut self, batch: &[u8]) {
        if self.memory.capacity() < batch.len() {
            let likely = (self.max_bytes - self.bytes.min(self.max_bytes)).min(FETCH_MAX_BYTES);
            self.memory = BytesMut::with_capacity(batch.len().max(likely));
        }
        self.memory.extend_from_slice(batch);
        self.bytes += batch.len();
        self.batches.push(self.memory.split().freeze());
    }
}

impl<E: Env> Segments<E> {
    /// Whole batches from the one that holds `from` (or else the next one) on, up to `max_bytes` in
    /// all, or one batch of any size if `at_least_one`. Empty at or beyond the safe end as it is when
    /// the call begins. Batches before a damaged place are returned; the damage itself is told when
    /// it comes first.
    pub async fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Vec<Bytes>, SegmentError> {
        let (batches, memory) = (Vec::new(), BytesMut::new());
        let mut gathered = Gathered {
            batches,
            memory,
            bytes: 0,
            max_bytes,
            at_least_one,
        };
        self.ensure_listed().await?;
        let safe = self.end().next_offset;
        let mut at = from;
        while at < safe {
            match self.read_on(from, at, &mut gathered).await {
                Ok(Some(next)) => at = next,
                Ok(None) => break,
                Err(_) if !gathered.batches.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(gathered.batches)
    }

    /// Reads from `at` to the end of its segment. Returns the next offset to read from, or nothing if
    /// there is no room for more.
    async fn read_on(
        &self,
        from: Offset,
        at: Offset,
        gathered: &mut Gathered,
    ) -> Result<Option<Offset>, SegmentError> {
        let base = self.base_for(at).await?;
        let view = self.view(base).await?;
        if at >= view.next_offset {
            return self.cross_gap(&view, from, at).await;
        }
        let full = self.read_segment(&view, at, gathered).await?;
        Ok((!full).then_some(view.next_offset))
    }

    /// Where to go on after a segment that ends before `at`, in front of a gap. A gap in the offsets
    /// is no damage if the segment after it was begun in the knowledge of where this one ended.
    pub(super) async fn cross_gap(
        &self,
        view: &View,
        from: Offset,
        at: Offset,
    ) -> Result<Option<Offset>, SegmentError> {
        let next = self.view_after(view, from).await?;
        Ok(next.map(|next| next.base.max(at)))
    }

    /// The segment after one, if there is one and no batch between the two is missing.
    pub(super) async fn view_after(
        &self,
        view: &View,
        from: Offset,
    ) -> Result<Option<View>, SegmentError> {
        let (next, lost, next_offset) = match self.base_after(view.base) {
            Some(base) => {
                let next = self.view(base).await?;
                let lost = next.previous.is_some_and(|previous| {
                    previous.base != view.base || previous.next_offset != view.next_offset
                });
                (Some(next), lost, base)
            }
            None => {
                let end = self.end().next_offset;
                // The active one has just grown, or been completed: nothing is missing from it.
                let is_complete = self.complete(view.base).is_some();
                (
                    None,
                    is_complete && self.facts(view.base).await?.next_offset < end,
                    end,
                )
            }
        };
        if lost {
            let first = view.next_offset.max(from);
            let what = "batches before the next segment are missing".to_owned();
            return Err(self.damaged(&view.path, view.end, first, Some(next_offset), what));
        }
        Ok(next)
    }

    /// Reads from `from` to the end of the view, and returns whether it ran out of room before.
    async fn read_segment(
        &self,
        view: &View,
        from: Offset,
        gathered: &mut Gathered,
    ) -> Result<bool, SegmentError> {
        let fetch = (gathered.max_bytes - gathered.bytes.min(gathered.max_bytes))
            .clamp(FETCH_MIN_BYTES, self.files.fetch_bytes_max());
        let cursor = self.cursor(view.base, from);
        let is_sequential = cursor.is_some();
        let (position, ahead) = match cursor {
            Some(found) => found,
            None => (
                self.place(view, |place| place.offset <= from)
                    .await?
                    .position,
                VecDeque::new(),
            ),
        };
        let had_ahead = !ahead.is_empty();
        let mut walk = self.walk(view, position, fetch, ahead).await?;
        let mut next_offset = from;
        let full = loop {
            let Some((position, header)) = self.fault(view, from, walk.next().await).await? else {
                break false;
            };
            if header.next_offset() <= from {
                continue;
            }
            if !gathered.has_room_for(header.length as usize) {
                walk.step_back(position);
                break true;
            }
            match walk.batch(position, &header).await {
                Ok(batch) => gathered.push(&batch),
                Err(fault) => {
                    let next = Some(header.next_offset());
                    return Err(self.faulty(view, header.base_offset.max(from), next, fault));
                }
            }
            next_offset = header.next_offset();
        };
        if had_ahead {
            count(&self.files.counters.read_ahead_hits, 1);
        }
        self.leave_cursor(view, walk, next_offset, is_sequential.then_some(fetch));
        Ok(full)
    }

    /// A walk over the entries of a view, from a position on.
    pub(super) async fn walk(
        &self,
        view: &View,
        position: u64,
        fetch_bytes: usize,
        windows: VecDeque<Rc<Ahead<E>>>,
    ) -> Result<Walk<E>, SegmentError> {
        let file = self.reader(view.base).await?;
        let key = (self.partition, view.base);
        Ok(Walk::new(
            &self.env,
            &self.files,
            file,
            key,
            (position, view.end),
            fetch_bytes,
            windows,
        ))
    }

    /// Turns a fault between entries into an error for a reader that wants `from`.
    pub(super) async fn fault<T>(
        &self,
        view: &View,
        from: Offset,
        result: Result<T, Fault>,
    ) -> Result<T, SegmentError> {
        let fault = match result {
            Ok(value) => return Ok(value),
            Err(fault) => fault,
        };
        let position = match &fault {
            Fault::Flaw(position, _) | Fault::Unreadable(position, _) => *position,
            Fault::Io(_) => return Err(self.faulty(view, from, None, fault)),
        };
        // The next entry cannot be found by this one's length: the index knows one further on.
        let mut after = self.place_after(view, position).await?;
        while let Some(place) = after.filter(|place| place.offset <= from) {
            after = self.place_after(view, place.position).await?;
        }
        let next = after.map_or(view.next_offset, |place| place.offset);
        Err(self.faulty(view, from, Some(next), fault))
    }

    /// The error for a fault that keeps the offsets from `from` up to `next` from being read.
    pub(super) fn faulty(
        &self,
        view: &View,
        from: Offset,
        next: Option<Offset>,
        fault: Fault,
    ) -> SegmentError {
        match fault {
            Fault::Flaw(position, flaw) => {
                self.damaged(&view.path, position, from, next, flaw.to_string())
            }
            Fault::Unreadable(position, error) => {
                self.damaged(&view.path, position, from, next, error.to_string())
            }
            Fault::Io(error) => SegmentError::io("read", &view.path, error),
        }
    }

    /// Where an earlier read ended at `offset`, and what was read beyond.
    fn cursor(&self, base: Offset, offset: Offset) -> Option<(u64, VecDeque<Rc<Ahead<E>>>)> {
        let state = self.state.borrow();
        let found = state
            .cursors
            .iter()
            .find(|cursor| (cursor.base, cursor.next_offset) == (base, offset))?;
        // Up to the first that others have pushed out.
        let ahead = found.ahead.iter().map_while(Weak::upgrade).collect();
        Some((found.position, ahead))
    }

    /// Remembers where a read ended and keeps what it fetched beyond. If it went on from an earlier
    /// one (`read_ahead` says how much that fetched), the next is expected to go on from here:
    /// fetching for it, and for those after it, begins now.
    fn leave_cursor(
        &self,
        view: &View,
        walk: Walk<E>,
        next_offset: Offset,
        read_ahead: Option<usize>,
    ) {
        let key = (self.partition, view.base);
        let position = walk.position;
        let mut windows = walk.into_windows();
        if position >= view.end {
            windows.clear();
        } else if let Some(fetch) = read_ahead {
            let until = position + (fetch * self.files.reads_ahead()) as u64;
            let mut next = windows
                .back()
                .map_or(position, |last| last.start + last.len as u64);
            while next < until.min(view.end) {
                let ahead = self.begin_read_ahead(view, next, fetch);
                next = ahead.start + ahead.len as u64;
                windows.push_back(ahead);
            }
        }
        for window in &windows {
            self.files.keep_ahead(key, window.clone());
        }
        let ahead = windows.iter().map(Rc::downgrade).collect();
        let cursor = Cursor {
            base: view.base,
            next_offset,
            position,
            ahead,
        };
        let mut state = self.state.borrow_mut();
        state
            .cursors
            .retain(|cursor| (cursor.base, cursor.next_offset) != (view.base, next_offset));
        if state.cursors.len() == CURSORS {
            state.cursors.remove(0);
        }
        state.cursors.push(cursor);
    }

    fn begin_read_ahead(&self, view: &View, position: u64, fetch: usize) -> Rc<Ahead<E>> {
        let key = (self.partition, view.base);
        let (start, len) = fetch_range(
            position,
            BLOCK_BYTES.min((view.end - position) as usize),
            fetch,
            view.end,
        );
        if let Some(ahead) = self
            .files
            .ahead(key, start)
            .filter(|ahead| ahead.len >= len)
        {
            return ahead;
        }
        let ahead = Ahead::begun(start, len);
        self.files.keep_ahead(key, ahead.clone());
        let (files, path, result) = (self.files.clone(), view.path.clone(), Finish(ahead.clone()));
        let read = async move {
            let Ok(file) = files.file(key, Purpose::Read, &path, false).await else {
                return;
            };
            // A failure is met again, and told, by whoever reads here.
            if let Ok(buffer) = files.read(&file, start, len).await {
                result.with(buffer);
            }
        };
        // It belongs to nobody who waits for it, so nobody does.
        drop(self.env.spawn(
            Queue::Requests,
            "segment read-ahead",
            OnPanic::EndTask,
            read,
        ));
        ahead
    }
}

/// Ends a read-ahead whatever becomes of its task, so that nobody waits for it in vain.
struct Finish<E: Env>(Rc<Ahead<E>>);

impl<E: Env> Finish<E> {
    fn with(&self, buffer: ReadBuffer<E>) {
        self.0.finish(Some(buffer));
    }
}

impl<E: Env> Drop for Finish<E> {
    fn drop(&mut self) {
        self.0.finish(None);
    }
}
