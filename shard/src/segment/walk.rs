//! Going through the entries of one segment file, from a place on.

use std::io;
use std::ops::Deref;
use std::rc::Rc;

use super::files::{Ahead, FileCache, SegmentKey, count};
use super::format::{
    ENTRY_HEADER_BYTES, EntryHeader, FIRST_ENTRY, Flaw, Identity, PARSE_BYTES, Parsed, parse_entry,
};
use crate::env::{BLOCK_BYTES, Env, File, is_medium_error, round_up_to_block};

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
    window: Option<Rc<Ahead<E>>>,
}

impl<E: Env> Walk<E> {
    /// A walk from `position` to `end`, fetching at least `fetch_bytes` at a time. `window` may hold
    /// bytes from there on already.
    pub(super) fn new(
        env: &E,
        files: &Rc<FileCache<E>>,
        file: Rc<E::File>,
        segment: SegmentKey,
        (position, end): (u64, u64),
        fetch_bytes: usize,
        window: Option<Rc<Ahead<E>>>,
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
            window,
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
            let window = self.window_over(position, len).await?;
            let bytes = window
                .bytes(position, len)
                .ok_or(Fault::Flaw(position, Flaw::Short))?;
            match parse_entry(bytes, self.identity, position, self.end) {
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
        let window = self.window_over(at, len).await?;
        let bytes = window
            .bytes(at, len)
            .ok_or(Fault::Flaw(position, Flaw::Short))?;
        header
            .check_batch(&bytes[..len])
            .map_err(|flaw| Fault::Flaw(position, flaw))?;
        Ok(BatchBytes { window, at, len })
    }

    /// What is left in memory from the position on.
    pub(super) fn window(&self) -> Option<&Rc<Ahead<E>>> {
        self.window.as_ref()
    }

    /// A window that holds `len` bytes from `position` on, or fewer where the file is too short.
    async fn window_over(&mut self, position: u64, len: usize) -> Result<Rc<Ahead<E>>, Fault> {
        if let Some(window) = &self.window
            && window.covers(position, len)
        {
            window.wait().await;
            if window.bytes(position, len).is_some() {
                return Ok(window.clone());
            }
        }
        let (start, fetch) = fetch_range(position, len, self.fetch_bytes, self.end);
        let buffer = self.file.read_at(start, fetch).await.map_err(|error| {
            if is_medium_error(&error) {
                Fault::Unreadable(position, error)
            } else {
                Fault::Io(error)
            }
        })?;
        count(&self.files.counters.bytes_read, buffer.len() as u64);
        let window = Ahead::done(start, buffer);
        self.window = Some(window.clone());
        Ok(window)
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

struct BatchBytes<E: Env> {
    window: Rc<Ahead<E>>,
    at: u64,
    len: usize,
}

impl<E: Env> Deref for BatchBytes<E> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // A window does not change once its bytes have been looked at.
        self.window
            .bytes(self.at, self.len)
            .map_or(&[], |bytes| &bytes[..self.len])
    }
}
