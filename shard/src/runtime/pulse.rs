//! What one shard lets the outside know of its life: how much is runnable, whether anything runs,
//! and a way to wake it.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use millrace_wire::ids::ShardId;

/// The pulse of one shard. Written by the shard with plain atomic operations, read by the watchdog
/// and by whoever reports metrics.
pub struct Pulse {
    shard: ShardId,
    /// Tasks that have been woken and not been polled since.
    runnable: AtomicI64,
    polls: AtomicU64,
    panics: AtomicU64,
    kicks: AtomicU64,
    /// A waker of the executor itself. Locked by the shard at its start and end, and by the
    /// watchdog while it kicks, so it is never waited for in between.
    kick: Mutex<Option<Waker>>,
}

impl Pulse {
    /// The pulse of a shard that has not started.
    #[must_use]
    pub fn new(shard: ShardId) -> Pulse {
        Pulse {
            shard,
            runnable: AtomicI64::new(0),
            polls: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            kicks: AtomicU64::new(0),
            kick: Mutex::new(None),
        }
    }

    /// Whose pulse it is.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Polls of tasks so far.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// Panics of tasks so far.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// How often the watchdog had to wake the shard.
    #[must_use]
    pub fn kicks(&self) -> u64 {
        self.kicks.load(Ordering::Relaxed)
    }

    /// Whether some task has been woken and waits for its turn.
    #[must_use]
    pub fn has_runnable_tasks(&self) -> bool {
        self.runnable.load(Ordering::Relaxed) > 0
    }

    pub(super) fn task_became_runnable(&self) {
        self.runnable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn task_left_the_queue(&self) {
        self.runnable.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn count_poll(&self) {
        // Only the shard's own thread writes it.
        self.polls
            .store(self.polls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(super) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives the watchdog what to wake, or takes it away.
    pub(super) fn set_kick(&self, waker: Option<Waker>) {
        let previous = std::mem::replace(&mut *self.lock_kick(), waker);
        drop(previous);
    }

    /// Wakes the executor. Does nothing before its start and after its end.
    pub(super) fn kick(&self) {
        if let Some(waker) = &*self.lock_kick() {
            self.kicks.fetch_add(1, Ordering::Relaxed);
            waker.wake_by_ref();
        }
    }

    fn lock_kick(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.kick.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulse")
            .field("shard", &self.shard)
            .field("runnable", &self.runnable)
            .field("polls", &self.polls)
            .field("panics", &self.panics)
            .field("kicks", &self.kicks)
            .finish_non_exhaustive()
    }
}
