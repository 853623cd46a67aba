//! The journal at work: gathers entries into groups, writes up to a few groups at once, and tells in
//! order what is durable.
//!
//! `append` copies an entry into the group being gathered, and returns. A driver task closes that
//! group and writes it as soon as fewer writes are in flight than allowed; what is appended
//! meanwhile gathers in the next. So an idle journal writes an entry at once, a busy one in groups
//! as large as its load, and no timer decides. Each write is a task of its own; completions are
//! released in the order of the groups.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;

use super::entry::Entry;
use super::format::FileNumber;
use super::group::Group;
use super::metrics::{JournalMetrics, add, record};
use super::planted::{self, Bug};
use super::ring::Ring;
use super::roll::{Issue, OpenFile};
use super::{JournalConfig, JournalOwner, Sequence};
use crate::env::{Env, File, Instant, OnPanic, Queue};
use crate::local::Event;

/// A group of this many bytes is worth a write of its own.
const WORTH_A_WRITE_BYTES: usize = 64 << 10;

/// How many full groups may wait or be in flight before `room` makes an appender wait.
const PENDING_GROUPS: usize = 4;

/// The journal is closed, or the process is about to stop because a write failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal is closed: the shard is shutting down, try again when it is back")]
pub struct JournalClosed;

/// Everything of one run of a journal; shared by its handle, its driver and its writes.
pub(super) struct Writer<E: Env, T> {
    pub env: E,
    pub config: JournalConfig,
    pub ring: Rc<Ring<E>>,
    pub metrics: Rc<JournalMetrics>,
    pub(super) owner: RefCell<Option<Rc<dyn JournalOwner>>>,
    pub(super) epoch: Epoch,
    pub(super) state: RefCell<State<E, T>>,
    /// Something happened that the driver may have waited for.
    pub(super) wake: Event,
    /// More is durable, or the journal is closed.
    pub durable_changed: Event,
    pub(super) room_changed: Event,
    /// The owner let go of something since a roll was last found impossible.
    pub(super) roll_may_work: Cell<bool>,
    pub(super) waits_for_file: Cell<bool>,
}

/// What all files of this run have in common.
#[derive(Clone, Copy)]
pub(super) struct Epoch {
    pub number: u64,
    pub salt: u64,
    pub previous_end: Sequence,
}

pub(super) struct State<E: Env, T> {
    /// Gathered and not yet issued, oldest first; entries are added to the last.
    pub(super) pending: VecDeque<Group<E, T>>,
    pub(super) in_flight: VecDeque<InFlight<T>>,
    /// Bytes of both.
    pub(super) bytes: usize,
    pub(super) file: Option<OpenFile<E>>,
    pub(super) next_file: FileNumber,
    pub(super) next_sequence: Sequence,
    pub(super) durable: Sequence,
    pub(super) released: VecDeque<(Sequence, Vec<T>)>,
    /// Whether the last group issued proves that all before it are durable.
    pub(super) sealed: bool,
    /// When the last group became durable.
    pub(super) idle_since: Instant,
    pub(super) expected_bytes: usize,
    pub(super) phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Takes nothing more, writes what it has.
    Closing,
    Closed,
    /// A write failed.
    Failed,
}

pub(super) struct InFlight<T> {
    pub(super) sequence: Sequence,
    pub(super) tokens: Vec<T>,
    pub(super) bytes: usize,
    pub(super) entries: u32,
    pub(super) issued: Instant,
    pub(super) complete: bool,
}

/// What the driver does next.
pub(super) enum Next<E: Env> {
    Write(Issue<E>),
    Again,
    Wait,
    /// No file to roll into: until there is one, or the owner lets go of one.
    WaitForFile,
    WaitUntil(Instant),
    End,
}

