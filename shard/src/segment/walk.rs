//! Going through the entries of one segment file, from a place on.

use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::rc::Rc;

use super::files::{Ahead, FileCache, SegmentKey};
use super::format::{
    ENTRY_HEADER_BYTES, EntryHeader, FIRST_ENTRY, Flaw, Identity, PARSE_BYTES, Parsed, parse_entry,
};
use crate::env::{BLOCK_BYTES, Env, is_medium_error, round_up_to_block};

/// Bytes fetched at a time by a scan of headers.
pub(super) const SCAN_BYTES: usize = 256 << 10;

/// Why a walk stopped.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes at this position are not what was written.
    Flaw(u64, Flaw),
    /// The disk says that it cannot read them.
    Unreadable(u64, io::Error),
    /// The read was refused for a reason that may pass.
    Io(io::Error),
}

/// A place among the entries of a file, moving forward. What lies before `end` never changes while
/// the walk goes on.
pub(super) struct Walk<E: Env> {
    files: Rc<FileCache<E>>,
    env: E,
    file: Rc<E::File>,
    identity: Identity,
    /// Where the next entry begins.
    pub(super) position: u64,
    end: u64,
    fetch_bytes: usize,
    /// What is in memory or on its way, one piece behind the other without a gap.
    windows: VecDeque<Rc<Ahead<E>>>,
}

impl<E: Env> Walk<E> {
    /// A walk from `position` to `end`, fetching at least `fetch_bytes` at a time. `windows` may hold
    /// bytes from there on already, without a gap.
    pub(super) fn new(
        env: &E,
        files: &Rc<FileCache<E>>,
        file: Rc<E::File>,
        segment: SegmentKey,
        (position, end): (u64, u64),
        fetch_bytes: usize,
        windows: VecDeque<Rc<Ahead<E>>>,
    ) -> Walk<E> {
        let identity = Identity::of(segment.0, segment.1);
        let position = position.max(FIRST_ENTRY);
        Walk {
            files: files.clone(),
            env: env.clone(),
            file,
            identity,
            position,
            end,
            fetch_bytes,
            windows,
        }
    }

    /// The next batch's entry and where it begins; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, EntryHeader)>, Fault> {
        loop {
            self.env.yield_now().await;
            if self.position >= self.end {
                return Ok(None);
            }
            let position = self.position;
            let len = (PARSE_BYTES as u64).min(self.end - position) as usize;
            let bytes = self.read(position, len, position).await?;
            match parse_entry(&bytes, self.identity, position, self.end) {
                Ok(Parsed::Pad(bytes)) => self.position += bytes,
                Ok(Parsed::Batch(header)) => {
                    self.position += header.entry_bytes();
                    return Ok(Some((position, header)));
                }
                Err(flaw) => return Err(Fault::Flaw(position, flaw)),
            }
        }
    }

    /// Goes back to the entry that begins at `position`.
    pub(super) fn step_back(&mut self, position: u64) {
        self.position = position;
    }

    /// The batch of the entry at `position`, verified.
    pub(super) async fn batch(
        &mut self,
        position: u64,
        header: &EntryHeader,
    ) -> Result<impl Deref<Target = [u8]> + use<E>, Fault> {
        let (at, len) = (position + ENTRY_HEADER_BYTES as u64, header.length as usize);
        let bytes = self.read(at, len, position).await?;
        let checked = header.check_batch(&bytes);
        checked.map_err(|flaw| Fault::Flaw(position, flaw))?;
        Ok(bytes)
    }

    /// What is left in memory, or on its way there, from the position on.
    pub(super) fn into_windows(mut self) -> VecDeque<Rc<Ahead<E>>> {
        self.forget_before(self.position);
        self.windows
    }

    /// `len` bytes from `at` on, of the entry that begins at `entry`.
    async fn read(&mut self, at: u64, len: usize, entry: u64) -> Result<Piece<E>, Fault> {
        self.forget_before(at.min(self.position));
        let until = at + len as u64;
        let mut covered = at;
        let mut number = 0;
        while covered < until {
            let Some(window) = self.windows.get(number) else {
                self.fetch(covered, until, entry).await?;
                // Nothing more in the file, which the entry counts on.
                let reached = self.windows.back().map_or(0, |window| window.read_end());
                if reached <= covered {
                    return Err(Fault::Flaw(entry, Flaw::Short));
                }
                continue;
            };
            window.wait().await;
            let (start, end) = (window.start, window.read_end());
            if start > covered || (end <= covered && window.is_short()) {
                // It failed, or the walk has gone elsewhere: whoever needs the bytes reads them.
                self.windows.truncate(number);
                continue;
            }
            covered = covered.max(end.min(until));
            number += 1;
        }
        let piece = self.piece(at, len);
        piece.ok_or(Fault::Flaw(entry, Flaw::Short))
    }

    /// Lets go of what lies before a position.
    fn forget_before(&mut self, position: u64) {
        while self
            .windows
            .front()
            .is_some_and(|window| window.start + window.len as u64 <= position)
        {
            self.windows.pop_front();
        }
    }

    /// Reads what comes behind the windows, from the block that holds `from` on, for an entry.
    async fn fetch(&mut self, from: u64, until: u64, entry: u64) -> Result<(), Fault> {
        let needed = (until - from) as usize;
        let (start, fetch) = fetch_range(from, needed, self.fetch_bytes, self.end);
        let read = self.files.read(&self.file, start, fetch).await;
        let buffer = read.map_err(|error| {
            if is_medium_error(&error) {
                Fault::Unreadable(entry, error)
            } else {
                Fault::Io(error)
            }
        })?;
        self.windows.push_back(Ahead::done(start, buffer));
        Ok(())
    }

    /// Bytes that are in memory: where they lie, or copied together if that is in two windows.
    fn piece(&self, at: u64, len: usize) -> Option<Piece<E>> {
        let whole = |window: &&Rc<Ahead<E>>| window.bytes(at, len).is_some();
        if let Some(window) = self.windows.iter().find(whole) {
            let window = window.clone();
            return Some(Piece::Here { window, at, len });
        }
        let mut copied = Vec::with_capacity(len);
        for window in &self.windows {
            let next = at + copied.len() as u64;
            if let Some(bytes) = window.bytes(next, 1) {
                copied.extend_from_slice(&bytes[..bytes.len().min(len - copied.len())]);
            }
        }
        (copied.len() == len).then_some(Piece::Copied(copied))
    }
}

/// Whole blocks that hold `len` bytes from `position` on, and more of what follows: at least `fetch`
/// bytes, but none beyond the block that holds the end, since those may be being written.
pub(super) fn fetch_range(position: u64, len: usize, fetch: usize, end: u64) -> (u64, usize) {
    let start = position - position % BLOCK_BYTES as u64;
    let needed = round_up_to_block(position + len as u64);
    let wanted = round_up_to_block(start + fetch as u64).min(round_up_to_block(end));
    (start, (needed.max(wanted) - start) as usize)
}

/// Bytes of a file.
pub(super) enum Piece<E: Env> {
    /// In a window, which does not change once its bytes have been looked at.
    Here {
        window: Rc<Ahead<E>>,
        at: u64,
        len: usize,
    },
    /// Put together from several.
    Copied(Vec<u8>),
}

impl<E: Env> Deref for Piece<E> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Piece::Here { window, at, len } => {
                window.bytes(*at, *len).map_or(&[], |bytes| &bytes[..*len])
            }
            Piece::Copied(bytes) => bytes,
        }
    }
}
