//! Where a group goes: into the file being written, or into the next one with a checkpoint.

use std::rc::Rc;

use super::entry::Entry;
use super::format::{FIRST_GROUP_POSITION, FileHeader, FileNumber};
use super::group::{Buffer, Group};
use super::metrics::{add, record};
use super::planted::{self, Bug};
use super::writer::{InFlight, Next, State, Writer};
use super::{Checkpoint, Sequence};
use crate::env::{BLOCK_BYTES, Env};

/// The file being written.
pub(super) struct OpenFile<E: Env> {
    pub(super) file: Rc<E::File>,
    pub(super) header: FileHeader,
    pub(super) position: u64,
    pub(super) len: u64,
}

impl<E: Env> OpenFile<E> {
    /// Whether a group goes into this file. The last block is kept for a seal, so that going idle
    /// begins no file. Two kinds go in even if the file has to grow: a group that the file's
    /// checkpoint includes, since files come free when that is in force and it must not wait for
    /// another file; and what a closing journal still has, since nobody is left to free one.
    pub(super) fn takes<T>(&self, group: &Group<E, T>, closing: bool) -> bool {
        let kept = if group.entries() == 0 {
            0
        } else {
            BLOCK_BYTES as u64
        };
        let fits = self.position + group.disk_len() + kept <= self.len;
        fits || closing || group.sequence <= self.header.checkpoint_through
    }
}

/// A group with its place on the disk.
pub(super) struct Issue<E: Env> {
    pub(super) sequence: Sequence,
    pub(super) file: Rc<E::File>,
    /// Pieces with their positions.
    pub(super) pieces: Vec<(Buffer<E>, u64)>,
}

impl<E: Env, T: 'static> Writer<E, T> {
    pub(super) fn roll_if_possible(&self, group: Group<E, T>) -> Next<E> {
        let may_try = self.ring.has_more_than_reserve() || self.roll_may_work.replace(false);
        if self.ring.has_ready() && may_try {
            let checkpoint = self.checkpoint();
            let first_live = self.first_live(&checkpoint);
            if self.ring.has_more_than_reserve() || self.ring.would_free(first_live) {
                self.waits_for_file.set(false);
                return self
                    .roll(group, &checkpoint, first_live)
                    .map_or(Next::Wait, Next::Write);
            }
        } else if may_try {
            self.roll_may_work.set(true);
        }
        if !self.waits_for_file.replace(true) {
            add(&self.metrics.waits_for_file, 1);
        }
        self.state.borrow_mut().pending.push_front(group);
        Next::WaitForFile
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        let owner = self.owner.borrow().clone();
        owner.map(|owner| owner.checkpoint()).unwrap_or_default()
    }

    /// The oldest file that must stay: one with bytes that the owner needs, with a group that is not
    /// yet durable, or the one before the file about to be begun.
    pub(super) fn first_live(&self, checkpoint: &Checkpoint) -> FileNumber {
        let undecided = self.durable().next();
        let oldest = checkpoint
            .oldest_needed
            .map_or(undecided, |needed| needed.min(undecided));
        let newest = self.ring.newest();
        // A journal that has no file yet begins with this one.
        self.ring
            .file_of(oldest)
            .min(newest)
            .unwrap_or(self.state.borrow().next_file)
    }

    /// Begins a new file with `group`, to which a checkpoint is added.
    pub(super) fn roll(
        &self,
        mut group: Group<E, T>,
        checkpoint: &Checkpoint,
        first_live: FileNumber,
    ) -> Option<Issue<E>> {
        for state in &checkpoint.partitions {
            group.push_checkpoint(&self.env, Entry::Checkpoint(*state));
        }
        // In the same turn as the checkpoint, so of the same moment.
        if let Some(owner) = self.owner.borrow().as_ref() {
            owner.producers(&mut |partition, snapshot| {
                let entry = Entry::ProducersCheckpoint {
                    partition,
                    snapshot,
                };
                group.push_checkpoint(&self.env, entry);
            });
        }
        self.ring.fit_checkpoint(group.checkpoint_len() as u64);
        // The owner may have gathered more by now; the checkpoint includes it, so no entry may be
        // added to these groups any more.
        let mut state = self.state.borrow_mut();
        let through = state
            .pending
            .back()
            .map_or(group.sequence, |last| last.sequence);
        if let Some(last) = state.pending.back_mut() {
            last.sealed = true;
        }
        let header = FileHeader {
            epoch: self.epoch.number,
            salt: self.epoch.salt,
            file: state.next_file,
            first_sequence: group.sequence,
            first_live_file: first_live,
            previous_end: self.epoch.previous_end,
            checkpoint_through: through,
        };
        let ready = self
            .ring
            .roll(header.file, group.sequence, first_live, through)?;
        state.next_file = FileNumber(header.file.0 + 1);
        let file = Rc::new(ready.file);
        state.file = Some(OpenFile {
            file,
            header,
            position: FIRST_GROUP_POSITION,
            len: ready.len,
        });
        let mut block = self.env.allocate(BLOCK_BYTES);
        header.encode(&mut block);
        if planted::is(Bug::FreedBeforeCheckpoint) {
            self.ring.durable(through);
        }
        Some(self.issue(&mut state, group, Some(block)))
    }

    /// Gives a group its place in the present file.
    pub(super) fn issue(
        &self,
        state: &mut State<E, T>,
        group: Group<E, T>,
        first_block: Option<Buffer<E>>,
    ) -> Issue<E> {
        let now = self.env.now();
        let (sequence, entries, bytes, disk_len) = (
            group.sequence,
            group.entries(),
            group.gathered_len(),
            group.disk_len(),
        );
        record(&self.metrics.wait, now.since(group.began));
        // What comes next is likely to be as much.
        state.expected_bytes = bytes;
        state.sealed = entries == 0;
        let durable = state.durable;
        let file = state.file.as_mut().expect("a file is open from the start");
        let (buffers, tokens) = group.finish(&self.env, file.header, durable);
        let mut pieces = Vec::with_capacity(buffers.len() + 1);
        pieces.extend(first_block.map(|block| (block, 0)));
        for buffer in buffers {
            let len = buffer.len() as u64;
            pieces.push((buffer, file.position));
            file.position += len;
        }
        self.ring.issued(file.position, file.len);
        if file.position > file.len {
            // Longer than a whole file: this one grows, and is not used again as it is.
            file.len = file.position;
            self.ring.grew(file.header.file, file.len);
        }
        let issue = Issue {
            sequence,
            file: Rc::clone(&file.file),
            pieces,
        };
        if entries == 0 {
            add(&self.metrics.seals, 1);
        }
        add(&self.metrics.bytes, disk_len);
        let complete = planted::is(Bug::ReleasedBeforeWritten);
        state.in_flight.push_back(InFlight {
            sequence,
            tokens,
            bytes,
            entries,
            issued: now,
            complete,
        });
        issue
    }
}