impl<E: Env, T: 'static> Writer<E, T> {
    pub fn new(
        env: E,
        config: JournalConfig,
        ring: Rc<Ring<E>>,
        metrics: Rc<JournalMetrics>,
        owner: Rc<dyn JournalOwner>,
        epoch: Epoch,
        next_file: FileNumber,
    ) -> Writer<E, T> {
        let state = State {
            pending: VecDeque::new(),
            in_flight: VecDeque::new(),
            bytes: 0,
            file: None,
            next_file,
            next_sequence: epoch.previous_end.next(),
            durable: epoch.previous_end,
            released: VecDeque::new(),
            sealed: false,
            idle_since: env.now(),
            expected_bytes: 0,
            phase: Phase::Open,
        };
        Writer {
            env,
            config,
            ring,
            metrics,
            owner: RefCell::new(Some(owner)),
            epoch,
            state: RefCell::new(state),
            wake: Event::new(),
            durable_changed: Event::new(),
            room_changed: Event::new(),
            roll_may_work: Cell::new(true),
            waits_for_file: Cell::new(false),
        }
    }

    // For the handle.

    pub fn append(
        &self,
        entry: &Entry<'_>,
        token: impl FnOnce(Sequence) -> Option<T>,
    ) -> Result<Sequence, JournalClosed> {
        let mut state = self.state.borrow_mut();
        if state.phase != Phase::Open {
            return Err(JournalClosed);
        }
        let len = entry.encoded_len();
        let fits = state
            .pending
            .back()
            .is_some_and(|group| self.fits(group, len));
        if !fits {
            self.begin_group(&mut state);
        }
        state.bytes += len;
        let group = state.pending.back_mut().expect("there is one now");
        group.push(&self.env, entry);
        let sequence = group.sequence;
        group.tokens.extend(token(sequence));
        drop(state);
        if !matches!(entry, Entry::Append { .. }) {
            // A partition that is removed, or has more in its segments, needs less of the journal.
            self.roll_may_work.set(true);
        }
        self.wake.notify();
        Ok(sequence)
    }

    /// Waits until `bytes` more may be gathered. A single item of any size may when nothing else is
    /// there.
    pub async fn room(&self, bytes: usize) {
        let limit = PENDING_GROUPS * self.group_bytes_max();
        self.room_changed
            .wait_until(|| {
                let state = self.state.borrow();
                state.phase != Phase::Open
                    || state.bytes == 0
                    || state.bytes.saturating_add(bytes) <= limit
            })
            .await;
    }

    pub fn take_released(&self) -> Option<(Sequence, Vec<T>)> {
        self.state.borrow_mut().released.pop_front()
    }

    pub fn durable(&self) -> Sequence {
        self.state.borrow().durable
    }

    /// Whether something was appended that is not durable yet.
    pub fn is_writing(&self) -> bool {
        let state = self.state.borrow();
        !state.in_flight.is_empty() || !state.pending.is_empty()
    }

    /// Whether nothing more will become durable.
    pub fn is_over(&self) -> bool {
        matches!(self.state.borrow().phase, Phase::Closed | Phase::Failed)
    }

    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.wake.notify();
        self.room_changed.notify();
    }

    pub fn retry_roll(&self) {
        self.roll_may_work.set(true);
        self.wake.notify();
    }

    fn group_bytes_max(&self) -> usize {
        let quarter = usize::try_from(self.config.file_bytes / 4).unwrap_or(usize::MAX);
        self.config.max_group_bytes.min(quarter)
    }

    fn fits(&self, group: &Group<E, T>, len: usize) -> bool {
        !group.sealed
            && group.entries() < self.config.max_group_writes
            && (group.entries() == 0 || group.payload_len() + len <= self.group_bytes_max())
    }

    fn begin_group(&self, state: &mut State<E, T>) {
        let group = Group::new(
            &self.env,
            self.epoch.salt,
            state.next_sequence,
            state.expected_bytes,
        );
        state.next_sequence = state.next_sequence.next();
        state.pending.push_back(group);
    }

    /// Issues the group being gathered if it is worth a write of its own already: an appender that
    /// goes on without a pause would otherwise keep the driver from its turn, and the disk idle.
    pub fn issue_if_worth_it(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        let idle = state.phase == Phase::Open
            && state.in_flight.len() < self.config.max_writes_in_flight as usize;
        let [group] = state.pending.make_contiguous() else {
            return;
        };
        if !idle || group.payload_len() < WORTH_A_WRITE_BYTES {
            return;
        }
        let Some(file) = &state.file else { return };
        if !file.takes(&state.pending[0], false) {
            return;
        }
        let group = state
            .pending
            .pop_front()
            .expect("it was looked at just now");
        let issue = self.issue(&mut state, group, None);
        drop(state);
        self.spawn_write(issue);
    }

    // For the driver.

    /// Writes groups until the journal is closed or fails.
    pub async fn drive(self: Rc<Self>) {
        loop {
            let woken = self.wake.listen();
            let files_changed = self.ring.changed.listen();
            match self.next() {
                Next::Write(issue) => self.spawn_write(issue),
                Next::Again => {}
                Next::Wait => woken.await,
                Next::WaitForFile => {
                    futures_util::future::select(woken, files_changed).await;
                }
                Next::WaitUntil(until) => {
                    let now = self.env.now();
                    let sleep = std::pin::pin!(self.env.sleep(until.since(now)));
                    futures_util::future::select(woken, sleep).await;
                }
                Next::End => return,
            }
        }
    }

    /// Begins the first file of this run, with a checkpoint, and waits until it is durable. Tells
    /// whether it is.
    pub async fn begin(self: &Rc<Self>) -> bool {
        let group = {
            let mut state = self.state.borrow_mut();
            self.begin_group(&mut state);
            state.pending.pop_front().expect("it was begun just now")
        };
        let sequence = group.sequence;
        let checkpoint = self.checkpoint();
        let first_live = self.first_live(&checkpoint);
        let Some(issue) = self.roll(group, &checkpoint, first_live) else {
            return false;
        };
        self.spawn_write(issue);
        self.durable_changed
            .wait_until(|| self.durable() >= sequence || self.is_over())
            .await;
        self.durable() >= sequence
    }

    fn next(&self) -> Next<E> {
        let now = self.env.now();
        let mut state = self.state.borrow_mut();
        if state.phase == Phase::Failed {
            return Next::End;
        }
        if state.in_flight.len() >= self.config.max_writes_in_flight as usize {
            return Next::Wait;
        }
        let Some(group) = state.pending.front() else {
            return self.idle(&mut state, now);
        };
        let full = state.pending.len() > 1 || group.entries() == 0 || group.sealed;
        let since = group.began.plus(self.config.linger);
        if !full && state.phase == Phase::Open && self.config.linger > Duration::ZERO && now < since
        {
            // Counted from the group's first entry: later ones do not put it off.
            return Next::WaitUntil(since);
        }
        let group = state
            .pending
            .pop_front()
            .expect("it was looked at just now");
        match &state.file {
            Some(file) if file.takes(&group, state.phase == Phase::Closing) => {
                Next::Write(self.issue(&mut state, group, None))
            }
            _ => {
                drop(state);
                self.roll_if_possible(group)
            }
        }
    }

    /// Nothing is gathered: an idle journal seals itself, a closing one ends.
    fn idle(&self, state: &mut State<E, T>, now: Instant) -> Next<E> {
        if !state.in_flight.is_empty() {
            return Next::Wait;
        }
        let closing = state.phase == Phase::Closing;
        let seal_at = state.idle_since.plus(self.config.seal_after);
        match (state.sealed, closing) {
            (true, true) => {
                state.phase = Phase::Closed;
                self.owner.borrow_mut().take();
                self.ring.close();
                self.durable_changed.notify();
                self.room_changed.notify();
                Next::End
            }
            (true, false) => Next::Wait,
            (false, false) if now < seal_at => Next::WaitUntil(seal_at),
            (false, _) => {
                self.begin_group(state);
                Next::Again
            }
        }
    }

    // For the writes.

    fn spawn_write(self: &Rc<Self>, issue: Issue<E>) {
        let writer = Rc::clone(self);
        let _detached = self.env.spawn(
            Queue::Requests,
            "journal write",
            OnPanic::StopProcess,
            async move {
                writer.write(issue).await;
            },
        );
    }

    async fn write(&self, issue: Issue<E>) {
        let Issue {
            sequence,
            file,
            pieces,
        } = issue;
        if planted::is(Bug::ReleasedBeforeWritten) {
            self.completed(sequence);
        }
        let writes = pieces
            .into_iter()
            .map(|(buffer, position)| file.write_at(buffer, position));
        let failed = join_all(writes).await.into_iter().find_map(Result::err);
        match failed {
            None => self.completed(sequence),
            Some(error) => {
                let before = std::mem::replace(&mut self.state.borrow_mut().phase, Phase::Failed);
                self.ring.close();
                if before == Phase::Closing && is_full_disk(&error) {
                    // Nobody frees a file any more, so what was left had to lengthen the last one.
                    // The disk is sound: those who wait are told that theirs was not written.
                    tracing::warn!(
                        first = %sequence,
                        "journal: closed without its last groups, for which the disk has no room"
                    );
                } else {
                    self.env.fatal(&format!(
                        "journal: writing group {sequence} failed: {error}"
                    ));
                }
                self.wake.notify();
                self.durable_changed.notify();
                self.room_changed.notify();
            }
        }
    }

    /// One group is complete; releases all that are, up to the first that is not.
    fn completed(&self, sequence: Sequence) {
        let now = self.env.now();
        let mut state = self.state.borrow_mut();
        let State {
            in_flight,
            released,
            bytes,
            durable,
            idle_since,
            phase,
            ..
        } = &mut *state;
        if *phase == Phase::Failed {
            return;
        }
        if let Some(group) = in_flight
            .iter_mut()
            .find(|group| group.sequence == sequence)
        {
            group.complete = true;
        }
        while in_flight.front().is_some_and(|group| group.complete) {
            let group = in_flight.pop_front().expect("it was looked at just now");
            *durable = group.sequence;
            *idle_since = now;
            *bytes = bytes.saturating_sub(group.bytes);
            add(&self.metrics.groups, 1);
            add(&self.metrics.entries, u64::from(group.entries));
            record(&self.metrics.write, now.since(group.issued));
            if !group.tokens.is_empty() {
                released.push_back((group.sequence, group.tokens));
            }
        }
        let durable = *durable;
        drop(state);
        self.ring.durable(durable);
        // A file may have been held only by a group that was not yet durable.
        self.roll_may_work.set(true);
        self.wake.notify();
        self.durable_changed.notify();
        self.room_changed.notify();
    }
}

fn is_full_disk(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}
